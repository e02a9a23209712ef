//! The tables of the points service, in SQLite and in MySQL.
//!
//! What the schema itself guarantees, whatever the code does:
//!
//! - A balance is never negative.
//! - An order has at most one row of each kind in the ledger, and at most one pending change of
//!   each kind (POINTS-2). Credits add and revocations take away.
//! - `ledger` only grows: on SQLite two triggers refuse UPDATE and DELETE. On MySQL, where triggers
//!   want a privilege that an application account seldom has, do not grant UPDATE and DELETE on
//!   that table to the account.

use tradewind::sql::Migration;
use tradewind::transaction::fence;

/// The name under which the set of migrations is recorded.
pub(crate) const SET: &str = "points";

const FENCE: [Migration; fence::MIGRATIONS] = fence::migrations(7);

/// All steps, in order. A released step is never edited.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "create account",
        sqlite: "CREATE TABLE account (
            user_id TEXT NOT NULL PRIMARY KEY,
            balance INTEGER NOT NULL CHECK (0 <= balance),
            version INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID",
        mysql: "CREATE TABLE account (
            user_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
            balance BIGINT NOT NULL,
            version BIGINT NOT NULL,
            CONSTRAINT account_balance CHECK (0 <= balance)
        ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4",
    },
    Migration {
        version: 2,
        name: "create ledger",
        sqlite: "CREATE TABLE ledger (
            id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
            user_id TEXT NOT NULL,
            order_id TEXT NOT NULL,
            kind TEXT NOT NULL,
            amount INTEGER NOT NULL,
            xid TEXT NOT NULL,
            at_ms INTEGER NOT NULL,
            UNIQUE (order_id, kind),
            CHECK (kind = 'credit' AND 0 <= amount OR kind = 'revoke' AND amount <= 0)
        ) STRICT",
        mysql: "CREATE TABLE ledger (
            id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
            user_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            order_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            kind VARCHAR(8) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            amount BIGINT NOT NULL,
            xid CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            at_ms BIGINT NOT NULL,
            UNIQUE KEY ledger_order (order_id, kind),
            CONSTRAINT ledger_sign CHECK
                (kind = 'credit' AND 0 <= amount OR kind = 'revoke' AND amount <= 0)
        ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4",
    },
    Migration {
        version: 3,
        name: "index ledger by user",
        sqlite: "CREATE INDEX ledger_by_user ON ledger (user_id, id)",
        mysql: "CREATE INDEX ledger_by_user ON ledger (user_id, id)",
    },
    Migration {
        version: 4,
        name: "refuse updates of ledger",
        sqlite: "CREATE TRIGGER ledger_no_update BEFORE UPDATE ON ledger
            BEGIN SELECT RAISE(ABORT, 'ledger only grows'); END",
        mysql: "DO 0",
    },
    Migration {
        version: 5,
        name: "refuse deletes from ledger",
        sqlite: "CREATE TRIGGER ledger_no_delete BEFORE DELETE ON ledger
            BEGIN SELECT RAISE(ABORT, 'ledger only grows'); END",
        mysql: "DO 0",
    },
    // What a Try noted and nobody settled yet. A row moves into the ledger or goes.
    Migration {
        version: 6,
        name: "create pending",
        sqlite: "CREATE TABLE pending (
            order_id TEXT NOT NULL,
            kind TEXT NOT NULL CHECK (kind IN ('credit', 'revoke')),
            user_id TEXT NOT NULL,
            points INTEGER NOT NULL CHECK (0 <= points),
            xid TEXT NOT NULL,
            at_ms INTEGER NOT NULL,
            PRIMARY KEY (order_id, kind)
        ) STRICT, WITHOUT ROWID",
        mysql: "CREATE TABLE pending (
            order_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            kind VARCHAR(8) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            user_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            points BIGINT NOT NULL,
            xid CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            at_ms BIGINT NOT NULL,
            PRIMARY KEY (order_id, kind),
            CONSTRAINT pending_kind CHECK (kind IN ('credit', 'revoke')),
            CONSTRAINT pending_points CHECK (0 <= points)
        ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4",
    },
    FENCE[0],
    FENCE[1],
    Migration {
        version: 9,
        name: "index pending by user",
        sqlite: "CREATE INDEX pending_by_user ON pending (user_id, kind)",
        mysql: "CREATE INDEX pending_by_user ON pending (user_id, kind)",
    },
];
