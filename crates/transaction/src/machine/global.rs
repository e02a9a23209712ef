//! The life of one global transaction.
//!
//! | phase | commit | abort | deadline passes | all branches answered |
//! |---|---|---|---|---|
//! | Trying | to Committing; after the deadline [`Refused::Expired`] | to Aborting | to Aborting | – |
//! | Committing | done already | [`Refused::Committed`] | – | to Committed |
//! | Aborting | [`Refused::Aborted`] | done already | – | to Aborted |
//! | Committed, Aborted | as Committing, Aborting | | – | – |
//!
//! An *implied* transaction is committed once its begin and all its Trys are durable, before
//! anybody writes that down: who began it may answer then. So its own initiator, which knows that
//! it has not answered, may still abort it; nobody else may, and neither does the deadline, before
//! a branch says that it was not tried and never will be ([`Order::Close`]):
//!
//! | phase Trying, implied | what follows |
//! |---|---|
//! | commit, also after the deadline (all branches are known to be tried) | to Committing |
//! | abort by who began it, before it answers; or after a branch that is closed untried | to Aborting |
//! | deadline passes | every branch is closed, repeatedly until it says which |
//! | all branches closed and tried ([`Global::closed`]) | commit |
//!
//! In the second phase (and to close them) all branches are asked at once, each with a schedule of
//! its own:
//!
//! | answer of a branch | what follows |
//! |---|---|
//! | done; to a closing: tried | never asked again |
//! | not yet | asked again after the pause it named, not counted as a failure |
//! | unknown (nothing, 5xx, broken) | counted, asked again with backoff |
//! | Confirm without Try, conflict | as unknown, and on the list for a human at once |
//! | late, repeated, of another phase | ignored |

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tradewind_base::Timestamp;
use tradewind_base::id::Xid;

use super::backoff::Backoff;

/// Failed attempts after which a branch is on the list for a human.
pub const STUCK_AFTER: u32 = 8;

/// How far a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Undecided.
    Trying,
    /// Decided; Confirms go out.
    Committing,
    /// Decided; Cancels go out.
    Aborting,
    /// Every branch is confirmed.
    Committed,
    /// Every branch is cancelled.
    Aborted,
}

impl Phase {
    /// The number in the database.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Trying => 1,
            Self::Committing => 2,
            Self::Aborting => 3,
            Self::Committed => 4,
            Self::Aborted => 5,
        }
    }

    /// The phase with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Trying),
            2 => Some(Self::Committing),
            3 => Some(Self::Aborting),
            4 => Some(Self::Committed),
            5 => Some(Self::Aborted),
            _ => None,
        }
    }

    /// The decision, which never changes once there is one.
    #[must_use]
    pub const fn decision(self) -> Option<Order> {
        match self {
            Self::Trying => None,
            Self::Committing | Self::Committed => Some(Order::Confirm),
            Self::Aborting | Self::Aborted => Some(Order::Cancel),
        }
    }
}

/// What the second phase asks of branches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Use the reservation.
    Confirm,
    /// Release the reservation.
    Cancel,
    /// Say whether it is reserved, and if it is not, never reserve it: what an undecided implied
    /// transaction asks before anybody may decide in place of who began it.
    Close,
}

/// Why a decision was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Commit after the deadline; time-out or abort is to follow.
    #[error("the deadline of the transaction has passed")]
    Expired,
    /// It is committed.
    #[error("the transaction is committed")]
    Committed,
    /// It is aborted.
    #[error("the transaction is aborted")]
    Aborted,
}

/// A branch in the second phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    /// Its number, as declared; 0 is the initiator's own, which is in this list only when it
    /// could not be cancelled or confirmed.
    pub index: u16,
    /// Whether it has answered the order; to a closing: that it is tried.
    pub done: bool,
    /// Failed attempts.
    pub attempts: u32,
    /// When it is asked next, in wall time; a time in the past means now.
    pub next: Timestamp,
    /// What failed last.
    pub trouble: Option<String>,
    /// Repeating it will not help by itself.
    pub alarm: bool,
}

/// What a branch answered in the second phase, or to a closing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Confirmed or cancelled; to a closing: tried.
    Done,
    /// Ask again after this time.
    NotYet(Duration),
    /// Nobody knows what happened, and why.
    Unknown(String),
    /// It says that it cannot be: conflict, or Confirm without Try.
    Alarm(String),
}

/// One global transaction. Everything is to be stored before its consequences leave the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Global {
    /// Its id.
    pub xid: Xid,
    /// How far it is.
    pub phase: Phase,
    /// When trying ends, by the initiating service's wall clock.
    pub deadline: Timestamp,
    /// Whether it is committed as soon as begin and Trys are durable.
    pub implied: bool,
    /// The remote branches.
    pub branches: Vec<Branch>,
}

impl Global {
    /// A transaction that begins, with remote branches of these numbers.
    #[must_use]
    pub fn begin(xid: Xid, deadline: Timestamp, branches: impl IntoIterator<Item = u16>) -> Self {
        let branches = branches.into_iter().map(Branch::new).collect();
        Self { xid, phase: Phase::Trying, deadline, implied: false, branches }
    }

    /// Decides to commit. Committing again is no error. For an implied transaction the caller
    /// knows that every branch is tried, and it is never too late.
    ///
    /// # Errors
    /// When it is too late or decided otherwise; nothing changes then.
    pub fn commit(&mut self, now: Timestamp) -> Result<(), Refused> {
        match self.phase {
            Phase::Trying if self.deadline < now && !self.implied => Err(Refused::Expired),
            Phase::Trying => {
                self.enter(Phase::Committing);
                Ok(())
            }
            Phase::Committing | Phase::Committed => Ok(()),
            Phase::Aborting | Phase::Aborted => Err(Refused::Aborted),
        }
    }

