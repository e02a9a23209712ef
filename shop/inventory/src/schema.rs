//! The tables of the inventory service, in SQLite and in MySQL.
//!
//! What the schema itself guarantees, whatever the code does:
//!
//! - STOCK-1: `0 <= frozen <= on_hand`, as a CHECK.
//! - A price is positive, a currency has three letters, an article number exists once.
//! - `stock_flow` only grows: on SQLite two triggers refuse UPDATE and DELETE. MySQL wants a
//!   privilege for triggers that an application account seldom has when the binary log is on, and
//!   TiDB has none: there, do not grant UPDATE and DELETE on that table to the account.
//!
//! - A reservation is of a positive quantity, in one of three states, and restocked at most once.
//!
//! `on_hand` and `frozen` of a product are the sums of `on_hand_change` and `frozen_change` of its
//! flow rows, so stock can be recomputed from its history and compared.

use tradewind::sql::Migration;
use tradewind::transaction::fence;

/// The name under which the set of migrations is recorded.
pub(crate) const SET: &str = "inventory";

/// All steps, in order. A released step is never edited.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "create category",
        sqlite: "CREATE TABLE category (
            slug TEXT NOT NULL PRIMARY KEY CHECK (length(slug) BETWEEN 1 AND 48),
            title TEXT NOT NULL,
            position INTEGER NOT NULL
        ) STRICT",
        mysql: "CREATE TABLE category (
            slug VARCHAR(48) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
            title VARCHAR(120) NOT NULL,
            position INT NOT NULL,
            CONSTRAINT category_slug CHECK (CHAR_LENGTH(slug) >= 1)
        ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4",
    },
    Migration {
        version: 2,
        name: "create product",
        // What customers search in is utf8mb4: MySQL refuses to compare other text with theirs.
        sqlite: "CREATE TABLE product (
            id INTEGER NOT NULL PRIMARY KEY CHECK (0 < id),
            sku TEXT NOT NULL UNIQUE,
            name TEXT NOT NULL,
            category TEXT NOT NULL REFERENCES category (slug),
            attributes TEXT NOT NULL,
            price_cents INTEGER NOT NULL CHECK (0 < price_cents),
            currency TEXT NOT NULL CHECK (length(currency) = 3),
            status TEXT NOT NULL CHECK (status IN ('active', 'withdrawn')),
            version INTEGER NOT NULL
        ) STRICT",
        mysql: "CREATE TABLE product (
            id BIGINT NOT NULL PRIMARY KEY,
            sku VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL UNIQUE,
            name VARCHAR(200) NOT NULL,
            category VARCHAR(48) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            attributes TEXT NOT NULL,
            price_cents BIGINT NOT NULL,
            currency VARCHAR(3) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            status VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            version BIGINT NOT NULL,
            CONSTRAINT product_category FOREIGN KEY (category) REFERENCES category (slug),
            CONSTRAINT product_id CHECK (0 < id),
            CONSTRAINT product_price CHECK (0 < price_cents),
            CONSTRAINT product_currency CHECK (CHAR_LENGTH(currency) = 3),
            CONSTRAINT product_status CHECK (status IN ('active', 'withdrawn'))
        ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4",
    },
    Migration {
        version: 3,
        name: "index product by category",
        sqlite: "CREATE INDEX product_by_category ON product (category, id)",
        mysql: "CREATE INDEX product_by_category ON product (category, id)",
    },
    Migration {
        version: 4,
        name: "create stock",
        sqlite: "CREATE TABLE stock (
            product_id INTEGER NOT NULL PRIMARY KEY REFERENCES product (id),
            on_hand INTEGER NOT NULL,
            frozen INTEGER NOT NULL,
            version INTEGER NOT NULL,
            CHECK (0 <= frozen AND frozen <= on_hand)
        ) STRICT",
        mysql: "CREATE TABLE stock (
            product_id BIGINT NOT NULL PRIMARY KEY,
            on_hand BIGINT NOT NULL,
            frozen BIGINT NOT NULL,
            version BIGINT NOT NULL,
            CONSTRAINT stock_product FOREIGN KEY (product_id) REFERENCES product (id),
            CONSTRAINT stock_bounds CHECK (0 <= frozen AND frozen <= on_hand)
        ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4",
    },
    Migration {
        version: 5,
        name: "create stock flow",
        sqlite: "CREATE TABLE stock_flow (
            id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
            product_id INTEGER NOT NULL REFERENCES product (id),
            kind TEXT NOT NULL CHECK (length(kind) BETWEEN 1 AND 16),
            on_hand_change INTEGER NOT NULL,
            frozen_change INTEGER NOT NULL,
            on_hand_after INTEGER NOT NULL,
            frozen_after INTEGER NOT NULL,
            reference TEXT NOT NULL,
            at_ms INTEGER NOT NULL,
            CHECK (0 <= frozen_after AND frozen_after <= on_hand_after)
        ) STRICT",
        mysql: "CREATE TABLE stock_flow (
            id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
            product_id BIGINT NOT NULL,
            kind VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            on_hand_change BIGINT NOT NULL,
            frozen_change BIGINT NOT NULL,
            on_hand_after BIGINT NOT NULL,
            frozen_after BIGINT NOT NULL,
            reference VARCHAR(80) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            at_ms BIGINT NOT NULL,
            CONSTRAINT stock_flow_product FOREIGN KEY (product_id) REFERENCES product (id),
            CONSTRAINT stock_flow_bounds CHECK (0 <= frozen_after AND frozen_after <= on_hand_after)
        ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4",
    },
    Migration {
        version: 6,
        name: "index stock flow by product",
        sqlite: "CREATE INDEX stock_flow_by_product ON stock_flow (product_id, id)",
        mysql: "CREATE INDEX stock_flow_by_product ON stock_flow (product_id, id)",
    },
    Migration {
        version: 7,
        name: "refuse updates of stock flow",
        sqlite: "CREATE TRIGGER stock_flow_no_update BEFORE UPDATE ON stock_flow
            BEGIN SELECT RAISE(ABORT, 'stock_flow only grows'); END",
        mysql: "DO 0",
    },
    Migration {
        version: 8,
        name: "refuse deletes from stock flow",
        sqlite: "CREATE TRIGGER stock_flow_no_delete BEFORE DELETE ON stock_flow
            BEGIN SELECT RAISE(ABORT, 'stock_flow only grows'); END",
        mysql: "DO 0",
    },
    // One row per load of first-day data: whoever inserts the row does the load, in the same
    // transaction, so two processes that start at once load once.
    Migration {
        version: 9,
        name: "create data load",
        sqlite: "CREATE TABLE data_load (
            name TEXT NOT NULL PRIMARY KEY,
            at_ms INTEGER NOT NULL
        ) STRICT",
        mysql: "CREATE TABLE data_load (
            name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
            at_ms BIGINT NOT NULL
        ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4",
    },
    Migration {
        version: 10,
        name: "add the fence of stock",
        // The highest fencing token that ever wrote the row.
        sqlite: "ALTER TABLE stock ADD COLUMN fence INTEGER NOT NULL DEFAULT 0",
        mysql: "ALTER TABLE stock ADD COLUMN fence BIGINT NOT NULL DEFAULT 0",
    },
    // `reference` names the reservation in the rows of stock_flow: the transaction and its branch.
    // A confirmed reservation is given back by the transaction `restock_xid`, at most once.
    Migration {
        version: 11,
        name: "create reservation",
        sqlite: "CREATE TABLE reservation (
            xid TEXT NOT NULL,
            branch INTEGER NOT NULL,
            product_id INTEGER NOT NULL REFERENCES product (id),
            order_id TEXT NOT NULL CHECK (length(order_id) BETWEEN 1 AND 64),
            quantity INTEGER NOT NULL CHECK (0 < quantity),
            state TEXT NOT NULL CHECK (state IN ('frozen', 'confirmed', 'released')),
            reference TEXT NOT NULL,
            restock_xid TEXT,
            restocked INTEGER NOT NULL DEFAULT 0 CHECK (restocked IN (0, 1)),
            created_at_ms INTEGER NOT NULL,
            updated_at_ms INTEGER NOT NULL,
            PRIMARY KEY (xid, branch, product_id),
            CHECK (restock_xid IS NULL OR state = 'confirmed'),
            CHECK (restocked = 0 OR restock_xid IS NOT NULL)
        ) STRICT",
        mysql: "CREATE TABLE reservation (
            xid VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            branch INT NOT NULL,
            product_id BIGINT NOT NULL,
            order_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            quantity BIGINT NOT NULL,
            state VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            reference VARCHAR(80) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
            restock_xid VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin,
            restocked TINYINT NOT NULL DEFAULT 0,
            created_at_ms BIGINT NOT NULL,
            updated_at_ms BIGINT NOT NULL,
            PRIMARY KEY (xid, branch, product_id),
            CONSTRAINT reservation_product FOREIGN KEY (product_id) REFERENCES product (id),
            CONSTRAINT reservation_quantity CHECK (0 < quantity),
            CONSTRAINT reservation_state CHECK (state IN ('frozen', 'confirmed', 'released')),
            CONSTRAINT reservation_once CHECK (restocked IN (0, 1)),
            CONSTRAINT reservation_restock CHECK (restock_xid IS NULL OR state = 'confirmed'),
            CONSTRAINT reservation_restocked CHECK (restocked = 0 OR restock_xid IS NOT NULL)
        ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4",
    },
    Migration {
        version: 12,
        name: "index reservation by order",
        sqlite: "CREATE INDEX reservation_by_order ON reservation (order_id, product_id)",
        mysql: "CREATE INDEX reservation_by_order ON reservation (order_id, product_id)",
    },
    Migration {
        version: 13,
        name: "index reservation by product",
        sqlite: "CREATE INDEX reservation_by_product ON reservation (product_id, state)",
        mysql: "CREATE INDEX reservation_by_product ON reservation (product_id, state)",
    },
    Migration {
        version: 14,
        name: "index stock flow by reference",
        sqlite: "CREATE INDEX stock_flow_by_reference ON stock_flow (reference, product_id)",
        mysql: "CREATE INDEX stock_flow_by_reference ON stock_flow (reference, product_id)",
    },
    FENCE[0],
    FENCE[1],
    LOCK[0],
    // LOCK-1 can be told from these two alone: a row of the product keeps only the highest token.
    // Both are empty in rows from before, which say nothing of tokens.
    Migration {
        version: 18,
        name: "add the fencing token to stock flow",
        // The token that the write carried; none for one without a lock.
        sqlite: "ALTER TABLE stock_flow ADD COLUMN token INTEGER",
        mysql: "ALTER TABLE stock_flow ADD COLUMN token BIGINT",
    },
    Migration {
        version: 19,
        name: "add the fence to stock flow",
        // The fence of the product's stock after the write.
        sqlite: "ALTER TABLE stock_flow ADD COLUMN fence_after INTEGER",
        mysql: "ALTER TABLE stock_flow ADD COLUMN fence_after BIGINT",
    },
    // Only what is frozen is looked for by its product. With all that ever was, each order wrote
    // three pages of this index, of a product chosen by chance; like this one or two hold it.
    Migration {
        version: 20,
        name: "drop index reservation by product",
        sqlite: "DROP INDEX reservation_by_product",
        mysql: "DO 0",
    },
    Migration {
        version: 21,
        name: "index frozen reservation by product",
        sqlite: "CREATE INDEX reservation_frozen ON reservation (product_id)
            WHERE state = 'frozen'",
        mysql: "DO 0",
    },
];

const FENCE: [Migration; fence::MIGRATIONS] = fence::migrations(15);
const LOCK: [Migration; 1] = tradewind::lock::migrations(17);
