//! The outbox: a message written in the producer's own transaction, published afterwards.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use serde_json::value::RawValue;
use tokio::sync::Notify;
use tradewind_base::{Clock, Context, Rng, Tasks, Timestamp, TraceContext, fault};
use tradewind_service::answer::chain;
use tradewind_sql::{Database, Error, Row, Transaction, TransactionError, params};

use crate::client::{Broker as _, BrokerClient};
use crate::draft::Draft;
use crate::wire::{MessageId, Publish, PublishAll, Published};

/// How many messages one turn of the relay takes at most.
const BATCH: u32 = 64;
/// How many of them are on their way to the broker at once.
const CONCURRENCY: usize = 16;
/// How long a message is this relay's before another instance may take it: a little longer than one
/// attempt to publish it takes. What a relay had taken when it died waits as long; what another
/// publishes meanwhile is the same message to the broker.
const LEASE: Duration = Duration::from_secs(12);
/// How long the relay waits, once told, for what is written in the next moment: nobody waits for a
/// message's way out, and several go in one exchange.
const COMPANY: Duration = Duration::from_millis(5);
/// How often the relay looks without being told.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest pause between two attempts to publish one message.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The longest reason that is kept, in characters.
const REASON_CHARS_MAX: usize = 300;

/// Messages written with a service's own data, and the relay that publishes them.
///
/// [`Outbox::write`] puts a message into the caller's transaction: it goes out exactly if the
/// transaction commits. The relay, which every instance of the service runs, publishes what is due
/// under the message's own id and then deletes the row; a row is leased by compare-and-set, and a
/// repeat after a crash is the same message to the broker.
#[derive(Clone, Debug)]
pub struct Outbox {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    database: Database,
    broker: BrokerClient,
    clock: Arc<dyn Clock>,
    due: Notify,
}

/// A message that was not published yet, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The message.
    pub id: MessageId,
    /// Its topic.
    pub topic: String,
    /// When it was written.
    pub since: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it failed the last time.
    pub last_error: Option<String>,
}

struct Item {
    message: Publish,
    token: i64,
    attempts: u32,
    trace: Option<TraceContext>,
}

impl Outbox {
    /// An outbox in `database`, whose schema has [`crate::schema::outbox`].
    #[must_use]
    pub fn new(database: Database, broker: BrokerClient, clock: Arc<dyn Clock>) -> Self {
        Self { inner: Arc::new(Inner { database, broker, clock, due: Notify::new() }) }
    }

    /// Writes a message in the caller's transaction. Call [`Outbox::hand_over`] after the commit.
    /// Reads the running task's trace when given one with `trace`.
    ///
    /// # Errors
    /// When the database fails, or holds a message of the same id.
    pub fn write(
        tx: &mut Transaction<'_>,
        draft: &Draft,
        trace: Option<TraceContext>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let sql = "INSERT INTO message_outbox
            (id, topic, msg_key, kind, source, data, trace, at_ms, due_ms)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
        tx.execute(
            sql,
            params![
                bytes(draft.id),
                &draft.topic,
                &draft.key,
                &draft.kind,
                &draft.source,
                draft.data.get(),
                trace.map(|it| it.to_string()),
                now,
                now
            ],
        )?;
        Ok(())
    }

    /// Tells the relay of this instance that something was committed, so that it goes out at once.
    pub fn hand_over(&self) {
        self.inner.due.notify_one();
    }

    /// Starts the relay.
    pub fn relay(&self, tasks: &Tasks) {
        let inner = Arc::clone(&self.inner);
        tasks.spawn("outbox relay", move |cancel| async move {
            let mut rng = Rng::from_entropy();
            loop {
                let full = match inner.turn(&mut rng).await {
                    Ok(taken) => taken == BATCH as usize,
                    Err(error) => {
                        tracing::warn!(error = chain(&error), "outbox cannot be read");
                        false
                    }
                };
                if cancel.is_cancelled() {
                    return;
                }
                if full {
                    continue;
                }
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = inner.due.notified() => tokio::time::sleep(COMPANY).await,
                    () = tokio::time::sleep(rng.jitter(LOOK_EVERY, 0.2)) => {}
                }
            }
        });
    }

    /// The oldest messages that wait, at most `limit` (up to 1000).
    ///
    /// # Errors
    /// When the database fails.
    pub async fn waiting(&self, limit: u32) -> Result<Vec<Waiting>, TransactionError<Error>> {
        let read = move |tx: &mut Transaction<'_>| {
            let sql = "SELECT id, topic, at_ms, attempts, last_error FROM message_outbox
                ORDER BY at_ms, id LIMIT ?";
            tx.query(sql, params![limit.min(1000)], |row| {
                Ok(Waiting {
                    id: id(row)?,
                    topic: row.get(1)?,
                    since: row.get(2)?,
                    attempts: row.get(3)?,
                    last_error: row.get(4)?,
                })
            })
        };
        self.inner.database.read("outbox waiting", read).await
    }
}

impl Inner {
    /// Takes what is due and publishes it; says how many were taken.
    async fn turn(&self, rng: &mut Rng) -> Result<usize, TransactionError<Error>> {
        let now = self.clock.now();
        let seen = self.database.read("outbox due", move |tx| due(tx, now)).await?;
        if seen.is_empty() {
            return Ok(0);
        }
        let items = self
            .database
            .transaction_at_leisure("outbox take", move |tx| take(tx, &seen, now))
            .await?;
        let count = items.len();
        let left = self.publish_all(items).await?;
        let jobs = left.into_iter().map(|it| {
            let share = rng.unit();
            self.publish(it, share)
        });
        let mut running = stream::iter(jobs.collect::<Vec<_>>()).buffer_unordered(CONCURRENCY);
        while let Some(done) = running.next().await {
            // A row that could not be deleted is published again under the same id.
            done?;
        }
        Ok(count)
    }

