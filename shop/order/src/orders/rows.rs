//! The rows of orders, their lines and their events.

use tradewind::base::id::Xid;
use tradewind::base::{Timestamp, TraceContext};
use tradewind::message::MessageId;
use tradewind::sql::{self, Row, Transaction, Value, params};

use super::{OrderId, WorkError};
use crate::machine::{State, Step};
use crate::quote::QuoteLine;

/// An order that is about to be placed.
#[derive(Clone, Debug)]
pub(super) struct New {
    pub(super) id: OrderId,
    pub(super) user_id: String,
    pub(super) address: String,
    pub(super) total_cents: i64,
    pub(super) currency: String,
    pub(super) points: i64,
    pub(super) xid: Xid,
    pub(super) message_id: MessageId,
    pub(super) trace: Option<TraceContext>,
    pub(super) lines: Vec<QuoteLine>,
}

/// The head of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: String,
    pub(super) user_id: String,
    pub(super) state: State,
    pub(super) address: String,
    pub(super) total_cents: i64,
    pub(super) currency: String,
    pub(super) points: i64,
    pub(super) xid: String,
    pub(super) message_id: String,
    pub(super) cancel_xid: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) shipped_at: Option<String>,
    pub(super) version: i64,
    pub(super) created_at_ms: i64,
    pub(super) updated_at_ms: i64,
    pub(super) trace_id: Option<String>,
}

/// The one id under which an order is looked up, whoever's it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Its own.
    Order(OrderId),
    /// That of the transaction that places it, or of the last that cancels it.
    Xid(Xid),
    /// That of the message that tells of it.
    Message(MessageId),
}

/// Which orders of a user are listed.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    pub(super) user_id: String,
    /// Only older ones than this; empty: from the newest.
    pub(super) before: String,
    /// Only the one with this transaction, placing or cancelling; empty: any.
    pub(super) xid: String,
    /// Only the one with this message; empty: any.
    pub(super) message_id: String,
    pub(super) size: u32,
}

const INSERT: &str = "INSERT INTO order_header (id, user_id, state, address, total_cents, \
     currency, points, xid, message_id, version, created_at_ms, updated_at_ms, trace_id) \
     VALUES (?, ?, 'placing', ?, ?, ?, ?, ?, ?, 1, ?, ?, ?)";
const INSERT_LINE: &str = "INSERT INTO order_line (order_id, product_id, line, sku, name, \
     unit_price_cents, quantity, line_total_cents) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
const FIRST_EVENT: &str = "INSERT INTO order_event \
     (order_id, version, from_state, to_state, step, xid, at_ms) \
     VALUES (?, 1, NULL, 'placing', 'begin', ?, ?)";
const EVENT: &str = "INSERT INTO order_event \
     (order_id, version, from_state, to_state, step, xid, at_ms) VALUES (?, ?, ?, ?, ?, ?, ?)";
const BY_ID: &str = "SELECT id, user_id, state, address, total_cents, currency, points, xid, \
     message_id, cancel_xid, reason, shipped_at, version, created_at_ms, updated_at_ms, \
     trace_id FROM order_header WHERE id = ?";
const ID_BY_XID: &str = "SELECT id FROM order_header WHERE xid = ?";
const ID_BY_CANCEL: &str = "SELECT id FROM order_header WHERE cancel_xid = ?";
const ID_BY_MESSAGE: &str = "SELECT id FROM order_header WHERE message_id = ?";
const LIST: &str = "SELECT id, user_id, state, address, total_cents, currency, points, xid, \
     message_id, cancel_xid, reason, shipped_at, version, created_at_ms, updated_at_ms, \
     trace_id FROM order_header WHERE user_id = ? AND (? = '' OR id < ?) \
     AND (? = '' OR xid = ? OR cancel_xid = ?) AND (? = '' OR message_id = ?) \
     ORDER BY id DESC LIMIT ?";
const MOVE: &str = "UPDATE order_header SET state = ?, version = version + 1, updated_at_ms = ? \
     WHERE id = ? AND state = ? AND version = ?";
const LINES: &str = "SELECT product_id, sku, name, unit_price_cents, quantity, line_total_cents \
     FROM order_line WHERE order_id = ? ORDER BY line";
const EVENTS: &str = "SELECT version, from_state, to_state, step, xid, at_ms FROM order_event \
     WHERE order_id = ? ORDER BY version";
const CANCEL_XID: &str = "UPDATE order_header SET cancel_xid = ? \
     WHERE id = ? AND state = 'cancelling'";
const REASON: &str = "UPDATE order_header SET reason = ? WHERE id = ? AND state = 'failed'";
const SHIPPED_AT: &str = "UPDATE order_header SET shipped_at = ? \
     WHERE id = ? AND state = 'shipped'";

/// Writes the order, its lines and its first event.
pub(super) fn insert(tx: &mut Transaction<'_>, it: &New, now: Timestamp) -> Result<(), sql::Error> {
    let (id, xid) = (it.id.to_string(), it.xid.to_string());
    tx.execute(
        INSERT,
        params![
            id.as_str(),
            it.user_id.as_str(),
            it.address.as_str(),
            it.total_cents,
            it.currency.as_str(),
            it.points,
            xid.as_str(),
            it.message_id.to_string(),
            now,
            now,
            it.trace.map(|it| format!("{:032x}", it.trace_id()))
        ],
    )?;
    for (number, line) in (1_i64..).zip(&it.lines) {
        tx.execute(
            INSERT_LINE,
            params![
                id.as_str(),
                line.product_id,
                number,
                line.sku.as_str(),
                line.name.as_str(),
                line.unit_price_cents,
                line.quantity,
                line.line_total_cents
            ],
        )?;
    }
    tx.execute(FIRST_EVENT, params![id, xid, now]).map(drop)
}

