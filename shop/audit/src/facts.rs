//! What the databases say, as the checks see it.

use tradewind::audit::Invariant;
use tradewind::transaction::wire::coordinator::OWN_BRANCH;
use tradewind_order::machine::State;

/// What was decided about a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing yet.
    Open,
    /// To do it.
    Committed,
    /// Not to do it.
    Aborted,
}

/// How far a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// What was decided.
    pub decision: Decision,
    /// Whether every branch has done its part.
    pub over: bool,
}

/// How far a transaction is by its row in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Undecided.
    Trying,
    /// Committed, and the branches are told.
    Committing,
    /// Aborted, and the branches are told.
    Aborting,
    /// Committed, and every branch has answered.
    Committed,
    /// Aborted, and every branch has answered.
    Aborted,
}

/// The cause of everything else: an order, with what the log says of its transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub user_id: String,
    /// How far it is.
    pub state: State,
    /// What it earns.
    pub points: i64,
    /// The transaction that places it.
    pub xid: String,
    /// The last transaction that cancels it.
    pub cancel_xid: Option<String>,
    /// When it was begun, in milliseconds since the epoch.
    pub created_ms: i64,
    /// Product and quantity of each line.
    pub lines: Vec<(i64, i64)>,
    /// The log's row of the placing; cleaned a day after its end.
    pub placing: Option<Phase>,
    /// The log's row of the cancelling.
    pub cancelling: Option<Phase>,
    /// Whether the log could be read: without it nothing is known to be over.
    pub log_known: bool,
}

/// What other services have of one order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// In the warehouse.
    pub outbound: Option<Outbound>,
    /// Whether the warehouse's outbox has the message that it shipped.
    pub in_outbox: bool,
    /// In the broker.
    pub messages: Vec<Message>,
    /// In the points ledger.
    pub ledger: Vec<Entry>,
    /// What points has noted and not settled.
    pub pending: Vec<Pending>,
    /// In inventory.
    pub reservations: Vec<Reserved>,
}

/// An outbound order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// How far it is.
    pub state: OutboundState,
    /// Product and quantity of each line; `None` when its message has not come.
    pub lines: Option<Vec<(i64, i64)>>,
    /// The transaction that voids it.
    pub void_xid: Option<String>,
}

/// How far an outbound order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboundState {
    /// To be shipped.
    Received,
    /// Held back by an undecided cancellation.
    Voiding,
    /// Will never ship.
    Void,
    /// Has shipped.
    Shipped,
}

/// A message about an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its id, in hexadecimal digits.
    pub id: String,
    /// What it tells.
    pub topic: Topic,
    /// How far it is.
    pub state: MessageState,
    /// The transaction whose decision it follows.
    pub xid: Option<String>,
}

/// What a message tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// That an order is placed.
    Placed,
    /// That it shipped.
    Shipped,
}

/// How far a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageState {
    /// Undecided.
    Prepared,
    /// Committed; deliveries or dead letters are open.
    Committed,
    /// Rolled back.
    Cancelled,
    /// Undecided, and nobody is asked any more.
    ParkedUndecided,
    /// Committed, and nobody subscribes.
    ParkedUnrouted,
    /// Everybody has it.
    Done,
}

/// A row of the points ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whether it takes points back.
    pub revoke: bool,
    /// Whose.
    pub user_id: String,
    /// How many; negative when they are taken back.
    pub amount: i64,
    /// The transaction.
    pub xid: String,
}

/// A note that is not settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Whether it takes points back.
    pub revoke: bool,
    /// The transaction.
    pub xid: String,
}

/// A line of a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// The transaction.
    pub xid: String,
    /// What.
    pub product: i64,
    /// How many.
    pub quantity: i64,
    /// How far it is.
    pub state: ReservedState,
    /// The transaction that gives it back.
    pub restock_xid: Option<String>,
    /// Whether it is given back.
    pub restocked: bool,
}

/// How far a reservation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservedState {
    /// Undecided.
    Frozen,
    /// Sold.
    Confirmed,
    /// Given up.
    Released,
}

/// A row of a fence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Whose table it is in.
    pub service: &'static str,
    /// The number of the branch.
    pub branch: u16,
    /// Who decides.
    pub initiator: String,
    /// What was done.
    pub status: FenceStatus,
    /// When that was, in milliseconds since the epoch; when it was tried, for `Tried`.
    pub changed_ms: i64,
}

