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
//! `on_hand` and `frozen` of a product are the sums of `on_hand_change` and `frozen_change` of its
//! flow rows, so stock can be recomputed from its history and compared.

use tradewind::sql::Migration;

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
];
