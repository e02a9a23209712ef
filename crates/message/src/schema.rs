//! The tables that this library keeps in a service's own database.
//!
//! A service puts them into its own list of migrations, each under the next free number:
//!
//! ```
//! use tradewind_message::schema;
//! use tradewind_sql::Migration;
//!
//! const MIGRATIONS: &[Migration] = &[
//!     // … the service's own …
//!     schema::consumed(1),
//!     schema::consumed_by_time(2),
//!     schema::outbox(3),
//!     schema::outbox_by_time(4),
//!     schema::barrier(5),
//!     schema::barrier_by_time(6),
//! ];
//! # assert_eq!(MIGRATIONS.len(), 6);
//! ```

use tradewind_sql::Migration;

/// What was consumed, for [`crate::Consumer`].
#[must_use]
pub const fn consumed(version: u32) -> Migration {
    Migration {
        version,
        name: "create message consumed",
        sqlite: "CREATE TABLE message_consumed (
            consumer TEXT NOT NULL,
            message_id BLOB NOT NULL,
            at_ms INTEGER NOT NULL,
            PRIMARY KEY (consumer, message_id)
        ) STRICT, WITHOUT ROWID",
        mysql: "CREATE TABLE message_consumed (
            consumer VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            message_id BINARY(16) NOT NULL,
            at_ms BIGINT NOT NULL,
            PRIMARY KEY (consumer, message_id)
        ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4",
    }
}

/// For the cleaning of [`consumed`].
#[must_use]
pub const fn consumed_by_time(version: u32) -> Migration {
    Migration {
        version,
        name: "index message consumed by time",
        sqlite: "CREATE INDEX message_consumed_by_time ON message_consumed (consumer, at_ms)",
        mysql: "CREATE INDEX message_consumed_by_time ON message_consumed (consumer, at_ms)",
    }
}

/// What is to be published, for [`crate::Outbox`].
#[must_use]
pub const fn outbox(version: u32) -> Migration {
    Migration {
        version,
        name: "create message outbox",
        sqlite: "CREATE TABLE message_outbox (
            id BLOB NOT NULL PRIMARY KEY,
            topic TEXT NOT NULL,
            msg_key TEXT NOT NULL,
            kind TEXT NOT NULL,
            source TEXT NOT NULL,
            data TEXT NOT NULL,
            trace TEXT,
            at_ms INTEGER NOT NULL,
            due_ms INTEGER NOT NULL,
            token INTEGER NOT NULL DEFAULT 0,
            attempts INTEGER NOT NULL DEFAULT 0,
            last_error TEXT
        ) STRICT",
        mysql: "CREATE TABLE message_outbox (
            id BINARY(16) NOT NULL PRIMARY KEY,
            topic VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            msg_key VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            kind VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            source VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            data MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
            trace VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin,
            at_ms BIGINT NOT NULL,
            due_ms BIGINT NOT NULL,
            token BIGINT NOT NULL DEFAULT 0,
            attempts BIGINT NOT NULL DEFAULT 0,
            last_error VARCHAR(512)
        ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4",
    }
}

/// For the relay of [`outbox`].
#[must_use]
pub const fn outbox_by_time(version: u32) -> Migration {
    Migration {
        version,
        name: "index message outbox by time",
        sqlite: "CREATE INDEX message_outbox_by_time ON message_outbox (due_ms, id)",
        mysql: "CREATE INDEX message_outbox_by_time ON message_outbox (due_ms, id)",
    }
}

/// How local transactions ended, for [`crate::HalfMessages`].
#[must_use]
pub const fn barrier(version: u32) -> Migration {
    Migration {
        version,
        name: "create message barrier",
        sqlite: "CREATE TABLE message_barrier (
            message_id BLOB NOT NULL PRIMARY KEY,
            committed INTEGER NOT NULL CHECK (committed IN (0, 1)),
            at_ms INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID",
        mysql: "CREATE TABLE message_barrier (
            message_id BINARY(16) NOT NULL PRIMARY KEY,
            committed TINYINT NOT NULL CHECK (committed IN (0, 1)),
            at_ms BIGINT NOT NULL
        ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4",
    }
}

/// For the cleaning of [`barrier`].
#[must_use]
pub const fn barrier_by_time(version: u32) -> Migration {
    Migration {
        version,
        name: "index message barrier by time",
        sqlite: "CREATE INDEX message_barrier_by_time ON message_barrier (at_ms)",
        mysql: "CREATE INDEX message_barrier_by_time ON message_barrier (at_ms)",
    }
}
