//! The initiator's own branch when a coordinator decides: an ordinary branch of the initiating
//! service, whose Try is a fence row that the library writes in the caller's local transaction.
//!
//! Its Confirm and Cancel are the hooks of [`Setup::on_commit`](super::Setup::on_commit) and
//! [`Setup::on_abort`](super::Setup::on_abort). Whoever comes first runs them, and the fence lets
//! them have their effect once: the caller after the coordinator's decision, the coordinator (after
//! a death of the caller), or this service itself, which asks about rows past their deadline.

use std::sync::Arc;

use http::StatusCode;
use serde_json::Value;
use tradewind_base::id::Xid;
use tradewind_base::{Clock, Problem, Timestamp};
use tradewind_service::Failure;
use tradewind_sql::{Database, Error, Transaction, params};

use super::declaration::{Coordinated, Declaration};
use super::setup::{Hook, Hooks, Settings};
use super::{Inner, LogError, decide};
use crate::fence::{self, Key};
use crate::machine::fence::{Refusal, Status};
use crate::machine::global::{Phase, Refused};
use crate::participant::routes::{Action, Settled, settle};
use crate::participant::{Boxed, BranchError, Participants};
use crate::wire;
use crate::wire::coordinator::OWN_BRANCH;

/// The payload of an own branch that needs none.
const NOTHING: &str = "null";

/// The fence row of an own branch.
#[derive(Clone, Debug)]
pub(super) struct Own {
    pub(super) key: Key,
    pub(super) status: Status,
    pub(super) deadline: Timestamp,
    /// Since when the row is in its state.
    pub(super) begun: Timestamp,
    pub(super) payload: Option<Value>,
}

impl Own {
    /// What is known here of its transaction: whether it is decided, not how far the others are.
    pub(super) const fn phase(&self) -> Phase {
        match self.status {
            Status::Tried => Phase::Trying,
            Status::Committed => Phase::Committing,
            Status::RolledBack | Status::Suspended => Phase::Aborting,
        }
    }
}

/// The own branches of a service that can be moved to a coordinator, as participants.
pub(super) fn participants(
    database: &Database,
    clock: &Arc<dyn Clock>,
    settings: &Settings,
    hooks: &Hooks,
) -> Participants {
    let all = Participants::new(database.clone(), Arc::clone(clock)).settings(settings.own);
    hooks.commit.iter().fold(all, |all, (name, confirm)| {
        let (confirm, cancel) = (Arc::clone(confirm), hooks.abort.get(name).cloned());
        all.with_action(name, Arc::new(Mounted { confirm, cancel }))
    })
}

/// The Try: a row in the caller's local transaction.
pub(super) fn begin(
    hooks: &Hooks,
    tx: &mut Transaction<'_>,
    it: &Declaration,
    to: &Coordinated,
    now: Timestamp,
) -> Result<(), LogError> {
    let (xid, name) = (it.xid, it.name.as_ref());
    if !hooks.commit.contains_key(name) || !hooks.abort.contains_key(name) {
        // Nobody could settle it.
        let what = format!("transactions named `{name}` lack on_commit or on_abort");
        return Err(LogError::Own { xid, source: BranchError::Failed(what.into()) });
    }
    let payload = it.own.as_ref().map_or_else(|| NOTHING.to_owned(), Value::to_string);
    let (action, initiator) = (it.name.clone().into_owned(), (*to.service).to_owned());
    let key = Key { xid, branch: OWN_BRANCH, action, initiator };
    let clock = (now, std::time::Duration::ZERO);
    match fence::reserve(tx, &key, &payload, it.deadline, clock, |_| Ok::<_, Error>(()))? {
        Ok(()) => Ok(()),
        Err(Refusal::Expired) => Err(LogError::Refused { xid, source: Refused::Expired }),
        Err(_) => Err(LogError::Taken { xid }),
    }
}

