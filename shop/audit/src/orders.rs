//! The walk over all orders, a window at a time: effects, causes, and effects again where a cause
//! seems to have none.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use tradewind::audit::Findings;
use tradewind::audit::estate::{MSG_3, TX_1, TX_4};
use tradewind::sql::{Error, Row, Transaction, Value, params};
use tradewind_order::machine::State;
use tradewind_points::audit::POINTS_2;
use tradewind_warehouse::audit::{SHIP_1, SHIP_2};

use crate::Held;
use crate::databases::{Databases, ReadError};
use crate::decided::phases;
use crate::facts::{
    Decision, Effects, Entry, Message, MessageState, Order, Outbound, OutboundState, Pending,
    Phase, Reserved, ReservedState, Topic,
};
use crate::invariants::{JOIN_1, JOIN_3};
use crate::machine::order::{missing, unfounded};
use crate::transactions::alive;

/// How many orders are looked at together.
const WINDOW: u32 = 5000;
/// Behind every order id, which are visible ASCII.
const END: &str = "\u{7f}";

/// Ids after `after`, up to `upto`.
#[derive(Clone, Debug)]
struct Span {
    after: String,
    upto: String,
}

type All = BTreeMap<String, Effects>;

const BOUND: &str = "SELECT MAX(k), COUNT(*) FROM (SELECT id AS k FROM order_header \
     WHERE ? < id ORDER BY id LIMIT ?) w";
const OUTBOUND: &str = "SELECT order_id, state, items, void_xid, received_ms FROM outbound \
     WHERE ? < order_id AND order_id <= ?";
const OUTBOX: &str = "SELECT msg_key FROM message_outbox \
     WHERE ? < msg_key AND msg_key <= ? AND topic = 'order.shipped'";
const MESSAGES: &str = "SELECT msg_key, id, topic, state, xid FROM message \
     WHERE ? < msg_key AND msg_key <= ? AND topic IN ('order.placed', 'order.shipped')";
const LEDGER: &str = "SELECT order_id, kind, user_id, amount, xid FROM ledger \
     WHERE ? < order_id AND order_id <= ?";
const PENDING: &str = "SELECT order_id, kind, xid FROM pending \
     WHERE ? < order_id AND order_id <= ?";
const RESERVED: &str = "SELECT order_id, xid, product_id, quantity, state, restock_xid, restocked \
     FROM reservation WHERE ? < order_id AND order_id <= ?";
const ORDERS: &str = "SELECT h.id, h.user_id, h.state, h.points, h.xid, h.cancel_xid, \
     h.created_at_ms, p.phase, c.phase FROM order_header h \
     LEFT JOIN tradewind_tcc p ON p.xid = h.xid \
     LEFT JOIN tradewind_tcc c ON c.xid = h.cancel_xid WHERE ? < h.id AND h.id <= ?";
const LINES: &str = "SELECT order_id, product_id, quantity FROM order_line \
     WHERE ? < order_id AND order_id <= ?";

/// Compares every order with what all services have of it.
///
/// Tells whether anything is held for orders that are not there.
///
/// # Errors
/// When a database cannot be read.
pub(crate) async fn walk(
    databases: &Databases,
    now_ms: i64,
    findings: &mut Findings,
) -> Result<Held, ReadError> {
    let alive_ms = alive(databases, now_ms).await?;
    let mut held = Held::No;
    let mut after = String::new();
    loop {
        let from = after.clone();
        let bound = move |tx: &mut Transaction<'_>| {
            let columns = |row: &Row| Ok((row.get::<Option<String>>(0)?, row.get::<u32>(1)?));
            tx.query_one(BOUND, params![from.as_str(), WINDOW], columns)
        };
        let found = databases.order.read("audit: orders", bound).await?;
        let more = found.filter(|it| it.1 == WINDOW).and_then(|it| it.0);
        // The last window is open: what belongs to orders that nobody knows is in it.
        let upto = more.clone().unwrap_or_else(|| END.to_owned());
        let span = Span { after, upto };
        held = held.or(window(databases, &span, (now_ms, alive_ms), findings).await?);
        let Some(last) = more else { return Ok(held) };
        after = last;
    }
}

