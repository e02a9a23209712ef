//! MySQL and MariaDB: a few blocking connections, each on a thread of its own.

mod connection;
mod migrate;
mod statement;
mod worker;

use std::sync::Arc;

use crate::database::Shared;
use crate::error::OpenError;
use crate::migration::Migration;
use crate::url::Server;

pub(crate) use statement::{execute, query};

/// Connects once to migrate, then starts the threads, which connect when they have work.
pub(crate) fn start(
    shared: &Arc<Shared>,
    server: &Server,
    migrations: &[Migration],
) -> Result<(), OpenError> {
    let refused = |source| OpenError::Connect { url: shared.url.to_string(), source };
    let mut first = connection::open(server, &shared.options, connection::Use::Migrate)
        .map_err(|source| refused(statement::classify(source, "")))?;
    let innodb = connection::has_innodb(&mut first)
        .map_err(|source| refused(statement::classify(source, "")))?;
    if !innodb {
        let what = "its default storage engine is not InnoDB, so it has no transactions".to_owned();
        return Err(OpenError::Unsuitable { url: shared.url.to_string(), what });
    }
    migrate::migrate(&mut first, shared.set, migrations)
        .map_err(|source| OpenError::Migrations { set: shared.set, source })?;
    drop(first);

    for _ in 0..shared.options.connections.max(1) {
        let mut worker = worker::Worker::new(server.clone(), connection::Use::Write);
        shared.thread("write", move |shared| worker.run(shared))?;
    }
    start_readers(shared, server)
}

/// Connects once, so that a server that is not there is told now, then starts threads that read.
pub(crate) fn start_reading(shared: &Arc<Shared>, server: &Server) -> Result<(), OpenError> {
    let refused = |source| OpenError::Connect { url: shared.url.to_string(), source };
    connection::open(server, &shared.options, connection::Use::Read)
        .map_err(|source| refused(statement::classify(source, "")))?;
    start_readers(shared, server)
}

fn start_readers(shared: &Arc<Shared>, server: &Server) -> Result<(), OpenError> {
    for _ in 0..shared.options.readers.max(1) {
        let mut worker = worker::Worker::new(server.clone(), connection::Use::Read);
        shared.thread("read", move |shared| worker.run(shared))?;
    }
    Ok(())
}
