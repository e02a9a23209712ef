//! What is read of the database.

use tradewind::base::{Timestamp, TraceContext};
use tradewind::sql::{self, Database, Row, Transaction, TransactionError, params};

use crate::placed::Line;

/// Reads outbound orders. Clones share the database.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    database: Database,
}

/// An outbound order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outbound {
    pub(crate) order_id: String,
    pub(crate) state: String,
    /// What came with `order.placed`, if it came.
    pub(crate) contents: Option<Contents>,
    /// The transaction that voids or voided it.
    pub(crate) void_xid: Option<String>,
    pub(crate) shipped: Option<Timestamp>,
}

/// What came with `order.placed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) user_id: String,
    pub(crate) address: String,
    pub(crate) lines: Vec<Line>,
    pub(crate) total_cents: i64,
    pub(crate) message_id: String,
    pub(crate) xid: Option<String>,
    pub(crate) trace: Option<TraceContext>,
    pub(crate) received: Timestamp,
    pub(crate) ship_after: Timestamp,
}

/// Why the database gave no answer.
pub(crate) type StoreError = TransactionError<sql::Error>;

const BY_ID: &str = "SELECT order_id, state, void_xid, shipped_ms, received_ms, ship_after_ms, \
     user_id, address, items, total_cents, message_id, placed_xid, trace \
     FROM outbound WHERE order_id = ?";
const PAGE: &str = "SELECT order_id, state, void_xid, shipped_ms, received_ms, ship_after_ms, \
     user_id, address, items, total_cents, message_id, placed_xid, trace \
     FROM outbound WHERE ? = '' OR state = ? ORDER BY order_id DESC LIMIT ? OFFSET ?";
const TOTAL: &str = "SELECT COUNT(*) FROM outbound WHERE ? = '' OR state = ?";

impl Store {
    pub(crate) const fn new(database: Database) -> Self {
        Self { database }
    }

    pub(crate) async fn find(&self, order: String) -> Result<Option<Outbound>, StoreError> {
        let read = move |tx: &mut Transaction<'_>| tx.query_one(BY_ID, params![&order], outbound);
        self.database.read("outbound", read).await
    }

    /// A page of those in `state` (empty: in any), the newest order first, and how many there are:
    /// one snapshot.
    pub(crate) async fn page(
        &self,
        state: String,
        (size, offset): (i64, i64),
    ) -> Result<(Vec<Outbound>, i64), StoreError> {
        let read = move |tx: &mut Transaction<'_>| {
            let total = tx.query_one(TOTAL, params![&state, &state], |row| row.get(0))?;
            let rows = tx.query(PAGE, params![&state, &state, size, offset], outbound)?;
            Ok((rows, total.unwrap_or(0)))
        };
        self.database.read("outbound page", read).await
    }
}

fn outbound(row: &Row) -> Result<Outbound, sql::Error> {
    let received: Option<Timestamp> = row.get(4)?;
    let contents = received.map(|received| contents(row, received)).transpose()?;
    Ok(Outbound {
        order_id: row.get(0)?,
        state: row.get(1)?,
        contents,
        void_xid: row.get(2)?,
        shipped: row.get(3)?,
    })
}

fn contents(row: &Row, received: Timestamp) -> Result<Contents, sql::Error> {
    let (items, trace): (String, Option<String>) = (row.get(8)?, row.get(12)?);
    Ok(Contents {
        user_id: row.get(6)?,
        address: row.get(7)?,
        // Written by this service; what was changed by hand is shown as nothing.
        lines: serde_json::from_str(&items).unwrap_or_default(),
        total_cents: row.get(9)?,
        message_id: row.get(10)?,
        xid: row.get(11)?,
        trace: trace.as_deref().and_then(TraceContext::parse),
        received,
        ship_after: row.get(5)?,
    })
}
