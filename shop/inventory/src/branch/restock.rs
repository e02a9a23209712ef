//! `inventory.restock`: what a cancelled order gives back.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tradewind::base::Problem;
use tradewind::service::axum::http::StatusCode;
use tradewind::sql::Transaction;
use tradewind::transaction::{BranchError, Call, participant};

use super::rows;

/// Which order gives back all it took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restock {
    /// The order.
    pub order_id: String,
}

/// The participant.
#[derive(Debug)]
pub(super) struct Returns;

/// How soon the placing branch is looked at again.
const AGAIN: Duration = Duration::from_millis(200);

#[participant(action = "inventory.restock")]
impl Returns {
    fn reserve(
        &self,
        tx: &mut Transaction<'_>,
        call: &Call,
        it: &Restock,
    ) -> Result<(), BranchError> {
        // An order whose key was used again after a failure has released lines too.
        let mut lines = rows::of_order(tx, &it.order_id)?;
        lines.retain(|it| it.state != "released");
        if lines.is_empty() {
            let detail = format!("order {} has taken nothing from stock", it.order_id);
            let code = "inventory.nothing-to-restock";
            return Err(Problem::new(StatusCode::CONFLICT, code, detail).into());
        }
        if lines.iter().any(|it| it.state == "frozen") {
            return Err(BranchError::NotYet(AGAIN));
        }
        for line in lines {
            if rows::mark(tx, &line, call)? {
                continue;
            }
            if line.restocked {
                let detail = format!("order {} is given back already", it.order_id);
                let code = "inventory.restocked";
                return Err(Problem::new(StatusCode::CONFLICT, code, detail).into());
            }
            // Another cancellation's, and how it ends is open.
            return Err(BranchError::NotYet(AGAIN));
        }
        Ok(())
    }

    fn confirm(
        &self,
        tx: &mut Transaction<'_>,
        call: &Call,
        it: &Restock,
    ) -> Result<(), BranchError> {
        let by = call.xid.to_string();
        for line in rows::of_order(tx, &it.order_id)? {
            if line.restock_xid.as_deref() == Some(by.as_str()) && !line.restocked {
                rows::restock(tx, &line, call.xid, call.now)?;
            }
        }
        Ok(())
    }

    fn cancel(
        &self,
        tx: &mut Transaction<'_>,
        call: &Call,
        it: &Restock,
    ) -> Result<(), BranchError> {
        Ok(rows::unmark(tx, &it.order_id, call.xid, call.now)?)
    }
}
