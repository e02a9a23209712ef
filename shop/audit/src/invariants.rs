//! Every invariant of the shop: where each is stated, and in which order they are told.

use tradewind::audit::Invariant;
use tradewind::audit::estate::{MSG_1, MSG_2, MSG_3, TX_1, TX_2, TX_3, TX_4};
use tradewind_inventory::audit::{LOCK_1, STOCK_1, STOCK_2, STOCK_3, STOCK_4};
use tradewind_order::orders::audit::{JOIN_2, ORDER_1, ORDER_2, ORDER_3};
use tradewind_points::audit::{POINTS_1, POINTS_2};
use tradewind_warehouse::audit::{SHIP_1, SHIP_2};

/// JOIN-1.
pub const JOIN_1: Invariant = Invariant {
    number: "JOIN-1",
    statement: "the lines of an order are those of its reservations and of its outbound order",
};
/// JOIN-3.
pub const JOIN_3: Invariant =
    Invariant { number: "JOIN-3", statement: "a placed order has one committed message" };
/// JOIN-4.
pub const JOIN_4: Invariant = Invariant {
    number: "JOIN-4",
    statement: "every order that a caller was told is placed exists and is placed, or about to be",
};

/// Those that are looked at, in the order in which they are told. JOIN-4 needs the callers' list.
pub const ALL: &[&Invariant] = &[
    &STOCK_1, &STOCK_2, &STOCK_3, &STOCK_4, &ORDER_1, &ORDER_2, &ORDER_3, &POINTS_1, &POINTS_2,
    &SHIP_1, &SHIP_2, &TX_1, &TX_2, &TX_3, &TX_4, &MSG_1, &MSG_2, &MSG_3, &LOCK_1, &JOIN_1,
    &JOIN_2, &JOIN_3,
];

/// What cannot be told from the databases, and why.
pub const NOT_COVERED: &[(&str, &str)] = &[
    ("REG-1", "the registry keeps no database; its tests hold it"),
    ("REG-2", "the registry keeps no database; its tests hold it"),
];
