//! The invariants of stock, over this service's own database.
//!
//! The words of each are in its constant; how it is looked for is in [`CHECKS`]. Each check
//! compares a row with what hangs on it: a product with its reservations and its flow, a
//! reservation with its flow and its fence.

use std::time::Duration;

use tradewind::audit::{Check, Columns, First, Invariant, Look};

/// STOCK-1.
pub const STOCK_1: Invariant =
    Invariant { number: "STOCK-1", statement: "0 <= frozen <= on_hand for every product" };
/// STOCK-2.
pub const STOCK_2: Invariant = Invariant {
    number: "STOCK-2",
    statement: "frozen is the sum of the open reservations of the product",
};
/// STOCK-3.
pub const STOCK_3: Invariant = Invariant {
    number: "STOCK-3",
    statement: "on_hand is what was there first, minus what was confirmed, plus what was restocked",
};
/// STOCK-4.
pub const STOCK_4: Invariant = Invariant {
    number: "STOCK-4",
    statement: "a reservation is frozen once and ends at most once, in its row as in the flow",
};

/// Fence rows may be cleaned a day after they are final.
const FENCED: Duration = Duration::from_secs(20 * 3600);

const PRODUCTS: &str = "SELECT MAX(k), COUNT(*) FROM (SELECT product_id AS k FROM stock \
     WHERE ? < product_id ORDER BY product_id LIMIT ?) w";
const RESERVATIONS: &str = "SELECT MAX(k), COUNT(*) FROM (SELECT xid AS k FROM reservation \
     WHERE ? < xid ORDER BY xid LIMIT ?) w";

const S1: &str = "SELECT product_id, on_hand, frozen FROM stock \
     WHERE ? < product_id AND product_id <= ? AND (frozen < 0 OR on_hand < frozen) \
     ORDER BY product_id";
const S2: &str = "SELECT product_id, frozen, open_sum FROM (SELECT s.product_id, s.frozen, \
     COALESCE((SELECT SUM(r.quantity) FROM reservation r \
         WHERE r.product_id = s.product_id AND r.state = 'frozen'), 0) AS open_sum \
     FROM stock s WHERE ? < s.product_id AND s.product_id <= ?) w \
     WHERE frozen <> open_sum ORDER BY product_id";
const S3: &str = "SELECT product_id, on_hand, initial_sum, gone_sum FROM (SELECT s.product_id, \
     s.on_hand, COALESCE((SELECT SUM(f.on_hand_change) FROM stock_flow f \
         WHERE f.product_id = s.product_id AND f.kind = 'initial'), 0) AS initial_sum, \
     COALESCE((SELECT SUM(r.quantity) FROM reservation r \
         WHERE r.product_id = s.product_id AND r.state = 'confirmed' AND r.restocked = 0), 0) \
         AS gone_sum \
     FROM stock s WHERE ? < s.product_id AND s.product_id <= ?) w \
     WHERE on_hand <> initial_sum - gone_sum ORDER BY product_id";
const S3_FLOW: &str = "SELECT product_id, on_hand, frozen, flow_on_hand, flow_frozen FROM (\
     SELECT s.product_id, s.on_hand, s.frozen, \
     COALESCE((SELECT SUM(f.on_hand_change) FROM stock_flow f \
         WHERE f.product_id = s.product_id), 0) AS flow_on_hand, \
     COALESCE((SELECT SUM(f.frozen_change) FROM stock_flow f \
         WHERE f.product_id = s.product_id), 0) AS flow_frozen \
     FROM stock s WHERE ? < s.product_id AND s.product_id <= ?) w \
     WHERE on_hand <> flow_on_hand OR frozen <> flow_frozen ORDER BY product_id";
const S4: &str = "SELECT reference, product_id, state, restocked, freezes, sales, releases, \
     restocks FROM (SELECT r.reference, r.product_id, r.state, r.restocked, \
     (SELECT COUNT(*) FROM stock_flow f WHERE f.reference = r.reference \
         AND f.product_id = r.product_id AND f.kind = 'freeze') AS freezes, \
     (SELECT COUNT(*) FROM stock_flow f WHERE f.reference = r.reference \
         AND f.product_id = r.product_id AND f.kind = 'sale') AS sales, \
     (SELECT COUNT(*) FROM stock_flow f WHERE f.reference = r.reference \
         AND f.product_id = r.product_id AND f.kind = 'release') AS releases, \
     (SELECT COUNT(*) FROM stock_flow f WHERE f.reference = r.reference \
         AND f.product_id = r.product_id AND f.kind = 'restock') AS restocks \
     FROM reservation r WHERE ? < r.xid AND r.xid <= ?) w \
     WHERE freezes <> 1 OR sales <> CASE state WHEN 'confirmed' THEN 1 ELSE 0 END \
     OR releases <> CASE state WHEN 'released' THEN 1 ELSE 0 END OR restocks <> restocked \
     ORDER BY reference, product_id";
const S4_FENCE: &str = "SELECT r.reference, r.product_id, r.state, f.status FROM reservation r \
     LEFT JOIN tradewind_fence f ON f.xid = r.xid AND f.branch = r.branch \
     WHERE ? < r.xid AND r.xid <= ? AND (f.status IS NULL AND ? < r.updated_at_ms \
     OR f.status <> CASE r.state WHEN 'frozen' THEN 1 WHEN 'confirmed' THEN 2 ELSE 3 END) \
     ORDER BY r.reference, r.product_id";

/// What is looked for.
pub const CHECKS: &[Check] = &[
    product(&STOCK_1, "out of bounds", 1000, &["product", "on_hand", "frozen"], S1),
    product(
        &STOCK_2,
        "frozen is not the sum of the open reservations",
        64,
        &["product", "frozen", "open_reservations"],
        S2,
    ),
    product(
        &STOCK_3,
        "on hand is not what the reservations leave of the first stock",
        16,
        &["product", "on_hand", "initial", "confirmed_and_not_restocked"],
        S3,
    ),
    product(
        &STOCK_3,
        "on hand and frozen are not the sums of the flow",
        16,
        &["product", "on_hand", "frozen", "flow_on_hand", "flow_frozen"],
        S3_FLOW,
    ),
    reservation(
        "its flow says something else",
        &[
            "reservation",
            "product",
            "state",
            "restocked",
            "freezes",
            "sales",
            "releases",
            "restocks",
        ],
        S4,
        None,
    ),
    reservation(
        "its branch's fence says something else",
        &["reservation", "product", "state", "fence"],
        S4_FENCE,
        Some(FENCED),
    ),
];

const fn product(
    invariant: &'static Invariant,
    what: &'static str,
    window: u32,
    columns: &'static [&'static str],
    broken: &'static str,
) -> Check {
    let look = Columns { first: First::Number, columns, bound: PRODUCTS, broken, recent: None };
    Check { invariant, what, window, look: Look::Rows(look) }
}

const fn reservation(
    what: &'static str,
    columns: &'static [&'static str],
    broken: &'static str,
    recent: Option<Duration>,
) -> Check {
    let look = Columns { first: First::Text, columns, bound: RESERVATIONS, broken, recent };
    Check { invariant: &STOCK_4, what, window: 2000, look: Look::Rows(look) }
}
