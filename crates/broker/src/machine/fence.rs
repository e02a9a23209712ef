//! The fence of a branch: which call may still have its effect.

/// What the fence row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// Try was done.
    Tried,
    /// Confirm was done.
    Confirmed,
    /// Cancel was done after Try.
    Cancelled,
    /// Cancel or Close came before Try, which must not be done any more.
    Suspended,
}

/// What the caller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Reserve.
    Try,
    /// Make it real.
    Confirm,
    /// Undo it.
    Cancel,
    /// Say whether Try was done, and let it not be done any more.
    Close,
}

/// What follows from the row that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Move the row, with the effect, in one transaction.
    Enter(Fence),
    /// It is done already: success without effect. To a Close: Try was done.
    Stay,
    /// A Cancel or Close came first: refuse the Try for good. To a Close: there is no Try.
    Suspended,
    /// The opposite was done: somebody is wrong; refuse and raise the alarm.
    Conflict,
    /// There is nothing to confirm: refuse, write nothing, raise the alarm.
    NoTry,
}

/// The decision for every cell of the table.
#[must_use]
pub const fn decide(row: Option<Fence>, call: Call) -> Step {
    match (row, call) {
        (None, Call::Try) => Step::Enter(Fence::Tried),
        (None, Call::Cancel | Call::Close) => Step::Enter(Fence::Suspended),
        (None, Call::Confirm) => Step::NoTry,
        (Some(Fence::Tried), Call::Confirm) => Step::Enter(Fence::Confirmed),
        (Some(Fence::Tried), Call::Cancel) => Step::Enter(Fence::Cancelled),
        (Some(Fence::Tried | Fence::Confirmed), Call::Try | Call::Close)
        | (Some(Fence::Confirmed), Call::Confirm)
        | (Some(Fence::Cancelled | Fence::Suspended), Call::Cancel) => Step::Stay,
        (Some(Fence::Cancelled | Fence::Suspended), Call::Try | Call::Close) => Step::Suspended,
        (Some(Fence::Confirmed), Call::Cancel)
        | (Some(Fence::Cancelled | Fence::Suspended), Call::Confirm) => Step::Conflict,
    }
}
