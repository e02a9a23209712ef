//! The outbox: a message written in the producer's own transaction, published afterwards.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use serde_json::value::RawValue;
use tokio::sync::Notify;
use tradewind_base::{Clock, Context, Rng, Tasks, Timestamp, TraceContext, fault};
use tradewind_call::CallError;
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
const COMPANY: Duration = Duration::from_millis(25);
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

/// What one turn of the relay came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Turn {
    taken: usize,
    /// How many could not be published.
    failed: usize,
    /// Some could not, now or before, and it is not known whether they can now.
    behind: bool,
}

impl Turn {
    const fn full(self) -> bool {
        self.taken == BATCH as usize && self.failed == 0
    }

    /// This turn in the light of the one before.
    const fn after(self, last: &Self) -> Self {
        // Behind until a turn that looked ahead found nothing any more.
        let behind = 0 < self.failed || last.behind && !(last.recovers() && self.taken == 0);
        Self { behind, ..self }
    }

    /// Whether messages go out again while others still pause.
    const fn recovers(self) -> bool {
        self.behind && 0 < self.taken && self.failed == 0
    }
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
            let mut last = Turn::default();
            loop {
                // A broker that takes messages again takes all of them: nobody's pause matters.
                let ahead = if last.recovers() { PAUSE_MAX } else { Duration::ZERO };
                let turn = inner.turn(&mut rng, ahead).await.unwrap_or_else(|error| {
                    tracing::warn!(error = chain(&error), "outbox cannot be read");
                    Turn::default()
                });
                last = turn.after(&last);
                if cancel.is_cancelled() {
                    return;
                }
                if turn.full() || last.recovers() {
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
    /// Takes what is due, of what failed before also what is due within `ahead`, and publishes it.
    async fn turn(&self, rng: &mut Rng, ahead: Duration) -> Result<Turn, TransactionError<Error>> {
        let now = self.clock.now();
        let look = move |tx: &mut Transaction<'_>| due(tx, now, now + ahead);
        let seen = self.database.read("outbox due", look).await?;
        if seen.is_empty() {
            return Ok(Turn::default());
        }
        let take = move |tx: &mut Transaction<'_>| take(tx, &seen, now);
        let items = self.database.transaction_at_leisure("outbox take", take).await?;
        let mut turn = Turn { taken: items.len(), ..Turn::default() };
        let left = match self.publish_all(items).await? {
            Together::Left(items) => items,
            Together::Failed(items, error) => {
                turn.failed = items.len();
                self.put_back(items, &error, rng.unit()).await?;
                Vec::new()
            }
        };
        let jobs = left.into_iter().map(|it| {
            let share = rng.unit();
            self.publish(it, share)
        });
        let mut running = stream::iter(jobs.collect::<Vec<_>>()).buffer_unordered(CONCURRENCY);
        while let Some(done) = running.next().await {
            // A row that could not be deleted is published again under the same id.
            turn.failed += usize::from(!done?);
        }
        Ok(turn)
    }

    /// Publishes several in one exchange.
    async fn publish_all(&self, items: Vec<Item>) -> Result<Together, TransactionError<Error>> {
        if items.len() < 2 {
            return Ok(Together::Left(items));
        }
        for it in &items {
            fault::point(format_args!("message.{}.taken", it.message.topic));
        }
        let messages = items.iter().map(|it| it.message.clone()).collect();
        let trace = |it: &Item| it.trace.map(|it| it.to_string()).unwrap_or_default();
        let all = PublishAll { messages, traces: items.iter().map(trace).collect() };
        let done = match self.broker.publish_all(&all).await {
            Ok(Published { done }) => done,
            // Refused as a whole, also because the broker does not know it: each alone learns why.
            Err(error) if error.status().is_some_and(|it| it.is_client_error()) => {
                return Ok(Together::Left(items));
            }
            // Nor would the broker answer to each alone.
            Err(error) => return Ok(Together::Failed(items, error)),
        };
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
        Ok(Together::Left(left))
    }

    /// Publishes one; whether the broker has it.
    async fn publish(&self, item: Item, share: f64) -> Result<bool, TransactionError<Error>> {
        let topic = item.message.topic.as_str();
        fault::point(format_args!("message.{topic}.taken"));
        let context = Context { trace: item.trace, ..Context::default() };
        let sent = context.scope(self.broker.publish(&item.message)).await;
        let Err(error) = sent else {
            fault::point(format_args!("message.{topic}.relayed"));
            let row = bytes(item.message.id);
            let work = move |tx: &mut Transaction<'_>| {
                tx.execute("DELETE FROM message_outbox WHERE id = ?", params![row.clone()])
            };
            return self.database.transaction_at_leisure("outbox done", work).await.map(|_| true);
        };
        self.put_back(vec![item], &error, share).await.map(|()| false)
    }

    /// Notes why these were not published, and when they are tried again.
    async fn put_back(
        &self,
        items: Vec<Item>,
        error: &CallError,
        share: f64,
    ) -> Result<(), TransactionError<Error>> {
        let reason: String = chain(error).chars().take(REASON_CHARS_MAX).collect();
        let now = self.clock.now();
        let row = |it: &Item| {
            tracing::warn!(msg.id = %it.message.id, error = reason, "message not published yet");
            let pause = Duration::from_millis(200) * 2_u32.saturating_pow(it.attempts.min(8));
            let due = now + pause.min(PAUSE_MAX).mul_f64(0.5 + share / 2.0);
            (due, bytes(it.message.id), it.token)
        };
        let rows: Vec<_> = items.iter().map(row).collect();
        let work = move |tx: &mut Transaction<'_>| {
            let sql =
                "UPDATE message_outbox SET due_ms = ?, attempts = attempts + 1, last_error = ?
                WHERE id = ? AND token = ?";
            for (due, id, token) in &rows {
                tx.execute(sql, params![*due, &reason, id.clone(), *token])?;
            }
            Ok(())
        };
        self.database.transaction_at_leisure("outbox put back", work).await
    }
}

/// What became of several that were to be published in one exchange.
enum Together {
    /// All but these are published; each of these goes alone.
    Left(Vec<Item>),
    /// The broker is away, or has a fault.
    Failed(Vec<Item>, CallError),
}

type Seen = Vec<(Vec<u8>, i64)>;

/// What is due now, and what is due until `then` because it failed before.
fn due(tx: &mut Transaction<'_>, now: Timestamp, then: Timestamp) -> Result<Seen, Error> {
    let sql = "SELECT id, token FROM message_outbox
        WHERE due_ms <= ? AND (due_ms <= ? OR last_error IS NOT NULL)
        ORDER BY due_ms, id LIMIT ?";
    tx.query(sql, params![then, now, BATCH], |row| Ok((row.get(0)?, row.get(1)?)))
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
    fn a_broker_that_is_back_is_given_all_that_waits_for_it() {
        let turn = |taken, failed| Turn { taken, failed, behind: false };
        let mut last = Turn::default();
        // Away, back, all that is left, nothing left.
        for (now, recovers) in [
            (turn(3, 0), false),
            (turn(64, 64), false),
            (turn(0, 0), false),
            (turn(2, 1), false),
            (turn(1, 0), true),
            (turn(64, 0), true),
            (turn(5, 0), true),
            (turn(0, 0), false),
            (turn(3, 0), false),
        ] {
            last = now.after(&last);
            assert_eq!(last.recovers(), recovers, "{now:?}");
        }
    }

    #[test]
    fn what_a_dead_relay_had_taken_waits_little_longer_than_one_attempt() {
        let attempt = Policy::default().total;
        assert!(attempt < LEASE && LEASE < attempt * 3 / 2);
    }
}
