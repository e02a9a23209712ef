//! The invariants of stock, checked on one snapshot of the database.
//!
//! - STOCK-1: `0 <= frozen <= on_hand`.
//! - STOCK-2: frozen is the sum of the open reservations.
//! - STOCK-3: on hand is what was there first, minus the confirmed, plus the restocked
//!   reservations; and both are the sums of the flow.
//! - STOCK-4: a reservation is frozen once and ends at most once, and the flow says the same as
//!   its state.

use tradewind::sql::{Error, Transaction, params};

/// A row that breaks an invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which: `STOCK-1`.
    pub invariant: &'static str,
    /// The row and what is wrong with it.
    pub row: String,
}

/// Most violations that are listed for one invariant.
pub const VIOLATIONS_MAX: u32 = 100;

const STOCK_1: &str = "SELECT product_id, on_hand, frozen FROM stock \
     WHERE frozen < 0 OR on_hand < frozen ORDER BY product_id LIMIT ?";
const STOCK_2: &str = "SELECT s.product_id, s.frozen, COALESCE((SELECT SUM(r.quantity) \
     FROM reservation r WHERE r.product_id = s.product_id AND r.state = 'frozen'), 0) AS open_sum \
     FROM stock s WHERE s.frozen <> COALESCE((SELECT SUM(r.quantity) \
     FROM reservation r WHERE r.product_id = s.product_id AND r.state = 'frozen'), 0) \
     ORDER BY s.product_id LIMIT ?";
const STOCK_3: &str = "SELECT s.product_id, s.on_hand, \
     COALESCE((SELECT SUM(f.on_hand_change) FROM stock_flow f \
         WHERE f.product_id = s.product_id AND f.kind = 'initial'), 0) \
     - COALESCE((SELECT SUM(r.quantity) FROM reservation r \
         WHERE r.product_id = s.product_id AND r.state = 'confirmed' AND r.restocked = 0), 0) \
     FROM stock s WHERE s.on_hand <> \
     COALESCE((SELECT SUM(f.on_hand_change) FROM stock_flow f \
         WHERE f.product_id = s.product_id AND f.kind = 'initial'), 0) \
     - COALESCE((SELECT SUM(r.quantity) FROM reservation r \
         WHERE r.product_id = s.product_id AND r.state = 'confirmed' AND r.restocked = 0), 0) \
     ORDER BY s.product_id LIMIT ?";
const STOCK_3_FLOW: &str = "SELECT s.product_id, s.on_hand, s.frozen FROM stock s WHERE \
     s.on_hand <> COALESCE((SELECT SUM(f.on_hand_change) FROM stock_flow f \
         WHERE f.product_id = s.product_id), 0) \
     OR s.frozen <> COALESCE((SELECT SUM(f.frozen_change) FROM stock_flow f \
         WHERE f.product_id = s.product_id), 0) \
     ORDER BY s.product_id LIMIT ?";
const STOCK_4: &str = "SELECT r.reference, r.product_id, r.state FROM reservation r \
     WHERE (SELECT COUNT(*) FROM stock_flow f WHERE f.reference = r.reference \
         AND f.product_id = r.product_id AND f.kind = 'freeze') <> 1 \
     OR (SELECT COUNT(*) FROM stock_flow f WHERE f.reference = r.reference \
         AND f.product_id = r.product_id AND f.kind = 'sale') \
         <> CASE r.state WHEN 'confirmed' THEN 1 ELSE 0 END \
     OR (SELECT COUNT(*) FROM stock_flow f WHERE f.reference = r.reference \
         AND f.product_id = r.product_id AND f.kind = 'release') \
         <> CASE r.state WHEN 'released' THEN 1 ELSE 0 END \
     OR (SELECT COUNT(*) FROM stock_flow f WHERE f.reference = r.reference \
         AND f.product_id = r.product_id AND f.kind = 'restock') <> r.restocked \
     ORDER BY r.reference, r.product_id LIMIT ?";

/// What is wrong, at most [`VIOLATIONS_MAX`] rows for each invariant; empty when all hold. Call it
/// within one read.
///
/// # Errors
/// When the database fails.
pub fn audit(tx: &mut Transaction<'_>) -> Result<Vec<Violation>, Error> {
    let mut found = Vec::new();
    for (invariant, sql, what) in [
        ("STOCK-1", STOCK_1, "on hand and frozen are"),
        ("STOCK-2", STOCK_2, "frozen and the sum of open reservations are"),
        ("STOCK-3", STOCK_3, "on hand and what reservations leave of the first stock are"),
        ("STOCK-3", STOCK_3_FLOW, "the sums of the flow differ; on hand and frozen are"),
    ] {
        found.extend(tx.query(sql, params![VIOLATIONS_MAX], |row| {
            let (product, left, right): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let row = format!("product {product}: {what} {left} and {right}");
            Ok(Violation { invariant, row })
        })?);
    }
    found.extend(tx.query(STOCK_4, params![VIOLATIONS_MAX], |row| {
        let (reference, product): (String, i64) = (row.get(0)?, row.get(1)?);
        let state: String = row.get(2)?;
        let row = format!("reservation {reference} of product {product}: {state} and its flow");
        Ok(Violation { invariant: "STOCK-4", row })
    })?);
    Ok(found)
}
