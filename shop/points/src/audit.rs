//! The invariants of points, over this service's own database.
//!
//! POINTS-2 is told here as far as one database tells: whether each *placed* order has its credit
//! only the orders tell, and the shop's audit asks them.

mod balance;

use std::time::Duration;

use tradewind::audit::{Check, Columns, First, Invariant, Look};

/// POINTS-1.
pub const POINTS_1: Invariant = Invariant {
    number: "POINTS-1",
    statement: "the balance of an account is the sum of its ledger",
};
/// POINTS-2.
pub const POINTS_2: Invariant = Invariant {
    number: "POINTS-2",
    statement: "a placed order is credited once, and revoked once when it is cancelled",
};

/// Fence rows may be cleaned a day after they are final.
const FENCED: Duration = Duration::from_secs(20 * 3600);

const LEDGER: &str = "SELECT MAX(k), COUNT(*) FROM (SELECT id AS k FROM ledger \
     WHERE ? < id ORDER BY id LIMIT ?) w";
const PENDING: &str = "SELECT MAX(k), COUNT(*) FROM (SELECT order_id AS k FROM pending \
     WHERE ? < order_id ORDER BY order_id LIMIT ?) w";

const NOBODY: &str = "SELECT l.user_id, l.order_id FROM ledger l WHERE ? < l.id AND l.id <= ? \
     AND NOT EXISTS (SELECT 1 FROM account a WHERE a.user_id = l.user_id) ORDER BY l.id";
const TWICE: &str = "SELECT l.order_id, l.kind, l.amount FROM ledger l \
     WHERE ? < l.id AND l.id <= ? AND EXISTS (SELECT 1 FROM ledger o \
         WHERE o.order_id = l.order_id AND o.kind = l.kind AND o.id < l.id) ORDER BY l.id";
const UNEARNED: &str = "SELECT r.order_id, r.user_id, r.amount FROM ledger r \
     WHERE ? < r.id AND r.id <= ? AND r.kind = 'revoke' AND NOT EXISTS \
     (SELECT 1 FROM ledger c WHERE c.order_id = r.order_id AND c.kind = 'credit' \
         AND c.user_id = r.user_id AND c.amount = -r.amount) ORDER BY r.id";
const STILL: &str = "SELECT p.order_id, p.kind, p.points FROM pending p JOIN ledger l \
     ON l.order_id = p.order_id AND l.kind = p.kind \
     WHERE ? < p.order_id AND p.order_id <= ? ORDER BY p.order_id";
// An order may have been placed and cancelled by transactions with one or with two branches here:
// which branch wrote a row is not in it.
// By the primary key alone: an index by status would find every row.
const UNFENCED: &str = "SELECT l.order_id, l.kind, l.amount, l.xid FROM ledger l \
     WHERE ? < l.id AND l.id <= ? AND ? < l.at_ms AND NOT EXISTS (SELECT 1 FROM tradewind_fence f \
         WHERE f.xid = l.xid AND f.status + 0 = 2) ORDER BY l.id";

/// What is looked for.
pub const CHECKS: &[Check] = &[
    Check {
        invariant: &POINTS_1,
        what: "the balance is not the sum of the ledger",
        window: 500,
        look: Look::Code { first: First::Text, look: balance::look },
    },
    check(
        &POINTS_1,
        "the ledger names a user without an account",
        5000,
        (First::Number, LEDGER),
        (&["user", "order"], NOBODY),
    ),
    check(
        &POINTS_2,
        "more than one row of a kind",
        5000,
        (First::Number, LEDGER),
        (&["order", "kind", "amount"], TWICE),
    ),
    check(
        &POINTS_2,
        "revoked without the same credit",
        5000,
        (First::Number, LEDGER),
        (&["order", "user", "amount"], UNEARNED),
    ),
    check(
        &POINTS_2,
        "in the ledger and pending still",
        5000,
        (First::Text, PENDING),
        (&["order", "kind", "points"], STILL),
    ),
    Check {
        invariant: &POINTS_2,
        what: "no branch of its transaction was confirmed here",
        window: 5000,
        look: Look::Rows(Columns {
            first: First::Number,
            columns: &["order", "kind", "amount", "xid"],
            bound: LEDGER,
            broken: UNFENCED,
            recent: Some(FENCED),
        }),
    },
];

const fn check(
    invariant: &'static Invariant,
    what: &'static str,
    window: u32,
    (first, bound): (First, &'static str),
    (columns, broken): (&'static [&'static str], &'static str),
) -> Check {
    let look = Look::Rows(Columns { first, columns, bound, broken, recent: None });
    Check { invariant, what, window, look }
}
