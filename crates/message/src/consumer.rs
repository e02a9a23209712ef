//! Consuming each message once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, StatusCode};
use tracing::Instrument as _;
use tradewind_base::{Clock, Context, Problem, Rng, Tasks, Timestamp, TraceContext, fault, seal};
use tradewind_service::answer::chain;
use tradewind_service::axum::response::{IntoResponse, Response};
use tradewind_service::axum::routing::{MethodRouter, post};
use tradewind_service::{Failure, Json};
use tradewind_sql::{Database, Error, Transaction, TransactionError, params};

use crate::batch::{self, Answered, Answers};
use crate::event::Event;
use crate::signature::SigningKey;
use crate::wire::MessageId;

/// How many rows one cleaning transaction takes away at most.
const CLEAN_BATCH: u32 = 500;
/// The pause between two cleanings.
const CLEAN_EVERY: Duration = Duration::from_secs(600);

/// Why a consumer did not take a message. Everything its transaction did is undone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumeError {
    /// The database failed: the broker tries again.
    #[error("the database failed")]
    Sql(#[from] Error),
    /// Something that must come before is not there yet: the broker comes again soon, and this
    /// attempt does not count.
    #[error("not yet: {0}")]
    NotYet(String),
    /// It failed for now: the broker tries again with growing pauses.
    #[error("failed for now: {0}")]
    Later(String),
    /// It will never work: the message becomes a dead letter, to be looked at by a human.
    #[error("refused: {0}")]
    Refused(String),
}

/// Makes handlers of deliveries that act once per message, however often it is delivered.
///
/// The row that remembers a message is written in the same local transaction as what the message
/// causes. A second delivery finds the row, changes nothing and is acknowledged.
#[derive(Clone, Debug)]
pub struct Consumer {
    name: Arc<str>,
    database: Database,
    key: SigningKey,
    clock: Arc<dyn Clock>,
}

/// How a delivery was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// For the first time.
    Now,
    /// It had been taken before; nothing was done.
    Before,
}

/// How a request of the broker was taken: what it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the broker waits for it"]
pub enum Reply {
    /// One delivery, taken.
    One(Taken),
    /// Several, each taken or not for itself, in their order.
    Several(Vec<Result<Taken, Failure>>),
}

impl Consumer {
    /// A consumer that remembers under `name` (its name as a subscriber) in `database`, whose
    /// schema has [`crate::schema::consumed`].
    #[must_use]
    pub fn new(name: &str, database: Database, secret: &seal::Key, clock: Arc<dyn Clock>) -> Self {
        Self { name: name.into(), database, key: SigningKey::derive(secret), clock }
    }

