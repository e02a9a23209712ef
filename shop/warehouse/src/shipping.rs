//! Shipping what is due.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tradewind::base::{Clock, Rng, Tasks, Timestamp, TraceContext, fault};
use tradewind::message::{Draft, Outbox};
use tradewind::service::answer::chain;
use tradewind::sql::{Database, Error, Transaction, params};

use crate::SERVICE;
use crate::store::StoreError;

/// The topic that is published to.
pub(crate) const TOPIC: &str = "order.shipped";
/// The most orders that one transaction ships.
const BATCH: u32 = 32;
/// The longest time without a look: what another instance received is known to the database only.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The shortest time between two looks: nobody waits for the second, and one look ships many.
const LOOK_PAUSE: Duration = Duration::from_millis(25);

/// The data of the message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shipped {
    pub(crate) order_id: String,
    /// In milliseconds since the Unix epoch.
    pub(crate) shipped_at: Timestamp,
}

/// Ships orders whose time has come. Every instance runs one; a conditional update decides whose
/// an order is. Clones are the same shipper.
#[derive(Clone, Debug)]
pub(crate) struct Shipper {
    database: Database,
    outbox: Outbox,
    clock: Arc<dyn Clock>,
    due: Arc<Notify>,
    /// When it looks the next time, in milliseconds; while it looks, the end of time.
    planned: Arc<AtomicI64>,
}

/// What one turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Orders this turn shipped.
    pub(crate) shipped: usize,
    /// When the next order is due, if one waits.
    pub(crate) next: Option<Timestamp>,
}

/// A due order and its message, made outside of the transaction, which may run twice.
#[derive(Clone)]
struct Due {
    order_id: String,
    draft: Draft,
    trace: Option<TraceContext>,
}

impl Shipper {
    pub(crate) fn new(database: Database, outbox: Outbox, clock: Arc<dyn Clock>) -> Self {
        let (due, planned) = (Arc::new(Notify::new()), Arc::new(AtomicI64::new(i64::MAX)));
        Self { database, outbox, clock, due, planned }
    }

    /// Tells the shipper that an order came which is due then.
    pub(crate) fn look(&self, due: Timestamp) {
        if due.millis() < self.planned.load(Ordering::SeqCst) {
            self.due.notify_one();
        }
    }

    /// Ships in the background until the tasks end.
    pub(crate) fn start(&self, tasks: &Tasks) {
        let shipper = self.clone();
        tasks.spawn("shipping", move |cancel| async move {
            let mut rng = Rng::from_entropy();
            while !cancel.is_cancelled() {
                // What comes while it looks may be missed by the look.
                shipper.planned.store(i64::MAX, Ordering::SeqCst);
                let pause = match shipper.turn().await {
                    Ok(turn) => shipper.pause(turn),
                    Err(error) => {
                        tracing::warn!(error = chain(&error), "cannot ship for now");
                        rng.jitter(LOOK_EVERY, 0.5)
                    }
                };
                let next = shipper.clock.now() + pause;
                shipper.planned.store(next.millis(), Ordering::SeqCst);
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = shipper.due.notified() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
        });
    }

    fn pause(&self, turn: Turn) -> Duration {
        let wait = turn.next.map_or(LOOK_EVERY, |it| it.since(self.clock.now()));
        wait.clamp(LOOK_PAUSE, LOOK_EVERY)
    }

    /// Ships what is due, up to a batch of it.
    pub(crate) async fn turn(&self) -> Result<Turn, StoreError> {
        let now = self.clock.now();
        let found = self.database.read("shipping due", move |tx| due(tx, now)).await?;
        let mut batch: Vec<Due> =
            found.into_iter().filter_map(|it| self.prepare(it, now)).collect();
        // All instances touch rows in the same order and so never wait in a circle.
        batch.sort_by(|a, b| a.order_id.cmp(&b.order_id));
        let mut shipped = 0;
        if !batch.is_empty() {
            let due = batch.clone();
            let work = move |tx: &mut Transaction<'_>| ship(tx, &due, now);
            let mine = self.database.transaction_at_leisure("ship", work).await?;
            shipped = mine.len();
            fault::point(format_args!("warehouse.shipped"));
            self.outbox.hand_over();
            mine.iter().filter_map(|at| batch.get(*at)).for_each(Due::note);
            tracing::info!(shipped, "orders shipped");
        }
        let next = self.database.read("shipping next", next).await?;
        Ok(Turn { shipped, next })
    }

    fn prepare(&self, it: (String, Option<String>), now: Timestamp) -> Option<Due> {
        let (order_id, trace) = it;
        let data = Shipped { order_id: order_id.clone(), shipped_at: now };
        match Draft::new(&*self.clock, TOPIC, &order_id, SERVICE, &data) {
            Ok(draft) => {
                let trace = trace.as_deref().and_then(TraceContext::parse);
                Some(Due { order_id, draft, trace })
            }
            // Ids are checked before they are stored; one that was changed by hand stays.
            Err(error) => {
                tracing::error!(order.id = order_id, error = chain(&error), "cannot be shipped");
                None
            }
        }
    }
}

impl Due {
    fn note(&self) {
        let trace = self.trace.map(|it| format!("{:032x}", it.trace_id()));
        let (order, message) = (&self.order_id, self.draft.id());
        tracing::debug!(order.id = order, msg.id = %message, trace.id = trace, "order shipped");
    }
}

fn due(tx: &mut Transaction<'_>, now: Timestamp) -> Result<Vec<(String, Option<String>)>, Error> {
    let sql = "SELECT order_id, trace FROM outbound WHERE state = 'received' AND ship_after_ms <= ?
        ORDER BY ship_after_ms, order_id LIMIT ?";
    tx.query(sql, params![now, BATCH], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Ships those of the batch that nobody shipped or held back meanwhile; says which.
fn ship(tx: &mut Transaction<'_>, batch: &[Due], now: Timestamp) -> Result<Vec<usize>, Error> {
    let mut shipped = Vec::with_capacity(batch.len());
    for (at, it) in batch.iter().enumerate() {
        let sql = "UPDATE outbound SET state = 'shipped', shipped_ms = ?, changed_ms = ?
            WHERE order_id = ? AND state = 'received' AND ship_after_ms <= ?";
        if tx.execute(sql, params![now, now, &it.order_id, now])? == 1 {
            Outbox::write(tx, &it.draft, it.trace, now)?;
            shipped.push(at);
        }
    }
    Ok(shipped)
}

fn next(tx: &mut Transaction<'_>) -> Result<Option<Timestamp>, Error> {
    let sql = "SELECT ship_after_ms FROM outbound WHERE state = 'received'
        ORDER BY ship_after_ms LIMIT 1";
    tx.query_one(sql, &[], |row| row.get(0))
}
