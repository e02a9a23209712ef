//! Half messages around a plain local transaction.

use std::sync::Arc;
use std::time::Duration;

use tradewind_base::{Clock, Tasks, Timestamp};
use tradewind_call::CallError;
use tradewind_service::answer::chain;
use tradewind_service::axum::routing::{MethodRouter, post};
use tradewind_service::{Caller, Failure, Json};
use tradewind_sql::{Database, Error, Transaction, TransactionError, params};

use crate::client::{Broker as _, BrokerClient};
use crate::draft::Draft;
use crate::wire::{Ask, CheckAt, Ending, MessageId, Told};

/// The path at which a producer answers how a message's transaction ended.
pub const CHECK_PATH: &str = "/messages/check";

/// How many rows one cleaning transaction takes away at most.
const CLEAN_BATCH: u32 = 500;
/// The pause between two cleanings.
const CLEAN_EVERY: Duration = Duration::from_secs(600);

/// Messages that exist before the local transaction they tell of, and go out if it commits.
///
/// The order is: the broker stores the half message; the local transaction writes the barrier row
/// and whatever it is about; the broker is told. When the last step is lost, the broker asks
/// [`HalfMessages::check_handler`], which answers from the barrier row, and writes "rolled back"
/// there when there is none: from then on a transaction that comes late fails on that row. So the
/// answer and the transaction cannot both win.
#[derive(Clone, Debug)]
pub struct HalfMessages {
    database: Database,
    broker: BrokerClient,
    service: Arc<str>,
    clock: Arc<dyn Clock>,
}

