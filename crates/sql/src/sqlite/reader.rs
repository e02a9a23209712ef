//! Reads: each on a snapshot of its own.

use rusqlite::Connection;

use super::connection::Limited;
use super::statement::classify;
use crate::database::Shared;
use crate::error::Error;
use crate::job::{Fate, Job};
use crate::stats::add;
use crate::transaction::{Engine, Transaction};

#[expect(clippy::needless_pass_by_value, reason = "the thread owns its connection")]
pub(super) fn run(shared: &Shared, reader: Limited) {
    while let Some(mut job) = shared.reads.pop() {
        if job.abandoned() {
            job.answer(Fate::Closed);
            continue;
        }
        let fate = match snapshot(shared, &reader, &mut *job) {
            Ok(()) => Fate::Own,
            Err(error) => Fate::Failed(error),
        };
        add(&shared.counters.reads, 1);
        job.answer(fate);
    }
}

fn snapshot(shared: &Shared, reader: &Limited, job: &mut dyn Job) -> Result<(), Error> {
    let connection = &reader.connection;
    let failed = |source| classify(source, "");
    if !connection.is_autocommit() {
        execute(connection, "ROLLBACK").map_err(failed)?;
    }
    execute(connection, "BEGIN").map_err(failed)?;
    reader.limited(|connection| {
        let engine = Engine::Sqlite(connection);
        job.run(&mut Transaction::new(engine, shared.options.rows_max))
    });
    // An error may have ended the transaction; else this ends the snapshot. There is nothing to
    // lose, so a failure only matters to the next read, which tries again.
    if !connection.is_autocommit()
        && let Err(error) = execute(connection, "ROLLBACK")
    {
        tracing::warn!(%error, transaction = job.name(), "cannot end a snapshot");
    }
    Ok(())
}

/// Prepared once.
fn execute(connection: &Connection, sql: &'static str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}
