//! The invariants of orders, checked on one snapshot of the database.
//!
//! - ORDER-1: one order that was placed for each idempotency key. (The claim fixes the order id; a
//!   key is free again only with the abort of its order. Nothing to look for in the rows.)
//! - ORDER-2: the event log has only steps of the table in [`crate::machine`], without gaps, and
//!   ends in the order's state.
//! - ORDER-3: the sum of the lines is the total.

use tradewind::sql::{Error, Transaction, params};

use crate::machine::{State, Step};

/// A row that breaks an invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which: `ORDER-2`.
    pub invariant: &'static str,
    /// The row and what is wrong with it.
    pub row: String,
}

/// Most violations that are listed for one invariant.
pub const VIOLATIONS_MAX: u32 = 100;

const GAPS: &str = "SELECT h.id FROM order_header h WHERE h.version <> \
     (SELECT COUNT(*) FROM order_event e WHERE e.order_id = h.id) \
     OR h.version <> (SELECT MAX(e.version) FROM order_event e WHERE e.order_id = h.id) \
     OR NOT EXISTS (SELECT 1 FROM order_event e WHERE e.order_id = h.id \
         AND e.version = h.version AND e.to_state = h.state) \
     ORDER BY h.id LIMIT ?";
const JUMPS: &str = "SELECT b.order_id FROM order_event b \
     JOIN order_event a ON a.order_id = b.order_id AND a.version = b.version - 1 \
     WHERE b.from_state IS NULL OR b.from_state <> a.to_state ORDER BY b.order_id LIMIT ?";
const KINDS: &str = "SELECT from_state, step, to_state, MIN(order_id) FROM order_event \
     WHERE 1 < version GROUP BY from_state, step, to_state";
const SUMS: &str = "SELECT h.id FROM order_header h WHERE h.total_cents <> \
     COALESCE((SELECT SUM(l.line_total_cents) FROM order_line l WHERE l.order_id = h.id), 0) \
     ORDER BY h.id LIMIT ?";

/// What is wrong, at most [`VIOLATIONS_MAX`] rows for each question; empty when all hold. Call it
/// within one read.
///
/// # Errors
/// When the database fails.
pub fn audit(tx: &mut Transaction<'_>) -> Result<Vec<Violation>, Error> {
    let mut found = Vec::new();
    for (invariant, sql, what) in [
        ("ORDER-2", GAPS, "its events have gaps or do not end in its state"),
        ("ORDER-2", JUMPS, "an event does not start where the one before it ended"),
        ("ORDER-3", SUMS, "its lines do not add up to its total"),
    ] {
        found.extend(tx.query(sql, params![VIOLATIONS_MAX], |row| {
            let id: String = row.get(0)?;
            Ok(Violation { invariant, row: format!("order {id}: {what}") })
        })?);
    }
    let kinds: Vec<(Option<String>, String, String, String)> =
        tx.query(KINDS, &[], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    for (from, step, to, order) in kinds {
        let known = Step::ALL.into_iter().find(|it| it.as_str() == step);
        let start = from.as_deref().and_then(State::parse);
        let legal = start.zip(known).and_then(|(from, step)| from.after(step));
        if legal.is_none_or(|it| it.as_str() != to) {
            let from = from.unwrap_or_default();
            let row = format!("order {order}: {step} from {from} to {to} is not in the table");
            found.push(Violation { invariant: "ORDER-2", row });
        }
    }
    Ok(found)
}
