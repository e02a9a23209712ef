//! Taking in what was placed: the consumer of `order.placed`.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tradewind::axum::body::Bytes;
use tradewind::axum::http::HeaderMap;
use tradewind::base::{Clock, Timestamp, fault};
use tradewind::message::{ConsumeError, Consumer, Event, Reply};
use tradewind::service::Failure;
use tradewind::sql::{Error, Transaction, params};

use crate::shipping::Shipper;

/// The topic that is consumed.
pub const TOPIC: &str = "order.placed";
/// The most lines of an order.
pub const LINES_MAX: usize = 1000;
/// The longest id of an order or a user, in characters.
pub const ID_LEN_MAX: usize = 64;
/// The longest address, in characters.
pub const ADDRESS_CHARS_MAX: usize = 1000;

/// The data of the message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// The order.
    pub order_id: String,
    /// Who gets it.
    pub user_id: String,
    /// Where to.
    pub address: String,
    /// What.
    pub lines: Vec<Line>,
    /// What is paid on delivery, in the smallest unit of the currency.
    pub total_cents: i64,
}

/// One line of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The product.
    pub product_id: i64,
    /// Its article number when it was ordered.
    pub sku: String,
    /// Its name when it was ordered.
    pub name: String,
    /// How many.
    pub quantity: i64,
}

/// Takes deliveries.
#[derive(Clone, Debug)]
pub(crate) struct Intake {
    consumer: Consumer,
    shipper: Shipper,
    clock: Arc<dyn Clock>,
    ship_after: Duration,
}

/// What the row says beside the data.
struct Arrival {
    now: Timestamp,
    ship_after: Timestamp,
}

/// How often the row may change under a delivery before the broker is asked to come again.
const LOOKS: usize = 3;

impl Intake {
    pub(crate) const fn new(
        consumer: Consumer,
        shipper: Shipper,
        clock: Arc<dyn Clock>,
        ship_after: Duration,
    ) -> Self {
        Self { consumer, shipper, clock, ship_after }
    }

    /// Takes deliveries: of each, its effect and the row that remembers it in one transaction.
    pub(crate) async fn take(&self, headers: &HeaderMap, body: Bytes) -> Result<Reply, Failure> {
        let now = self.clock.now();
        let ship_after = now + self.ship_after;
        let arrival = Arrival { now, ship_after };
        let act = move |tx: &mut Transaction<'_>, event: &Event| receive(tx, event, &arrival);
        let reply = self.consumer.take(headers, body, act).await?;
        self.shipper.look(ship_after);
        Ok(reply)
    }
}

fn receive(tx: &mut Transaction<'_>, event: &Event, arrival: &Arrival) -> Result<(), ConsumeError> {
    let refused = |error: String| ConsumeError::Refused(error);
    let placed: Placed = event.json().map_err(|error| refused(error.to_string()))?;
    placed.check().map_err(|what| refused(what.to_owned()))?;
    if fault::bug("dedup-forgotten") {
        // The table's key would stop a second row, so the newest delivery overwrites the first.
        let sql = "DELETE FROM outbound WHERE order_id = ?";
        tx.execute(sql, params![&placed.order_id])?;
    }
    for _ in 0..LOOKS {
        if insert(tx, event, &placed, arrival)? || fill(tx, event, &placed, arrival)? {
            return Ok(());
        }
        let sql = "SELECT message_id FROM outbound WHERE order_id = ? AND received_ms IS NOT NULL";
        let known = |it: &tradewind::sql::Row| it.get::<String>(0);
        if let Some(first) = tx.query_one(sql, params![&placed.order_id], known)? {
            let (order, message) = (&placed.order_id, event.id);
            tracing::warn!(order.id = order, msg.id = %message, first, "order placed once more");
            return Ok(());
        }
        // The row was there and is gone: a cancellation was cancelled in between.
    }
    Err(ConsumeError::Later("the order is being cancelled".into()))
}

/// The order's row, unless it has one.
fn insert(
    tx: &mut Transaction<'_>,
    event: &Event,
    it: &Placed,
    arrival: &Arrival,
) -> Result<bool, ConsumeError> {
    let sql = "INSERT INTO outbound (order_id, state, user_id, address, items, total_cents,
            message_id, placed_xid, trace, received_ms, ship_after_ms, changed_ms)
        VALUES (?, 'received', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let values = params![
        &it.order_id,
        &it.user_id,
        &it.address,
        it.items()?,
        it.total_cents,
        event.id.to_string(),
        event.xid.map(|it| it.to_string()),
        // The shipment goes on in the order's own trace.
        event.trace.map(|it| it.to_string()),
        arrival.now,
        arrival.ship_after,
        arrival.now
    ];
    match tx.execute(sql, values) {
        Ok(_) => Ok(true),
        Err(error) if error.is_unique_violation() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The contents into a row that a cancellation made before; its state stays. Should that
/// cancellation be called off, the order ships.
fn fill(
    tx: &mut Transaction<'_>,
    event: &Event,
    it: &Placed,
    arrival: &Arrival,
) -> Result<bool, ConsumeError> {
    let sql = "UPDATE outbound SET user_id = ?, address = ?, items = ?, total_cents = ?,
            message_id = ?, placed_xid = ?, trace = ?, received_ms = ?, ship_after_ms = ?,
            changed_ms = ?
        WHERE order_id = ? AND received_ms IS NULL";
    let values = params![
        &it.user_id,
        &it.address,
        it.items()?,
        it.total_cents,
        event.id.to_string(),
        event.xid.map(|it| it.to_string()),
        event.trace.map(|it| it.to_string()),
        arrival.now,
        arrival.ship_after,
        arrival.now,
        &it.order_id
    ];
    let changed: Result<u64, Error> = tx.execute(sql, values);
    Ok(changed? == 1)
}

impl Placed {
    fn check(&self) -> Result<(), &'static str> {
        let id = |it: &str| {
            (1..=ID_LEN_MAX).contains(&it.len()) && it.bytes().all(|it| it.is_ascii_graphic())
        };
        if !id(&self.order_id) {
            return Err("order_id must be 1 to 64 visible ASCII characters");
        }
        if !id(&self.user_id) {
            return Err("user_id must be 1 to 64 visible ASCII characters");
        }
        if ADDRESS_CHARS_MAX < self.address.chars().count() {
            return Err("address is longer than 1000 characters");
        }
        if !(1..=LINES_MAX).contains(&self.lines.len()) {
            return Err("lines must be 1 to 1000");
        }
        if self.lines.iter().any(|it| it.quantity < 1) {
            return Err("each quantity must be at least 1");
        }
        Ok(())
    }

    fn items(&self) -> Result<String, ConsumeError> {
        serde_json::to_string(&self.lines).map_err(|it| ConsumeError::Refused(it.to_string()))
    }
}
