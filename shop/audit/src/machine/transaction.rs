//! One transaction, in the log and in the fences of everybody.

use tradewind::audit::Invariant;
use tradewind::audit::estate::{TX_1, TX_2, TX_3, TX_4};

use crate::facts::{Decision, Fate, Fence, FenceStatus, Found, Log, Phase};
use crate::machine::order::KEPT_MS;

/// How long after its deadline, or its next attempt, a transaction may wait for whoever drives it.
pub const OVERDUE_MS: i64 = 60_000;

/// How long something may be reserved for a transaction that no log has: the longest that trying may
/// last, and as long again for who settles what is left.
pub const UNHEARD_MS: i64 = 2 * OVERDUE_MS;

/// Fences without a decision for them. `fences` were read before `log`.
#[must_use]
pub fn unfounded(xid: &str, log: Option<&Log>, fences: &[Fence], now_ms: i64) -> Vec<Found> {
    let mut found = Vec::new();
    for it in fences {
        let wanted = match it.status {
            FenceStatus::Tried => continue,
            // Nobody else has heard of it, and nobody will.
            FenceStatus::RolledBack | FenceStatus::Suspended if log.is_none() && it.is_own() => {
                continue;
            }
            FenceStatus::Committed => Decision::Committed,
            FenceStatus::RolledBack | FenceStatus::Suspended => Decision::Aborted,
        };
        // The row of a finished transaction goes a day after its end, which was after this.
        let cleaned = it.changed_ms < now_ms - KEPT_MS;
        let decided = log.map(|it| it.phase.fate().decision);
        // Who closes a branch that was not tried has yet to write down what follows from it.
        let closing = log.is_some_and(|it| it.implied) && decided == Some(Decision::Open);
        if it.status == FenceStatus::Suspended && closing {
            continue;
        }
        if decided.map_or(!cleaned, |it| it != wanted) {
            let decided = decided.map_or_else(|| "unknown".to_owned(), |it| format!("{it:?}"));
            let what = format_args!("is {:?}; decided: {decided}", it.status);
            add(&mut found, &TX_1, xid, Some(it), what);
        }
    }
    for (at, it) in fences.iter().enumerate() {
        let twin = |other: &&Fence| other.branch == it.branch && other.status != it.status;
        let Some(other) = fences.iter().take(at).find(twin) else { continue };
        if it.status != FenceStatus::Tried && other.status != FenceStatus::Tried {
            let what = format_args!("is {:?}; {:?} in {}", it.status, other.status, other.service);
            add(&mut found, &TX_3, xid, Some(it), what);
        }
    }
    found
}

/// Whether a log's row may have answered branches without fence rows, so that it is worth knowing
/// which services they are of.
#[must_use]
pub fn unfenced(log: &Log, fences: &[Fence], now_ms: i64) -> Vec<u16> {
    if log.begun_ms < now_ms - KEPT_MS {
        return Vec::new();
    }
    let fenced = |branch: &u16| fences.iter().any(|it| it.branch == *branch);
    log.answered.iter().copied().filter(|it| !fenced(it)).collect()
}

/// What is still reserved, and by its log will not be ended. `fences` were read after `log`; what is
/// in no log is looked at by [`unheard`].
#[must_use]
pub fn missing(xid: &str, log: Option<&Log>, fences: &[Fence]) -> Vec<Found> {
    let mut found = Vec::new();
    for it in fences.iter().filter(|it| it.status == FenceStatus::Tried) {
        let why = match log {
            None => continue,
            // It was asked about before it began, and so never will: who reserved for it asks, and
            // is told.
            Some(log) if log.name.is_empty() => continue,
            Some(log) if matches!(log.phase.fate(), Fate { over: true, .. }) => {
                "is reserved for a transaction that is over"
            }
            Some(log) if log.answered.contains(&it.branch) => {
                "is reserved still, and has answered the decision"
            }
            Some(_) => continue,
        };
        add(&mut found, &TX_4, xid, Some(it), format_args!("{why}"));
    }
    found
}

/// What is reserved for a transaction that has not begun, for longer than it may be on its way there
/// (a Try can be faster than the begin of its transaction, and a coordinator hears later than the
/// branch of who asks it), or, if it never comes there, than it may take to ask about it once its
/// deadline is over. For both, time goes on only up to `alive_ms`, when the shop was last seen alive;
/// now, if it is. `fences` were read before `log`.
#[must_use]
pub fn unheard(xid: &str, log: Option<&Log>, fences: &[Fence], alive_ms: i64) -> Vec<Found> {
    let mut found = Vec::new();
    let old =
        |it: &&Fence| it.status == FenceStatus::Tried && it.changed_ms < alive_ms - UNHEARD_MS;
    // Or only the answer to whoever asked first is in it.
    let never_began = log.is_none_or(|it| it.name.is_empty());
    for it in fences.iter().filter(old).filter(|_| never_began) {
        let why = "is reserved for a transaction that never began";
        add(&mut found, &TX_4, xid, Some(it), format_args!("{why}"));
    }
    found
}

/// A branch that answered and has no fence row, in a service whose fence was read.
#[must_use]
pub fn lost_fence(xid: &str, branch: u16, service: &str) -> Found {
    let row = format!("xid={xid} branch={branch} service={service} answered and has no fence row");
    Found { invariant: &TX_1, row }
}

/// A transaction that should have moved on by now; none when it is on the list for a human.
///
/// A shop that is stopped in order leaves nothing undecided but what is being closed; that, and what
/// is decided, may wait for its next attempt, in another life of the shop: for them, time goes on
/// only up to `alive_ms`, when the shop was last seen alive; now, if it is.
#[must_use]
pub fn overdue(xid: &str, log: &Log, now_ms: i64, alive_ms: i64) -> Option<Found> {
    if log.stuck {
        return None;
    }
    let what = match log.phase {
        Phase::Trying if log.implied => {
            let due = log.due_ms.unwrap_or(log.deadline_ms).max(log.deadline_ms);
            if alive_ms - OVERDUE_MS <= due {
                return None;
            }
            format!("is undecided and was to be closed at {due}")
        }
        Phase::Trying if log.deadline_ms < now_ms - OVERDUE_MS => {
            format!("is undecided since its deadline at {}", log.deadline_ms)
        }
        Phase::Committing | Phase::Aborting => match log.due_ms {
            None => "is decided and nobody will tell its branches".to_owned(),
            Some(due) if due < alive_ms - OVERDUE_MS => {
                format!("is {:?} and was due at {due}", log.phase)
            }
            Some(_) => return None,
        },
        Phase::Trying | Phase::Committed | Phase::Aborted => return None,
    };
    let row = format!("xid={xid} log={} name={} {what}", log.service, log.name);
    Some(Found { invariant: &TX_2, row })
}

fn add(
    found: &mut Vec<Found>,
    invariant: &'static Invariant,
    xid: &str,
    fence: Option<&Fence>,
    what: std::fmt::Arguments<'_>,
) {
    let place = fence.map_or_else(String::new, |it| {
        let (branch, service, initiator) = (it.branch, it.service, &it.initiator);
        format!(" branch={branch} service={service} initiator={initiator}")
    });
    found.push(Found { invariant, row: format!("xid={xid}{place} {what}") });
}