    /// A POST handler for the path of a subscription, for deliveries one by one and together. `act`
    /// may run more than once, each time on a fresh transaction, and must have no effect outside
    /// it.
    pub fn handler<S, F>(&self, act: F) -> MethodRouter<S>
    where
        S: Clone + Send + Sync + 'static,
        F: Fn(&mut Transaction<'_>, &Event) -> Result<(), ConsumeError>,
        F: Clone + Send + Sync + 'static,
    {
        let consumer = self.clone();
        post(move |headers: HeaderMap, body: Bytes| async move {
            consumer.take(&headers, body, act).await
        })
    }

    /// Takes one delivery, or several that came together, each in a transaction of its own: what
    /// [`Consumer::handler`] does, for a handler of one's own.
    ///
    /// # Errors
    /// The answer to the broker, which acts on its status: 401 and 400 for what is no delivery of
    /// this estate; for a single one also 425 not yet, 422 never, 503 later. Of several each has
    /// such an answer of its own in the [`Reply`].
    pub async fn take<F>(&self, headers: &HeaderMap, body: Bytes, act: F) -> Result<Reply, Failure>
    where
        F: Fn(&mut Transaction<'_>, &Event) -> Result<(), ConsumeError> + Send + Sync + 'static,
    {
        let act = Arc::new(act);
        if !batch::is_batch(headers) {
            let mut event = Event::read(headers, body, &self.key, self.clock.now())?;
            // Of this hop, where the edge has begun one.
            event.trace = Context::current().trace.or(event.trace);
            return self.take_one(event, act).await.map(Reply::One);
        }
        let events = Event::read_batch(headers, &body, &self.key, self.clock.now())?;
        let mut rng = Rng::from_entropy();
        // Queued at once, so that the database commits them together.
        let taken = join_all(events.into_iter().map(|mut event| {
            let trace = event.trace.map(|it| it.child(&mut rng));
            let trace = trace.unwrap_or_else(|| TraceContext::start(&mut rng, false));
            event.trace = Some(trace);
            let span = tracing::info_span!(
                "event",
                trace.id = format!("{:032x}", trace.trace_id()),
                tcc.xid = event.xid.map(tracing::field::display),
            );
            let context = Context { trace: Some(trace), ..Context::current() };
            context.scope(self.take_one(event, Arc::clone(&act))).instrument(span)
        }));
        Ok(Reply::Several(taken.await))
    }

    async fn take_one<F>(&self, event: Event, act: Arc<F>) -> Result<Taken, Failure>
    where
        F: Fn(&mut Transaction<'_>, &Event) -> Result<(), ConsumeError> + Send + Sync + 'static,
    {
        let (name, now, id) = (Arc::clone(&self.name), self.clock.now(), event.id);
        let (topic, xid) = (event.topic.clone(), event.xid.map(|it| it.to_string()));
        fault::point(format_args!("message.{topic}.received"));
        let work = move |tx: &mut Transaction<'_>| {
            if !Self::first(tx, &name, event.id, now)? {
                return Ok(Taken::Before);
            }
            act(tx, &event)?;
            Ok(Taken::Now)
        };
        let taken = self.database.transaction_at_leisure("consume", work).await;
        fault::point(format_args!("message.{topic}.consumed"));
        if let Ok(taken) = &taken {
            tracing::debug!(msg.id = %id, topic, tcc.xid = xid, ?taken, "message consumed");
        }
        taken.map_err(|error| answer(id, &error))
    }

    /// Remembers in the caller's transaction that `consumer` takes message `id`; `false` when it
    /// did so before, and then nothing may be done.
    ///
    /// # Errors
    /// When the database fails.
    pub fn first(
        tx: &mut Transaction<'_>,
        consumer: &str,
        id: MessageId,
        now: Timestamp,
    ) -> Result<bool, Error> {
        if fault::bug("dedup-forgotten") {
            return Ok(true);
        }
        let sql = "INSERT INTO message_consumed (consumer, message_id, at_ms) VALUES (?, ?, ?)";
        let id = id.as_u128().to_be_bytes().to_vec();
        match tx.execute(sql, params![consumer, id, now]) {
            Ok(_) => Ok(true),
            Err(error) if error.is_unique_violation() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Forgets, in the background, what was consumed longer than `keep` ago. It must be longer
    /// than a message can be redelivered: retries, dead letters and their replay by a human.
    pub fn clean(&self, keep: Duration, tasks: &Tasks) {
        let consumer = self.clone();
        tasks.spawn("clean consumed messages", move |cancel| async move {
            loop {
                match consumer.forget(keep).await {
                    Ok(rows) if rows == u64::from(CLEAN_BATCH) => continue,
                    Ok(_) => {}
                    Err(error) => tracing::warn!(error = chain(&error), "cannot clean"),
                }
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = tokio::time::sleep(CLEAN_EVERY) => {}
                }
            }
        });
    }

    async fn forget(&self, keep: Duration) -> Result<u64, TransactionError<Error>> {
        let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        let (before, name) = (self.clock.now().millis().saturating_sub(keep), self.name.clone());
        let work = move |tx: &mut Transaction<'_>| {
            let sql = "SELECT message_id FROM message_consumed
                WHERE consumer = ? AND at_ms < ? ORDER BY at_ms LIMIT ?";
            let found = params![&*name, before, CLEAN_BATCH];
            let ids = tx.query(sql, found, |row| row.get::<Vec<u8>>(0))?;
            let sql = "DELETE FROM message_consumed WHERE consumer = ? AND message_id = ?";
            let mut rows = 0;
            for id in ids {
                tx.execute(sql, params![&*name, id])?;
                rows += 1;
            }
            Ok(rows)
        };
        self.database.transaction_at_leisure("clean consumed", work).await
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        match self {
            Self::One(_) => StatusCode::NO_CONTENT.into_response(),
            Self::Several(all) => {
                let results = all.iter().map(answered).collect();
                Json(Answers { results }).into_response()
            }
        }
    }
}

/// What the event would have been answered alone.
fn answered(taken: &Result<Taken, Failure>) -> Answered {
    match taken {
        Ok(_) => Answered { status: StatusCode::NO_CONTENT.as_u16(), retry_after: None },
        Err(failure) => {
            let problem = failure.problem();
            let retry_after = problem.retry_after_seconds.map(u64::from);
            Answered { status: problem.status.as_u16(), retry_after }
        }
    }
}

fn answer(id: MessageId, error: &TransactionError<ConsumeError>) -> Failure {
    let early = StatusCode::from_u16(425).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let (status, code, detail) = match error {
        TransactionError::Refused(ConsumeError::NotYet(why)) => (early, "message.not-yet", why),
        TransactionError::Refused(ConsumeError::Refused(why)) => {
            (StatusCode::UNPROCESSABLE_ENTITY, "message.refused", why)
        }
        TransactionError::Refused(ConsumeError::Later(why)) => {
            let why = why.clone();
            return Problem::unavailable("message.later", why).into();
        }
        // Also when the outcome is unknown: the row tells when the broker comes again.
        other => {
            tracing::error!(msg.id = %id, error = chain(other), "message not consumed");
            return Problem::unavailable("message.database", "the message cannot be taken for now")
                .into();
        }
    };
    tracing::info!(msg.id = %id, code, detail, "message not taken");
    Problem::new(status, code, detail.clone()).into()
}
