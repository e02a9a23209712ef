//! What the service offers to transactions: voiding the shipment of an order that is cancelled.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tradewind::axum::http::StatusCode;
use tradewind::base::{Problem, fault};
use tradewind::sql::{Transaction, params};
use tradewind::transaction::{BranchError, Call, participant};

use crate::placed::ID_LEN_MAX;

/// How long an initiator is told to wait for another cancellation of the same order.
const NOT_YET: Duration = Duration::from_millis(200);

/// How often the row may change under a Try before the initiator is asked to come again.
const LOOKS: usize = 3;

/// The payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelled {
    /// The order that shall not ship.
    pub order_id: String,
}

/// The action `warehouse.void`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Void;

#[participant(action = "warehouse.void")]
impl Void {
    /// Holds the order back: `voiding` does not ship. An order whose `order.placed` has not come
    /// gets a row without contents, which holds back what comes.
    fn reserve(
        &self,
        tx: &mut Transaction<'_>,
        call: &Call,
        it: &Cancelled,
    ) -> Result<(), BranchError> {
        it.check()?;
        let xid = call.xid.to_string();
        for _ in 0..LOOKS {
            let sql = "UPDATE outbound SET state = 'voiding', void_xid = ?, changed_ms = ?
                WHERE order_id = ? AND state = 'received'";
            if tx.execute(sql, params![&xid, call.now, &it.order_id])? == 1 {
                return Ok(());
            }
            let sql = "SELECT state FROM outbound WHERE order_id = ?";
            let state = tx.query_one(sql, params![&it.order_id], |row| row.get::<String>(0))?;
            match state.as_deref() {
                Some("shipped") if fault::bug("void-ignored") => return Ok(()),
                Some("shipped") => {
                    return Err(refused("warehouse.already-shipped", "the order has shipped"));
                }
                Some("void") => {
                    let detail = "the order is cancelled already";
                    return Err(refused("warehouse.already-void", detail));
                }
                // Another transaction's, and how it ends is open.
                Some("voiding") => return Err(BranchError::NotYet(NOT_YET)),
                // It came or came back between the two statements.
                Some(_) => {}
                None => {
                    let sql = "INSERT INTO outbound (order_id, state, void_xid, changed_ms)
                        VALUES (?, 'voiding', ?, ?)";
                    match tx.execute(sql, params![&it.order_id, &xid, call.now]) {
                        Ok(_) => return Ok(()),
                        Err(error) if error.is_unique_violation() => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        Err(BranchError::NotYet(NOT_YET))
    }

    fn confirm(
        &self,
        tx: &mut Transaction<'_>,
        call: &Call,
        it: &Cancelled,
    ) -> Result<(), BranchError> {
        let sql = "UPDATE outbound SET state = 'void', changed_ms = ?
            WHERE order_id = ? AND state = 'voiding' AND void_xid = ?";
        let voided = tx.execute(sql, params![call.now, &it.order_id, call.xid.to_string()])?;
        if fault::bug("void-ignored") {
            return Ok(());
        }
        step(voided)
    }

    /// The order ships after all: the one that is here, or the one that comes.
    fn cancel(
        &self,
        tx: &mut Transaction<'_>,
        call: &Call,
        it: &Cancelled,
    ) -> Result<(), BranchError> {
        let xid = call.xid.to_string();
        let sql = "UPDATE outbound SET state = 'received', void_xid = NULL, changed_ms = ?
            WHERE order_id = ? AND state = 'voiding' AND void_xid = ? AND received_ms IS NOT NULL";
        if tx.execute(sql, params![call.now, &it.order_id, &xid])? == 1 {
            return Ok(());
        }
        let sql = "DELETE FROM outbound
            WHERE order_id = ? AND state = 'voiding' AND void_xid = ? AND received_ms IS NULL";
        step(tx.execute(sql, params![&it.order_id, &xid])?)
    }
}

impl Cancelled {
    fn check(&self) -> Result<(), BranchError> {
        let plain = self.order_id.bytes().all(|it| it.is_ascii_graphic());
        if plain && (1..=ID_LEN_MAX).contains(&self.order_id.len()) {
            return Ok(());
        }
        let detail = "there is no such order; see errors";
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "warehouse.bad-void", detail);
        let rule = format!("must be 1 to {ID_LEN_MAX} visible ASCII characters");
        Err(problem.field("order_id", rule).into())
    }
}

fn refused(code: &str, detail: &str) -> BranchError {
    Problem::new(StatusCode::CONFLICT, code, detail).into()
}

/// The fence lets a Confirm or Cancel pass once, and the row is this transaction's until then. A
/// message may come between the two statements of a Cancel; the next attempt sees it.
fn step(rows: u64) -> Result<(), BranchError> {
    if rows == 1 { Ok(()) } else { Err(BranchError::Failed("the row is not being voided".into())) }
}
