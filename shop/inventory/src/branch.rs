//! Taking part in orders: the branches `inventory.reserve` and `inventory.restock`.
//!
//! | action | Try | Confirm | Cancel |
//! |---|---|---|---|
//! | `inventory.reserve` | freezes each line, or refuses | on hand and frozen − quantity, flow `sale` | frozen − quantity, flow `release` |
//! | `inventory.restock` | marks the order's confirmed reservations as its own | on hand + quantity, flow `restock` | unmarks them |
//!
//! Rows are touched in the order of product ids, in every step of both, so that two orders never
//! wait for each other in a circle. Every write carries its predicate: the stock that must be
//! there, the state that a reservation must have.

mod locking;
mod reserve;
mod restock;
mod rows;

use std::sync::Arc;
use std::time::Duration;

use tradewind::base::{Clock, Tasks};
use tradewind::lock::{ConfigError, LockConfig, SqlLocks};
use tradewind::service::config::Setting;
use tradewind::sql::Database;
use tradewind::transaction::Participants;

use locking::Locking;
pub use reserve::{Item, Reserve};
pub use restock::Restock;

/// Most lines of one reservation.
pub const LINES_MAX: usize = 100;
/// Most pieces of one line.
pub const QUANTITY_MAX: i64 = 1_000_000;

/// Whether the Try of a reservation takes a lock on its products first.
///
/// Stock is right either way: the conditional update keeps it so. A lock shapes the load on hot
/// products, at the price of two more local transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LockKind {
    /// None.
    #[default]
    None,
    /// Leases in the service's own database; the fencing token goes into the update.
    Sql,
}

impl Setting for LockKind {
    const EXPECTED: &'static str = "none or sql";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "sql" => Ok(Self::Sql),
            other => Err(format!("`{other}` is no kind of lock")),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::Sql => "sql".to_owned(),
        }
    }
}

/// How long a Try waits for the locks of its products.
const LOCK_WAIT: Duration = Duration::from_millis(500);

/// The branches over `database`.
pub(crate) fn participants(
    database: &Database,
    lock: LockKind,
    clock: &Arc<dyn Clock>,
    tasks: &Tasks,
) -> Result<Participants, ConfigError> {
    let locking = match lock {
        LockKind::None => Locking::none(),
        LockKind::Sql => {
            let (database, clock) = (database.clone(), Arc::clone(clock));
            Locking::sql(SqlLocks::new(database, LockConfig::default(), clock, tasks)?)
        }
    };
    Ok(Participants::new(database.clone(), Arc::clone(clock))
        .with(reserve::Stock::new(locking))
        .with(restock::Returns))
}

#[cfg(test)]
mod tests;
