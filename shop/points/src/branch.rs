//! What the service offers to transactions: crediting an order's points, and revoking them.
//!
//! | order's state here | Try of `points.credit` | Try of `points.revoke` |
//! |---|---|---|
//! | nothing | notes it | refused `points.never-credited` |
//! | credit pending | not yet (another transaction's) | not yet |
//! | credited | refused `points.already-credited` | notes it |
//! | credited, revocation pending | refused `points.already-credited` | not yet (another's) |
//! | revoked | refused `points.already-credited` | refused `points.already-revoked` |
//!
//! An order is placed only after every Try of its placing was answered, so an order of which this
//! service knows nothing was never placed: refusing to revoke is definite.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tradewind::axum::http::StatusCode;
use tradewind::base::{Problem, fault};
use tradewind::sql::{Error, Transaction, params};
use tradewind::transaction::{BranchError, Call, participant};

/// The most points one order earns.
pub const POINTS_MAX: i64 = 1_000_000_000_000;
/// The longest id of a user or an order, in characters.
pub const ID_LEN_MAX: usize = 64;

/// How long an initiator is told to wait for another transaction on the same order.
const NOT_YET: Duration = Duration::from_millis(200);

/// The payload of both actions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Award {
    /// Whose account.
    pub user_id: String,
    /// The order that earns.
    pub order_id: String,
    /// How much it earns, 0 to [`POINTS_MAX`].
    pub points: i64,
}

/// The action `points.credit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit;

/// The action `points.revoke`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoke;

const CREDIT: &str = "credit";
const REVOKE: &str = "revoke";

#[participant(action = "points.credit")]
impl Credit {
    fn reserve(
        &self,
        tx: &mut Transaction<'_>,
        call: &Call,
        it: &Award,
    ) -> Result<(), BranchError> {
        it.check()?;
        // First the note: it waits for whoever moves the order's note into the ledger just now.
        note(tx, call, CREDIT, it)?;
        if written(tx, CREDIT, it)?.is_some() {
            return Err(refused("points.already-credited", "the order has its points already"));
        }
        Ok(())
    }

