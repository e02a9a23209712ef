//! Messages, deliveries and subscriptions in the database: every change a compare-and-set whose
//! decision comes from the [`crate::machine`].

mod branches;
mod cleaning;
mod deliveries;
mod looking;
mod messages;
pub(crate) mod schema;
mod subscriptions;
#[cfg(test)]
mod tests;

use tradewind_base::id::Xid;
use tradewind_message::wire::{MessageId, State};
use tradewind_sql::{Database, Error, Row, Transaction, TransactionError, params};

pub(crate) use branches::{Branch, BranchError};
pub(crate) use deliveries::{Claimed, Outcome, Seen, Settled};
pub(crate) use looking::{DeadLetter, Detail};
pub(crate) use messages::{Changed, MessageError, NewMessage, Question};
pub(crate) use subscriptions::{Lane, SubscriptionRow};

/// The most characters of a reason that are kept.
pub(crate) const REASON_CHARS_MAX: usize = 300;

/// The broker's database.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    database: Database,
}

/// What goes wrong below the rules.
pub(crate) type StoreError = TransactionError<Error>;

/// One delivery.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) message: MessageId,
    pub(crate) subscriber: String,
}

impl Store {
    /// Takes the opened database into use.
    pub(crate) async fn new(database: Database) -> Result<Self, StoreError> {
        let first = |tx: &mut Transaction<'_>| {
            let done = tx.execute("INSERT INTO sequence (id, latest) VALUES (1, 0)", params![]);
            match done {
                Err(error) if !error.is_unique_violation() => Err(error),
                _ => Ok(()),
            }
        };
        database.transaction("prepare sequence", first).await?;
        Ok(Self { database })
    }
}

pub(crate) fn bytes(id: MessageId) -> Vec<u8> {
    id.as_u128().to_be_bytes().to_vec()
}

fn xid_bytes(id: Xid) -> Vec<u8> {
    id.as_u128().to_be_bytes().to_vec()
}

fn bits(row: &Row, at: usize) -> Result<u128, Error> {
    let bytes: Vec<u8> = row.get(at)?;
    Ok(u128::from_be_bytes(<[u8; 16]>::try_from(bytes).unwrap_or_default()))
}

fn message_id(row: &Row, at: usize) -> Result<MessageId, Error> {
    bits(row, at).map(MessageId::from_u128)
}

const fn code(state: State) -> i64 {
    match state {
        State::Prepared => 1,
        State::Committed => 2,
        State::Cancelled => 3,
        State::ParkedUndecided => 4,
        State::ParkedUnrouted => 5,
        State::Done => 6,
    }
}

/// The state of a column. Nobody but this program writes it; what it does not know it leaves alone.
const fn state(code: i64) -> State {
    match code {
        1 => State::Prepared,
        2 => State::Committed,
        3 => State::Cancelled,
        5 => State::ParkedUnrouted,
        6 => State::Done,
        _ => State::ParkedUndecided,
    }
}

/// A reason cut to what is kept.
pub(crate) fn shorten(text: &str) -> String {
    text.chars().take(REASON_CHARS_MAX).collect()
}
