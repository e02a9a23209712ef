//! The tables, in both dialects.

use tradewind_sql::Migration;

/// The name of the set of migrations.
pub(crate) const SET: &str = "broker";

/// The migrations.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "create message",
        sqlite: "CREATE TABLE message (
            id BLOB NOT NULL PRIMARY KEY,
            state INTEGER NOT NULL,
            topic TEXT NOT NULL,
            msg_key TEXT NOT NULL,
            kind TEXT NOT NULL,
            source TEXT NOT NULL,
            data TEXT NOT NULL,
            trace TEXT,
            xid BLOB,
            branch INTEGER,
            check_service TEXT,
            check_path TEXT,
            check_ms INTEGER,
            checks INTEGER NOT NULL DEFAULT 0,
            created_ms INTEGER NOT NULL,
            committed_ms INTEGER,
            sequence INTEGER,
            open_count INTEGER NOT NULL DEFAULT 0,
            ended_ms INTEGER,
            last_error TEXT
        ) STRICT",
        mysql: "CREATE TABLE message (
            id BINARY(16) NOT NULL PRIMARY KEY,
            state TINYINT NOT NULL,
            topic VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            msg_key VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            kind VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            source VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            data MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
            trace VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin,
            xid BINARY(16),
            branch INT,
            check_service VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin,
            check_path VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin,
            check_ms BIGINT,
            checks BIGINT NOT NULL DEFAULT 0,
            created_ms BIGINT NOT NULL,
            committed_ms BIGINT,
            sequence BIGINT,
            open_count BIGINT NOT NULL DEFAULT 0,
            ended_ms BIGINT,
            last_error VARCHAR(512)
        ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4",
    },
    Migration {
        version: 2,
        name: "index message by key",
        sqlite: "CREATE INDEX message_by_key ON message (msg_key, created_ms)",
        mysql: "CREATE INDEX message_by_key ON message (msg_key, created_ms)",
    },
    Migration {
        version: 3,
        name: "index message by check",
        sqlite: "CREATE INDEX message_by_check ON message (check_ms) WHERE check_ms IS NOT NULL",
        mysql: "CREATE INDEX message_by_check ON message (check_ms)",
    },
    Migration {
        version: 4,
        name: "index message by end",
        sqlite: "CREATE INDEX message_by_end ON message (ended_ms) WHERE ended_ms IS NOT NULL",
        mysql: "CREATE INDEX message_by_end ON message (ended_ms)",
    },
    // Parked messages are few; on SQLite the others are not in this index at all.
    Migration {
        version: 5,
        name: "index message by state",
        sqlite: "CREATE INDEX message_by_state ON message (state, topic, created_ms)
            WHERE state IN (4, 5)",
        mysql: "CREATE INDEX message_by_state ON message (state, topic, created_ms)",
    },
    // What is on its way, and nothing else: finished rows leave at once.
    Migration {
        version: 6,
        name: "create delivery",
        sqlite: "CREATE TABLE delivery (
            message_id BLOB NOT NULL,
            subscriber TEXT NOT NULL,
            topic TEXT NOT NULL,
            attempts INTEGER NOT NULL,
            token INTEGER NOT NULL,
            due_ms INTEGER NOT NULL,
            in_flight INTEGER NOT NULL,
            last_status INTEGER,
            last_error TEXT,
            last_instance TEXT,
            PRIMARY KEY (message_id, subscriber)
        ) STRICT, WITHOUT ROWID",
        mysql: "CREATE TABLE delivery (
            message_id BINARY(16) NOT NULL,
            subscriber VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            topic VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            attempts BIGINT NOT NULL,
            token BIGINT NOT NULL,
            due_ms BIGINT NOT NULL,
            in_flight TINYINT NOT NULL,
            last_status INT,
            last_error VARCHAR(512),
            last_instance VARCHAR(255),
            PRIMARY KEY (message_id, subscriber)
        ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4",
    },
    Migration {
        version: 7,
        name: "index delivery by lane and time",
        sqlite: "CREATE INDEX delivery_by_lane ON delivery (subscriber, topic, due_ms)",
        mysql: "CREATE INDEX delivery_by_lane ON delivery (subscriber, topic, due_ms)",
    },
    Migration {
        version: 8,
        name: "create dead letter",
        sqlite: "CREATE TABLE dead_letter (
            message_id BLOB NOT NULL,
            subscriber TEXT NOT NULL,
            topic TEXT NOT NULL,
            attempts INTEGER NOT NULL,
            token INTEGER NOT NULL,
            reason TEXT NOT NULL,
            last_status INTEGER,
            last_error TEXT,
            last_instance TEXT,
            at_ms INTEGER NOT NULL,
            PRIMARY KEY (message_id, subscriber)
        ) STRICT, WITHOUT ROWID",
        mysql: "CREATE TABLE dead_letter (
            message_id BINARY(16) NOT NULL,
            subscriber VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            topic VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            attempts BIGINT NOT NULL,
            token BIGINT NOT NULL,
            reason VARCHAR(32) NOT NULL,
            last_status INT,
            last_error VARCHAR(512),
            last_instance VARCHAR(255),
            at_ms BIGINT NOT NULL,
            PRIMARY KEY (message_id, subscriber)
        ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4",
    },
    Migration {
        version: 9,
        name: "index dead letter by subscriber",
        sqlite: "CREATE INDEX dead_letter_by_subscriber ON dead_letter (subscriber, topic, at_ms)",
        mysql: "CREATE INDEX dead_letter_by_subscriber ON dead_letter (subscriber, topic, at_ms)",
    },
    Migration {
        version: 10,
        name: "create delivered",
        sqlite: "CREATE TABLE delivered (
            message_id BLOB NOT NULL,
            subscriber TEXT NOT NULL,
            attempts INTEGER NOT NULL,
            instance TEXT,
            at_ms INTEGER NOT NULL,
            PRIMARY KEY (message_id, subscriber)
        ) STRICT, WITHOUT ROWID",
        mysql: "CREATE TABLE delivered (
            message_id BINARY(16) NOT NULL,
            subscriber VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            attempts BIGINT NOT NULL,
            instance VARCHAR(255),
            at_ms BIGINT NOT NULL,
            PRIMARY KEY (message_id, subscriber)
        ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4",
    },
    Migration {
        version: 11,
        name: "create subscription",
        sqlite: "CREATE TABLE subscription (
            topic TEXT NOT NULL,
            subscriber TEXT NOT NULL,
            service TEXT NOT NULL,
            path TEXT NOT NULL,
            active INTEGER NOT NULL,
            changed_ms INTEGER NOT NULL,
            PRIMARY KEY (topic, subscriber)
        ) STRICT, WITHOUT ROWID",
        mysql: "CREATE TABLE subscription (
            topic VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            subscriber VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            service VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            path VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            active TINYINT NOT NULL,
            changed_ms BIGINT NOT NULL,
            PRIMARY KEY (topic, subscriber)
        ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4",
    },
    Migration {
        version: 12,
        name: "create branch fence",
        sqlite: "CREATE TABLE branch_fence (
            xid BLOB NOT NULL,
            branch INTEGER NOT NULL,
            state INTEGER NOT NULL,
            initiator TEXT NOT NULL,
            at_ms INTEGER NOT NULL,
            PRIMARY KEY (xid, branch)
        ) STRICT, WITHOUT ROWID",
        mysql: "CREATE TABLE branch_fence (
            xid BINARY(16) NOT NULL,
            branch INT NOT NULL,
            state TINYINT NOT NULL,
            initiator VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            at_ms BIGINT NOT NULL,
            PRIMARY KEY (xid, branch)
        ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4",
    },
    Migration {
        version: 13,
        name: "index branch fence by time",
        sqlite: "CREATE INDEX branch_fence_by_time ON branch_fence (state, at_ms)",
        mysql: "CREATE INDEX branch_fence_by_time ON branch_fence (state, at_ms)",
    },
    // One row. Its lock, held until the commit, makes the order of the numbers that of the commits.
    Migration {
        version: 14,
        name: "create sequence",
        sqlite: "CREATE TABLE sequence (
            id INTEGER NOT NULL PRIMARY KEY,
            latest INTEGER NOT NULL
        ) STRICT",
        mysql: "CREATE TABLE sequence (
            id INT NOT NULL PRIMARY KEY,
            latest BIGINT NOT NULL
        ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4",
    },
    Migration {
        version: 15,
        name: "add together to subscription",
        sqlite: "ALTER TABLE subscription ADD COLUMN together INTEGER NOT NULL DEFAULT 0",
        mysql: "ALTER TABLE subscription ADD COLUMN together INT NOT NULL DEFAULT 0",
    },
];
