//! Migrations on SQLite: all that are pending in one transaction, so that a crash leaves none half
//! done, with the turn held, so that two processes that open at once do them once.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};
use tradewind_base::{Clock as _, SystemClock};

use super::statement::classify;
use crate::migration::{Migration, MigrationError, checksum, pending};
use crate::transaction::Dialect;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS tradewind_migrations (
    set_name TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at INTEGER NOT NULL,
    PRIMARY KEY (set_name, version)
) STRICT, WITHOUT ROWID";
const APPLIED: &str = "SELECT version, checksum FROM tradewind_migrations WHERE set_name = ?";
const RECORD: &str = "INSERT INTO tradewind_migrations VALUES (?, ?, ?, ?, ?)";

pub(super) fn migrate(
    connection: &Connection,
    set: &'static str,
    migrations: &[Migration],
) -> Result<(), MigrationError> {
    let table = |source| MigrationError::Table(classify(source, ""));
    connection.execute_batch("BEGIN IMMEDIATE").map_err(table)?;
    let result = apply(connection, set, migrations)
        .and_then(|()| connection.execute_batch("COMMIT").map_err(table));
    if result.is_err() && !connection.is_autocommit() {
        // The connection is given up with the error; closing it rolls back as well.
        drop(connection.execute_batch("ROLLBACK"));
    }
    result
}

fn apply(
    connection: &Connection,
    set: &'static str,
    migrations: &[Migration],
) -> Result<(), MigrationError> {
    let table = |source| MigrationError::Table(classify(source, ""));
    connection.execute_batch(TABLE).map_err(table)?;
    let applied = applied(connection, set).map_err(table)?;
    for migration in pending(migrations, &applied, Dialect::Sqlite)? {
        let Migration { version, name, sqlite, .. } = *migration;
        let failed = |source| {
            let source = classify(source, sqlite);
            MigrationError::Failed { version, name, source }
        };
        connection.execute(sqlite, []).map_err(failed)?;
        let now = SystemClock::new().now().millis();
        let record = params![set, version, name, checksum(sqlite), now];
        connection.execute(RECORD, record).map_err(table)?;
        tracing::info!(set, version, migration = name, "migration applied");
    }
    Ok(())
}

fn applied(connection: &Connection, set: &str) -> rusqlite::Result<BTreeMap<u32, String>> {
    connection.prepare(APPLIED)?.query_map([set], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}
