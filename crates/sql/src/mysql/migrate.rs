//! Migrations on MySQL, where a schema change commits by itself.
//!
//! A migration is recorded as begun (no `applied_at`) before its statement and as applied after
//! it; a process that finds one begun runs its statement again and takes "exists already" and "is
//! gone already" for done. A data change and its record commit together.

use std::collections::BTreeMap;

use mysql::prelude::Queryable as _;
use mysql::{Conn, params};
use tradewind_base::{Clock as _, SystemClock};

use super::statement::classify;
use crate::error::Error;
use crate::migration::{Migration, MigrationError, checksum, pending};
use crate::transaction::Dialect;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS tradewind_migrations (
    set_name VARCHAR(64) NOT NULL,
    version INT UNSIGNED NOT NULL,
    name VARCHAR(255) NOT NULL,
    checksum CHAR(16) NOT NULL,
    applied_at BIGINT NULL,
    PRIMARY KEY (set_name, version)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";
const APPLIED: &str = "SELECT version, checksum FROM tradewind_migrations
    WHERE set_name = :set_name AND applied_at IS NOT NULL";
const BEGUN: &str = "SELECT COUNT(*) FROM tradewind_migrations
    WHERE set_name = :set_name AND version = :version AND checksum = :checksum";
const BEGIN: &str = "INSERT INTO tradewind_migrations (set_name, version, name, checksum)
    VALUES (:set_name, :version, :name, :checksum)
    ON DUPLICATE KEY UPDATE name = :name, checksum = :checksum";
const END: &str = "UPDATE tradewind_migrations SET applied_at = :now
    WHERE set_name = :set_name AND version = :version";

/// Table, column, key or foreign key exists already; column or key is gone already.
const DONE_ALREADY: [u16; 6] = [1050, 1051, 1060, 1061, 1091, 1826];

/// How long to wait for another process that migrates, in seconds.
const LOCK_WAIT: u64 = 60;

pub(super) fn migrate(
    connection: &mut Conn,
    set: &'static str,
    migrations: &[Migration],
) -> Result<(), MigrationError> {
    // Named after the database: the lock is the server's, not the database's. At most 64
    // characters, which a hash of the name keeps.
    let name: Option<String> = connection.query_first("SELECT DATABASE()").map_err(table)?;
    let lock = format!("tradewind_migrations_{}", checksum(&name.unwrap_or_default()));
    let got: Option<Option<i64>> = connection
        .exec_first(
            "SELECT GET_LOCK(:lock, :wait)",
            params! { "lock" => &lock, "wait" => LOCK_WAIT },
        )
        .map_err(table)?;
    if got.flatten() != Some(1) {
        return Err(MigrationError::Locked { seconds: LOCK_WAIT });
    }
    let result = apply(connection, set, migrations);
    let released = connection.exec_drop("DO RELEASE_LOCK(:lock)", params! { "lock" => &lock });
    result?;
    released.map_err(table)
}

fn table(source: mysql::Error) -> MigrationError {
    MigrationError::Table(classify(source, ""))
}

fn apply(
    connection: &mut Conn,
    set: &'static str,
    migrations: &[Migration],
) -> Result<(), MigrationError> {
    connection.query_drop(TABLE).map_err(table)?;
    let applied: Vec<(u32, String)> =
        connection.exec(APPLIED, params! { "set_name" => set }).map_err(table)?;
    let applied: BTreeMap<_, _> = applied.into_iter().collect();
    for migration in pending(migrations, &applied, Dialect::MySql)? {
        one(connection, set, migration)?;
        let Migration { version, name, .. } = *migration;
        tracing::info!(set, version, migration = name, "migration applied");
    }
    Ok(())
}

fn one(
    connection: &mut Conn,
    set: &'static str,
    migration: &Migration,
) -> Result<(), MigrationError> {
    let Migration { version, name, mysql: sql, .. } = *migration;
    let failed = |source: Error| MigrationError::Failed { version, name, source };
    let sum = checksum(sql);
    let key = params! { "set_name" => set, "version" => version, "checksum" => &sum };
    let begun: Option<u64> = connection.exec_first(BEGUN, key).map_err(table)?;
    let begun = begun.is_some_and(|count| 0 < count);
    let record =
        params! { "set_name" => set, "version" => version, "checksum" => &sum, "name" => name };
    connection.exec_drop(BEGIN, record).map_err(table)?;
    connection.query_drop("START TRANSACTION").map_err(table)?;
    match connection.query_drop(sql) {
        Ok(()) => {}
        Err(mysql::Error::MySqlError(error)) if begun && DONE_ALREADY.contains(&error.code) => {}
        Err(error) => {
            let error = failed(classify(error, sql));
            connection.query_drop("ROLLBACK").map_err(table)?;
            return Err(error);
        }
    }
    let now = SystemClock::new().now().millis();
    let end = params! { "now" => now, "set_name" => set, "version" => version };
    connection.exec_drop(END, end).map_err(table)?;
    connection.query_drop("COMMIT").map_err(table)
}
