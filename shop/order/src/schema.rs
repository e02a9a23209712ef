//! The tables of the order service, in SQLite and in MySQL.
//!
//! What the schema itself guarantees: a line's total is its price times its quantity, an order has
//! one of the known states, two events of an order never have one version, and on SQLite the event
//! log only grows (on MySQL, do not grant UPDATE and DELETE on it).

use tradewind::idempotency;
use tradewind::message::schema::{consumed, consumed_by_time};
use tradewind::sql::Migration;
use tradewind::transaction::{engine, fence};

/// The name under which the set of migrations is recorded.
pub(crate) const SET: &str = "order";

/// All steps, in order. A released step is never edited.
pub(crate) const MIGRATIONS: &[Migration] = &[
    USER_ACCOUNT,
    ORDER_HEADER,
    Migration {
        version: 3,
        name: "index order by user",
        sqlite: "CREATE INDEX order_header_by_user ON order_header (user_id, id)",
        mysql: "CREATE INDEX order_header_by_user ON order_header (user_id, id)",
    },
    ORDER_LINE,
    ORDER_EVENT,
    Migration {
        version: 6,
        name: "refuse updates of order events",
        sqlite: "CREATE TRIGGER order_event_no_update BEFORE UPDATE ON order_event
            BEGIN SELECT RAISE(ABORT, 'order_event only grows'); END",
        mysql: "DO 0",
    },
    Migration {
        version: 7,
        name: "refuse deletes from order events",
        sqlite: "CREATE TRIGGER order_event_no_delete BEFORE DELETE ON order_event
            BEGIN SELECT RAISE(ABORT, 'order_event only grows'); END",
        mysql: "DO 0",
    },
    KEYS[0],
    KEYS[1],
    LOG[0],
    LOG[1],
    LOG[2],
    LOG[3],
    LOG[4],
    consumed(15),
    consumed_by_time(16),
    Migration {
        version: 17,
        name: "add the trace of orders",
        // The id that all hops of the order's way share, 32 hexadecimal digits.
        sqlite: "ALTER TABLE order_header ADD COLUMN trace_id TEXT",
        mysql: "ALTER TABLE order_header
            ADD COLUMN trace_id VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin",
    },
    Migration {
        version: 18,
        name: "index order by cancellation",
        // Most orders have none; their rows need no place in it.
        sqlite: "CREATE INDEX order_header_by_cancel ON order_header (cancel_xid)
            WHERE cancel_xid IS NOT NULL",
        mysql: "CREATE INDEX order_header_by_cancel ON order_header (cancel_xid)",
    },
    FENCE[0],
    FENCE[1],
    COMPACT[0],
    COMPACT[1],
    COMPACT[2],
    COMPACT[3],
    COMPACT[4],
    COMPACT[5],
    IMPLIED[0],
];

const KEYS: [Migration; 2] = idempotency::migrations(8);
const LOG: [Migration; engine::MIGRATIONS] = engine::migrations(10);
const FENCE: [Migration; fence::MIGRATIONS] = fence::migrations(19);
const COMPACT: [Migration; engine::COMPACT] = engine::compact(21);
const IMPLIED: [Migration; engine::IMPLIED] = engine::implied(27);

const USER_ACCOUNT: Migration = Migration {
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
};

// Only `state`, `reason`, `cancel_xid`, `shipped_at` and `version` ever change.
const ORDER_HEADER: Migration = Migration {
    version: 2,
    name: "create order header",
    sqlite: "CREATE TABLE order_header (
        id TEXT NOT NULL PRIMARY KEY,
        user_id TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN
            ('placing', 'placed', 'cancelling', 'cancelled', 'shipped', 'failed')),
        address TEXT NOT NULL,
        total_cents INTEGER NOT NULL CHECK (0 < total_cents),
        currency TEXT NOT NULL CHECK (length(currency) = 3),
        points INTEGER NOT NULL CHECK (0 <= points),
        xid TEXT NOT NULL UNIQUE,
        message_id TEXT NOT NULL UNIQUE,
        cancel_xid TEXT,
        reason TEXT,
        shipped_at TEXT,
        version INTEGER NOT NULL CHECK (0 < version),
        created_at_ms INTEGER NOT NULL,
        updated_at_ms INTEGER NOT NULL
    ) STRICT",
    mysql: "CREATE TABLE order_header (
        id VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
        user_id VARCHAR(120) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
        state VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        address VARCHAR(400) NOT NULL,
        total_cents BIGINT NOT NULL,
        currency VARCHAR(3) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        points BIGINT NOT NULL,
        xid VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL UNIQUE,
        message_id VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL UNIQUE,
        cancel_xid VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin,
        reason VARCHAR(400),
        shipped_at VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin,
        version BIGINT NOT NULL,
        created_at_ms BIGINT NOT NULL,
        updated_at_ms BIGINT NOT NULL,
        CONSTRAINT order_header_state CHECK (state IN
            ('placing', 'placed', 'cancelling', 'cancelled', 'shipped', 'failed')),
        CONSTRAINT order_header_total CHECK (0 < total_cents),
        CONSTRAINT order_header_points CHECK (0 <= points),
        CONSTRAINT order_header_version CHECK (0 < version)
    ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4",
};

// What was bought at which price, as it was then.
const ORDER_LINE: Migration = Migration {
    version: 4,
    name: "create order line",
    sqlite: "CREATE TABLE order_line (
        order_id TEXT NOT NULL REFERENCES order_header (id),
        product_id INTEGER NOT NULL,
        line INTEGER NOT NULL,
        sku TEXT NOT NULL,
        name TEXT NOT NULL,
        unit_price_cents INTEGER NOT NULL CHECK (0 < unit_price_cents),
        quantity INTEGER NOT NULL CHECK (0 < quantity),
        line_total_cents INTEGER NOT NULL CHECK (line_total_cents = unit_price_cents * quantity),
        PRIMARY KEY (order_id, product_id)
    ) STRICT, WITHOUT ROWID",
    mysql: "CREATE TABLE order_line (
        order_id VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        product_id BIGINT NOT NULL,
        line INT NOT NULL,
        sku VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
        name VARCHAR(200) NOT NULL,
        unit_price_cents BIGINT NOT NULL,
        quantity BIGINT NOT NULL,
        line_total_cents BIGINT NOT NULL,
        PRIMARY KEY (order_id, product_id),
        CONSTRAINT order_line_order FOREIGN KEY (order_id) REFERENCES order_header (id),
        CONSTRAINT order_line_price CHECK (0 < unit_price_cents),
        CONSTRAINT order_line_quantity CHECK (0 < quantity),
        CONSTRAINT order_line_total CHECK (line_total_cents = unit_price_cents * quantity)
    ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4",
};

const ORDER_EVENT: Migration = Migration {
    version: 5,
    name: "create order event",
    sqlite: "CREATE TABLE order_event (
        order_id TEXT NOT NULL REFERENCES order_header (id),
        version INTEGER NOT NULL,
        from_state TEXT,
        to_state TEXT NOT NULL,
        step TEXT NOT NULL,
        xid TEXT,
        at_ms INTEGER NOT NULL,
        PRIMARY KEY (order_id, version)
    ) STRICT, WITHOUT ROWID",
    mysql: "CREATE TABLE order_event (
        order_id VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        version BIGINT NOT NULL,
        from_state VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin,
        to_state VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        step VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        xid VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin,
        at_ms BIGINT NOT NULL,
        PRIMARY KEY (order_id, version),
        CONSTRAINT order_event_order FOREIGN KEY (order_id) REFERENCES order_header (id)
    ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4",
};
