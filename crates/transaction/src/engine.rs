//! The embedded engine: transactions whose log lies in the initiating service's own database.
//!
//! 1. [`Engine::declare`] names the transaction and its branches.
//! 2. [`Engine::begin`], in the caller's local transaction, writes the begin record beside
//!    whatever else the caller writes (its claim, its own Try).
//! 3. [`Engine::try_all`] asks all branches at once.
//! 4. [`Engine::commit`] or [`Engine::abort`], in the caller's local transaction, decides, beside
//!    the caller's own Confirm or Cancel; then [`Engine::settle`] hands over to the driver.
//! 5. The driver of whichever instance holds the shard's lease sends Confirms or Cancels until
//!    each branch has answered. What nobody decided is aborted at the deadline.

mod abort;
mod declaration;
mod driver;
#[cfg(any(test, feature = "faults"))]
pub mod faults;
mod lease;
mod log;
mod routes;
mod schema;
mod setup;
mod tries;

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tradewind_base::id::Xid;
use tradewind_base::{Clock, Context, Rng, Timestamp, TraceContext};
use tradewind_service::answer::chain;
use tradewind_service::axum::Router;
use tradewind_sql::{Database, Error, Transaction, TransactionError};

use crate::Peers;
use crate::machine::fence::LIMIT_MAX;
use crate::machine::global::{Phase, Refused};
use crate::participant::BranchError;
use crate::wire::{Decision, Outcome, Stuck, StuckBranch};
use abort::abort;
use lease::Held;
use log::{Epoch, Record};

pub use declaration::{BRANCHES_MAX, Declaration, DeclareError, Declared};
pub use schema::{MIGRATIONS, migrations};
pub use setup::{Hook, Settings, Setup};
pub use tries::Tried;

/// The engine of one process. Clones are handles to the same one.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    database: Database,
    clock: Arc<dyn Clock>,
    peers: Peers,
    settings: Settings,
    hooks: setup::Hooks,
    owner: String,
    rng: Mutex<Rng>,
    held: Mutex<Held>,
    running: Mutex<HashSet<Xid>>,
    finished: Mutex<Vec<(Record, Epoch)>>,
    wake: mpsc::Sender<Xid>,
    #[cfg(any(test, feature = "faults"))]
    faults: faults::Faults,
}

/// Why the log did not take a step. Return it from the closure: nothing of it may commit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The database failed.
    #[error("the transaction log failed")]
    Storage(#[from] Error),
    /// It is too late, or decided otherwise.
    #[error("{xid} cannot be decided so")]
    Refused {
        /// The transaction.
        xid: Xid,
        /// Why not.
        #[source]
        source: Refused,
    },
    /// The log does not know it.
    #[error("{xid} is not in the log")]
    Unknown {
        /// The transaction.
        xid: Xid,
    },
    /// It has begun already, or was given up before it could.
    #[error("{xid} has begun or ended already")]
    Taken {
        /// The transaction.
        xid: Xid,
    },
    /// Others changed it again and again in between.
    #[error("{xid} is being changed by others")]
    Contended {
        /// The transaction.
        xid: Xid,
    },
    /// The initiator's own branch could not be cancelled.
    #[error("the own branch of {xid} cannot be cancelled")]
    Own {
        /// The transaction.
        xid: Xid,
        /// What the callback said.
        #[source]
        source: BranchError,
    },
}

/// What the log knows of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// How far it is.
    pub phase: Phase,
    /// Until when it can be committed.
    pub deadline: Timestamp,
    /// Its name.
    pub name: String,
    /// When it began.
    pub begun: Timestamp,
}

/// How often a change is tried again when another came in between.
const ATTEMPTS: usize = 4;

impl Engine {
    /// A new transaction with an id of its own. Its branches have `limit` (at most an hour) to
    /// answer; a moment longer ([`Settings::decide`]) it can be committed.
    #[must_use]
    pub fn declare(&self, name: impl Into<Cow<'static, str>>, limit: Duration) -> Declaration {
        let xid = Xid::generate(self.inner.clock.now(), &mut lock(&self.inner.rng));
        self.declare_as(xid, name, limit)
    }

    /// The same with an id that the caller chose, and must not use twice.
    #[must_use]
    pub fn declare_as(
        &self,
        xid: Xid,
        name: impl Into<Cow<'static, str>>,
        limit: Duration,
    ) -> Declaration {
        let inner = &self.inner;
        let limit = limit.min(LIMIT_MAX.saturating_sub(inner.settings.decide));
        let deadline = inner.clock.now() + limit + inner.settings.decide;
        Declaration::new(xid, name.into(), (deadline, limit), Context::current().trace)
    }

