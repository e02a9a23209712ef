//! The life of a message.

use tradewind_message::wire::State;

/// What is said about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Its producer's transaction is durable.
    Commit,
    /// Its producer's transaction did not happen.
    RollBack,
    /// It was asked for as often as allowed, and nobody knew.
    GiveUpAsking,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It enters this state.
    Enter(State),
    /// It is said already; nothing changes.
    Stay,
    /// The opposite is decided.
    Conflict,
}

/// The decision; `routed` tells whether somebody subscribes to the topic.
#[must_use]
pub const fn decide(state: State, word: Word, routed: bool) -> Step {
    match (state, word) {
        (State::Prepared | State::ParkedUndecided, Word::Commit) if routed => {
            Step::Enter(State::Committed)
        }
        (State::Prepared | State::ParkedUndecided, Word::Commit) => {
            Step::Enter(State::ParkedUnrouted)
        }
        (State::Prepared | State::ParkedUndecided, Word::RollBack) => {
            Step::Enter(State::Cancelled)
        }
        (State::Prepared, Word::GiveUpAsking) => Step::Enter(State::ParkedUndecided),
        (State::Committed | State::ParkedUnrouted | State::Done, Word::RollBack)
        | (State::Cancelled, Word::Commit) => Step::Conflict,
        (State::Committed | State::ParkedUnrouted | State::Done, Word::Commit)
        | (State::Cancelled, Word::RollBack)
        // An answer came while the question was being given up.
        | (
            State::Committed
            | State::ParkedUnrouted
            | State::ParkedUndecided
            | State::Done
            | State::Cancelled,
            Word::GiveUpAsking,
        ) => Step::Stay,
    }
}