/// The row of a transaction, if a coordinator decides it.
pub(super) fn find(tx: &mut Transaction<'_>, xid: Xid) -> Result<Option<Own>, Error> {
    let sql = "SELECT action, initiator, status, deadline_ms, reservation, changed_ms FROM tradewind_fence
        WHERE xid = ? AND branch = ?";
    tx.query_one(sql, params![xid.to_string(), OWN_BRANCH], |row| {
        let (number, payload): (u8, String) = (row.get(2)?, row.get(4)?);
        Ok(Own {
            key: Key { xid, branch: OWN_BRANCH, action: row.get(0)?, initiator: row.get(1)? },
            // The table's CHECK allows no other number.
            status: Status::from_number(number).unwrap_or(Status::Suspended),
            deadline: row.get(3)?,
            begun: row.get(5)?,
            payload: serde_json::from_str(&payload).unwrap_or_default(),
        })
    })
}

/// The Confirm or Cancel in the caller's local transaction.
pub(super) fn settle_here(
    inner: &Inner,
    tx: &mut Transaction<'_>,
    xid: Xid,
    commits: bool,
) -> Result<(), LogError> {
    let own = find(tx, xid)?.ok_or(LogError::Unknown { xid })?;
    let (now, name) = (inner.clock.now(), own.key.action.as_str());
    let hooks = if commits { &inner.hooks.commit } else { &inner.hooks.abort };
    let hook = hooks.get(name);
    let effect = |tx: &mut Transaction<'_>, text: &str| run(hook, tx, xid, text);
    let done = if commits {
        fence::confirm(tx, &own.key, now, effect)
    } else {
        fence::cancel(tx, &own.key, now, effect)
    };
    match done {
        Ok(Ok(())) => Ok(()),
        Ok(Err(refusal)) => {
            let source = if commits { Refused::Aborted } else { Refused::Committed };
            tracing::error!(%xid, ?refusal, "the own branch has ended against the decision");
            Err(LogError::Refused { xid, source })
        }
        Err(BranchError::Storage(error)) => Err(error.into()),
        Err(source) => Err(LogError::Own { xid, source }),
    }
}

/// Runs the hook, if anything was declared for it.
fn run(
    hook: Option<&Hook>,
    tx: &mut Transaction<'_>,
    xid: Xid,
    text: &str,
) -> Result<(), BranchError> {
    match hook {
        _ if text == NOTHING => Ok(()),
        Some(hook) => decide::run(hook, tx, xid, text),
        None => Err(BranchError::Failed("no callback for transactions of this name".into())),
    }
}

/// An own branch as a participant.
struct Mounted {
    confirm: Hook,
    cancel: Option<Hook>,
}

impl Action for Mounted {
    fn reserve(self: Arc<Self>, _: Participants, _: wire::Try) -> Boxed<Result<(), Failure>> {
        let detail = "the initiator's own branch is reserved by the initiator alone";
        let problem = Problem::new(StatusCode::CONFLICT, wire::MISMATCH, detail);
        Box::pin(std::future::ready(Err(problem.into())))
    }

    fn confirm(self: Arc<Self>, all: Participants, it: Settled) -> Boxed<Result<(), Failure>> {
        Box::pin(async move {
            let done = all.database().transaction("tcc own confirm", move |tx| {
                fence::confirm(tx, &it.key, it.now, |tx, text| {
                    run(Some(&self.confirm), tx, it.key.xid, text)
                })
            });
            settle(done.await)
        })
    }

    fn cancel(self: Arc<Self>, all: Participants, it: Settled) -> Boxed<Result<(), Failure>> {
        Box::pin(async move {
            let done = all.database().transaction("tcc own cancel", move |tx| {
                fence::cancel(tx, &it.key, it.now, |tx, text| {
                    run(self.cancel.as_ref(), tx, it.key.xid, text)
                })
            });
            settle(done.await)
        })
    }
}