    /// A transaction that has begun and is undecided, to be tried by whoever goes on with it: a
    /// Try may be repeated. It has the time that is left.
    ///
    /// # Errors
    /// When the database fails.
    pub fn resume(&self, tx: &mut Transaction<'_>, xid: Xid) -> Result<Option<Declaration>, Error> {
        let record = log::load(tx, xid)?.filter(|it| it.global.phase == Phase::Trying);
        Ok(record.map(|it| {
            let deadline = it.global.deadline;
            let left = deadline.since(self.inner.clock.now() + self.inner.settings.decide);
            let trace = it.trace.as_deref().and_then(TraceContext::parse);
            let mut declaration = Declaration::new(xid, it.name.into(), (deadline, left), trace);
            declaration.own = it.own.and_then(|own| serde_json::from_str(&own).ok());
            declaration.branches = it.declared;
            declaration
        }))
    }

    /// Writes the begin record, in the caller's local transaction. Send nothing before that is
    /// durable.
    ///
    /// # Errors
    /// When it is past its deadline, has begun before, or the database fails.
    pub fn begin(
        &self,
        tx: &mut Transaction<'_>,
        declaration: &Declaration,
    ) -> Result<(), LogError> {
        let (xid, now) = (declaration.xid, self.inner.clock.now());
        if declaration.deadline < now {
            return Err(LogError::Refused { xid, source: Refused::Expired });
        }
        if log::insert(tx, declaration, self.inner.shard(xid), now)? {
            Ok(())
        } else {
            Err(LogError::Taken { xid })
        }
    }

    /// Decides to commit, in the caller's local transaction. Once it is durable every branch will
    /// be confirmed; call [`Engine::settle`] then. Committing again is no error.
    ///
    /// # Errors
    /// When the deadline has passed, it is aborted or unknown, or the database fails. Then nothing
    /// was decided here.
    pub fn commit(&self, tx: &mut Transaction<'_>, xid: Xid) -> Result<(), LogError> {
        let now = self.inner.clock.now();
        for _ in 0..ATTEMPTS {
            let mut record = log::load(tx, xid)?.ok_or(LogError::Unknown { xid })?;
            let before = record.global.phase;
            record.global.commit(now).map_err(|source| LogError::Refused { xid, source })?;
            if before != Phase::Trying {
                return Ok(());
            }
            let due = record.global.next().map(|_| now);
            if log::store(tx, &record, now, due, None, None)? {
                return Ok(());
            }
        }
        Err(LogError::Contended { xid })
    }

    /// Decides to abort, in the caller's local transaction, and cancels the initiator's own branch
    /// there with the callback of [`Setup::on_abort`]. Once it is durable every branch will be
    /// cancelled; call [`Engine::settle`] then. Aborting again is no error and cancels nothing
    /// again.
    ///
    /// # Errors
    /// When it is committed or unknown, the callback fails, or the database does. Then nothing was
    /// decided here.
    pub fn abort(&self, tx: &mut Transaction<'_>, xid: Xid, reason: &str) -> Result<(), LogError> {
        let Inner { clock, hooks, .. } = &*self.inner;
        abort(tx, &**clock, hooks, xid, reason, None).map(drop)
    }

    /// Aborts in a local transaction of its own, and has the Cancels sent.
    ///
    /// # Errors
    /// As [`Engine::abort`], and as [`Database::transaction`].
    pub async fn abort_now(
        &self,
        xid: Xid,
        reason: &str,
    ) -> Result<(), TransactionError<LogError>> {
        let (engine, reason) = (self.clone(), reason.to_owned());
        let work = move |tx: &mut Transaction<'_>| engine.abort(tx, xid, &reason);
        self.inner.database.transaction("tcc abort", work).await?;
        self.settle(xid);
        Ok(())
    }

    /// Has the driver send Confirms or Cancels at once. Without it they go out when the driver
    /// looks into the log ([`Settings::poll`]).
    pub fn settle(&self, xid: Xid) {
        // Full or closed: the log is looked through anyway.
        let _full = self.inner.wake.try_send(xid);
    }

    /// What the log knows of `xid`; `None` also for what has finished long ago.
    ///
    /// # Errors
    /// When the database fails.
    pub fn find(&self, tx: &mut Transaction<'_>, xid: Xid) -> Result<Option<Found>, Error> {
        Ok(log::load(tx, xid)?.map(|it| Found {
            phase: it.global.phase,
            deadline: it.global.deadline,
            name: it.name,
            begun: it.begun,
        }))
    }