/// The order, whoever's it is.
pub(super) fn header(tx: &mut Transaction<'_>, id: &str) -> Result<Option<Header>, WorkError> {
    tx.query_one(BY_ID, params![id], columns)?.map(read).transpose()
}

/// The order under one of its ids, whoever's it is.
pub(super) fn known(tx: &mut Transaction<'_>, by: &Known) -> Result<Option<Header>, WorkError> {
    let mut id = |sql: &'static str, by: String| tx.query_one(sql, params![by], |row| row.get(0));
    let id: Option<String> = match by {
        Known::Order(id) => Some(id.to_string()),
        Known::Message(message) => id(ID_BY_MESSAGE, message.to_string())?,
        Known::Xid(xid) => match id(ID_BY_XID, xid.to_string())? {
            Some(found) => Some(found),
            None => id(ID_BY_CANCEL, xid.to_string())?,
        },
    };
    id.map_or(Ok(None), |id| header(tx, &id))
}

/// Those of a user's orders that the filter lets pass, newest first.
pub(super) fn list(tx: &mut Transaction<'_>, it: &Filter) -> Result<Vec<Header>, WorkError> {
    let (before, xid, message) = (it.before.as_str(), it.xid.as_str(), it.message_id.as_str());
    let params =
        params![it.user_id.as_str(), before, before, xid, xid, xid, message, message, it.size];
    tx.query(LIST, params, columns)?.into_iter().map(read).collect()
}

/// Takes a step of the order's life and writes its event.
///
/// # Errors
/// [`WorkError::Moved`] when the order is in a state where the step cannot happen.
pub(super) fn step(
    tx: &mut Transaction<'_>,
    id: OrderId,
    step: Step,
    xid: Option<Xid>,
    now: Timestamp,
) -> Result<(), WorkError> {
    let text = id.to_string();
    let header = header(tx, &text)?.ok_or(WorkError::Moved(id))?;
    let from = header.state;
    let to = from.after(step).ok_or(WorkError::Moved(id))?;
    let moved = params![to.as_str(), now, text.as_str(), from.as_str(), header.version];
    if tx.execute(MOVE, moved)? != 1 {
        return Err(WorkError::Moved(id));
    }
    let xid = xid.map_or(Value::Null, |it| it.to_string().into());
    let version = header.version + 1;
    let (from, to) = (from.as_str(), to.as_str());
    tx.execute(EVENT, params![text, version, from, to, step.as_str(), xid, now])?;
    Ok(())
}

/// Notes the transaction that cancels an order.
pub(super) fn note_cancel(
    tx: &mut Transaction<'_>,
    id: OrderId,
    by: Xid,
) -> Result<(), sql::Error> {
    tx.execute(CANCEL_XID, params![by.to_string(), id.to_string()]).map(drop)
}

/// Notes why an order failed.
pub(super) fn note_reason(
    tx: &mut Transaction<'_>,
    id: OrderId,
    reason: &str,
) -> Result<(), sql::Error> {
    let reason: String = reason.chars().take(400).collect();
    tx.execute(REASON, params![reason, id.to_string()]).map(drop)
}

/// Notes when an order shipped, in the warehouse's words.
pub(super) fn note_shipped(
    tx: &mut Transaction<'_>,
    id: OrderId,
    at: &str,
) -> Result<(), sql::Error> {
    tx.execute(SHIPPED_AT, params![at, id.to_string()]).map(drop)
}

/// The lines of an order, as the caller wrote them.
pub(super) fn lines(tx: &mut Transaction<'_>, id: &str) -> Result<Vec<super::Line>, sql::Error> {
    tx.query(LINES, params![id], |row| {
        Ok(super::Line {
            product_id: row.get(0)?,
            sku: row.get(1)?,
            name: row.get(2)?,
            unit_price_cents: row.get(3)?,
            quantity: row.get(4)?,
            line_total_cents: row.get(5)?,
        })
    })
}

/// What happened to an order, oldest first.
pub(super) fn events(tx: &mut Transaction<'_>, id: &str) -> Result<Vec<super::Event>, sql::Error> {
    tx.query(EVENTS, params![id], |row| {
        Ok(super::Event {
            version: row.get(0)?,
            from: row.get(1)?,
            to: row.get(2)?,
            step: row.get(3)?,
            xid: row.get(4)?,
            at_ms: row.get(5)?,
        })
    })
}

fn columns(row: &Row) -> Result<(Header, String), sql::Error> {
    let header = Header {
        id: row.get(0)?,
        user_id: row.get(1)?,
        state: State::Failed,
        address: row.get(3)?,
        total_cents: row.get(4)?,
        currency: row.get(5)?,
        points: row.get(6)?,
        xid: row.get(7)?,
        message_id: row.get(8)?,
        cancel_xid: row.get(9)?,
        reason: row.get(10)?,
        shipped_at: row.get(11)?,
        version: row.get(12)?,
        created_at_ms: row.get(13)?,
        updated_at_ms: row.get(14)?,
        trace_id: row.get(15)?,
    };
    Ok((header, row.get(2)?))
}

fn read((header, state): (Header, String)) -> Result<Header, WorkError> {
    match State::parse(&state) {
        Some(state) => Ok(Header { state, ..header }),
        None => Err(WorkError::Row { order: header.id, what: "state" }),
    }
}
