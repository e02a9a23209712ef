//! The fence: which call may have an effect, given what a participant remembers of the branch.
//!
//! | row \ call | Try | Confirm | Cancel | Close |
//! |---|---|---|---|---|
//! | none | insert TRIED, reserve | [`Refusal::NoTry`] | insert SUSPENDED, done | insert SUSPENDED, untried |
//! | TRIED | done (repeat) | to COMMITTED, confirm | to ROLLED_BACK, cancel | tried |
//! | COMMITTED | [`Refusal::Ended`] | done | [`Refusal::Conflict`] | tried |
//! | ROLLED_BACK | [`Refusal::Ended`] | [`Refusal::Conflict`] | done | untried |
//! | SUSPENDED | [`Refusal::Suspended`] | [`Refusal::Conflict`] | done | untried |
//!
//! A Close has no effect but to end the time of Trys: what it answers once it answers for good, as
//! long as nobody decides.
//!
//! A Try is looked at twice: one past its deadline (plus the skew that clocks may differ by)
//! without a row is [`Refusal::Expired`], and one whose deadline lies further ahead than any
//! transaction may last is [`Refusal::TooFar`]. That bounds how long a Try can be on its way, so
//! final rows may be deleted after [`keep_at_least`].

use std::time::Duration;

use tradewind_base::Timestamp;

/// The longest time a transaction may be given to try.
pub const LIMIT_MAX: Duration = Duration::from_secs(3600);

/// What a participant remembers of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Reserved; the decision is not known here.
    Tried,
    /// Confirmed.
    Committed,
    /// Cancelled after a Try.
    RolledBack,
    /// Cancelled or closed without a Try: one that comes later must do nothing.
    Suspended,
}

impl Status {
    /// The number in the database.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tried => 1,
            Self::Committed => 2,
            Self::RolledBack => 3,
            Self::Suspended => 4,
        }
    }

    /// The state with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Tried),
            2 => Some(Self::Committed),
            3 => Some(Self::RolledBack),
            4 => Some(Self::Suspended),
            _ => None,
        }
    }
}

/// One of the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Reserve.
    Try,
    /// Use the reservation.
    Confirm,
    /// Release the reservation.
    Cancel,
    /// Say whether there was a Try, and let none come any more.
    Close,
}

/// What is to be done, in one local transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Insert a row of this state and, if it is TRIED, reserve.
    Insert(Status),
    /// Move the row from TRIED to this state and have the effect that belongs to it.
    Move(Status),
    /// It happened before: the same answer, no effect. To a Close: it is tried.
    Done,
    /// Nothing may happen.
    Refuse(Refusal),
}

/// Why nothing may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A Confirm without a Try: the initiator is wrong or this database lost a row.
    NoTry,
    /// The opposite has happened.
    Conflict,
    /// A Try of a branch that has ended.
    Ended,
    /// A Try after its Cancel or Close; a Close of what is not tried.
    Suspended,
    /// A Try after its deadline.
    Expired,
    /// A Try with a deadline further ahead than [`LIMIT_MAX`] allows.
    TooFar,
    /// The row belongs to another action, initiator or reservation: somebody used an xid twice.
    Mismatch,
}

/// The cell of the table.
#[must_use]
pub const fn decide(row: Option<Status>, call: Call) -> Verdict {
    use Verdict::{Done, Insert, Move, Refuse};
    match (row, call) {
        (None, Call::Try) => Insert(Status::Tried),
        (None, Call::Confirm) => Refuse(Refusal::NoTry),
        (None, Call::Cancel | Call::Close) => Insert(Status::Suspended),
        (Some(Status::Tried), Call::Confirm) => Move(Status::Committed),
        (Some(Status::Tried), Call::Cancel) => Move(Status::RolledBack),
        (Some(Status::Tried), Call::Try | Call::Close)
        | (Some(Status::Committed), Call::Confirm | Call::Close)
        | (Some(Status::RolledBack | Status::Suspended), Call::Cancel) => Done,
        (Some(Status::Committed | Status::RolledBack), Call::Try) => Refuse(Refusal::Ended),
        (Some(Status::Suspended), Call::Try)
        | (Some(Status::RolledBack | Status::Suspended), Call::Close) => Refuse(Refusal::Suspended),
        (Some(Status::Committed), Call::Cancel)
        | (Some(Status::RolledBack | Status::Suspended), Call::Confirm) => {
            Refuse(Refusal::Conflict)
        }
    }
}

/// Whether a Try may still be taken, by this participant's clock.
///
/// # Errors
/// The refusal, when it may not.
pub fn timely(deadline: Timestamp, now: Timestamp, skew: Duration) -> Result<(), Refusal> {
    if deadline + skew < now {
        Err(Refusal::Expired)
    } else if now + LIMIT_MAX + skew < deadline {
        Err(Refusal::TooFar)
    } else {
        Ok(())
    }
}

/// How long a final row must be kept for no Try to slip in behind it: a Try that was sent before
/// its Cancel came is past its deadline by then, whatever it was.
#[must_use]
pub fn keep_at_least(skew: Duration) -> Duration {
    LIMIT_MAX + skew * 4
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: [Option<Status>; 5] = [
        None,
        Some(Status::Tried),
        Some(Status::Committed),
        Some(Status::RolledBack),
        Some(Status::Suspended),
    ];

    /// R5.3
    #[test]
    fn the_table_has_these_cells() {
        use Refusal::{Conflict, Ended, NoTry, Suspended};
        use Verdict::{Done, Insert, Move, Refuse};
        let table = [
            [
                Insert(Status::Tried),
                Refuse(NoTry),
                Insert(Status::Suspended),
                Insert(Status::Suspended),
            ],
            [Done, Move(Status::Committed), Move(Status::RolledBack), Done],
            [Refuse(Ended), Done, Refuse(Conflict), Done],
            [Refuse(Ended), Refuse(Conflict), Done, Refuse(Suspended)],
            [Refuse(Suspended), Refuse(Conflict), Done, Refuse(Suspended)],
        ];
        let calls = [Call::Try, Call::Confirm, Call::Cancel, Call::Close];
        for (row, cells) in ROWS.into_iter().zip(table) {
            for (call, cell) in calls.into_iter().zip(cells) {
                assert_eq!(decide(row, call), cell, "{row:?} {call:?}");
            }
        }
    }

    #[test]
    fn numbers_round_trip() {
        for status in ROWS.into_iter().flatten() {
            assert_eq!(Status::from_number(status.number()), Some(status));
        }
        assert_eq!(Status::from_number(0), None);
        assert_eq!(Status::from_number(5), None);
    }

    #[test]
    fn a_try_is_taken_until_its_deadline_plus_skew() {
        let (deadline, skew) = (Timestamp::from_millis(10_000_000), Duration::from_millis(500));
        let at = |millis| timely(deadline, Timestamp::from_millis(millis), skew);
        assert_eq!(at(10_000_500), Ok(()));
        assert_eq!(at(10_000_501), Err(Refusal::Expired));
        assert_eq!(at(10_000_000 - 3_600_500), Ok(()));
        assert_eq!(at(10_000_000 - 3_600_501), Err(Refusal::TooFar));
    }
}
