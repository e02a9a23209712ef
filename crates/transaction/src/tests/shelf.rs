//! A participant that can be told to do wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use tradewind_base::Problem;
use tradewind_sql::{Transaction, params};

use crate::participant::{BranchError, Call, Participant};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Take {
    pub(super) id: i64,
    pub(super) count: i64,
}

/// What a participant can be told to do wrong.
#[derive(Default)]
pub(super) struct Mischief {
    /// Answers are lost after the effect.
    pub(super) lose: AtomicBool,
    /// Confirms fail.
    pub(super) fail_confirm: AtomicBool,
    /// Trys are not possible yet.
    pub(super) not_yet: AtomicBool,
    /// Trys that had an effect.
    pub(super) reserved: AtomicU32,
    /// Confirms that had an effect.
    pub(super) effects: AtomicU32,
}

pub(super) struct Shelf(pub(super) Arc<Mischief>);

impl Shelf {
    fn step(
        tx: &mut Transaction<'_>,
        sql: &'static str,
        take: &Take,
        refused: &'static str,
    ) -> Result<(), BranchError> {
        if tx.execute(sql, params![take.count, take.count, take.id, take.count])? == 1 {
            return Ok(());
        }
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, refused, "too few are left");
        Err(problem.field("count", "is more than there are").into())
    }
}

impl Participant for Shelf {
    type Reservation = Take;
    const ACTION: &'static str = "take";

    fn reserve(
        &self,
        tx: &mut Transaction<'_>,
        _call: &Call,
        take: &Take,
    ) -> Result<(), BranchError> {
        if self.0.not_yet.load(Ordering::SeqCst) {
            return Err(BranchError::NotYet(Duration::from_millis(20)));
        }
        let sql = "UPDATE goods SET available = available - ?, frozen = frozen + ?
            WHERE id = ? AND available >= ?";
        Self::step(tx, sql, take, "stock.short")?;
        self.0.reserved.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn confirm(
        &self,
        tx: &mut Transaction<'_>,
        _call: &Call,
        take: &Take,
    ) -> Result<(), BranchError> {
        if self.0.fail_confirm.load(Ordering::SeqCst) {
            return Err(BranchError::Failed("told to fail".into()));
        }
        self.0.effects.fetch_add(1, Ordering::SeqCst);
        let sql = "UPDATE goods SET frozen = frozen - ?, taken = taken + ?
            WHERE id = ? AND frozen >= ?";
        Self::step(tx, sql, take, "stock.broken")
    }

    fn cancel(
        &self,
        tx: &mut Transaction<'_>,
        _call: &Call,
        take: &Take,
    ) -> Result<(), BranchError> {
        let sql = "UPDATE goods SET frozen = frozen - ?, available = available + ?
            WHERE id = ? AND frozen >= ?";
        Self::step(tx, sql, take, "stock.broken")
    }
}