    /// Decides to abort. Aborting again is no error. For an implied transaction the caller is who
    /// began it and has not answered, or knows of a branch that is closed untried.
    ///
    /// # Errors
    /// When it is committed; nothing changes then.
    pub fn abort(&mut self) -> Result<(), Refused> {
        match self.phase {
            Phase::Trying => {
                self.enter(Phase::Aborting);
                Ok(())
            }
            Phase::Aborting | Phase::Aborted => Ok(()),
            Phase::Committing | Phase::Committed => Err(Refused::Committed),
        }
    }

    /// Whether it is to be aborted because its time is up.
    #[must_use]
    pub fn expired(&self, now: Timestamp) -> bool {
        self.phase == Phase::Trying && self.deadline < now && !self.implied
    }

    /// Whether it is undecided and every branch has said that it is tried: it is committed.
    #[must_use]
    pub fn closed(&self) -> bool {
        self.asks() == Some(Order::Close) && self.remote().all(|it| it.done)
    }

    /// The branches to be asked now, and what. An attempt that is due further ahead than any pause
    /// is long was planned before the wall clock stepped back: it is due now.
    #[must_use]
    pub fn due(&self, now: Timestamp, backoff: &Backoff) -> Option<(Order, Vec<u16>)> {
        let order = match self.phase {
            Phase::Trying if now <= self.deadline => return None,
            Phase::Committed | Phase::Aborted => return None,
            Phase::Trying | Phase::Committing | Phase::Aborting => self.asks()?,
        };
        let ahead = now + backoff.longest;
        let open = self.remote().filter(|it| !it.done);
        let due = open.filter(|it| it.next <= now || ahead < it.next);
        Some((order, due.map(|it| it.index).collect()))
    }

    /// Takes the answer of a branch to `order`.
    pub fn answered(
        &mut self,
        index: u16,
        order: Order,
        answer: Answer,
        now: Timestamp,
        backoff: &Backoff,
        jitter: f64,
    ) {
        if self.asks() != Some(order) {
            return;
        }
        let Some(branch) = self.branches.iter_mut().find(|it| it.index == index && !it.done) else {
            return;
        };
        match answer {
            Answer::Done => {
                branch.done = true;
                branch.trouble = None;
                branch.alarm = false;
            }
            Answer::NotYet(pause) => branch.next = now + pause.min(backoff.longest),
            Answer::Unknown(why) => branch.failed(why, false, now, backoff, jitter),
            Answer::Alarm(why) => branch.failed(why, true, now, backoff, jitter),
        }
        self.finish();
    }

    /// What the deadline asks for did not happen, as the initiator's own branch could not be
    /// cancelled or confirmed: it is listed, as branch 0, until that succeeds.
    pub fn own_failed(&mut self, why: String, now: Timestamp, backoff: &Backoff, jitter: f64) {
        if self.phase != Phase::Trying {
            return;
        }
        if !self.branches.iter().any(|it| it.index == 0) {
            self.branches.push(Branch::new(0));
        }
        if let Some(own) = self.branches.iter_mut().find(|it| it.index == 0) {
            own.failed(why, true, now, backoff, jitter);
        }
    }

    /// When something is to be done next: the deadline, a branch's next attempt, or never.
    #[must_use]
    pub fn next(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Trying => {
                let own = self.branches.iter().find(|it| it.index == 0).map(|it| it.next);
                let asked = self.remote().filter(|it| self.implied && !it.done);
                own.max(asked.map(|it| it.next).min()).max(Some(self.deadline))
            }
            Phase::Committing | Phase::Aborting => {
                self.branches.iter().filter(|it| !it.done).map(|it| it.next).min()
            }
            Phase::Committed | Phase::Aborted => None,
        }
    }

    /// Whether a human should look: a branch raised an alarm or failed [`STUCK_AFTER`] times.
    #[must_use]
    pub fn stuck(&self) -> bool {
        self.branches.iter().any(Branch::stuck)
    }

    /// What branches are asked now or at the deadline, if anything.
    pub(super) const fn asks(&self) -> Option<Order> {
        match self.phase {
            Phase::Trying if self.implied => Some(Order::Close),
            phase => phase.decision(),
        }
    }

    fn remote(&self) -> impl Iterator<Item = &Branch> {
        self.branches.iter().filter(|it| it.index != 0)
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.branches.retain(|it| it.index != 0);
        // What they said when they were closed is no answer to this.
        self.branches.iter_mut().for_each(|it| *it = Branch::new(it.index));
        self.finish();
    }

    /// Without branches that are open, the second phase is over.
    fn finish(&mut self) {
        if self.branches.iter().all(|it| it.done) {
            match self.phase {
                Phase::Committing => self.phase = Phase::Committed,
                Phase::Aborting => self.phase = Phase::Aborted,
                Phase::Trying | Phase::Committed | Phase::Aborted => {}
            }
        }
    }
}

impl Branch {
    const fn new(index: u16) -> Self {
        let next = Timestamp::from_millis(0);
        Self { index, done: false, attempts: 0, next, trouble: None, alarm: false }
    }

    /// Whether a human should look at it.
    #[must_use]
    pub const fn stuck(&self) -> bool {
        !self.done && (self.alarm || STUCK_AFTER <= self.attempts)
    }

    fn failed(&mut self, why: String, alarm: bool, now: Timestamp, backoff: &Backoff, jitter: f64) {
        self.attempts = self.attempts.saturating_add(1);
        self.alarm = alarm;
        self.next = now + backoff.pause(self.attempts, jitter);
        self.trouble = Some(why);
    }
}

#[cfg(test)]
mod tests;
