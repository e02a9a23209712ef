//! The abort, which is also the time-out: one change of the log, with the own branch's Cancel.

use tradewind_base::Clock;
use tradewind_base::id::Xid;
use tradewind_sql::Transaction;

use super::log::{self, Epoch};
use super::setup::Hooks;
use super::{ATTEMPTS, LogError, decide};
use crate::machine::global::Phase;
use crate::participant::BranchError;

/// Decides to abort; with a lease, only while it is held. `false` when it was decided before.
/// `nobody`: it is known that nobody was or will be told that it is committed.
pub(super) fn abort(
    tx: &mut Transaction<'_>,
    clock: &dyn Clock,
    hooks: &Hooks,
    (xid, nobody): (Xid, bool),
    reason: &str,
    lease: Option<Epoch>,
) -> Result<bool, LogError> {
    let now = clock.now();
    for _ in 0..ATTEMPTS {
        let mut record = log::load(tx, xid)?.ok_or(LogError::Unknown { xid })?;
        let before = record.global.phase;
        record.global.abort().map_err(|source| LogError::Refused { xid, source })?;
        if before != Phase::Trying {
            return Ok(false);
        }
        if record.global.implied && !nobody {
            return Err(LogError::Implied { xid });
        }
        let due = record.global.next().map(|_| now);
        if !log::store(tx, &record, now, due, Some(reason), lease)? {
            continue;
        }
        if let Some(own) = &record.own {
            cancel_own(tx, hooks, xid, &record.name, own)
                .map_err(|source| LogError::Own { xid, source })?;
        }
        return Ok(true);
    }
    Err(LogError::Contended { xid })
}

fn cancel_own(
    tx: &mut Transaction<'_>,
    hooks: &Hooks,
    xid: Xid,
    name: &str,
    own: &str,
) -> Result<(), BranchError> {
    match hooks.abort.get(name) {
        Some(hook) => decide::run(hook, tx, xid, own),
        None => {
            let what = format!("no on_abort callback for transactions named `{name}`");
            Err(BranchError::Failed(what.into()))
        }
    }
}
