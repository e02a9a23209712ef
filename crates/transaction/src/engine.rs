//! The engine: begins transactions, decides them, and drives what was decided.
//!
//! It is embedded unless [`Setup::coordinator`] says otherwise: the log lies in the initiating
//! service's own database.
//!
//! 1. [`Engine::declare`] names the transaction and its branches.
//! 2. [`Engine::begin`], in the caller's local transaction, writes the begin record beside
//!    whatever else the caller writes (its claim, its own Try).
//! 3. [`Engine::try_all`] asks all branches at once; [`Engine::try_beside`] does so beside step 2.
//! 4. [`Engine::decide_commit`] or [`Engine::decide_abort`] asks who decides: nobody but the next
//!    step, here.
//! 5. [`Engine::commit`] or [`Engine::abort`], in the caller's local transaction, decides, beside
//!    the caller's own Confirm or Cancel; then [`Engine::settle`] hands over to the driver.
//! 6. The driver of whichever instance holds the shard's lease sends Confirms or Cancels until
//!    each branch has answered. What nobody decided is aborted at the deadline.
//!
//! A transaction that is [`Declaration::implied`] may be answered between the steps 3 and 4: with
//! its begin and all its Trys durable it is committed, and step 5 writes that down for those who
//! have not seen it. What nobody decided is closed at the deadline, and then committed or
//! aborted.
//!
//! With a coordinator the same six calls mean: a branch of this service's own, reserved in step 2;
//! begun and tried by the coordinator in one request in step 3; decided by it, durably, in step 4;
//! the own branch confirmed or cancelled in step 5; the others by the coordinator in step 6.

mod abort;
mod beside;
mod close;
mod decide;
mod declaration;
mod driver;
#[cfg(any(test, feature = "faults"))]
pub mod faults;
mod lease;
mod log;
mod look;
mod own;
mod remote;
mod routes;
mod schema;
mod setup;
mod tries;

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tradewind_base::id::Xid;
use tradewind_base::{Clock, Context, Rng, Timestamp, TraceContext, fault};
use tradewind_service::axum::Router;
use tradewind_sql::{Database, Error, Transaction};

use crate::Peers;
use crate::machine::fence::{LIMIT_MAX, Status};
use crate::machine::global::{Phase, Refused};
use crate::participant::{BranchError, Participants};
use declaration::Coordinated;
use lease::Held;
use log::{Epoch, Record};

pub use decide::{Decided, MayAbort, MayCommit};
pub use declaration::{BRANCHES_MAX, Declaration, DeclareError, Declared};
pub use look::Found;
pub use schema::{COMPACT, IMPLIED, MIGRATIONS, compact, implied, migrations};
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
    hooks: Arc<setup::Hooks>,
    own: Participants,
    coordinator: Option<Arc<str>>,
    owner: String,
    rng: Mutex<Rng>,
    held: Mutex<Held>,
    running: Mutex<HashSet<Xid>>,
    finished: Mutex<Vec<(Record, Epoch)>>,
    /// Whether begins become durable here, as far as is known: see [`Engine::try_beside`].
    commits: AtomicBool,
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
    /// It may be committed already: only who began it, or knows that a branch is not tried, may
    /// abort it. See [`Engine::decide_abort`].
    #[error("{xid} may be committed already")]
    Implied {
        /// The transaction.
        xid: Xid,
    },
    /// The coordinator did not say what is decided.
    #[error("the coordinator did not say what is decided about {xid}")]
    Undecided {
        /// The transaction.
        xid: Xid,
    },
    /// The initiator's own branch could not be confirmed or cancelled.
    #[error("the own branch of {xid} cannot be settled")]
    Own {
        /// The transaction.
        xid: Xid,
        /// What the callback said.
        #[source]
        source: BranchError,
    },
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
        let mut it =
            Declaration::new(xid, name.into(), (deadline, limit), Context::current().trace);
        it.coordinator = inner.coordinator.clone().map(Coordinated::begins);
        it
    }

    /// A transaction that has begun and is undecided, to be tried by whoever goes on with it: a
    /// Try may be repeated. It has the time that is left.
    ///
    /// # Errors
    /// When the database fails.
    pub fn resume(&self, tx: &mut Transaction<'_>, xid: Xid) -> Result<Option<Declaration>, Error> {
        let left = |it: Timestamp| it.since(self.inner.clock.now() + self.inner.settings.decide);
        if let Some(it) = log::load(tx, xid)? {
            if it.global.phase != Phase::Trying {
                return Ok(None);
            }
            let deadline = it.global.deadline;
            let trace = it.trace.as_deref().and_then(TraceContext::parse);
            let limits = (deadline, left(deadline));
            let mut declaration = Declaration::new(xid, it.name.into(), limits, trace);
            declaration.own = it.own.and_then(|own| serde_json::from_str(&own).ok());
            declaration.branches = it.declared;
            (declaration.implied, declaration.resumed) = (it.global.implied, true);
            return Ok(Some(declaration));
        }
        let own = self.inner.own(tx, xid)?.filter(|it| it.status == Status::Tried);
        Ok(own.map(|it| {
            let limits = (it.deadline, left(it.deadline));
            let mut declaration = Declaration::new(xid, it.key.action.into(), limits, None);
            declaration.own = it.payload;
            declaration.coordinator = Some(Coordinated::goes_on(it.key.initiator.into()));
            declaration
        }))
    }

    /// Writes the begin record, in the caller's local transaction. Send nothing before that is
    /// durable, unless with [`Engine::try_beside`].
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
        if let Some(to) = &declaration.coordinator {
            return own::begin(&self.inner.hooks, tx, declaration, to, now);
        }
        let name = declaration.name.as_ref();
        if declaration.implied && !self.inner.hooks.commit.contains_key(name) {
            // Nobody could commit it after a death.
            let what = format!("transactions named `{name}` lack on_commit");
            return Err(LogError::Own { xid, source: BranchError::Failed(what.into()) });
        }
        if !log::insert(tx, declaration, self.inner.shard(xid), now)? {
            return Err(LogError::Taken { xid });
        }
        fault::hold(format_args!("tcc.{name}.begin"));
        Ok(())
    }

    /// Has the driver send Confirms or Cancels in a moment, with those of what else is decided by
    /// then. Without it they go out when the driver looks into the log ([`Settings::poll`]).
    pub fn settle(&self, xid: Xid) {
        // Full or closed: the log is looked through anyway.
        let _full = self.inner.wake.try_send(xid);
    }

    /// `GET /tcc/outcome/{xid}` and `GET /tcc/stuck`, for services of the estate; for transactions
    /// with an [`Setup::on_commit`] also `/tcc/{name}/confirm` and `/cancel`, for the coordinator.
    pub fn mount(&self) -> Router {
        routes::mount(self.clone()).merge(self.inner.own.mount())
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