    /// Publishes several in one exchange; hands back those that must go alone.
    async fn publish_all(&self, items: Vec<Item>) -> Result<Vec<Item>, TransactionError<Error>> {
        if items.len() < 2 {
            return Ok(items);
        }
        for it in &items {
            fault::point(format_args!("message.{}.taken", it.message.topic));
        }
        let messages = items.iter().map(|it| it.message.clone()).collect();
        let trace = |it: &Item| it.trace.map(|it| it.to_string()).unwrap_or_default();
        let all = PublishAll { messages, traces: items.iter().map(trace).collect() };
        // What failed as a whole, also because the broker does not know it, goes one by one.
        let Ok(Published { done }) = self.broker.publish_all(&all).await else { return Ok(items) };
        let mut done = done.into_iter();
        let (stored, left): (Vec<_>, Vec<_>) =
            items.into_iter().partition(|_| done.next().unwrap_or(false));
        for it in &stored {
            fault::point(format_args!("message.{}.relayed", it.message.topic));
        }
        let rows: Vec<_> = stored.iter().map(|it| bytes(it.message.id)).collect();
        let work = move |tx: &mut Transaction<'_>| {
            for row in &rows {
                tx.execute("DELETE FROM message_outbox WHERE id = ?", params![row.clone()])?;
            }
            Ok(())
        };
        self.database.transaction_at_leisure("outbox done", work).await?;
        Ok(left)
    }

    async fn publish(&self, item: Item, share: f64) -> Result<(), TransactionError<Error>> {
        let topic = item.message.topic.as_str();
        fault::point(format_args!("message.{topic}.taken"));
        let context = Context { trace: item.trace, ..Context::default() };
        let sent = context.scope(self.broker.publish(&item.message)).await;
        let (row, token) = (bytes(item.message.id), item.token);
        let Err(error) = sent else {
            fault::point(format_args!("message.{topic}.relayed"));
            let work = move |tx: &mut Transaction<'_>| {
                tx.execute("DELETE FROM message_outbox WHERE id = ?", params![row.clone()])
            };
            return self.database.transaction_at_leisure("outbox done", work).await.map(|_| ());
        };
        let reason: String = chain(&error).chars().take(REASON_CHARS_MAX).collect();
        tracing::warn!(msg.id = %item.message.id, error = reason, "message not published yet");
        let pause = Duration::from_millis(200) * 2_u32.saturating_pow(item.attempts.min(8));
        let due = self.clock.now() + pause.min(PAUSE_MAX).mul_f64(0.5 + share / 2.0);
        let work = move |tx: &mut Transaction<'_>| {
            let sql =
                "UPDATE message_outbox SET due_ms = ?, attempts = attempts + 1, last_error = ?
                WHERE id = ? AND token = ?";
            tx.execute(sql, params![due, &reason, row.clone(), token])
        };
        self.database.transaction_at_leisure("outbox put back", work).await.map(|_| ())
    }
}

type Seen = Vec<(Vec<u8>, i64)>;

fn due(tx: &mut Transaction<'_>, now: Timestamp) -> Result<Seen, Error> {
    let sql = "SELECT id, token FROM message_outbox WHERE due_ms <= ? ORDER BY due_ms, id LIMIT ?";
    tx.query(sql, params![now, BATCH], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Of what was seen, what nobody else took meanwhile.
fn take(tx: &mut Transaction<'_>, seen: &Seen, now: Timestamp) -> Result<Vec<Item>, Error> {
    let mut items = Vec::with_capacity(seen.len());
    for (row_id, token) in seen {
        let sql = "UPDATE message_outbox SET due_ms = ?, token = token + 1
            WHERE id = ? AND token = ?";
        if tx.execute(sql, params![now + LEASE, row_id.clone(), *token])? == 0 {
            continue;
        }
        let sql = "SELECT id, topic, msg_key, kind, source, data, trace, token, attempts
            FROM message_outbox WHERE id = ?";
        items.extend(tx.query_one(sql, params![row_id.clone()], item)?);
    }
    Ok(items)
}

fn item(row: &Row) -> Result<Item, Error> {
    // What was written was JSON; if somebody changed it by hand, the broker gets the text.
    let text: String = row.get(5)?;
    let data = RawValue::from_string(text.clone())
        .or_else(|_| serde_json::value::to_raw_value(&text))
        .unwrap_or_else(|_| RawValue::NULL.to_owned());
    let message = Publish {
        id: id(row)?,
        topic: row.get(1)?,
        key: row.get(2)?,
        kind: row.get(3)?,
        source: row.get(4)?,
        data,
    };
    let trace: Option<String> = row.get(6)?;
    let trace = trace.as_deref().and_then(TraceContext::parse);
    Ok(Item { message, token: row.get(7)?, attempts: row.get(8)?, trace })
}

fn id(row: &Row) -> Result<MessageId, Error> {
    let bits: Vec<u8> = row.get(0)?;
    let bits = <[u8; 16]>::try_from(bits).unwrap_or_default();
    Ok(MessageId::from_u128(u128::from_be_bytes(bits)))
}

fn bytes(id: MessageId) -> Vec<u8> {
    id.as_u128().to_be_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use tradewind_call::Policy;

    use super::*;

    #[test]
    fn what_a_dead_relay_had_taken_waits_little_longer_than_one_attempt() {
        let attempt = Policy::default().total;
        assert!(attempt < LEASE && LEASE < attempt * 3 / 2);
    }
}