/// Why a transaction with a half message did not happen, or may not have.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HalfError<E> {
    /// The broker did not take the half message. The transaction was not begun.
    #[error("the broker did not take the half message")]
    Broker(#[source] CallError),
    /// The broker asked before the transaction came, and was told that it is rolled back.
    #[error("the transaction came too late: its message counts as rolled back")]
    TooLate,
    /// The transaction of this message happened before; nothing was done now.
    #[error("the transaction of this message happened before")]
    Repeated,
    /// The local transaction failed, or its outcome is unknown; the message follows the barrier
    /// row in any case.
    #[error("the transaction with the message failed")]
    Transaction(#[source] TransactionError<E>),
}

/// The closure's error, or that the barrier is closed.
#[derive(Debug)]
enum Inside<E> {
    Closed,
    Sql(Error),
    Work(E),
}

impl<E> From<Error> for Inside<E> {
    fn from(error: Error) -> Self {
        Self::Sql(error)
    }
}

impl HalfMessages {
    /// Half messages of `service`, in whose `database` the schema has [`crate::schema::barrier`].
    #[must_use]
    pub fn new(
        service: &str,
        database: Database,
        broker: BrokerClient,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { database, broker, service: service.into(), clock }
    }

    /// Runs `work` in a local transaction whose commit sends `draft` out.
    ///
    /// # Errors
    /// See [`HalfError`]. When the outcome is unknown, so is the message's; both will be the same.
    pub async fn run<T, E, F>(
        &self,
        draft: &Draft,
        name: &'static str,
        mut work: F,
    ) -> Result<T, HalfError<E>>
    where
        F: FnMut(&mut Transaction<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let check = CheckAt { service: self.service.to_string(), path: CHECK_PATH.to_owned() };
        self.broker.prepare(&draft.half(check)).await.map_err(HalfError::Broker)?;
        let (id, now) = (draft.id, self.clock.now());
        let inside = move |tx: &mut Transaction<'_>| {
            if !pass(tx, id, true, now)? {
                return Err(Inside::Closed);
            }
            work(tx).map_err(Inside::Work)
        };
        let done = self.database.transaction(name, inside).await;
        let error = match done {
            Ok(it) => {
                self.tell(id, true).await;
                return Ok(it);
            }
            Err(error) => error,
        };
        Err(match error {
            TransactionError::Refused(Inside::Closed) => match self.ending(id).await {
                Ok(Ending::Committed) => {
                    self.tell(id, true).await;
                    HalfError::Repeated
                }
                Ok(Ending::RolledBack | Ending::Unknown) | Err(_) => {
                    self.tell(id, false).await;
                    HalfError::TooLate
                }
            },
            TransactionError::Refused(Inside::Sql(it)) => {
                self.tell(id, false).await;
                HalfError::Transaction(TransactionError::Refused(it.into()))
            }
            TransactionError::Refused(Inside::Work(it)) => {
                self.tell(id, false).await;
                HalfError::Transaction(TransactionError::Refused(it))
            }
            // It may have happened: only the barrier row knows, and the broker will ask.
            TransactionError::Unknown { source } => {
                HalfError::Transaction(TransactionError::Unknown { source })
            }
            TransactionError::Database(it) => {
                self.tell(id, false).await;
                HalfError::Transaction(TransactionError::Database(it))
            }
            TransactionError::Busy => {
                self.tell(id, false).await;
                HalfError::Transaction(TransactionError::Busy)
            }
            _ => HalfError::Transaction(TransactionError::Closed),
        })
    }

    /// Best effort: what is lost here, the broker asks for. A roll back closes the barrier first,
    /// so that what the broker is told can never become wrong.
    async fn tell(&self, id: MessageId, committed: bool) {
        let told = if committed {
            self.broker.commit(&id).await
        } else {
            match self.ending(id).await {
                Ok(Ending::RolledBack) => self.broker.roll_back(&id).await,
                Ok(Ending::Committed | Ending::Unknown) | Err(_) => return,
            }
        };
        if let Err(error) = told {
            let error = chain(&error);
            tracing::warn!(msg.id = %id, committed, error, "the broker will ask for the outcome");
        }
    }

    /// The handler to mount at [`CHECK_PATH`].
    pub fn check_handler<S: Clone + Send + Sync + 'static>(&self) -> MethodRouter<S> {
        let this = self.clone();
        post(move |Caller(_): Caller, Json(ask): Json<Ask>| async move {
            let state = this.ending(ask.id).await.unwrap_or_else(|error| {
                tracing::warn!(msg.id = %ask.id, error = chain(&error), "cannot say how it ended");
                Ending::Unknown
            });
            Ok::<_, Failure>(Json(Told { state }))
        })
    }

    /// Forgets, in the background, how transactions ended longer than `keep` ago. It must be longer
    /// than the broker asks for: days.
    pub fn clean(&self, keep: Duration, tasks: &Tasks) {
        let this = self.clone();
        tasks.spawn("clean message barrier", move |cancel| async move {
            loop {
                match this.forget(keep).await {
                    Ok(rows) if rows == CLEAN_BATCH as usize => continue,
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

    async fn forget(&self, keep: Duration) -> Result<usize, TransactionError<Error>> {
        let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        let before = self.clock.now().millis().saturating_sub(keep);
        let work = move |tx: &mut Transaction<'_>| {
            let sql =
                "SELECT message_id FROM message_barrier WHERE at_ms < ? ORDER BY at_ms LIMIT ?";
            let ids = tx.query(sql, params![before, CLEAN_BATCH], |row| row.get::<Vec<u8>>(0))?;
            let rows = ids.len();
            for id in ids {
                let sql = "DELETE FROM message_barrier WHERE message_id = ?";
                tx.execute(sql, params![id])?;
            }
            Ok(rows)
        };
        self.database.transaction("clean barrier", work).await
    }

    /// How the transaction of a message ended; from now on it did, one way or the other.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn ending(&self, id: MessageId) -> Result<Ending, TransactionError<Error>> {
        let now = self.clock.now();
        let work = move |tx: &mut Transaction<'_>| {
            if pass(tx, id, false, now)? {
                return Ok(Ending::RolledBack);
            }
            let sql = "SELECT committed FROM message_barrier WHERE message_id = ?";
            let found = tx.query_one(sql, params![bytes(id)], |row| row.get::<bool>(0))?;
            Ok(match found {
                Some(true) => Ending::Committed,
                Some(false) => Ending::RolledBack,
                None => Ending::Unknown,
            })
        };
        self.database.transaction("message barrier", work).await
    }
}

/// Writes the barrier row; `false` when there is one.
fn pass(
    tx: &mut Transaction<'_>,
    id: MessageId,
    committed: bool,
    now: Timestamp,
) -> Result<bool, Error> {
    let sql = "INSERT INTO message_barrier (message_id, committed, at_ms) VALUES (?, ?, ?)";
    match tx.execute(sql, params![bytes(id), committed, now]) {
        Ok(_) => Ok(true),
        Err(error) if error.is_unique_violation() => Ok(false),
        Err(error) => Err(error),
    }
}

fn bytes(id: MessageId) -> Vec<u8> {
    id.as_u128().to_be_bytes().to_vec()
}
