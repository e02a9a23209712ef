//! What the buyers were told.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::machine::shopping::Line;

/// What a buyer was last told about an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Told {
    /// It is placed, and this is its id.
    Accepted(String),
    /// It will not be, with this code.
    Refused(String),
    /// Nothing that is definite; this came last.
    Unknown(String),
}

/// What a buyer was last told about a cancellation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Cancelling {
    /// It was never asked for.
    Never,
    /// The order is cancelled.
    Cancelled,
    /// It had shipped.
    TooLate,
    /// Nothing that is definite; this came last.
    Unknown(String),
}

/// One order as its buyer knows it.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Which buyer.
    pub buyer: usize,
    /// Who it is logged in as.
    pub user: String,
    /// Its idempotency key, which is also in its address.
    pub key: String,
    /// The body as it was sent, each time.
    #[serde(skip)]
    pub body: Value,
    /// What was ordered: product and quantity.
    #[serde(skip)]
    pub lines: Vec<Line>,
    /// What came of it.
    pub told: Told,
    /// The points it is to earn, as the answer said.
    pub points: i64,
    /// What came of its cancellation.
    pub cancelling: Cancelling,
    /// Requests that were sent for it.
    pub requests: u32,
    /// Whether at least one of them had no definite answer.
    pub was_unknown: bool,
    /// Whether a refusal came first and an acceptance later, both for requests in flight at once.
    pub refused_first: bool,
}

/// Everything all buyers were told.
#[derive(Debug, Default)]
pub struct Ledger {
    /// All orders.
    pub entries: Vec<Entry>,
    /// Answers that no server may give, whatever happens to it.
    pub wrong: Vec<String>,
    /// How often which indefinite answer came.
    pub unknown: BTreeMap<String, u64>,
}

/// The sums of a ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Orders that were accepted.
    pub accepted: usize,
    /// Orders that were refused for good.
    pub refused: usize,
    /// Orders of which nothing definite was learnt.
    pub unknown: usize,
    /// Orders that were unknown at first and became definite by repeating.
    pub resolved: usize,
    /// Orders that were cancelled.
    pub cancelled: usize,
    /// Orders that had shipped when they were to be cancelled.
    pub too_late: usize,
    /// Requests for all of it.
    pub requests: u64,
}

impl Ledger {
    /// Adds what another buyer was told.
    pub fn add(&mut self, other: Self) {
        self.entries.extend(other.entries);
        self.wrong.extend(other.wrong);
        for (what, count) in other.unknown {
            *self.unknown.entry(what).or_default() += count;
        }
    }

    /// The orders that were accepted, with their ids.
    pub fn accepted(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().filter_map(|it| match &it.told {
            Told::Accepted(id) => Some((id.as_str(), it)),
            Told::Refused(_) | Told::Unknown(_) => None,
        })
    }

    /// The sums.
    #[must_use]
    pub fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for it in &self.entries {
            match &it.told {
                Told::Accepted(_) => sums.accepted += 1,
                Told::Refused(_) => sums.refused += 1,
                Told::Unknown(_) => sums.unknown += 1,
            }
            sums.resolved += usize::from(it.was_unknown && !matches!(it.told, Told::Unknown(_)));
            sums.cancelled += usize::from(it.cancelling == Cancelling::Cancelled);
            sums.too_late += usize::from(it.cancelling == Cancelling::TooLate);
            sums.requests += u64::from(it.requests);
        }
        sums
    }
}
