//! The rows of stock, flow and reservation, as the branches write them.

use tradewind::base::id::Xid;
use tradewind::base::{Timestamp, fault};
use tradewind::sql::{Error, Transaction, params};
use tradewind::transaction::{BranchError, Call};

/// A kind of row of `stock_flow`, and what it changes for each piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Freeze,
    Sale,
    Release,
    Restock,
}

/// One line of a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) product_id: i64,
    pub(super) quantity: i64,
    pub(super) state: String,
    pub(super) reference: String,
    /// The transaction that gives it back, and whether it has.
    pub(super) restock_xid: Option<String>,
    pub(super) restocked: bool,
    xid: String,
    branch: u16,
}

const FREEZE: &str = "UPDATE stock SET frozen = frozen + ?, version = version + 1 \
     WHERE product_id = ? AND ? <= on_hand - frozen";
const FREEZE_FENCED: &str = "UPDATE stock SET frozen = frozen + ?, version = version + 1, fence = ? \
     WHERE product_id = ? AND ? <= on_hand - frozen AND fence <= ?";
/// The bug `stock-without-predicate`: it takes what it is asked for, and keeps within the CHECK.
const FREEZE_BLINDLY: &str = "UPDATE stock SET version = version + 1, \
     frozen = CASE WHEN on_hand < frozen + ? THEN on_hand ELSE frozen + ? END WHERE product_id = ?";
const CHANGE: &str = "UPDATE stock SET on_hand = on_hand + ?, frozen = frozen + ?, \
     version = version + 1 WHERE product_id = ? AND 0 <= frozen + ? AND 0 <= on_hand + ?";
const FLOW: &str = "INSERT INTO stock_flow (product_id, kind, on_hand_change, frozen_change, \
     on_hand_after, frozen_after, reference, at_ms, token, fence_after) \
     SELECT product_id, ?, ?, ?, on_hand, frozen, ?, ?, ?, fence FROM stock WHERE product_id = ?";
const INSERT: &str = "INSERT INTO reservation (xid, branch, product_id, order_id, quantity, state, \
     reference, created_at_ms, updated_at_ms) VALUES (?, ?, ?, ?, ?, 'frozen', ?, ?, ?)";
const END: &str = "UPDATE reservation SET state = ?, updated_at_ms = ? \
     WHERE xid = ? AND branch = ? AND product_id = ? AND state = 'frozen'";
const OF_BRANCH: &str = "SELECT product_id, quantity, state, reference, restock_xid, restocked, \
     xid, branch FROM reservation WHERE xid = ? AND branch = ? ORDER BY product_id";
const OF_ORDER: &str = "SELECT product_id, quantity, state, reference, restock_xid, restocked, \
     xid, branch FROM reservation WHERE order_id = ? ORDER BY product_id, created_at_ms, xid";
const MARK: &str = "UPDATE reservation SET restock_xid = ?, updated_at_ms = ? \
     WHERE xid = ? AND branch = ? AND product_id = ? AND state = 'confirmed' \
     AND restock_xid IS NULL AND restocked = 0";
const UNMARK: &str = "UPDATE reservation SET restock_xid = NULL, updated_at_ms = ? \
     WHERE order_id = ? AND restock_xid = ? AND restocked = 0";
const RESTOCKED: &str = "UPDATE reservation SET restocked = 1, updated_at_ms = ? \
     WHERE xid = ? AND branch = ? AND product_id = ? AND restock_xid = ? AND restocked = 0";

impl Flow {
    const fn name(self) -> &'static str {
        match self {
            Self::Freeze => "freeze",
            Self::Sale => "sale",
            Self::Release => "release",
            Self::Restock => "restock",
        }
    }

    /// By how much on hand and frozen change.
    const fn changes(self, quantity: i64) -> (i64, i64) {
        match self {
            Self::Freeze => (0, quantity),
            Self::Sale => (-quantity, -quantity),
            Self::Release => (0, -quantity),
            Self::Restock => (quantity, 0),
        }
    }
}

/// Freezes `quantity` if there is as much; `false` when there is not, or the token is overtaken.
pub(super) fn freeze(
    tx: &mut Transaction<'_>,
    product: i64,
    quantity: i64,
    token: Option<i64>,
) -> Result<bool, Error> {
    let done = match token {
        _ if fault::bug("stock-without-predicate") => {
            tx.execute(FREEZE_BLINDLY, params![quantity, quantity, product])?
        }
        None => tx.execute(FREEZE, params![quantity, product, quantity])?,
        Some(token) => {
            tx.execute(FREEZE_FENCED, params![quantity, token, product, quantity, token])?
        }
    };
    Ok(done == 1)
}

