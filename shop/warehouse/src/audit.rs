//! The invariants of shipping, over this service's own database.
//!
//! Whether what ships was placed, and what was placed ships, only the orders tell, and the shop's
//! audit asks them.

use std::time::Duration;

use tradewind::audit::estate::{MSG_2, TX_3};
use tradewind::audit::{Check, Columns, First, Invariant, Look};

/// SHIP-1.
pub const SHIP_1: Invariant = Invariant {
    number: "SHIP-1",
    statement: "a placed order has one outbound order, which ships unless it is cancelled",
};
/// SHIP-2.
pub const SHIP_2: Invariant = Invariant {
    number: "SHIP-2",
    statement: "nothing ships for an order that is not placed, or is cancelled",
};

/// What was consumed is remembered for thirty days.
const REMEMBERED: Duration = Duration::from_secs(29 * 24 * 3600);
/// Fence rows may be cleaned a day after they are final.
const FENCED: Duration = Duration::from_secs(20 * 3600);

const ORDERS: &str = "SELECT MAX(k), COUNT(*) FROM (SELECT order_id AS k FROM outbound \
     WHERE ? < order_id ORDER BY order_id LIMIT ?) w";
const PARTS: &str = "SELECT order_id, state FROM outbound WHERE ? < order_id AND order_id <= ? \
     AND (state IN ('received', 'shipped') AND (received_ms IS NULL OR message_id IS NULL \
         OR void_xid IS NOT NULL) \
     OR state IN ('voiding', 'void') AND (void_xid IS NULL OR shipped_ms IS NOT NULL) \
     OR state = 'shipped' AND shipped_ms IS NULL) ORDER BY order_id";
// A message that comes late changes the row, perhaps days after the fence of its void was cleaned
// away: then the change is no younger than the message.
const UNFENCED: &str = "SELECT o.order_id, o.state, o.void_xid FROM outbound o \
     WHERE ? < o.order_id AND o.order_id <= ? AND o.state IN ('voiding', 'void') \
     AND ? < o.changed_ms AND (o.received_ms IS NULL OR o.received_ms < o.changed_ms) \
     AND NOT EXISTS (SELECT 1 FROM tradewind_fence f WHERE f.xid = o.void_xid \
         AND f.status + 0 = CASE o.state WHEN 'void' THEN 2 ELSE 1 END) ORDER BY o.order_id";
// Only this row tells the first delivery of a message from the others.
const FORGOTTEN: &str = "SELECT o.order_id, o.state, o.message_id FROM outbound o \
     WHERE ? < o.order_id AND o.order_id <= ? AND ? < o.received_ms AND NOT EXISTS \
     (SELECT 1 FROM message_consumed c WHERE c.consumer = 'warehouse' \
         AND c.message_id = UNHEX(SUBSTR(o.message_id, 5))) ORDER BY o.order_id";

/// What is looked for.
pub const CHECKS: &[Check] = &[
    check(&SHIP_2, "its columns contradict its state", PARTS, &["order", "state"], None),
    check(
        &MSG_2,
        "taken in without the row that remembers its message",
        FORGOTTEN,
        &["order", "state", "message"],
        Some(REMEMBERED),
    ),
    check(
        &TX_3,
        "the transaction that voids it has no such fence",
        UNFENCED,
        &["order", "state", "xid"],
        Some(FENCED),
    ),
];

const fn check(
    invariant: &'static Invariant,
    what: &'static str,
    broken: &'static str,
    columns: &'static [&'static str],
    recent: Option<Duration>,
) -> Check {
    let look = Columns { first: First::Text, columns, bound: ORDERS, broken, recent };
    Check { invariant, what, window: 5000, look: Look::Rows(look) }
}
