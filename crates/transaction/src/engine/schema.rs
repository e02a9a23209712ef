//! The tables of the log.

use tradewind_sql::Migration;

/// How many migrations [`migrations`] gives.
pub const MIGRATIONS: usize = 5;

/// The log and its leases, as migrations of the initiating service's own set, numbered from
/// `first`.
#[must_use]
#[expect(clippy::too_many_lines, reason = "a table")]
pub const fn migrations(first: u32) -> [Migration; MIGRATIONS] {
    [
        Migration {
            version: first,
            name: "create the transaction log",
            sqlite: "CREATE TABLE tradewind_tcc (
                xid TEXT PRIMARY KEY,
                name TEXT NOT NULL,
                shard INTEGER NOT NULL,
                phase INTEGER NOT NULL CHECK (phase BETWEEN 1 AND 5),
                version INTEGER NOT NULL,
                deadline_ms INTEGER NOT NULL,
                begun_ms INTEGER NOT NULL,
                due_ms INTEGER,
                finished_ms INTEGER,
                stuck INTEGER NOT NULL,
                reason TEXT,
                trace TEXT,
                own TEXT,
                declared TEXT NOT NULL,
                branches TEXT NOT NULL
            ) STRICT, WITHOUT ROWID",
            mysql: "CREATE TABLE tradewind_tcc (
                xid CHAR(36) CHARACTER SET ascii COLLATE ascii_bin PRIMARY KEY,
                name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
                shard INT NOT NULL,
                phase TINYINT NOT NULL CHECK (phase BETWEEN 1 AND 5),
                version BIGINT NOT NULL,
                deadline_ms BIGINT NOT NULL,
                begun_ms BIGINT NOT NULL,
                due_ms BIGINT,
                finished_ms BIGINT,
                stuck TINYINT NOT NULL,
                reason TEXT CHARACTER SET utf8mb4,
                trace VARCHAR(64) CHARACTER SET ascii,
                own MEDIUMTEXT CHARACTER SET utf8mb4,
                declared MEDIUMTEXT CHARACTER SET utf8mb4 NOT NULL,
                branches MEDIUMTEXT CHARACTER SET utf8mb4 NOT NULL
            ) ENGINE=InnoDB",
        },
        Migration {
            version: first + 1,
            name: "find what is due",
            sqlite: "CREATE INDEX tradewind_tcc_due ON tradewind_tcc (due_ms)",
            mysql: "CREATE INDEX tradewind_tcc_due ON tradewind_tcc (due_ms)",
        },
        Migration {
            version: first + 2,
            name: "find what is finished",
            sqlite: "CREATE INDEX tradewind_tcc_finished ON tradewind_tcc (finished_ms)",
            mysql: "CREATE INDEX tradewind_tcc_finished ON tradewind_tcc (finished_ms)",
        },
        Migration {
            version: first + 3,
            name: "create the leases of the log's shards",
            sqlite: "CREATE TABLE tradewind_tcc_shard (
                shard INTEGER PRIMARY KEY,
                owner TEXT NOT NULL,
                epoch INTEGER NOT NULL,
                until_ms INTEGER NOT NULL
            ) STRICT",
            mysql: "CREATE TABLE tradewind_tcc_shard (
                shard INT PRIMARY KEY,
                owner CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
                epoch BIGINT NOT NULL,
                until_ms BIGINT NOT NULL
            ) ENGINE=InnoDB",
        },
        Migration {
            version: first + 4,
            name: "create the list of the log's drivers",
            sqlite: "CREATE TABLE tradewind_tcc_driver (
                owner TEXT PRIMARY KEY,
                until_ms INTEGER NOT NULL
            ) STRICT, WITHOUT ROWID",
            mysql: "CREATE TABLE tradewind_tcc_driver (
                owner CHAR(32) CHARACTER SET ascii COLLATE ascii_bin PRIMARY KEY,
                until_ms BIGINT NOT NULL
            ) ENGINE=InnoDB",
        },
    ]
}
