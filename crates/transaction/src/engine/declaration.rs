//! What a transaction consists of, before it begins.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;
use tradewind_base::id::Xid;
use tradewind_base::{Timestamp, TraceContext};

use crate::machine::asked::Sent;
use crate::wire::Payload;
use crate::wire::coordinator::OWN_BRANCH;

/// A remote branch: whom to ask for what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// Its number, from 1.
    pub index: u16,
    /// The service.
    pub service: String,
    /// The action of that service.
    pub action: String,
    /// What it is to reserve.
    pub payload: Payload,
    /// Whether it is reserved already when the transaction begins: it is not tried.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reserved: bool,
}

/// A transaction before it begins: made by [`Engine::declare`](super::Engine::declare), outside of
/// any local transaction, so that a closure that runs twice begins the same one.
#[derive(Clone, Debug)]
pub struct Declaration {
    pub(super) xid: Xid,
    pub(super) name: Cow<'static, str>,
    pub(super) deadline: Timestamp,
    pub(super) until: Instant,
    pub(super) own: Option<Value>,
    pub(super) branches: Vec<Declared>,
    pub(super) trace: Option<TraceContext>,
    pub(super) coordinator: Option<Coordinated>,
    pub(super) implied: bool,
    /// Begun by an earlier attempt, which may have answered.
    pub(super) resumed: bool,
}

/// What is known here of a transaction that a coordinator decides.
#[derive(Clone, Debug)]
pub(super) struct Coordinated {
    /// The service that decides.
    pub(super) service: Arc<str>,
    /// Whether it is to begin there with its Trys: it cannot be resumed with its branches, which
    /// only the coordinator keeps.
    pub(super) begins: bool,
    /// Whether anything of it may have left this process.
    sent: Arc<AtomicBool>,
}

/// Most remote branches of one transaction.
pub const BRANCHES_MAX: usize = 32;

/// Why a branch cannot be declared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeclareError {
    /// The payload cannot be written as JSON.
    #[error("the payload of {action} on {service} cannot be written")]
    Payload {
        /// The service.
        service: String,
        /// The action.
        action: String,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// Too many.
    #[error("a transaction has at most {BRANCHES_MAX} branches")]
    TooMany,
}

impl Declaration {
    pub(super) fn new(
        xid: Xid,
        name: Cow<'static, str>,
        (deadline, limit): (Timestamp, Duration),
        trace: Option<TraceContext>,
    ) -> Self {
        let until = Instant::now() + limit;
        let (own, branches, coordinator) = (None, Vec::new(), None);
        let (implied, resumed) = (false, false);
        Self { xid, name, deadline, until, own, branches, trace, coordinator, implied, resumed }
    }

    /// Lets it be committed as soon as its begin and all its Trys are durable, before that is
    /// written down: see [`Declaration::may_answer`]. Whoever comes later must find out, and asks
    /// every participant for it, which need to know the call `close` of [`crate::wire`]. Where a
    /// coordinator decides it means nothing.
    ///
    /// The own branch needs a callback of
    /// [`Setup::on_commit`](super::Setup::on_commit): should this process die, nobody else confirms
    /// it.
    #[must_use]
    pub fn implied(mut self) -> Self {
        self.implied = self.coordinator.is_none();
        self
    }

    /// Whether it is committed once its begin is durable and
    /// [`Tried::Reserved`](super::Tried::Reserved) is known, so that whoever waits may be answered,
    /// and [`Engine::commit`](super::Engine::commit) follow. From that answer on nothing here may
    /// abort it. Not so for what was resumed: there a decision comes before an answer.
    #[must_use]
    pub const fn may_answer(&self) -> bool {
        self.implied && !self.resumed
    }

    /// What the initiator's own branch needs to be cancelled (or confirmed): handed to the callbacks
    /// registered with [`Setup::on_abort`](super::Setup::on_abort) and
    /// [`Setup::on_commit`](super::Setup::on_commit), also after a crash.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn own<T: Serialize>(mut self, payload: &T) -> Result<Self, DeclareError> {
        let failed = |source| DeclareError::Payload {
            service: self.name.to_string(),
            action: "own".to_owned(),
            source,
        };
        self.own = Some(serde_json::to_value(payload).map_err(failed)?);
        Ok(self)
    }

    /// Adds a remote branch. They are numbered from 1 in the order of declaration.
    ///
    /// # Errors
    /// When its payload cannot be written as JSON, or there are [`BRANCHES_MAX`] already.
    pub fn branch<T: Serialize>(
        mut self,
        service: &str,
        action: &str,
        payload: &T,
    ) -> Result<Self, DeclareError> {
        if BRANCHES_MAX <= self.branches.len() {
            return Err(DeclareError::TooMany);
        }
        let index = u16::try_from(self.branches.len() + 1).map_err(|_| DeclareError::TooMany)?;
        let (service, action) = (service.to_owned(), action.to_owned());
        let payload = match Payload::of(payload) {
            Ok(payload) => payload,
            Err(source) => return Err(DeclareError::Payload { service, action, source }),
        };
        self.branches.push(Declared { index, service, action, payload, reserved: false });
        Ok(self)
    }

    /// Adds the initiator's own branch to a transaction that is driven for it: it is reserved
    /// already, and is confirmed or cancelled like any other.
    #[must_use]
    pub fn reserved(mut self, service: &str, action: &str) -> Self {
        let (service, action) = (service.to_owned(), action.to_owned());
        let (index, payload) = (OWN_BRANCH, Payload::null());
        self.branches.push(Declared { index, service, action, payload, reserved: true });
        self
    }

    /// The transaction's id.
    #[must_use]
    pub const fn xid(&self) -> Xid {
        self.xid
    }

    /// After this it cannot be committed, unless it is [implied](Self::implied).
    #[must_use]
    pub const fn deadline(&self) -> Timestamp {
        self.deadline
    }
}

impl Coordinated {
    /// One that begins now.
    pub(super) fn begins(service: Arc<str>) -> Self {
        Self { service, begins: true, sent: Arc::default() }
    }

    /// One that an earlier attempt began, perhaps.
    pub(super) fn goes_on(service: Arc<str>) -> Self {
        Self { service, begins: false, sent: Arc::new(AtomicBool::new(true)) }
    }

    /// From now on it may be known elsewhere.
    pub(super) fn leaves(&self) {
        self.sent.store(true, Ordering::SeqCst);
    }

    pub(super) fn sent(&self) -> Sent {
        if self.sent.load(Ordering::SeqCst) { Sent::Perhaps } else { Sent::Nothing }
    }
}
