//! The invariants of stock and of its locks, over this service's own database.
//!
//! The words of each are in its constant; how it is looked for is in [`CHECKS`]. Each check
//! compares a row with what hangs on it: a product with its reservations and its flow, a
//! reservation with its flow and its fence, a write under a lock with the tokens before it.

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

/// LOCK-1.
pub const LOCK_1: Invariant = Invariant {
    number: "LOCK-1",
    statement: "no write is accepted with a fencing token lower than one already seen",
};

/// Fence rows may be cleaned a day after they are final.
const FENCED: Duration = Duration::from_secs(20 * 3600);

const PRODUCTS: &str = "SELECT MAX(k), COUNT(*) FROM (SELECT product_id AS k FROM stock \
     WHERE ? < product_id ORDER BY product_id LIMIT ?) w";
const FLOW: &str = "SELECT MAX(k), COUNT(*) FROM (SELECT id AS k FROM stock_flow \
     WHERE ? < id ORDER BY id LIMIT ?) w";
// Of writes without a lock, and of stock that never was under one, there is nothing to say.
const LOCKED_FLOW: &str = "SELECT MAX(k), COUNT(t) FROM (SELECT id AS k, token AS t \
     FROM stock_flow WHERE ? < id ORDER BY id LIMIT ?) w";
const LOCKED_PRODUCTS: &str = "SELECT MAX(k), COUNT(t) FROM (SELECT product_id AS k, \
     NULLIF(fence, 0) AS t FROM stock WHERE ? < product_id ORDER BY product_id LIMIT ?) w";
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
// The flow is a chain: each row tells what there was after it. So its sums need not be added up
// again: stock is what the last row says, each row is the one before it and its own change, and
// each change but the first stock is a reservation's, whose rows STOCK-4 adds up.
const S3: &str = "SELECT s.product_id, s.on_hand, s.frozen, f.on_hand_after, f.frozen_after \
     FROM stock s LEFT JOIN stock_flow f \
     ON f.id = (SELECT MAX(l.id) FROM stock_flow l WHERE l.product_id = s.product_id) \
     WHERE ? < s.product_id AND s.product_id <= ? \
     AND (s.on_hand <> COALESCE(f.on_hand_after, 0) OR s.frozen <> COALESCE(f.frozen_after, 0)) \
     ORDER BY s.product_id";
const S3_CHAIN: &str = "SELECT f.id, f.product_id, f.kind, f.reference, f.on_hand_after, \
     f.frozen_after FROM stock_flow f LEFT JOIN stock_flow p ON p.id = (SELECT MAX(l.id) \
         FROM stock_flow l WHERE l.product_id = f.product_id AND l.id < f.id) \
     WHERE ? < f.id AND f.id <= ? \
     AND (f.on_hand_after <> COALESCE(p.on_hand_after, 0) + f.on_hand_change \
     OR f.frozen_after <> COALESCE(p.frozen_after, 0) + f.frozen_change) ORDER BY f.id";
// By the primary key alone: an index by product would find every sale of it.
const S3_ORPHAN: &str = "SELECT f.id, f.product_id, f.kind, f.reference, f.on_hand_change, \
     f.frozen_change FROM stock_flow f WHERE ? < f.id AND f.id <= ? AND f.kind <> 'initial' \
     AND NOT EXISTS (SELECT 1 FROM reservation r WHERE r.xid = SUBSTR(f.reference, 1, 36) \
         AND r.product_id + 0 = f.product_id AND r.reference = f.reference) ORDER BY f.id";
