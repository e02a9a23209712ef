//! The invariants of what every service has in common: transactions and messages.

use crate::Invariant;

/// TX-1.
pub const TX_1: Invariant = Invariant {
    number: "TX-1",
    statement: "every branch of a transaction, and what it did, agrees with the decision",
};
/// TX-2.
pub const TX_2: Invariant = Invariant {
    number: "TX-2",
    statement: "every transaction ends within its limit, or is on the list for a human",
};
/// TX-3.
pub const TX_3: Invariant =
    Invariant { number: "TX-3", statement: "no branch is both confirmed and cancelled" };
/// TX-4.
pub const TX_4: Invariant = Invariant {
    number: "TX-4",
    statement: "nothing stays reserved without a transaction that is still open",
};
/// MSG-1.
pub const MSG_1: Invariant = Invariant {
    number: "MSG-1",
    statement: "every committed message is delivered, in retry, parked or a dead letter",
};
/// MSG-2.
pub const MSG_2: Invariant =
    Invariant { number: "MSG-2", statement: "a delivered message has its effect, once" };
/// MSG-3.
pub const MSG_3: Invariant = Invariant {
    number: "MSG-3",
    statement: "no message is delivered whose transaction was rolled back or is undecided",
};
