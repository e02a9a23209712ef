//! The invariants of the points service, over its own database.
//!
//! - POINTS-1: the balance of an account is the sum of its ledger, and every user of the ledger has
//!   an account.
//! - POINTS-2, as far as one database tells: an order is credited at most once, revoked at most
//!   once, for the same user and amount, and never without a credit; nothing that is in the ledger
//!   is pending still. Whether each *placed* order has its credit only the orders tell.

use tradewind::sql::{Error, Row, Transaction};

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its name: `POINTS-1`, `POINTS-2`.
    pub invariant: &'static str,
    /// The account or the order.
    pub about: String,
    /// What is wrong.
    pub what: &'static str,
}

type Check = (&'static str, &'static str, &'static str);

/// Each finds what is wrong; at most [`ROWS_MAX`] of a kind.
const CHECKS: &[Check] = &[
    (
        "POINTS-1",
        "the balance is not the sum of the ledger",
        "SELECT a.user_id FROM account a WHERE a.balance <>
            COALESCE((SELECT SUM(l.amount) FROM ledger l WHERE l.user_id = a.user_id), 0)
            ORDER BY a.user_id LIMIT 100",
    ),
    (
        "POINTS-1",
        "the ledger names a user without an account",
        "SELECT DISTINCT l.user_id FROM ledger l
            WHERE NOT EXISTS (SELECT 1 FROM account a WHERE a.user_id = l.user_id)
            ORDER BY l.user_id LIMIT 100",
    ),
    (
        "POINTS-2",
        "more than one row of a kind",
        "SELECT l.order_id FROM ledger l GROUP BY l.order_id, l.kind HAVING 1 < COUNT(*)
            ORDER BY l.order_id LIMIT 100",
    ),
    (
        "POINTS-2",
        "revoked without the same credit",
        "SELECT r.order_id FROM ledger r WHERE r.kind = 'revoke' AND NOT EXISTS
            (SELECT 1 FROM ledger c WHERE c.order_id = r.order_id AND c.kind = 'credit'
                AND c.user_id = r.user_id AND c.amount = -r.amount)
            ORDER BY r.order_id LIMIT 100",
    ),
    (
        "POINTS-2",
        "in the ledger and pending still",
        "SELECT p.order_id FROM pending p JOIN ledger l
            ON l.order_id = p.order_id AND l.kind = p.kind ORDER BY p.order_id LIMIT 100",
    ),
];

/// The most violations of one kind that are told.
pub const ROWS_MAX: usize = 100;

/// What is broken, in one snapshot; empty when all holds.
///
/// # Errors
/// What the database says.
pub fn audit(tx: &mut Transaction<'_>) -> Result<Vec<Violation>, Error> {
    let mut found = Vec::new();
    for (invariant, what, sql) in CHECKS {
        let about = tx.query(sql, &[], |row: &Row| row.get::<String>(0))?;
        found.extend(about.into_iter().map(|about| Violation { invariant, about, what }));
    }
    Ok(found)
}