async fn window(
    databases: &Databases,
    span: &Span,
    (now_ms, alive_ms): (i64, i64),
    findings: &mut Findings,
) -> Result<Held, ReadError> {
    let effects = effects(databases, span, First::Warehouse).await?;
    let orders = causes(databases, span).await?;
    count(&orders, &effects, findings);
    let nothing = Effects::default();
    let (mut suspicious, mut held) = (BTreeSet::new(), Held::No);
    for id in orders.keys().chain(effects.keys()).collect::<BTreeSet<_>>() {
        let (order, of) = (orders.get(id), effects.get(id).unwrap_or(&nothing));
        for found in unfounded(id, order, of, alive_ms) {
            held = held.or(Held::too_long(order.is_none()));
            findings.broken(found.invariant, found.row);
        }
        if order.is_some_and(|it| !missing(it, of, now_ms).is_empty()) {
            suspicious.insert(id);
        }
    }
    let Some(last) = suspicious.last() else { return Ok(held) };
    // The effects may have come between the two reads: now they must be there.
    let again = Span { after: span.after.clone(), upto: (*last).clone() };
    let effects = self::effects(databases, &again, First::Broker).await?;
    for id in suspicious {
        let Some(order) = orders.get(id) else { continue };
        for found in missing(order, effects.get(id).unwrap_or(&nothing), now_ms) {
            findings.broken(found.invariant, found.row);
        }
    }
    Ok(held)
}

fn count(orders: &BTreeMap<String, Order>, effects: &All, findings: &mut Findings) {
    let number = |it: usize| u64::try_from(it).unwrap_or(u64::MAX);
    let all = number(orders.len());
    let placed = orders.values().filter(|it| it.placing().decision == Decision::Committed);
    let placed = number(placed.count());
    for it in [&JOIN_1, &JOIN_3, &POINTS_2, &SHIP_1] {
        findings.checked(it, placed);
    }
    let outbound = effects.values().filter(|it| it.outbound.is_some()).count();
    findings.checked(&SHIP_2, number(outbound));
    let messages = effects.values().map(|it| it.messages.len()).sum();
    findings.checked(&MSG_3, number(messages));
    findings.checked(&TX_1, all);
    findings.checked(&TX_4, all);
}

// === what the services have ===

/// Of a message and its outbound order, each causes something of the other: the message that an
/// order is outbound, the shipment another message. Which one is to be read first depends on the
/// question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    /// For effects without their cause.
    Warehouse,
    /// For causes without their effect.
    Broker,
}

async fn effects(databases: &Databases, span: &Span, first: First) -> Result<All, ReadError> {
    let mut all = All::new();
    if first == First::Broker {
        messages(databases, span, &mut all).await?;
    }
    shipments(databases, span, &mut all).await?;
    if first == First::Warehouse {
        messages(databases, span, &mut all).await?;
    }
    bookings(databases, span, &mut all).await?;
    Ok(all)
}

async fn shipments(databases: &Databases, span: &Span, all: &mut All) -> Result<(), ReadError> {
    let it = span.clone();
    let read = move |tx: &mut Transaction<'_>| {
        let outbound = it.query(tx, OUTBOUND, outbound)?;
        // In one snapshot: what has shipped left its message, or it is published already.
        Ok((outbound, it.query(tx, OUTBOX, |row| row.get::<String>(0))?))
    };
    let (outbound, outbox) = databases.warehouse.read("audit: outbound", read).await?;
    for (id, it) in outbound {
        all.entry(id).or_default().outbound = Some(it);
    }
    for id in outbox {
        all.entry(id).or_default().in_outbox = true;
    }
    Ok(())
}

