//! The tables of the warehouse service, in SQLite and in MySQL.
//!
//! What the schema itself guarantees, whatever the code does:
//!
//! - SHIP-1: an order has one outbound row.
//! - SHIP-2, as far as one database tells: nothing is received or shipped that was not placed
//!   (`received_ms`), and nothing that is void or being voided has shipped.

use tradewind::message::schema as message;
use tradewind::sql::Migration;
use tradewind::transaction::fence;

/// The name under which the set of migrations is recorded.
pub(crate) const SET: &str = "warehouse";

const FENCE: [Migration; fence::MIGRATIONS] = fence::migrations(3);

/// All steps, in order. A released step is never edited.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "create outbound",
        sqlite: "CREATE TABLE outbound (
            order_id TEXT NOT NULL PRIMARY KEY,
            state TEXT NOT NULL CHECK (state IN ('received', 'voiding', 'void', 'shipped')),
            user_id TEXT,
            address TEXT,
            items TEXT,
            total_cents INTEGER,
            message_id TEXT,
            placed_xid TEXT,
            trace TEXT,
            void_xid TEXT,
            received_ms INTEGER,
            ship_after_ms INTEGER,
            shipped_ms INTEGER,
            changed_ms INTEGER NOT NULL,
            CHECK (state IN ('voiding', 'void') OR received_ms IS NOT NULL),
            CHECK ((state IN ('voiding', 'void')) = (void_xid IS NOT NULL)),
            CHECK ((state = 'shipped') = (shipped_ms IS NOT NULL))
        ) STRICT",
        mysql: "CREATE TABLE outbound (
            order_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
            state VARCHAR(8) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            user_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin,
            address TEXT,
            items MEDIUMTEXT,
            total_cents BIGINT,
            message_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin,
            placed_xid CHAR(36) CHARACTER SET ascii COLLATE ascii_bin,
            trace VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin,
            void_xid CHAR(36) CHARACTER SET ascii COLLATE ascii_bin,
            received_ms BIGINT,
            ship_after_ms BIGINT,
            shipped_ms BIGINT,
            changed_ms BIGINT NOT NULL,
            CONSTRAINT outbound_state CHECK
                (state IN ('received', 'voiding', 'void', 'shipped')),
            CONSTRAINT outbound_placed CHECK
                (state IN ('voiding', 'void') OR received_ms IS NOT NULL),
            CONSTRAINT outbound_void CHECK
                ((state IN ('voiding', 'void')) = (void_xid IS NOT NULL)),
            CONSTRAINT outbound_shipped CHECK
                ((state = 'shipped') = (shipped_ms IS NOT NULL))
        ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4",
    },
    Migration {
        version: 2,
        name: "index outbound by state",
        sqlite: "CREATE INDEX outbound_by_state ON outbound (state, ship_after_ms)",
        mysql: "CREATE INDEX outbound_by_state ON outbound (state, ship_after_ms)",
    },
    FENCE[0],
    FENCE[1],
    message::consumed(5),
    message::consumed_by_time(6),
    message::outbox(7),
    message::outbox_by_time(8),
];
