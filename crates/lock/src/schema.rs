//! The table of leases.

use tradewind_sql::Migration;

/// The migrations as a set of their own, for `Database::open(…, "lock", MIGRATIONS)`.
pub const MIGRATIONS: &[Migration] = &migrations(1);

/// The migrations for a service that keeps its locks among its own tables: they take the numbers
/// from `first` on in its own set.
#[must_use]
pub const fn migrations(first: u32) -> [Migration; 1] {
    [Migration {
        version: first,
        name: "create lock lease",
        sqlite: "CREATE TABLE tradewind_lock (
            name TEXT NOT NULL PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 190),
            owner TEXT NOT NULL,
            token INTEGER NOT NULL CHECK (token > 0),
            lease_until_ms INTEGER NOT NULL,
            lease_ms INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID",
        mysql: "CREATE TABLE tradewind_lock (
            name VARCHAR(190) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
            owner VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            token BIGINT NOT NULL,
            lease_until_ms BIGINT NOT NULL,
            lease_ms BIGINT NOT NULL,
            CONSTRAINT tradewind_lock_name CHECK (CHAR_LENGTH(name) >= 1),
            CONSTRAINT tradewind_lock_token CHECK (token > 0)
        ) ENGINE = InnoDB",
    }]
}