impl Fence {
    /// Whether it is the branch of the service that initiates, where a coordinator decides: it is
    /// there before the coordinator hears of its transaction, and is taken back without asking when
    /// nothing was sent there.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.branch == OWN_BRANCH && self.initiator != self.service
    }
}

/// What was done with a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FenceStatus {
    /// Reserved.
    Tried,
    /// Confirmed.
    Committed,
    /// Cancelled.
    RolledBack,
    /// Cancelled, or closed, before it was tried.
    Suspended,
}

/// A row of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The service that keeps the log.
    pub service: &'static str,
    /// The name of the transaction; empty for the tombstone of one that was asked about before it
    /// began.
    pub name: String,
    /// How far it is.
    pub phase: Phase,
    /// Until when it has to be decided.
    pub deadline_ms: i64,
    /// When it began.
    pub begun_ms: i64,
    /// When it is looked at next.
    pub due_ms: Option<i64>,
    /// Whether it is on the list for a human.
    pub stuck: bool,
    /// How often it changed.
    pub version: i64,
    /// Whether it is committed as soon as it is tried, and closed at its deadline.
    pub implied: bool,
    /// The branches that have answered the decision.
    pub answered: Vec<u16>,
}

/// Something that breaks an invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub invariant: &'static Invariant,
    /// What is wrong, with the ids to look it up.
    pub row: String,
}

impl Phase {
    /// From its number in the table.
    #[must_use]
    pub const fn of(number: i64) -> Option<Self> {
        match number {
            1 => Some(Self::Trying),
            2 => Some(Self::Committing),
            3 => Some(Self::Aborting),
            4 => Some(Self::Committed),
            5 => Some(Self::Aborted),
            _ => None,
        }
    }

    /// What it says of the transaction.
    #[must_use]
    pub const fn fate(self) -> Fate {
        match self {
            Self::Trying => Fate { decision: Decision::Open, over: false },
            Self::Committing => Fate { decision: Decision::Committed, over: false },
            Self::Aborting => Fate { decision: Decision::Aborted, over: false },
            Self::Committed => Fate { decision: Decision::Committed, over: true },
            Self::Aborted => Fate { decision: Decision::Aborted, over: true },
        }
    }
}

impl Order {
    /// What became of placing it: by the log, or by the order itself when the log's row is cleaned,
    /// which happens to finished transactions only.
    #[must_use]
    pub fn placing(&self) -> Fate {
        if let Some(phase) = self.placing {
            return phase.fate();
        }
        match self.state {
            State::Placing => Fate { decision: Decision::Open, over: false },
            State::Failed => Fate { decision: Decision::Aborted, over: self.log_known },
            State::Placed | State::Cancelling | State::Cancelled | State::Shipped => {
                Fate { decision: Decision::Committed, over: self.log_known }
            }
        }
    }

    /// What became of the last attempt to cancel it.
    #[must_use]
    pub fn cancelling(&self) -> Option<Fate> {
        self.cancel_xid.as_ref()?;
        if let Some(phase) = self.cancelling {
            return Some(phase.fate());
        }
        Some(match self.state {
            State::Cancelling => Fate { decision: Decision::Open, over: false },
            State::Cancelled => Fate { decision: Decision::Committed, over: self.log_known },
            State::Placing | State::Placed | State::Shipped | State::Failed => {
                Fate { decision: Decision::Aborted, over: self.log_known }
            }
        })
    }
}

impl MessageState {
    /// From its number in the table.
    #[must_use]
    pub const fn of(number: i64) -> Self {
        match number {
            1 => Self::Prepared,
            2 => Self::Committed,
            3 => Self::Cancelled,
            5 => Self::ParkedUnrouted,
            6 => Self::Done,
            _ => Self::ParkedUndecided,
        }
    }

    /// Whether its transaction is said to be committed.
    #[must_use]
    pub const fn is_committed(self) -> bool {
        matches!(self, Self::Committed | Self::ParkedUnrouted | Self::Done)
    }
}

impl FenceStatus {
    /// From its number in the table.
    #[must_use]
    pub const fn of(number: i64) -> Option<Self> {
        match number {
            1 => Some(Self::Tried),
            2 => Some(Self::Committed),
            3 => Some(Self::RolledBack),
            4 => Some(Self::Suspended),
            _ => None,
        }
    }
}