async fn messages(databases: &Databases, span: &Span, all: &mut All) -> Result<(), ReadError> {
    let it = span.clone();
    let read = move |tx: &mut Transaction<'_>| it.query(tx, MESSAGES, message);
    for (id, it) in databases.broker.read("audit: messages", read).await? {
        all.entry(id).or_default().messages.push(it);
    }
    Ok(())
}

async fn bookings(databases: &Databases, span: &Span, all: &mut All) -> Result<(), ReadError> {
    let it = span.clone();
    let read = move |tx: &mut Transaction<'_>| {
        // In one snapshot: a note moves into the ledger.
        Ok((it.query(tx, LEDGER, entry)?, it.query(tx, PENDING, pending)?))
    };
    let (ledger, pending) = databases.points.read("audit: points", read).await?;
    for (id, it) in ledger {
        all.entry(id).or_default().ledger.push(it);
    }
    for (id, it) in pending {
        all.entry(id).or_default().pending.push(it);
    }
    let it = span.clone();
    let read = move |tx: &mut Transaction<'_>| it.query(tx, RESERVED, reserved);
    for (id, it) in databases.inventory.read("audit: reservations", read).await? {
        all.entry(id).or_default().reservations.push(it);
    }
    Ok(())
}

impl Span {
    fn query<T>(
        &self,
        tx: &mut Transaction<'_>,
        sql: &'static str,
        map: impl FnMut(&Row) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        tx.query(sql, params![self.after.as_str(), self.upto.as_str()], map)
    }
}

/// A line as the message of the order gives it.
#[derive(Debug, Deserialize)]
struct Line {
    product_id: i64,
    quantity: i64,
}

fn outbound(row: &Row) -> Result<(String, Outbound), Error> {
    let (state, items): (String, Option<String>) = (row.get(1)?, row.get(2)?);
    let received: Option<i64> = row.get(4)?;
    let state = match state.as_str() {
        "received" => OutboundState::Received,
        "voiding" => OutboundState::Voiding,
        "void" => OutboundState::Void,
        _ => OutboundState::Shipped,
    };
    let lines = received.map(|_| {
        // What cannot be read differs from every order.
        let lines: Vec<Line> = serde_json::from_str(&items.unwrap_or_default()).unwrap_or_default();
        lines.into_iter().map(|it| (it.product_id, it.quantity)).collect()
    });
    Ok((row.get(0)?, Outbound { state, lines, void_xid: row.get(3)? }))
}

fn message(row: &Row) -> Result<(String, Message), Error> {
    let (id, topic): (Vec<u8>, String) = (row.get(1)?, row.get(2)?);
    let topic = if topic == "order.placed" { Topic::Placed } else { Topic::Shipped };
    let xid: Option<Vec<u8>> = row.get(4)?;
    let (id, xid) = (hex(&id), xid.map(|it| format!("txn_{}", hex(&it))));
    let state = MessageState::of(row.get(3)?);
    Ok((row.get(0)?, Message { id, topic, state, xid }))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('?'));
        }
        text
    })
}

fn entry(row: &Row) -> Result<(String, Entry), Error> {
    let revoke = row.get::<String>(1)? != "credit";
    let entry = Entry { revoke, user_id: row.get(2)?, amount: row.get(3)?, xid: row.get(4)? };
    Ok((row.get(0)?, entry))
}

fn pending(row: &Row) -> Result<(String, Pending), Error> {
    let revoke = row.get::<String>(1)? != "credit";
    Ok((row.get(0)?, Pending { revoke, xid: row.get(2)? }))
}

fn reserved(row: &Row) -> Result<(String, Reserved), Error> {
    let state: String = row.get(4)?;
    let state = match state.as_str() {
        "frozen" => ReservedState::Frozen,
        "confirmed" => ReservedState::Confirmed,
        _ => ReservedState::Released,
    };
    let it = Reserved {
        xid: row.get(1)?,
        product: row.get(2)?,
        quantity: row.get(3)?,
        state,
        restock_xid: row.get(5)?,
        restocked: row.get(6)?,
    };
    Ok((row.get(0)?, it))
}

// === what was decided ===

