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

/// How many migrations [`compact`] gives.
pub const COMPACT: usize = 6;

/// What came later, numbered from `first`, after those of [`migrations`]: on SQLite a row lies in
/// one piece. In a table without row ids a row of more than a quarter of a page has the rest in a
/// page of its own, which each step of a transaction wrote anew; and its indexes held what is not
/// due and what has not finished, too.
#[must_use]
pub const fn compact(first: u32) -> [Migration; COMPACT] {
    const fn sqlite_only(version: u32, name: &'static str, sqlite: &'static str) -> Migration {
        Migration { version, name, sqlite, mysql: "DO 0" }
    }
    [
        sqlite_only(
            first,
            "create the transaction log in one piece",
            "CREATE TABLE tradewind_tcc_whole (
                xid TEXT NOT NULL PRIMARY KEY,
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
            ) STRICT",
        ),
        sqlite_only(
            first + 1,
            "copy the transaction log",
            "INSERT INTO tradewind_tcc_whole (xid, name, shard, phase, version, deadline_ms,
                begun_ms, due_ms, finished_ms, stuck, reason, trace, own, declared, branches)
                SELECT xid, name, shard, phase, version, deadline_ms, begun_ms, due_ms,
                    finished_ms, stuck, reason, trace, own, declared, branches
                FROM tradewind_tcc",
        ),
        sqlite_only(first + 2, "drop the old transaction log", "DROP TABLE tradewind_tcc"),
        sqlite_only(
            first + 3,
            "name the transaction log",
            "ALTER TABLE tradewind_tcc_whole RENAME TO tradewind_tcc",
        ),
        sqlite_only(
            first + 4,
            "find what is due, and nothing else",
            "CREATE INDEX tradewind_tcc_due ON tradewind_tcc (due_ms) WHERE due_ms IS NOT NULL",
        ),
        sqlite_only(
            first + 5,
            "find what is finished, and nothing else",
            "CREATE INDEX tradewind_tcc_finished ON tradewind_tcc (finished_ms)
                WHERE finished_ms IS NOT NULL",
        ),
    ]
}

/// How many migrations [`implied`] gives.
pub const IMPLIED: usize = 1;

/// What came after [`compact`], numbered from `first`: whether a transaction is committed as soon
/// as it is tried.
#[must_use]
pub const fn implied(first: u32) -> [Migration; IMPLIED] {
    let column = "ALTER TABLE tradewind_tcc ADD COLUMN implied INTEGER NOT NULL DEFAULT 0";
    [Migration {
        version: first,
        name: "say what is committed when it is tried",
        sqlite: column,
        mysql: column,
    }]
}

#[cfg(test)]
mod tests {
    use tradewind_sql::{Database, DatabaseUrl, Error, Options, Transaction};

    use super::*;

    #[tokio::test]
    async fn a_log_from_before_keeps_its_rows() {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::sqlite(&folder.path().join("log.db"));
        let before = migrations(1);
        let open = |all: &[Migration]| Database::open(&url, Options::default(), "log", all);
        let database = open(&before).unwrap();
        let fill = |tx: &mut Transaction<'_>| {
            tx.execute(
                "INSERT INTO tradewind_tcc (xid, name, shard, phase, version, deadline_ms,
                    begun_ms, due_ms, finished_ms, stuck, reason, trace, own, declared, branches)
                    VALUES ('x', 'n', 1, 2, 3, 4, 5, 6, NULL, 0, 'r', 't', 'o', 'd', 'b'),
                        ('y', 'n', 1, 4, 3, 4, 5, NULL, 7, 0, NULL, NULL, NULL, 'd', 'b')",
                &[],
            )
        };
        database.transaction::<_, Error, _>("fill", fill).await.unwrap();
        database.close().await.unwrap();

        let after = [&before[..], &compact(6)[..], &implied(12)[..]].concat();
        let database = open(&after).unwrap();
        let look = |tx: &mut Transaction<'_>| {
            let sql = "SELECT rowid, xid, shard, due_ms, finished_ms, reason, own, branches
                FROM tradewind_tcc WHERE implied = 0 ORDER BY xid";
            tx.query(sql, &[], |row| {
                let times: (Option<i64>, Option<i64>) = (row.get(3)?, row.get(4)?);
                let texts: [Option<String>; 4] =
                    [row.get(1)?, row.get(5)?, row.get(6)?, row.get(7)?];
                Ok((row.get::<i64>(0)?, row.get::<i64>(2)?, times, texts))
            })
        };
        let rows = database.read::<_, Error, _>("look", look).await.unwrap();
        let text = |it: &str| Some(it.to_owned());
        let whole = [text("x"), text("r"), text("o"), text("b")];
        let bare = [text("y"), None, None, text("b")];
        assert_eq!(rows, [(1, 1, (Some(6), None), whole), (2, 1, (None, Some(7)), bare)]);
        database.close().await.unwrap();
    }
}
