//! SQLite: one file, one writer thread, a few readers, a checkpoint thread.

mod checkpoint;
mod connection;
mod migrate;
mod reader;
mod statement;
mod turn;
mod writer;

use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::database::Shared;
use crate::error::OpenError;
use crate::migration::Migration;

pub(crate) use statement::{execute, query};

/// Opens the file, migrates it and starts the threads.
pub(crate) fn start(
    shared: &Arc<Shared>,
    path: &Path,
    migrations: &[Migration],
) -> Result<(), OpenError> {
    let path = prepare_file(path)?;
    let mut turn = turn::Turn::open(&path)?;
    // The turn also covers switching to WAL, which needs the file for itself for a moment.
    let held = turn.take().map_err(|source| file_error(&path, source))?;
    let mut writer = connection::open_writer(shared, &path)?;
    migrate::migrate(&writer.connection, shared.set, migrations)
        .map_err(|source| OpenError::Migrations { set: shared.set, source })?;
    drop(held);

    let signal = Arc::new(checkpoint::Signal::default());
    connection::report_wal(&mut writer.connection, shared, &signal)
        .map_err(|source| connection::refused(shared, source))?;
    for _ in 0..shared.options.readers.max(1) {
        let reader = connection::open_reader(shared, &path)?;
        shared.thread("read", move |shared| reader::run(shared, reader))?;
    }
    let checkpointer = connection::open_checkpointer(shared, &path)?;
    let checkpoint_turn = turn::Turn::open(&path)?;
    let ending = signal.ending_on_drop();
    shared.thread("checkpoint", move |shared| {
        checkpoint::run(shared, &checkpointer, checkpoint_turn, &signal);
    })?;
    shared.thread("write", move |shared| {
        writer::run(shared, writer, turn);
        drop(ending);
    })?;
    Ok(())
}

/// Starts threads that read a file which is there.
pub(crate) fn start_reading(shared: &Arc<Shared>, path: &Path) -> Result<(), OpenError> {
    let path = path.canonicalize().map_err(|source| file_error(path, source))?;
    for _ in 0..shared.options.readers.max(1) {
        let reader = connection::open_onlooker(shared, &path)?;
        shared.thread("read", move |shared| reader::run(shared, reader))?;
    }
    Ok(())
}

/// Creates the file and its folder if needed, both for their owner alone, and finds its one true
/// path: two names of one file must lead to one turn file. What SQLite puts beside the file (log,
/// index of the log) gets the mode of the file.
fn prepare_file(path: &Path) -> Result<PathBuf, OpenError> {
    let failed = |source| file_error(path, source);
    if let Some(folder) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
        create_folder(folder).map_err(failed)?;
    }
    let file = private_file().open(path).map_err(failed)?;
    drop(file);
    path.canonicalize().map_err(failed)
}

/// How files are opened that nobody else is to read, write or lock.
fn private_file() -> std::fs::OpenOptions {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true).mode(0o600);
    options
}

/// Creates a folder and makes its name durable: a power failure must not take away the folder of
/// a database that has answered. (SQLite does this for the names of its own files.)
fn create_folder(folder: &Path) -> std::io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_folder(parent)?;
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        // Another process was faster.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    std::fs::File::open(parent)?.sync_all()
}

fn file_error(path: &Path, source: std::io::Error) -> OpenError {
    OpenError::File { path: path.display().to_string(), source }
}