    /// What was decided. An unknown transaction is aborted: that is made durable first, so that it
    /// cannot begin any more.
    ///
    /// # Errors
    /// As [`Database::transaction`].
    pub async fn outcome(&self, xid: Xid) -> Result<Outcome, TransactionError<Error>> {
        let now = self.inner.clock.now();
        let database = &self.inner.database;
        let known = database.read("tcc outcome", move |tx| log::load(tx, xid)).await?;
        let phase = match known {
            Some(record) if record.global.expired(now) => {
                // Nobody may drive just now, and the one who asks holds a reservation.
                let aborted = Box::pin(self.abort_now(xid, "asked about after its deadline")).await;
                if let Err(error) = aborted {
                    tracing::warn!(%xid, error = chain(&error), "failed to abort when asked");
                }
                let work = move |tx: &mut Transaction<'_>| log::load(tx, xid);
                let record = database.read("tcc outcome", work).await?;
                record.map_or(Phase::Trying, |it| it.global.phase)
            }
            Some(record) => record.global.phase,
            None => {
                let work = move |tx: &mut Transaction<'_>| {
                    if log::tombstone(tx, xid, now)? {
                        return Ok::<_, Error>(Phase::Aborted);
                    }
                    // It began in between; a row that cannot be read is nobody's decision.
                    Ok(log::load(tx, xid)?.map_or(Phase::Trying, |it| it.global.phase))
                };
                database.transaction("tcc tombstone", work).await?
            }
        };
        Ok(Outcome { xid, decision: decision(phase) })
    }

    /// The branches that a human should look at.
    ///
    /// # Errors
    /// As [`Database::read`].
    pub async fn stuck(&self) -> Result<Stuck, TransactionError<Error>> {
        let work = |tx: &mut Transaction<'_>| log::stuck(tx, Stuck::MAX);
        let records = self.inner.database.read("tcc stuck", work).await?;
        let branches = records.iter().flat_map(|record| {
            record.global.branches.iter().filter(|it| it.stuck()).map(|branch| {
                let declared = record.declared.iter().find(|it| it.index == branch.index);
                // Only the own branch is not declared.
                let (service, action) = declared.map_or_else(
                    || (self.inner.peers.own_name(), record.name.as_str()),
                    |it| (it.service.as_str(), it.action.as_str()),
                );
                StuckBranch {
                    xid: record.global.xid,
                    name: record.name.clone(),
                    decision: decision(record.global.phase),
                    branch: branch.index,
                    service: service.to_owned(),
                    action: action.to_owned(),
                    reason: branch.trouble.clone().unwrap_or_default(),
                    attempts: branch.attempts,
                    next_attempt_ms: branch.next.millis(),
                }
            })
        });
        Ok(Stuck { branches: branches.collect() })
    }

    /// `GET /tcc/outcome/{xid}` and `GET /tcc/stuck`, for services of the estate.
    pub fn mount(&self) -> Router {
        routes::mount(self.clone())
    }

    /// Dies at the next pass of `point`: what comes after it never happens.
    #[cfg(any(test, feature = "faults"))]
    pub fn crash_at(&self, point: faults::Point) {
        self.inner.faults.arm(point);
    }

    /// Dies now, without letting anything go.
    #[cfg(any(test, feature = "faults"))]
    pub fn crash(&self) {
        self.inner.faults.kill();
    }

    /// Whether it died at a point.
    #[cfg(any(test, feature = "faults"))]
    #[must_use]
    pub fn crashed(&self) -> bool {
        self.inner.faults.dead()
    }
}

impl Inner {
    /// The shard of a new transaction: one that this instance drives, so that it need not wait for
    /// another to find it.
    fn shard(&self, xid: Xid) -> u16 {
        let hash = |count: usize| usize::try_from(xid.as_u128() % count.max(1) as u128);
        let held = lock(&self.held);
        let any = hash(held.len()).ok().and_then(|at| held.keys().nth(at).copied());
        any.unwrap_or_else(|| {
            hash(lease::SHARDS.into()).ok().and_then(|it| u16::try_from(it).ok()).unwrap_or(0)
        })
    }

    fn epoch(&self, shard: u16) -> Option<Epoch> {
        lock(&self.held).get(&shard).map(|epoch| Epoch { shard, epoch: *epoch })
    }
}

const fn decision(phase: Phase) -> Decision {
    match phase {
        Phase::Trying => Decision::Undecided,
        Phase::Committing | Phase::Committed => Decision::Committed,
        Phase::Aborting | Phase::Aborted => Decision::Aborted,
    }
}

/// Every change under these locks leaves them whole.
fn lock<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("owner", &self.inner.owner)
            .field("settings", &self.inner.settings)
            .finish_non_exhaustive()
    }
}