const S4: &str = "SELECT r.reference, r.product_id, r.state, r.restocked, r.quantity, \
     SUM(CASE f.kind WHEN 'freeze' THEN 1 ELSE 0 END), \
     SUM(CASE f.kind WHEN 'sale' THEN 1 ELSE 0 END), \
     SUM(CASE f.kind WHEN 'release' THEN 1 ELSE 0 END), \
     SUM(CASE f.kind WHEN 'restock' THEN 1 ELSE 0 END), \
     SUM(f.on_hand_change), SUM(f.frozen_change) FROM reservation r LEFT JOIN stock_flow f \
     ON f.reference = r.reference AND f.product_id = r.product_id \
     WHERE ? < r.xid AND r.xid <= ? \
     GROUP BY r.xid, r.branch, r.product_id, r.reference, r.state, r.restocked, r.quantity \
     HAVING SUM(CASE f.kind WHEN 'freeze' THEN 1 ELSE 0 END) <> 1 \
     OR SUM(CASE f.kind WHEN 'sale' THEN 1 ELSE 0 END) \
         <> CASE r.state WHEN 'confirmed' THEN 1 ELSE 0 END \
     OR SUM(CASE f.kind WHEN 'release' THEN 1 ELSE 0 END) \
         <> CASE r.state WHEN 'released' THEN 1 ELSE 0 END \
     OR SUM(CASE f.kind WHEN 'restock' THEN 1 ELSE 0 END) <> r.restocked \
     OR SUM(f.on_hand_change) <> CASE WHEN r.state = 'confirmed' AND r.restocked = 0 \
         THEN -r.quantity ELSE 0 END \
     OR SUM(f.frozen_change) <> CASE r.state WHEN 'frozen' THEN r.quantity ELSE 0 END \
     ORDER BY r.xid, r.branch, r.product_id";
// The fence is looked for by the age of the reservation: a restock changes the row long after the
// fence of its Try may have been cleaned away.
const S4_FENCE: &str = "SELECT r.reference, r.product_id, r.state, f.status FROM reservation r \
     LEFT JOIN tradewind_fence f ON f.xid = r.xid AND f.branch = r.branch \
     WHERE ? < r.xid AND r.xid <= ? AND (f.status IS NULL AND ? < r.created_at_ms \
     OR f.status <> CASE r.state WHEN 'frozen' THEN 1 WHEN 'confirmed' THEN 2 ELSE 3 END) \
     ORDER BY r.reference, r.product_id";

// The fences are a chain as well: each row tells the highest token after it, which is its own or
// that of the row before it. So a token need only be compared with the row before. Rows from
// before the flow knew of tokens have neither and compare with nothing.
const L1: &str = "SELECT f.id, f.product_id, f.reference, f.token, f.fence_after, p.fence_after \
     FROM stock_flow f LEFT JOIN stock_flow p ON p.id = (SELECT MAX(l.id) \
         FROM stock_flow l WHERE l.product_id = f.product_id AND l.id < f.id) \
     WHERE ? < f.id AND f.id <= ? AND (f.token < p.fence_after \
     OR f.fence_after <> COALESCE(f.token, p.fence_after)) ORDER BY f.id";
const L1_STOCK: &str = "SELECT s.product_id, s.fence, f.fence_after FROM stock s \
     JOIN stock_flow f \
     ON f.id = (SELECT MAX(l.id) FROM stock_flow l WHERE l.product_id = s.product_id) \
     WHERE ? < s.product_id AND s.product_id <= ? AND s.fence <> f.fence_after \
     ORDER BY s.product_id";

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
        "is not what the flow leaves of the first stock",
        1000,
        &["product", "on_hand", "frozen", "flow_on_hand", "flow_frozen"],
        S3,
    ),
    flow(
        "does not follow from the row before it",
        &["flow", "product", "kind", "reservation", "on_hand_after", "frozen_after"],
        S3_CHAIN,
    ),
    flow(
        "changes stock for no reservation",
        &["flow", "product", "kind", "reservation", "on_hand", "frozen"],
        S3_ORPHAN,
    ),
    reservation(
        "its flow says something else",
        &[
            "reservation",
            "product",
            "state",
            "restocked",
            "quantity",
            "freezes",
            "sales",
            "releases",
            "restocks",
            "on_hand",
            "frozen",
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
    locked(
        "its token, or the fence after it, is not what follows from the row before it",
        5000,
        LOCKED_FLOW,
        &["flow", "product", "reservation", "token", "fence_after", "fence_before"],
        L1,
    ),
    locked(
        "its fence is not the highest token of its flow",
        1000,
        LOCKED_PRODUCTS,
        &["product", "fence", "flow_fence"],
        L1_STOCK,
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

const fn flow(what: &'static str, columns: &'static [&'static str], broken: &'static str) -> Check {
    let look = Columns { first: First::Number, columns, bound: FLOW, broken, recent: None };
    Check { invariant: &STOCK_3, what, window: 5000, look: Look::Rows(look) }
}

const fn locked(
    what: &'static str,
    window: u32,
    bound: &'static str,
    columns: &'static [&'static str],
    broken: &'static str,
) -> Check {
    let look = Columns { first: First::Number, columns, bound, broken, recent: None };
    Check { invariant: &LOCK_1, what, window, look: Look::Rows(look) }
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