async fn causes(databases: &Databases, span: &Span) -> Result<BTreeMap<String, Order>, ReadError> {
    let log_known = databases.log_known;
    let it = span.clone();
    let read = move |tx: &mut Transaction<'_>| {
        let orders = it.query(tx, ORDERS, |row| order(row, log_known))?;
        let line = |row: &Row| Ok((row.get::<String>(0)?, (row.get(1)?, row.get(2)?)));
        Ok((orders, it.query(tx, LINES, line)?))
    };
    let (orders, lines) = databases.order.read("audit: orders", read).await?;
    let orders = orders.into_iter().flatten().map(|it| (it.id.clone(), it));
    let mut orders: BTreeMap<_, _> = orders.collect();
    for (id, line) in lines {
        if let Some(order) = orders.get_mut(&id) {
            order.lines.push(line);
        }
    }
    if let Some(coordinator) = &databases.coordinator {
        // What is in the own log is not in another one.
        let placing = orders.values().filter(|it| it.placing.is_none()).map(|it| &it.xid);
        let cancelling = orders.values().filter(|it| it.cancelling.is_none());
        let wanted = placing.chain(cancelling.filter_map(|it| it.cancel_xid.as_ref()));
        let log = phases(coordinator, wanted.cloned().collect()).await?;
        for it in orders.values_mut() {
            let phase = |xid: &String| log.get(xid).copied();
            it.placing = it.placing.or_else(|| phase(&it.xid));
            it.cancelling = it.cancelling.or_else(|| phase(it.cancel_xid.as_ref()?));
        }
    }
    Ok(orders)
}

/// An order in a state that is none is left to ORDER-2.
fn order(row: &Row, log_known: bool) -> Result<Option<Order>, Error> {
    let state: String = row.get(2)?;
    let Some(state) = State::parse(&state) else { return Ok(None) };
    let phase = |it: Option<i64>| it.and_then(Phase::of);
    Ok(Some(Order {
        id: row.get(0)?,
        user_id: row.get(1)?,
        state,
        points: row.get(3)?,
        xid: row.get(4)?,
        cancel_xid: row.get(5)?,
        created_ms: row.get(6)?,
        lines: Vec::new(),
        placing: phase(row.get(7)?),
        cancelling: phase(row.get(8)?),
        log_known,
    }))
}

// === JOIN-4 ===

// Whether its transaction is one that was committed before that is written down.
const PLACED: &str = "SELECT h.state, CASE WHEN t.phase = 1 AND t.implied = 1 THEN 1 ELSE 0 END \
     FROM order_header h LEFT JOIN tradewind_tcc t ON t.xid = h.xid WHERE h.id = ?";

/// The orders of a list that are not there, or not placed. One may still be placing while its
/// transaction is open; TX-2 is about those that stay so.
///
/// # Errors
/// When the database cannot be read.
pub(crate) async fn expected(
    databases: &Databases,
    ids: &[String],
    findings: &mut Findings,
) -> Result<(), ReadError> {
    let join_4 = &crate::invariants::JOIN_4;
    findings.checked(join_4, 0);
    for chunk in ids.chunks(1000) {
        let wanted = chunk.to_vec();
        let read = move |tx: &mut Transaction<'_>| {
            let mut wrong = Vec::new();
            for id in &wanted {
                let state = |row: &Row| Ok((row.get::<String>(0)?, row.get::<i64>(1)? == 1));
                let found = tx.query_one(PLACED, &[Value::from(id)], state)?;
                match found.as_ref().map(|it| (it.0.as_str(), it.1)) {
                    None => wrong.push(format!("order={id} does not exist")),
                    Some(("placing", true)) => {}
                    Some((it @ ("placing" | "failed"), _)) => {
                        wrong.push(format!("order={id} is {it}"));
                    }
                    Some(_) => {}
                }
            }
            Ok(wrong)
        };
        findings.checked(join_4, u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        for row in databases.order.read("audit: expected", read).await? {
            findings.broken(join_4, row);
        }
    }
    Ok(())
}
