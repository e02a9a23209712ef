//! The life of an order, without IO.
//!
//! | state | place | fail | cancel | cancel done | cancel undone | ship |
//! |---|---|---|---|---|---|---|
//! | placing | placed | failed | — | — | — | — |
//! | placed | — | — | cancelling | — | — | shipped |
//! | cancelling | — | — | — | cancelled | placed | — |
//! | shipped, cancelled, failed | — | — | — | — | — | — |
//!
//! *Placing* and *cancelling* last as long as their transaction is undecided: its commit is *place*
//! or *cancel done*, its abort *fail* or *cancel undone*. An order that waits for an online payment
//! would be another state between placing and placed.
//!
//! Invariants:
//!
//! - ORDER-2: a state is left only along the table, and shipped, cancelled and failed never.
//! - An order that shipped was placed and was not being cancelled when it did.

/// Where an order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Its transaction is undecided.
    Placing,
    /// It is to be shipped.
    Placed,
    /// A transaction that cancels it is undecided.
    Cancelling,
    /// It was cancelled before it shipped.
    Cancelled,
    /// It is on its way.
    Shipped,
    /// It could not be placed; nothing came of it.
    Failed,
}

/// What happens to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The transaction that places it is committed.
    Place,
    /// It is aborted.
    Fail,
    /// A transaction that cancels it begins.
    Cancel,
    /// That is committed.
    CancelDone,
    /// That is aborted.
    CancelUndone,
    /// The warehouse shipped it.
    Ship,
}

impl State {
    /// All states.
    pub const ALL: [Self; 6] = [
        Self::Placing,
        Self::Placed,
        Self::Cancelling,
        Self::Cancelled,
        Self::Shipped,
        Self::Failed,
    ];

    /// The state after `step`; `None` when it cannot happen here.
    #[must_use]
    pub const fn after(self, step: Step) -> Option<Self> {
        match (self, step) {
            (Self::Placing, Step::Place) | (Self::Cancelling, Step::CancelUndone) => {
                Some(Self::Placed)
            }
            (Self::Placing, Step::Fail) => Some(Self::Failed),
            (Self::Placed, Step::Cancel) => Some(Self::Cancelling),
            (Self::Cancelling, Step::CancelDone) => Some(Self::Cancelled),
            (Self::Placed, Step::Ship) => Some(Self::Shipped),
            _ => None,
        }
    }

    /// Whether it is never left.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Cancelled | Self::Shipped | Self::Failed)
    }

    /// As it is in the table and in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Placing => "placing",
            Self::Placed => "placed",
            Self::Cancelling => "cancelling",
            Self::Cancelled => "cancelled",
            Self::Shipped => "shipped",
            Self::Failed => "failed",
        }
    }

    /// From its text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == text)
    }
}

impl Step {
    /// All steps.
    pub const ALL: [Self; 6] =
        [Self::Place, Self::Fail, Self::Cancel, Self::CancelDone, Self::CancelUndone, Self::Ship];

    /// As it is in the event log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Place => "place",
            Self::Fail => "fail",
            Self::Cancel => "cancel",
            Self::CancelDone => "cancel-done",
            Self::CancelUndone => "cancel-undone",
            Self::Ship => "ship",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn final_states_are_never_left_and_others_can_be() {
        for state in State::ALL {
            let open = Step::ALL.iter().any(|it| state.after(*it).is_some());
            assert_eq!(open, !state.is_final(), "{state:?}");
            assert_eq!(State::parse(state.as_str()), Some(state));
        }
    }

    proptest! {
        /// ORDER-2: whatever is tried, an order ships only from placed, and only once.
        #[test]
        fn any_history_follows_the_table(steps in prop::collection::vec(0_usize..6, 0..40)) {
            let mut state = State::Placing;
            let mut history = vec![state];
            for step in steps {
                if let Some(next) = state.after(Step::ALL[step]) {
                    prop_assert!(!state.is_final());
                    prop_assert_ne!(next, state);
                    prop_assert!(next != State::Shipped || state == State::Placed);
                    prop_assert!(next != State::Cancelled || state == State::Cancelling);
                    state = next;
                    history.push(state);
                }
            }
            prop_assert!(history.iter().filter(|it| it.is_final()).count() <= 1);
        }
    }
}
