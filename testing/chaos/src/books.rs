//! Looks into the databases of an estate, read-only: what is still open.

use tradewind_e2e::Estate;

use crate::run::Decider;

/// What may not be left when everything has settled: of which server, what, and how many.
const OPEN: &[(&str, &str, &str)] = &[
    ("order", "open transactions", "SELECT COUNT(*) FROM tradewind_tcc WHERE phase NOT IN (4, 5)"),
    (
        "order",
        "orders that are not at their end",
        "SELECT COUNT(*) FROM order_header WHERE state IN ('placing', 'placed', 'cancelling')",
    ),
    ("inventory", "reservations", "SELECT COUNT(*) FROM tradewind_fence WHERE status = 1"),
    ("points", "reservations", "SELECT COUNT(*) FROM tradewind_fence WHERE status = 1"),
    ("warehouse", "reservations", "SELECT COUNT(*) FROM tradewind_fence WHERE status = 1"),
    ("warehouse", "orders to ship", "SELECT COUNT(*) FROM outbound WHERE state = 'received'"),
    ("warehouse", "unsent messages", "SELECT COUNT(*) FROM message_outbox"),
    ("broker", "reservations", "SELECT COUNT(*) FROM branch_fence WHERE state = 1"),
    ("broker", "undecided messages", "SELECT COUNT(*) FROM message WHERE state IN (1, 4)"),
    ("broker", "deliveries", "SELECT COUNT(*) FROM delivery"),
];

/// The same of the coordinator, where it decides.
const OPEN_AT_COORDINATOR: &[(&str, &str, &str)] = &[(
    "coordinator",
    "open transactions",
    "SELECT COUNT(*) FROM tradewind_tcc WHERE phase NOT IN (4, 5)",
)];

/// What may not be there at all: nothing in a run is wrong with any message.
const NEVER: &[(&str, &str, &str)] = &[
    ("broker", "dead letters", "SELECT COUNT(*) FROM dead_letter"),
    ("order", "transactions for a human", "SELECT COUNT(*) FROM tradewind_tcc WHERE stuck = 1"),
];

/// The same of the coordinator.
const NEVER_AT_COORDINATOR: &[(&str, &str, &str)] = &[(
    "coordinator",
    "transactions for a human",
    "SELECT COUNT(*) FROM tradewind_tcc WHERE stuck = 1",
)];

/// What is still to be done, in words.
#[must_use]
pub fn open(estate: &Estate, decider: Decider) -> Vec<String> {
    let mut open = found(estate, OPEN);
    if decider == Decider::Coordinator {
        open.extend(found(estate, OPEN_AT_COORDINATOR));
    }
    open
}

/// What should not have come about, in words.
#[must_use]
pub fn wrong(estate: &Estate, decider: Decider) -> Vec<String> {
    let mut wrong = found(estate, NEVER);
    if decider == Decider::Coordinator {
        wrong.extend(found(estate, NEVER_AT_COORDINATOR));
    }
    wrong
}

fn found(estate: &Estate, questions: &[(&str, &str, &str)]) -> Vec<String> {
    let ask = |(server, what, sql): &(&str, &str, &str)| match estate.number(server, sql) {
        Ok(0) => None,
        Ok(count) => Some(format!("{server}: {count} {what}")),
        Err(error) => Some(format!("{server}: {error:#}")),
    };
    questions.iter().filter_map(ask).collect()
}
