//! Decisions: commit, abort, and who may carry them out here.

use tradewind_base::Clock;
use tradewind_base::id::Xid;
use tradewind_sql::{Transaction, TransactionError};

use super::declaration::Declaration;
use super::log::Epoch;
use super::setup::{Hook, Hooks};
use super::{ATTEMPTS, Engine, Inner, LogError, abort, log, own};
use crate::machine::global::Phase;
use crate::participant::BranchError;

/// What was decided, as far as a transaction's kind allows to say before the local transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "only what it allows may be done"]
pub enum Decided {
    /// To commit. Go on with [`Engine::commit`].
    Commit(MayCommit),
    /// To abort. Go on with [`Engine::abort`].
    Abort(MayAbort),
    /// The coordinator did not say. Do neither, and say so to whoever waits: the own branch is
    /// settled when the coordinator calls, or is asked, again.
    Unknown,
}

/// Leave to commit here. A transaction in the own log needs none: its log decides
/// (`MayCommit::from(xid)`). One that a coordinator decides must have been committed there
/// ([`Engine::decide_commit`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MayCommit(Leave);

/// Leave to abort here, as [`MayCommit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MayAbort(Leave);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leave {
    xid: Xid,
    decided: bool,
    /// Nobody was or will be told that it is committed.
    nobody: bool,
}

impl From<Xid> for MayCommit {
    fn from(xid: Xid) -> Self {
        Self(Leave { xid, decided: false, nobody: false })
    }
}

/// Not for what is [implied](Declaration::implied): [`LogError::Implied`].
impl From<Xid> for MayAbort {
    fn from(xid: Xid) -> Self {
        Self(Leave { xid, decided: false, nobody: false })
    }
}

impl MayCommit {
    /// After the coordinator said that it is committed.
    pub(super) const fn after(xid: Xid) -> Self {
        Self(Leave { xid, decided: true, nobody: false })
    }
}

impl MayAbort {
    /// After the coordinator said that it is aborted, or for what it never heard of.
    pub(super) const fn after(xid: Xid) -> Self {
        Self(Leave { xid, decided: true, nobody: true })
    }

    /// For one of the own log, of which nobody was or will be told that it is committed.
    pub(super) const fn of_nobody(xid: Xid) -> Self {
        Self(Leave { xid, decided: false, nobody: true })
    }
}

impl Engine {
    /// Asks for the decision to commit. With the embedded engine nobody is asked: the local
    /// transaction that follows decides. A coordinator's decision is durable when it is told.
    ///
    /// # Cancel safety
    /// Dropping the future leaves open what was decided; the own branch is settled accordingly.
    pub async fn decide_commit(&self, declaration: &Declaration) -> Decided {
        match &declaration.coordinator {
            None => Decided::Commit(declaration.xid.into()),
            Some(to) => Box::pin(self.commit_there(declaration, to)).await,
        }
    }

    /// Asks for the decision to abort, as [`Engine::decide_commit`]. The coordinator makes it
    /// durable also for a transaction that it does not know. Of what never left this process it is
    /// not asked. An [implied](Declaration::implied) transaction that was resumed may have been
    /// answered: its participants are asked first, and it is to be committed if all of them hold
    /// their part.
    ///
    /// # Cancel safety
    /// As [`Engine::decide_commit`].
    pub async fn decide_abort(&self, declaration: &Declaration, reason: &str) -> Decided {
        match &declaration.coordinator {
            None if declaration.implied && declaration.resumed => {
                Box::pin(self.close_all(declaration)).await
            }
            None => Decided::Abort(MayAbort::of_nobody(declaration.xid)),
            Some(to) => Box::pin(self.abort_there(declaration, to, reason)).await,
        }
    }

    /// Commits, in the caller's local transaction, and confirms the initiator's own branch there
    /// with the callback of [`Setup::on_commit`](super::Setup::on_commit). Once it is durable every
    /// branch will be confirmed; call [`Engine::settle`] then. Committing again is no error and
    /// confirms nothing again.
    ///
    /// # Errors
    /// When the deadline has passed, it is aborted or unknown, the callback fails, or the database
    /// does. Then nothing was decided here.
    pub fn commit(
        &self,
        tx: &mut Transaction<'_>,
        leave: impl Into<MayCommit>,
    ) -> Result<(), LogError> {
        let MayCommit(Leave { xid, decided, .. }) = leave.into();
        if decided {
            return own::settle_here(&self.inner, tx, xid, true);
        }
        let Inner { clock, hooks, .. } = &*self.inner;
        commit(tx, &**clock, hooks, xid, None).map(drop)
    }

