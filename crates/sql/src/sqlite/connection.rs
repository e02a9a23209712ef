//! Connections and their settings.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use tokio::time::Instant;

use super::checkpoint::Signal;
use super::statement::classify;
use crate::database::Shared;
use crate::error::{Error, OpenError};

/// Instructions of SQLite's machine between two looks at the clock: some tens of microseconds.
const LOOK_EVERY: i32 = 10_000;

/// A connection whose statements are stopped when their time is up.
pub(super) struct Limited {
    pub(super) connection: Connection,
    stopwatch: Arc<Stopwatch>,
    run_time_max: Duration,
}

/// Until when statements may run; a number so that the handler can read it without a lock.
struct Stopwatch {
    zero: Instant,
    until_nanos: AtomicU64,
}

const NEVER: u64 = u64::MAX;

impl Limited {
    fn new(mut connection: Connection, run_time_max: Duration) -> rusqlite::Result<Self> {
        let until_nanos = AtomicU64::new(NEVER);
        let stopwatch = Arc::new(Stopwatch { zero: Instant::now(), until_nanos });
        let watch = Arc::clone(&stopwatch);
        let over = move || {
            let until = watch.until_nanos.load(Ordering::Relaxed);
            until != NEVER && u128::from(until) < watch.zero.elapsed().as_nanos()
        };
        connection.progress_handler(LOOK_EVERY, Some(over))?;
        Ok(Self { connection, stopwatch, run_time_max })
    }

    /// Runs `work` with the clock ticking. What comes after it (an undo, a commit) has no limit.
    pub(super) fn limited<T>(&self, work: impl FnOnce(&Connection) -> T) -> T {
        let until = self.stopwatch.zero.elapsed() + self.run_time_max;
        let until = u64::try_from(until.as_nanos()).unwrap_or(NEVER);
        self.stopwatch.until_nanos.store(until, Ordering::Relaxed);
        let result = work(&self.connection);
        self.stopwatch.until_nanos.store(NEVER, Ordering::Relaxed);
        result
    }
}

pub(super) fn refused(shared: &Shared, source: Error) -> OpenError {
    OpenError::Connect { url: shared.url.to_string(), source }
}

pub(super) fn open_writer(shared: &Shared, path: &Path) -> Result<Limited, OpenError> {
    let connection = open(shared, path)?;
    let failed = |source| refused(shared, classify(source, ""));
    let mode: String =
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        let what = format!("its file system allows no write-ahead log (journal mode {mode})");
        return Err(OpenError::Unsuitable { url: shared.url.to_string(), what });
    }
    // FULL: each commit is on disk before it is answered. NORMAL would lose answered transactions
    // in a power failure and measured no faster with group commit.
    set(&connection, "synchronous", 2).map_err(failed)?;
    if let Some(pages) = shared.options.pages_max {
        set(&connection, "max_page_count", i64::from(pages)).map_err(failed)?;
    }
    Limited::new(connection, shared.options.run_time_max).map_err(failed)
}

pub(super) fn open_reader(shared: &Shared, path: &Path) -> Result<Limited, OpenError> {
    let connection = open(shared, path)?;
    let failed = |source| refused(shared, classify(source, ""));
    set(&connection, "query_only", 1).map_err(failed)?;
    Limited::new(connection, shared.options.run_time_max).map_err(failed)
}

/// A reader that cannot write at all, and does not even empty the write-ahead log when it closes.
pub(super) fn open_onlooker(shared: &Shared, path: &Path) -> Result<Limited, OpenError> {
    let connection = open_with(shared, path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let failed = |source| refused(shared, classify(source, ""));
    // Opening does not read the file; this does, so that what is no database is told now.
    let look = "SELECT COUNT(*) FROM sqlite_schema";
    connection.query_row(look, [], |row| row.get::<_, i64>(0)).map_err(failed)?;
    Limited::new(connection, shared.options.run_time_max).map_err(failed)
}

pub(super) fn open_checkpointer(shared: &Shared, path: &Path) -> Result<Connection, OpenError> {
    let connection = open(shared, path)?;
    let failed = |source| refused(shared, classify(source, ""));
    set(&connection, "synchronous", 2).map_err(failed)?;
    Ok(connection)
}

fn open(shared: &Shared, path: &Path) -> Result<Connection, OpenError> {
    open_with(shared, path, OpenFlags::SQLITE_OPEN_READ_WRITE)
}

fn open_with(shared: &Shared, path: &Path, mode: OpenFlags) -> Result<Connection, OpenError> {
    let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let settings = || {
        let connection = Connection::open_with_flags(path, flags)?;
        // First of all, as the settings below may themselves have to wait for a lock.
        connection.busy_timeout(shared.options.lock_wait)?;
        connection.set_prepared_statement_cache_capacity(256);
        set(&connection, "foreign_keys", 1)?;
        // A schema in a file that somebody else wrote must not run functions with side effects.
        set(&connection, "trusted_schema", 0)?;
        set(&connection, "temp_store", 2)?;
        // In KiB: enough for the hot pages of a service, small beside a process.
        set(&connection, "cache_size", -16_384)?;
        // Checkpoints have their own thread: none in the middle of a commit.
        set(&connection, "wal_autocheckpoint", 0)?;
        // Plans stay as they were prepared. Otherwise a statement that could use a partial index
        // is prepared again for every new value of a parameter.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        Ok(connection)
    };
    settings().map_err(|source| refused(shared, classify(source, "")))
}

fn set(connection: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    connection.pragma_update(None, name, value)
}

/// Has every commit report the length of the write-ahead log.
pub(super) fn report_wal(
    connection: &mut Connection,
    shared: &Arc<Shared>,
    signal: &Arc<Signal>,
) -> Result<(), Error> {
    let (shared, signal) = (Arc::clone(shared), Arc::clone(signal));
    let step = shared.options.wal_pages_checkpoint;
    connection
        .wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: i32| {
            let pages = u64::try_from(pages).unwrap_or(0);
            shared.counters.wal_pages.store(pages, Ordering::Relaxed);
            signal.grown(pages, step);
            Ok(())
        }))
        .map_err(|source| classify(source, ""))
}
