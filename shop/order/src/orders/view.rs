//! Orders as they are answered.

use serde::{Deserialize, Serialize};
use tradewind::base::Timestamp;
use tradewind::sql::{self, Transaction};

use super::rows::{self, Header, New};
use crate::machine::State;

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderView {
    /// Its id.
    pub id: String,
    /// `placing`, `placed`, `cancelling`, `cancelled`, `shipped` or `failed`.
    pub state: String,
    /// Where it goes.
    pub address: String,
    /// What was bought, as it was when the order was placed.
    pub lines: Vec<Line>,
    /// The sum of the lines, in the smallest unit of the currency.
    pub total_cents: i64,
    /// The currency (ISO 4217).
    pub currency: String,
    /// The points it earns.
    pub points: i64,
    /// The transaction that places it.
    pub xid: String,
    /// The message that tells the warehouse.
    pub message_id: String,
    /// The last transaction that cancels or tried to cancel it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_xid: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it shipped, as the warehouse said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shipped_at: Option<String>,
    /// Grows with each change.
    pub version: i64,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// When it last changed.
    pub updated_at_ms: i64,
}

/// One line of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The product.
    pub product_id: i64,
    /// Its article number.
    pub sku: String,
    /// Its name.
    pub name: String,
    /// The price of one.
    pub unit_price_cents: i64,
    /// How many.
    pub quantity: i64,
    /// The price of all.
    pub line_total_cents: i64,
}

/// An order in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Its id.
    pub id: String,
    /// As in [`OrderView`].
    pub state: String,
    /// The sum of its lines.
    pub total_cents: i64,
    /// The currency.
    pub currency: String,
    /// The transaction that places it.
    pub xid: String,
    /// The message that tells the warehouse.
    pub message_id: String,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: i64,
}

/// One page of a user's orders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Newest first.
    pub items: Vec<Summary>,
    /// What to send as `before` to get older ones; missing at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What happened to an order, and under which ids others know of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trail {
    /// The order.
    pub order_id: String,
    /// The transaction that places it.
    pub xid: String,
    /// How far that is: `trying`, `committing`, `committed`, `aborting`, `aborted`; missing when
    /// the log has forgotten it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The message that tells the warehouse.
    pub message_id: String,
    /// The last transaction that cancels or tried to cancel it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_xid: Option<String>,
    /// How far that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_phase: Option<String>,
    /// What all hops of its way log: the trace id of the request that placed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The event log, oldest first.
    pub events: Vec<Event>,
}

/// One step of an order's life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The order's version after it.
    pub version: i64,
    /// The state before; missing for the first.
    pub from: Option<String>,
    /// The state after.
    pub to: String,
    /// What happened.
    pub step: String,
    /// The transaction or message's transaction it belongs to.
    pub xid: Option<String>,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
}

impl OrderView {
    /// An order that began at `begun` and is placed `now`, as its rows will say.
    pub(super) fn placed(it: &New, begun: Timestamp, now: Timestamp) -> Self {
        let lines = it.lines.iter().map(|it| Line {
            product_id: it.product_id,
            sku: it.sku.clone(),
            name: it.name.clone(),
            unit_price_cents: it.unit_price_cents,
            quantity: it.quantity.into(),
            line_total_cents: it.line_total_cents,
        });
        Self {
            id: it.id.to_string(),
            state: State::Placed.as_str().to_owned(),
            address: it.address.clone(),
            lines: lines.collect(),
            total_cents: it.total_cents,
            currency: it.currency.clone(),
            points: it.points,
            xid: it.xid.to_string(),
            message_id: it.message_id.to_string(),
            cancel_xid: None,
            reason: None,
            shipped_at: None,
            version: 2,
            created_at_ms: begun.millis(),
            updated_at_ms: now.millis(),
        }
    }

    /// The order of this header, with its lines.
    pub(super) fn read(tx: &mut Transaction<'_>, it: Header) -> Result<Self, sql::Error> {
        let lines = rows::lines(tx, &it.id)?;
        Ok(Self {
            id: it.id,
            state: it.state.as_str().to_owned(),
            address: it.address,
            lines,
            total_cents: it.total_cents,
            currency: it.currency,
            points: it.points,
            xid: it.xid,
            message_id: it.message_id,
            cancel_xid: it.cancel_xid,
            reason: it.reason,
            shipped_at: it.shipped_at,
            version: it.version,
            created_at_ms: it.created_at_ms,
            updated_at_ms: it.updated_at_ms,
        })
    }
}

impl From<Header> for Summary {
    fn from(it: Header) -> Self {
        Self {
            id: it.id,
            state: it.state.as_str().to_owned(),
            total_cents: it.total_cents,
            currency: it.currency,
            xid: it.xid,
            message_id: it.message_id,
            created_at_ms: it.created_at_ms,
        }
    }
}
