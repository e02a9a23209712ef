//! Taking part: what a service offers as branches of other services' transactions.
//!
//! A [`Participant`] says what its Try, Confirm and Cancel do inside a local transaction;
//! [`Participants`] mounts them as endpoints, puts the fence row around each, asks the initiator
//! about reservations that nobody settles, and cleans what is settled.

mod resolver;
pub(crate) mod routes;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tradewind_base::id::Xid;
use tradewind_base::{Clock, Problem, Tasks, Timestamp};
use tradewind_service::axum::Router;
use tradewind_sql::{Database, Error, Transaction};

use crate::Peers;
use routes::{Action, Mounted};

/// One kind of branch: what its three steps do.
///
/// All three run inside a local transaction that also writes the fence row; they may run more than
/// once, so they have no effect outside it. They are called at most once *with effect* for a
/// branch: repeats, late Trys and Cancels without a Try never reach them.
pub trait Participant: Send + Sync + 'static {
    /// What is reserved. It is stored with the fence row and handed to Confirm and Cancel, so a
    /// later version of the program must be able to read it.
    type Reservation: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// The name in the path: lower-case letters, digits and `-`, in parts joined by `.`, at most 64
    /// characters: `stock`, `inventory.reserve`.
    const ACTION: &'static str;

    /// Runs before a Try's local transaction and outside it, to take a lock around it. What it
    /// returns is dropped when the local transaction has ended.
    ///
    /// # Errors
    /// As [`Participant::reserve`].
    fn enter(
        &self,
        call: &Call,
        reservation: &Self::Reservation,
    ) -> impl Future<Output = Result<Entered, BranchError>> + Send {
        let _ = (call, reservation);
        std::future::ready(Ok(Entered::nothing()))
    }

    /// The Try: reserves, or refuses with a problem that is shown to the initiator's caller.
    ///
    /// # Errors
    /// A refusal is definite; everything else is repeated by the initiator until its deadline.
    fn reserve(
        &self,
        tx: &mut Transaction<'_>,
        call: &Call,
        reservation: &Self::Reservation,
    ) -> Result<(), BranchError>;

    /// The Confirm: uses the reservation. It must succeed in the end.
    ///
    /// # Errors
    /// Any error has it repeated.
    fn confirm(
        &self,
        tx: &mut Transaction<'_>,
        call: &Call,
        reservation: &Self::Reservation,
    ) -> Result<(), BranchError>;

    /// The Cancel: releases the reservation. It must succeed in the end.
    ///
    /// # Errors
    /// Any error has it repeated.
    fn cancel(
        &self,
        tx: &mut Transaction<'_>,
        call: &Call,
        reservation: &Self::Reservation,
    ) -> Result<(), BranchError>;
}

/// The call a step runs for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The transaction.
    pub xid: Xid,
    /// The branch's number within it.
    pub branch: u16,
    /// The service that decides.
    pub initiator: String,
    /// When the transaction's trying ends; known to a Try alone.
    pub deadline: Option<Timestamp>,
    /// Wall time when the call came.
    pub now: Timestamp,
    /// The fencing token of the lock that [`Participant::enter`] took.
    pub token: Option<i64>,
}

/// What [`Participant::enter`] holds.
pub struct Entered {
    token: Option<i64>,
    _guard: Option<Box<dyn Any + Send>>,
}

impl Entered {
    /// No lock.
    #[must_use]
    pub const fn nothing() -> Self {
        Self { token: None, _guard: None }
    }

    /// A lock's fencing token, and the guard that is dropped at the end.
    #[must_use]
    pub fn locked(token: i64, guard: impl Any + Send) -> Self {
        Self { token: Some(token), _guard: Some(Box::new(guard)) }
    }
}

impl fmt::Debug for Entered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entered").field("token", &self.token).finish_non_exhaustive()
    }
}

/// Why a step did not happen. Its local transaction is rolled back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BranchError {
    /// The business says no, for good: not enough stock, unknown account.
    #[error("refused: {}", .0.code)]
    Refused(Box<Problem>),
    /// What the step needs is not settled yet; ask again after this time.
    #[error("not yet")]
    NotYet(Duration),
    /// The database failed.
    #[error("the database failed")]
    Storage(#[from] Error),
    /// Anything else; the initiator cannot tell whether it happened.
    #[error("the step failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<Problem> for BranchError {
    fn from(problem: Problem) -> Self {
        Self::Refused(Box::new(problem))
    }
}

/// The bounds of taking part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How far the clocks of initiator and participant may differ.
    pub skew: Duration,
    /// How long after its deadline a reservation is asked about.
    pub resolve_after: Duration,
    /// How often to look for such reservations.
    pub resolve_every: Duration,
    /// How long final fence rows are kept; never shorter than late Trys can live.
    pub keep: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            skew: Duration::from_secs(2),
            resolve_after: Duration::from_secs(5),
            resolve_every: Duration::from_secs(1),
            keep: Duration::from_secs(24 * 3600),
        }
    }
}

/// All participants of a service. Clones share them.
#[derive(Clone)]
pub struct Participants {
    database: Database,
    clock: Arc<dyn Clock>,
    settings: Settings,
    actions: BTreeMap<&'static str, Arc<dyn Action>>,
}

impl Participants {
    /// None yet, over the database that holds their data and [the fence](crate::fence::migrations).
    #[must_use]
    pub fn new(database: Database, clock: Arc<dyn Clock>) -> Self {
        Self { database, clock, settings: Settings::default(), actions: BTreeMap::new() }
    }

    /// Other bounds.
    #[must_use]
    pub const fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Adds one. Of two with the same action the later counts.
    #[must_use]
    pub fn with<P: Participant>(mut self, participant: P) -> Self {
        self.actions.insert(P::ACTION, Arc::new(Mounted::new(participant)));
        self
    }

    /// Adds one that has no type of its own.
    #[must_use]
    pub(crate) fn with_action(mut self, name: &'static str, action: Arc<dyn Action>) -> Self {
        self.actions.insert(name, action);
        self
    }

    /// Where the fence lies.
    pub(crate) const fn database(&self) -> &Database {
        &self.database
    }

    /// The endpoints `/tcc/{action}/try`, `/confirm` and `/cancel` of each action, and `/trys`
    /// and `/confirms` for several at once. They answer only the service that initiated.
    pub fn mount(&self) -> Router {
        routes::mount(self)
    }

    /// Starts the background work: asking initiators about reservations past their deadline, and
    /// cleaning. Any number of instances may do it.
    pub fn start(&self, peers: Peers, tasks: &Tasks) {
        let resolver = resolver::Resolver { all: self.clone(), peers };
        tasks.spawn("tcc resolver", |cancel| async move { resolver.run(cancel).await });
    }
}

impl fmt::Debug for Participants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Participants")
            .field("actions", &self.actions.keys())
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// A future in a box.
pub(crate) type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
