//! The tables of the order service, in SQLite and in MySQL.

use tradewind::sql::Migration;

/// The name under which the set of migrations is recorded.
pub(crate) const SET: &str = "order";

/// All steps, in order. A released step is never edited.
pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "create user account",
    // User names are kept in lower case. Roles are a JSON list of texts.
    sqlite: "CREATE TABLE user_account (
        id TEXT NOT NULL PRIMARY KEY,
        username TEXT NOT NULL UNIQUE CHECK (length(username) BETWEEN 1 AND 64),
        name TEXT NOT NULL,
        password_hash TEXT NOT NULL,
        roles TEXT NOT NULL,
        created_at_ms INTEGER NOT NULL,
        version INTEGER NOT NULL
    ) STRICT",
    mysql: "CREATE TABLE user_account (
        id VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
        username VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL UNIQUE,
        name VARCHAR(120) NOT NULL,
        password_hash VARCHAR(200) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        roles TEXT NOT NULL,
        created_at_ms BIGINT NOT NULL,
        version BIGINT NOT NULL,
        CONSTRAINT user_account_username CHECK (CHAR_LENGTH(username) >= 1)
    ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4",
}];