    fn confirm(
        &self,
        tx: &mut Transaction<'_>,
        call: &Call,
        it: &Award,
    ) -> Result<(), BranchError> {
        take_note(tx, call, CREDIT, it)?;
        write(tx, call, CREDIT, it, it.points)?;
        if fault::bug("points-credited-twice") {
            // The ledger's key would stop a second row: what is doubled is the account.
            add(tx, it, it.points)?;
        }
        if add(tx, it, it.points)? {
            return Ok(());
        }
        let sql = "INSERT INTO account (user_id, balance, version) VALUES (?, ?, 1)";
        match tx.execute(sql, params![&it.user_id, it.points]) {
            Ok(_) => Ok(()),
            // Another order of the same new user was faster.
            Err(error) if error.is_unique_violation() => {
                if add(tx, it, it.points)? {
                    Ok(())
                } else {
                    Err(broken("the account takes no points"))
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    fn cancel(&self, tx: &mut Transaction<'_>, call: &Call, it: &Award) -> Result<(), BranchError> {
        take_note(tx, call, CREDIT, it)
    }
}

#[participant(action = "points.revoke")]
impl Revoke {
    fn reserve(
        &self,
        tx: &mut Transaction<'_>,
        call: &Call,
        it: &Award,
    ) -> Result<(), BranchError> {
        it.check()?;
        note(tx, call, REVOKE, it)?;
        // In this order: a note moves into the ledger in one step, so who finds neither note nor
        // then a ledger row knows that there was neither.
        let sql = "SELECT COUNT(*) FROM pending WHERE order_id = ? AND kind = 'credit'";
        let pending = tx.query_one(sql, params![&it.order_id], |row| row.get::<i64>(0))?;
        match written(tx, CREDIT, it)? {
            Some(credited) if credited == (it.user_id.clone(), it.points) => {}
            Some(_) => {
                let detail = "the order earned another number of points, or for another user";
                return Err(refused("points.mismatch", detail));
            }
            None if pending == Some(1) => return Err(BranchError::NotYet(NOT_YET)),
            None => {
                let detail = "the order never earned points and never will";
                return Err(refused("points.never-credited", detail));
            }
        }
        if written(tx, REVOKE, it)?.is_some() {
            return Err(refused("points.already-revoked", "the order's points are taken back"));
        }
        Ok(())
    }

    fn confirm(
        &self,
        tx: &mut Transaction<'_>,
        call: &Call,
        it: &Award,
    ) -> Result<(), BranchError> {
        take_note(tx, call, REVOKE, it)?;
        write(tx, call, REVOKE, it, -it.points)?;
        if add(tx, it, -it.points)? {
            return Ok(());
        }
        Err(broken("the balance is smaller than what is taken back"))
    }

    fn cancel(&self, tx: &mut Transaction<'_>, call: &Call, it: &Award) -> Result<(), BranchError> {
        take_note(tx, call, REVOKE, it)
    }
}

impl Award {
    fn check(&self) -> Result<(), BranchError> {
        let detail = "the points cannot be booked; see errors";
        let mut problem =
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "points.bad-award", detail);
        for (name, text) in [("user_id", &self.user_id), ("order_id", &self.order_id)] {
            let plain = text.bytes().all(|it| it.is_ascii_graphic());
            if !plain || !(1..=ID_LEN_MAX).contains(&text.len()) {
                let rule = format!("must be 1 to {ID_LEN_MAX} visible ASCII characters");
                problem = problem.field(name, rule);
            }
        }
        if !(0..=POINTS_MAX).contains(&self.points) {
            problem = problem.field("points", format!("must be from 0 to {POINTS_MAX}"));
        }
        if problem.errors.is_empty() { Ok(()) } else { Err(problem.into()) }
    }
}

fn note(tx: &mut Transaction<'_>, call: &Call, kind: &str, it: &Award) -> Result<(), BranchError> {
    let sql = "INSERT INTO pending (order_id, kind, user_id, points, xid, at_ms)
        VALUES (?, ?, ?, ?, ?, ?)";
    let values =
        params![&it.order_id, kind, &it.user_id, it.points, call.xid.to_string(), call.now];
    match tx.execute(sql, values) {
        Ok(_) => Ok(()),
        // Another transaction's, and how it ends is open.
        Err(error) if error.is_unique_violation() => Err(BranchError::NotYet(NOT_YET)),
        Err(error) => Err(error.into()),
    }
}

fn take_note(
    tx: &mut Transaction<'_>,
    call: &Call,
    kind: &str,
    it: &Award,
) -> Result<(), BranchError> {
    let sql = "DELETE FROM pending WHERE order_id = ? AND kind = ? AND xid = ?";
    if tx.execute(sql, params![&it.order_id, kind, call.xid.to_string()])? == 1 {
        return Ok(());
    }
    Err(broken("the note of the Try is gone"))
}

/// Whose ledger row of this kind the order has, and of how many points.
fn written(
    tx: &mut Transaction<'_>,
    kind: &str,
    it: &Award,
) -> Result<Option<(String, i64)>, Error> {
    let sql = "SELECT user_id, amount FROM ledger WHERE order_id = ? AND kind = ?";
    tx.query_one(sql, params![&it.order_id, kind], |row| Ok((row.get(0)?, row.get(1)?)))
}

fn write(
    tx: &mut Transaction<'_>,
    call: &Call,
    kind: &str,
    it: &Award,
    amount: i64,
) -> Result<(), Error> {
    let sql = "INSERT INTO ledger (user_id, order_id, kind, amount, xid, at_ms)
        VALUES (?, ?, ?, ?, ?, ?)";
    let xid = call.xid.to_string();
    tx.execute(sql, params![&it.user_id, &it.order_id, kind, amount, xid, call.now]).map(|_| ())
}

/// Adds to an account that exists and can bear it; says whether it did.
fn add(tx: &mut Transaction<'_>, it: &Award, amount: i64) -> Result<bool, Error> {
    let sql = "UPDATE account SET balance = balance + ?, version = version + 1
        WHERE user_id = ? AND 0 <= balance + ?";
    Ok(tx.execute(sql, params![amount, &it.user_id, amount])? == 1)
}

fn refused(code: &str, detail: &str) -> BranchError {
    Problem::new(StatusCode::CONFLICT, code, detail).into()
}

/// The data contradict themselves: a human must look, the step is repeated meanwhile.
fn broken(what: &'static str) -> BranchError {
    BranchError::Failed(what.into())
}
