//! Hearing from the warehouse that an order shipped.

use serde::Deserialize;
use serde_json::Value;
use tradewind::base::Timestamp;
use tradewind::message::{ConsumeError, Event};
use tradewind::sql::Transaction;

use super::{OrderId, WorkError, rows};
use crate::machine::{State, Step};

#[derive(Debug, Deserialize)]
struct Shipped {
    order_id: OrderId,
    /// As the warehouse writes it: a text or milliseconds.
    shipped_at: Value,
}

/// Marks the order as shipped. The message may come before this service has heard that the order
/// is placed, or while a cancellation is being refused: then it has to come again.
pub(super) fn take(
    tx: &mut Transaction<'_>,
    event: &Event,
    now: Timestamp,
) -> Result<(), ConsumeError> {
    let refused = |why: String| ConsumeError::Refused(why);
    let it: Shipped = event.json().map_err(|error| refused(error.to_string()))?;
    let id = it.order_id;
    let header = rows::header(tx, &id.to_string()).map_err(failed)?;
    let Some(header) = header else { return Err(refused(format!("there is no order {id}"))) };
    match header.state {
        State::Shipped => return Ok(()),
        State::Placed => {}
        State::Placing | State::Cancelling => {
            let state = header.state.as_str();
            return Err(ConsumeError::NotYet(format!("order {id} is {state}")));
        }
        State::Cancelled | State::Failed => {
            let state = header.state.as_str();
            tracing::error!(order = %id, state, "an order shipped that must not have");
            return Err(refused(format!("order {id} is {state}")));
        }
    }
    rows::step(tx, id, Step::Ship, event.xid, now).map_err(failed)?;
    let at = match it.shipped_at {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let at: String = at.chars().filter(char::is_ascii).take(40).collect();
    Ok(rows::note_shipped(tx, id, &at)?)
}

fn failed(error: WorkError) -> ConsumeError {
    match error {
        WorkError::Sql(error) => ConsumeError::Sql(error),
        other => ConsumeError::Later(other.to_string()),
    }
}