/// Remembers what [`freeze`] did, and with which token.
pub(super) fn reserved(
    tx: &mut Transaction<'_>,
    call: &Call,
    order_id: &str,
    (product, quantity): (i64, i64),
    token: Option<i64>,
) -> Result<(), Error> {
    let (xid, now) = (call.xid.to_string(), call.now);
    let reference = format!("{xid}/{}", call.branch);
    let it = params![xid, call.branch, product, order_id, quantity, reference.as_str(), now, now];
    tx.execute(INSERT, it)?;
    flow(tx, Flow::Freeze, (product, quantity), &reference, token, now)
}

/// The lines of a branch, by product.
pub(super) fn of_branch(tx: &mut Transaction<'_>, call: &Call) -> Result<Vec<Line>, Error> {
    tx.query(OF_BRANCH, params![call.xid.to_string(), call.branch], line)
}

/// The lines of an order, by product, whatever transaction they are of.
pub(super) fn of_order(tx: &mut Transaction<'_>, order_id: &str) -> Result<Vec<Line>, Error> {
    tx.query(OF_ORDER, params![order_id], line)
}

/// Ends a frozen line as sold or released.
pub(super) fn end(
    tx: &mut Transaction<'_>,
    line: &Line,
    kind: Flow,
    now: Timestamp,
) -> Result<(), BranchError> {
    let state = if kind == Flow::Sale { "confirmed" } else { "released" };
    change(tx, line, kind, now)?;
    let key = params![state, now, line.xid.as_str(), line.branch, line.product_id];
    expect_one(tx.execute(END, key)?, "a reservation ended twice")
}

/// Makes a confirmed line the one that `by` gives back.
pub(super) fn mark(tx: &mut Transaction<'_>, line: &Line, by: &Call) -> Result<bool, Error> {
    let (xid, now) = (by.xid.to_string(), by.now);
    let it = params![xid, now, line.xid.as_str(), line.branch, line.product_id];
    Ok(tx.execute(MARK, it)? == 1)
}

/// Undoes [`mark`] on all lines of the order.
pub(super) fn unmark(
    tx: &mut Transaction<'_>,
    order_id: &str,
    by: Xid,
    now: Timestamp,
) -> Result<(), Error> {
    tx.execute(UNMARK, params![now, order_id, by.to_string()]).map(drop)
}

/// Gives a marked line back.
pub(super) fn restock(
    tx: &mut Transaction<'_>,
    line: &Line,
    by: Xid,
    now: Timestamp,
) -> Result<(), BranchError> {
    change(tx, line, Flow::Restock, now)?;
    let by = by.to_string();
    let it = params![now, line.xid.as_str(), line.branch, line.product_id, by];
    expect_one(tx.execute(RESTOCKED, it)?, "a reservation was given back twice")
}

fn change(
    tx: &mut Transaction<'_>,
    line: &Line,
    kind: Flow,
    now: Timestamp,
) -> Result<(), BranchError> {
    let (product, (on_hand, frozen)) = (line.product_id, kind.changes(line.quantity));
    let done = tx.execute(CHANGE, params![on_hand, frozen, product, frozen, on_hand])?;
    expect_one(done, "stock has less than was reserved")?;
    // Of all steps only the Try holds a lock.
    Ok(flow(tx, kind, (product, line.quantity), &line.reference, None, now)?)
}

fn flow(
    tx: &mut Transaction<'_>,
    kind: Flow,
    (product, quantity): (i64, i64),
    reference: &str,
    token: Option<i64>,
    now: Timestamp,
) -> Result<(), Error> {
    let (on_hand, frozen) = kind.changes(quantity);
    let it = params![kind.name(), on_hand, frozen, reference, now, token, product];
    tx.execute(FLOW, it).map(drop)
}

/// What must not be is repeated and seen by a human; nothing of it is written.
fn expect_one(rows: u64, otherwise: &'static str) -> Result<(), BranchError> {
    if rows == 1 { Ok(()) } else { Err(BranchError::Failed(otherwise.into())) }
}

fn line(row: &tradewind::sql::Row) -> Result<Line, Error> {
    Ok(Line {
        product_id: row.get(0)?,
        quantity: row.get(1)?,
        state: row.get(2)?,
        reference: row.get(3)?,
        restock_xid: row.get(4)?,
        restocked: row.get::<i64>(5)? == 1,
        xid: row.get(6)?,
        branch: row.get(7)?,
    })
}