    /// Aborts, in the caller's local transaction, and cancels the initiator's own branch there with
    /// the callback of [`Setup::on_abort`](super::Setup::on_abort). Once it is durable every branch
    /// will be cancelled; call [`Engine::settle`] then. Aborting again is no error and cancels
    /// nothing again.
    ///
    /// # Errors
    /// When it is committed or unknown, the callback fails, or the database does. Then nothing was
    /// decided here.
    pub fn abort(
        &self,
        tx: &mut Transaction<'_>,
        leave: impl Into<MayAbort>,
        reason: &str,
    ) -> Result<(), LogError> {
        let MayAbort(Leave { xid, decided, nobody }) = leave.into();
        if decided {
            return own::settle_here(&self.inner, tx, xid, false);
        }
        let Inner { clock, hooks, .. } = &*self.inner;
        abort::abort(tx, &**clock, hooks, (xid, nobody), reason, None).map(drop)
    }

    /// Aborts a transaction of the own log in a local transaction of its own, and has the Cancels
    /// sent. An [implied](Declaration::implied) one is not aborted so: see [`Engine::give_up`].
    ///
    /// # Errors
    /// As [`Engine::abort`], and as [`Database::transaction`](tradewind_sql::Database::transaction).
    pub async fn abort_now(
        &self,
        xid: Xid,
        reason: &str,
    ) -> Result<(), TransactionError<LogError>> {
        self.abort_with(xid.into(), xid, reason).await
    }

    /// Aborts a transaction wherever it is decided: [`Engine::decide_abort`], then
    /// [`Engine::abort`] in a local transaction of its own.
    ///
    /// # Errors
    /// As [`Engine::abort_now`]; [`LogError::Undecided`] when the coordinator did not say.
    pub async fn give_up(
        &self,
        declaration: &Declaration,
        reason: &str,
    ) -> Result<(), TransactionError<LogError>> {
        let xid = declaration.xid;
        match self.decide_abort(declaration, reason).await {
            Decided::Abort(leave) => self.abort_with(leave, xid, reason).await,
            Decided::Commit(_) => {
                let source = crate::machine::global::Refused::Committed;
                Err(TransactionError::Refused(LogError::Refused { xid, source }))
            }
            Decided::Unknown => Err(TransactionError::Refused(LogError::Undecided { xid })),
        }
    }

    async fn abort_with(
        &self,
        leave: MayAbort,
        xid: Xid,
        reason: &str,
    ) -> Result<(), TransactionError<LogError>> {
        let (engine, reason) = (self.clone(), reason.to_owned());
        let work = move |tx: &mut Transaction<'_>| engine.abort(tx, leave, &reason);
        self.inner.database.transaction("tcc abort", work).await?;
        self.settle(xid);
        Ok(())
    }
}

/// Decides to commit in the own log; with a lease, only while it is held. `false` when it was
/// decided before.
pub(super) fn commit(
    tx: &mut Transaction<'_>,
    clock: &dyn Clock,
    hooks: &Hooks,
    xid: Xid,
    lease: Option<Epoch>,
) -> Result<bool, LogError> {
    let now = clock.now();
    for _ in 0..ATTEMPTS {
        let mut record = log::load(tx, xid)?.ok_or(LogError::Unknown { xid })?;
        let before = record.global.phase;
        record.global.commit(now).map_err(|source| LogError::Refused { xid, source })?;
        if before != Phase::Trying {
            return Ok(false);
        }
        let due = record.global.next().map(|_| now);
        if !log::store(tx, &record, now, due, None, lease)? {
            continue;
        }
        // Without a callback the caller does what belongs to it beside this.
        if let (Some(hook), Some(text)) = (hooks.commit.get(&*record.name), &record.own) {
            run(hook, tx, xid, text).map_err(|source| LogError::Own { xid, source })?;
        }
        return Ok(true);
    }
    Err(LogError::Contended { xid })
}

/// Runs a callback for the own branch with the payload that it was declared with.
pub(super) fn run(
    hook: &Hook,
    tx: &mut Transaction<'_>,
    xid: Xid,
    text: &str,
) -> Result<(), BranchError> {
    let payload =
        serde_json::from_str(text).map_err(|error| BranchError::Failed(Box::new(error)))?;
    hook(tx, xid, &payload)
}
