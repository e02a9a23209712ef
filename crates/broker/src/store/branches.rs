//! Half messages that are branches of distributed transactions: the fence.

use tradewind_base::id::Xid;
use tradewind_base::{Timestamp, fault};
use tradewind_message::wire::MessageId;
use tradewind_sql::{Error, Transaction, TransactionError, params};

use super::messages::{Changed, MessageError, NewMessage, Origin, change, insert};
use super::{Store, xid_bytes};
use crate::machine::fence::{Call, Fence, Step, decide};
use crate::machine::message::Word;

/// One branch.
#[derive(Clone, Debug)]
pub(crate) struct Branch {
    pub(crate) xid: Xid,
    pub(crate) branch: u16,
    pub(crate) initiator: String,
}

/// Why a call had no effect. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BranchError {
    #[error("the message of the branch did not change")]
    Message(#[from] MessageError),
    #[error("a Cancel or Close came before this Try")]
    Suspended,
    #[error("the deadline of this Try has passed")]
    Expired,
    #[error("the opposite was done already")]
    Conflict,
    #[error("there was no Try")]
    NoTry,
    #[error("the branch is another initiator's")]
    Mismatch,
}

impl From<Error> for BranchError {
    fn from(error: Error) -> Self {
        Self::Message(error.into())
    }
}

impl Store {
    /// Stores the half message of a branch.
    pub(crate) async fn branch_try(
        &self,
        it: Branch,
        message: NewMessage,
        deadline: Timestamp,
        first_check: Timestamp,
        now: Timestamp,
    ) -> Result<(), TransactionError<BranchError>> {
        let work = move |tx: &mut Transaction<'_>| {
            if !fence(tx, &it, Fence::Tried, now)? {
                return match decide(row(tx, &it)?, Call::Try) {
                    Step::Stay | Step::Enter(_) => Ok(()),
                    Step::Suspended => Err(BranchError::Suspended),
                    Step::Conflict => Err(BranchError::Conflict),
                    Step::NoTry => Err(BranchError::NoTry),
                };
            }
            if deadline < now {
                // The error takes the row back.
                return Err(BranchError::Expired);
            }
            let initiator = it.initiator.clone();
            let (xid, branch) = (it.xid, it.branch);
            let origin = Origin::Branch { xid, branch, initiator, first_check };
            if !insert(tx, &message, &origin, now)? {
                return Err(MessageError::Reused(message.id).into());
            }
            if fault::bug("message-before-decision") {
                change(tx, message.id, Word::Commit, now)?;
            }
            Ok(())
        };
        self.database.transaction("branch try", work).await
    }

    /// Commits the message of a branch.
    pub(crate) async fn branch_confirm(
        &self,
        it: Branch,
        now: Timestamp,
    ) -> Result<Option<Changed>, TransactionError<BranchError>> {
        let work = move |tx: &mut Transaction<'_>| settle(tx, &it, Call::Confirm, now);
        self.database.transaction_at_leisure("branch confirm", work).await
    }

    /// Discards the message of a branch, or makes sure that there will be none.
    pub(crate) async fn branch_cancel(
        &self,
        it: Branch,
        now: Timestamp,
    ) -> Result<(), TransactionError<BranchError>> {
        let work = move |tx: &mut Transaction<'_>| {
            // Insert first and let the key decide: a Try in an open transaction holds it.
            if fence(tx, &it, Fence::Suspended, now)? {
                return Ok(());
            }
            settle(tx, &it, Call::Cancel, now).map(|_| ())
        };
        self.database.transaction_at_leisure("branch cancel", work).await
    }

    /// Whether a branch is tried; if not, it never will be.
    pub(crate) async fn branch_close(
        &self,
        it: Branch,
        now: Timestamp,
    ) -> Result<bool, TransactionError<BranchError>> {
        let work = move |tx: &mut Transaction<'_>| {
            if fence(tx, &it, Fence::Suspended, now)? {
                return Ok(false);
            }
            Ok(decide(row(tx, &it)?, Call::Close) == Step::Stay)
        };
        self.database.transaction("branch close", work).await
    }
}

fn settle(
    tx: &mut Transaction<'_>,
    it: &Branch,
    call: Call,
    now: Timestamp,
) -> Result<Option<Changed>, BranchError> {
    let (to, word) = match call {
        Call::Confirm => (Fence::Confirmed, Word::Commit),
        Call::Cancel | Call::Try | Call::Close => (Fence::Cancelled, Word::RollBack),
    };
    // The decision for a tried row, as a compare-and-set; what another row means comes after.
    let sql = "UPDATE branch_fence SET state = ?, at_ms = ?
        WHERE xid = ? AND branch = ? AND state = 1 AND initiator = ?";
    let values = params![code(to), now, xid_bytes(it.xid), it.branch, &it.initiator];
    if tx.execute(sql, values)? == 1 {
        let id = MessageId::of_branch(it.xid, it.branch);
        return Ok(Some(change(tx, id, word, now)?));
    }
    match decide(row(tx, it)?, call) {
        Step::Stay | Step::Enter(_) => Ok(None),
        Step::Suspended => Err(BranchError::Suspended),
        Step::Conflict => Err(BranchError::Conflict),
        Step::NoTry => Err(BranchError::NoTry),
    }
}

/// Writes the first row of a branch; `false` when there is one.
fn fence(
    tx: &mut Transaction<'_>,
    it: &Branch,
    state: Fence,
    now: Timestamp,
) -> Result<bool, Error> {
    let sql = "INSERT INTO branch_fence (xid, branch, state, initiator, at_ms)
        VALUES (?, ?, ?, ?, ?)";
    let row = params![xid_bytes(it.xid), it.branch, code(state), &it.initiator, now];
    match tx.execute(sql, row) {
        Ok(_) => Ok(true),
        Err(error) if error.is_unique_violation() => Ok(false),
        Err(error) => Err(error),
    }
}

fn row(tx: &mut Transaction<'_>, it: &Branch) -> Result<Option<Fence>, BranchError> {
    let sql = "SELECT state, initiator FROM branch_fence WHERE xid = ? AND branch = ?";
    let found = tx.query_one(sql, params![xid_bytes(it.xid), it.branch], |row| {
        Ok((row.get::<i64>(0)?, row.get::<String>(1)?))
    })?;
    let Some((state, initiator)) = found else { return Ok(None) };
    if initiator != it.initiator {
        return Err(BranchError::Mismatch);
    }
    Ok(Some(match state {
        1 => Fence::Tried,
        2 => Fence::Confirmed,
        3 => Fence::Cancelled,
        _ => Fence::Suspended,
    }))
}

const fn code(state: Fence) -> i64 {
    match state {
        Fence::Tried => 1,
        Fence::Confirmed => 2,
        Fence::Cancelled => 3,
        Fence::Suspended => 4,
    }
}
