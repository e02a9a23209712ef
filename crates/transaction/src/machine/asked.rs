//! What an answer of the coordinator means to the initiator that asked.
//!
//! | answer \ asked for | Trys | commit | abort |
//! |---|---|---|---|
//! | success | [`Meaning::Told`] | Committed | Aborted |
//! | `coordinator.committed` | Committed | Committed | Committed |
//! | `coordinator.aborted` | Aborted | Aborted | Aborted |
//! | `coordinator.expired`, `.unknown`, `.declaration` | Lost | Lost | Again |
//! | any other problem, another status, nothing | Again | Again | Again |
//!
//! *Lost* says that it is not committed and that an abort is to be asked for next: only that makes
//! it durable, also of a transaction that never began. *Again* says that nothing is known; when
//! the time for repeats is over it stays unknown, and the initiator says so instead of guessing.
//!
//! The initiator's own branch is confirmed after *Committed* alone and cancelled after *Aborted*
//! alone (TX-1), with one exception: what never left the initiator's process, to the last byte of
//! every attempt, is known to nobody, and may be given up without asking ([`Sent::Nothing`]).

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To begin (unless it has) and to try all branches.
    Trys,
    /// To commit.
    Commit,
    /// To abort.
    Abort,
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// A success.
    Success,
    /// A problem document with this code.
    Problem(&'a str),
    /// Something else, or nothing.
    Noise,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The answer says what came of the Trys.
    Told,
    /// It is committed, durably.
    Committed,
    /// It is aborted, durably.
    Aborted,
    /// It is not committed; an abort is to be asked for.
    Lost,
    /// Nothing is known: ask again.
    Again,
}

/// How much of a transaction has left the initiator's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Nothing, for sure.
    Nothing,
    /// Something, perhaps.
    Perhaps,
}

/// The code of a coordinator's answer about what is committed.
pub const COMMITTED: &str = "coordinator.committed";
/// The code of a coordinator's answer about what is aborted.
pub const ABORTED: &str = "coordinator.aborted";
/// The code of a commit past the deadline.
pub const EXPIRED: &str = "coordinator.expired";
/// The code of an answer about what the coordinator does not know, or knows of another service.
pub const UNKNOWN: &str = "coordinator.unknown";
/// The code of a declaration that cannot begin.
pub const DECLARATION: &str = "coordinator.declaration";

/// The cell of the table.
#[must_use]
pub fn meaning(asked: Asked, heard: Heard<'_>) -> Meaning {
    match (heard, asked) {
        (Heard::Success, Asked::Trys) => Meaning::Told,
        (Heard::Success, Asked::Commit) | (Heard::Problem(COMMITTED), _) => Meaning::Committed,
        (Heard::Success, Asked::Abort) | (Heard::Problem(ABORTED), _) => Meaning::Aborted,
        (Heard::Problem(EXPIRED | UNKNOWN | DECLARATION), Asked::Trys | Asked::Commit) => {
            Meaning::Lost
        }
        (Heard::Problem(_) | Heard::Noise, _) => Meaning::Again,
    }
}

/// Whether an abort must be asked for before the own branch is cancelled.
#[must_use]
pub const fn must_ask(sent: Sent) -> bool {
    matches!(sent, Sent::Perhaps)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: [Asked; 3] = [Asked::Trys, Asked::Commit, Asked::Abort];

    /// R5.2
    #[test]
    fn the_table_has_these_cells() {
        use Meaning::{Aborted, Again, Committed, Lost, Told};
        let table = [
            (Heard::Success, [Told, Committed, Aborted]),
            (Heard::Problem("coordinator.committed"), [Committed; 3]),
            (Heard::Problem("coordinator.aborted"), [Aborted; 3]),
            (Heard::Problem("coordinator.expired"), [Lost, Lost, Again]),
            (Heard::Problem("coordinator.unknown"), [Lost, Lost, Again]),
            (Heard::Problem("coordinator.declaration"), [Lost, Lost, Again]),
            (Heard::Problem("coordinator.busy"), [Again; 3]),
            (Heard::Problem("edge.unauthorized"), [Again; 3]),
            (Heard::Noise, [Again; 3]),
        ];
        for (heard, cells) in table {
            for (asked, cell) in ASKED.into_iter().zip(cells) {
                assert_eq!(meaning(asked, heard), cell, "{heard:?} {asked:?}");
            }
        }
    }

    #[test]
    fn only_what_never_left_is_given_up_without_asking() {
        assert!(must_ask(Sent::Perhaps));
        assert!(!must_ask(Sent::Nothing));
    }
}
