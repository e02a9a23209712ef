//! What is read of the database.

use tradewind::base::Timestamp;
use tradewind::sql::{self, Database, Row, Transaction, TransactionError, params};

/// Reads accounts and their ledgers. Clones share the database.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    database: Database,
}

/// An account. Who never earned anything has none and is shown with nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) balance: i64,
    /// Credits that are noted and not settled.
    pub(crate) pending: i64,
}

/// A row of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: i64,
    pub(crate) order_id: String,
    pub(crate) kind: String,
    pub(crate) amount: i64,
    pub(crate) xid: String,
    pub(crate) at: Timestamp,
}

/// Why the database gave no answer.
pub(crate) type StoreError = TransactionError<sql::Error>;

const BALANCE: &str = "SELECT balance FROM account WHERE user_id = ?";
/// MySQL's SUM is a decimal.
const PENDING: &str = "SELECT CAST(COALESCE(SUM(points), 0) AS SIGNED) FROM pending \
     WHERE user_id = ? AND kind = 'credit'";
const TOTAL: &str = "SELECT COUNT(*) FROM ledger WHERE user_id = ?";
const PAGE: &str = "SELECT id, order_id, kind, amount, xid, at_ms FROM ledger \
     WHERE user_id = ? ORDER BY id DESC LIMIT ? OFFSET ?";

impl Store {
    pub(crate) const fn new(database: Database) -> Self {
        Self { database }
    }

    pub(crate) async fn account(&self, user: String) -> Result<Account, StoreError> {
        let read = move |tx: &mut Transaction<'_>| {
            let number = |row: &Row| row.get::<i64>(0);
            let balance = tx.query_one(BALANCE, params![&user], number)?.unwrap_or(0);
            let pending = tx.query_one(PENDING, params![&user], number)?.unwrap_or(0);
            Ok(Account { balance, pending })
        };
        self.database.read("account", read).await
    }

    /// A page of the ledger, the newest first, and how many rows there are: one snapshot.
    pub(crate) async fn ledger(
        &self,
        user: String,
        (size, offset): (i64, i64),
    ) -> Result<(Vec<Entry>, i64), StoreError> {
        let read = move |tx: &mut Transaction<'_>| {
            let total = tx.query_one(TOTAL, params![&user], |row| row.get(0))?.unwrap_or(0);
            Ok((tx.query(PAGE, params![&user, size, offset], entry)?, total))
        };
        self.database.read("ledger", read).await
    }
}

fn entry(row: &Row) -> Result<Entry, sql::Error> {
    Ok(Entry {
        id: row.get(0)?,
        order_id: row.get(1)?,
        kind: row.get(2)?,
        amount: row.get(3)?,
        xid: row.get(4)?,
        at: row.get(5)?,
    })
}
