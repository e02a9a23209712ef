//! The later steps of placing: Trys, decision, and what follows from it.

use std::time::Duration;

use tradewind::base::{Problem, fault};
use tradewind::idempotency::{Attempt, StoreError, StoredAnswer, store};
use tradewind::service::Failure;
use tradewind::service::answer::chain;
use tradewind::service::axum::http::StatusCode;
use tradewind::sql::{Transaction, TransactionError};
use tradewind::transaction::engine::MayCommit;
use tradewind::transaction::{Decided, LogError, Tried};

use super::{GivenUp, Placed, Work, answer};
use crate::inventory::Inventory;
use crate::orders::admission::{End, Entry};
use crate::orders::problems::{self, database};
use crate::orders::rows;
use crate::orders::view::OrderView;
use crate::orders::{Orders, PLACE, WorkError};

/// Before each attempt to write a decision down.
const WRITE_PAUSES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_millis(600),
];

impl<I: Inventory + Clone + Send + Sync + 'static> Orders<I> {
    /// Durable step 2, unless it was taken beside the first, and step 3.
    pub(super) async fn carry(
        &self,
        attempt: &Attempt,
        work: Work,
        tried: Option<Tried>,
        entry: &mut Option<Entry>,
    ) -> Result<Placed, Failure> {
        tracing::debug!(order.id = %work.order_id, tcc.xid = %work.declaration.xid(), "order begun");
        let tried = match tried {
            Some(tried) => tried,
            None => Box::pin(self.engine.try_all(&work.declaration)).await,
        };
        match tried {
            Tried::Reserved if work.declaration.may_answer() && work.begun.is_some() => {
                self.answer_first(attempt, work, entry)
            }
            Tried::Reserved => match self.engine.decide_commit(&work.declaration).await {
                Decided::Commit(leave) => self.commit(attempt, &work, leave).await,
                Decided::Abort(_) => self.fail(attempt, &work, problems::too_late("ordered")).await,
                Decided::Unknown => Ok(Placed::Unknown(work.order_id)),
            },
            failed => self.fail(attempt, &work, problems::of_tried("ordered", failed)).await,
        }
    }

    /// The order is placed, as its begin and all Trys are durable. That is answered at once, and
    /// written down beside the answer.
    fn answer_first(
        &self,
        attempt: &Attempt,
        work: Work,
        entry: &mut Option<Entry>,
    ) -> Result<Placed, Failure> {
        let Some((order, begun)) = &work.begun else { return Ok(Placed::Unknown(work.order_id)) };
        let now = self.clock.now();
        let view = OrderView::placed(order, *begun, now);
        let answer = answer(view).map_err(|it| Failure::internal(&it))?;
        let mark = self.deciding.mark(work.order_id, &order.user_id, now);
        let (this, attempt, answered) = (self.clone(), attempt.clone(), answer.clone());
        let entry = entry.take();
        self.tasks.spawn_plain("order decision", |_| async move {
            this.write_down(&attempt, &work, answered).await;
            drop(mark);
            if let Some(entry) = entry {
                entry.leave(End::Timely);
            }
        });
        Ok(Placed::Now(answer))
    }

    /// Durable step 3 of an order that is answered. Nobody may fail it any more: what cannot be
    /// written down here is found out, and written down, at the deadline.
    async fn write_down(&self, attempt: &Attempt, work: &Work, answer: StoredAnswer) {
        fault::point(format_args!("tcc.{PLACE}.answered"));
        let (xid, fence) = (work.declaration.xid(), work.fence);
        // Whose key it is, is no matter of the decision: another attempt may have taken over.
        let mut with_key = true;
        for pause in WRITE_PAUSES {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let (this, key, terms) = (self.clone(), attempt.clone(), self.terms());
            let answer = answer.clone();
            let decide = move |tx: &mut Transaction<'_>| {
                this.engine.commit(tx, xid)?;
                if with_key {
                    let now = store::now(tx)?;
                    store::finish(tx, &key, fence, &answer, now, &terms)?;
                }
                Ok::<_, WorkError>(())
            };
            let done = self.database.transaction_at_leisure("order commit", decide).await;
            let error = match done {
                // The second: by an earlier round, whose commit was not answered.
                Ok(())
                | Err(TransactionError::Refused(WorkError::Key(StoreError::AlreadyDone))) => {
                    fault::point(format_args!("tcc.{PLACE}.decided"));
                    return self.engine.settle(xid);
                }
                Err(TransactionError::Refused(WorkError::Log(
                    error @ LogError::Refused { .. },
                ))) => {
                    let error = chain(&error);
                    tracing::error!(%xid, error, "what was answered as placed is decided otherwise");
                    return;
                }
                Err(error) => error,
            };
            with_key &=
                !matches!(error, TransactionError::Refused(WorkError::Key(StoreError::Superseded)));
            tracing::warn!(%xid, error = chain(&error), "a placed order is not written down yet");
        }
        tracing::error!(%xid, "a placed order is not written down; the deadline will");
    }

    /// Durable step 3.
    async fn decide(
        &self,
        attempt: &Attempt,
        work: &Work,
        leave: MayCommit,
    ) -> Result<StoredAnswer, TransactionError<WorkError>> {
        let (this, key, terms) = (self.clone(), attempt.clone(), self.terms());
        let (id, fence) = (work.order_id, work.fence);
        let decide = move |tx: &mut Transaction<'_>| {
            // With the order's own Confirm: it is placed.
            this.engine.commit(tx, leave)?;
            let header = rows::header(tx, &id.to_string())?.ok_or(WorkError::Moved(id))?;
            let answer = answer(OrderView::read(tx, header)?)?;
            let now = store::now(tx)?;
            store::finish(tx, &key, fence, &answer, now, &terms)?;
            Ok(answer)
        };
        self.database.transaction("order commit", decide).await
    }

    async fn commit(
        &self,
        attempt: &Attempt,
        work: &Work,
        leave: MayCommit,
    ) -> Result<Placed, Failure> {
        let (id, xid) = (work.order_id, work.declaration.xid());
        match self.decide(attempt, work, leave).await {
            Ok(answer) => {
                fault::point(format_args!("tcc.{PLACE}.decided"));
                self.engine.settle(xid);
                Ok(Placed::Now(answer))
            }
            Err(TransactionError::Unknown { .. }) => {
                self.engine.settle(xid);
                Ok(Placed::Unknown(id))
            }
            // Another attempt with this key has taken over; its answer is the one that counts.
            Err(TransactionError::Refused(WorkError::Key(_))) => Err(problems::in_flight()),
            Err(TransactionError::Refused(WorkError::Log(LogError::Refused { .. }))) => {
                self.fail(attempt, work, problems::too_late("ordered")).await
            }
            Err(error) => {
                let problem = database(&error).into_problem();
                self.fail(attempt, work, problem).await
            }
        }
    }

    /// A definite failure, once that is durable. Anything less is unknown. What the business refused
    /// stays refused under this key; what merely failed may be tried again with it.
    async fn fail(
        &self,
        attempt: &Attempt,
        work: &Work,
        problem: Problem,
    ) -> Result<Placed, Failure> {
        match self.give_up(attempt, work, &problem).await? {
            GivenUp::Now => Err(problem.into()),
            GivenUp::Unknown => Ok(Placed::Unknown(work.order_id)),
            GivenUp::Not(leave) => self.commit_found(attempt, work, leave).await,
        }
    }

    /// Step 3 for what was to be given up and turned out to be committed, or to be committed.
    pub(super) async fn commit_found(
        &self,
        attempt: &Attempt,
        work: &Work,
        leave: MayCommit,
    ) -> Result<Placed, Failure> {
        let done = self.decide(attempt, work, leave).await;
        self.engine.settle(work.declaration.xid());
        match done {
            Ok(answer) => Ok(Placed::Now(answer)),
            Err(TransactionError::Refused(WorkError::Key(_))) => Err(problems::in_flight()),
            // It was aborted meanwhile, or nobody knows: the order will say.
            Err(error) => {
                let xid = work.declaration.xid();
                tracing::warn!(%xid, error = chain(&error), "failed to commit what is tried");
                Ok(Placed::Unknown(work.order_id))
            }
        }
    }

    /// What an earlier attempt began, and has no time left to go on with.
    pub(super) async fn give_up_late(
        &self,
        attempt: &Attempt,
        work: &Work,
    ) -> Result<GivenUp, Failure> {
        self.give_up(attempt, work, &problems::too_late("ordered")).await
    }

    /// Abort, order failed, key free or answered, all at once.
    async fn give_up(
        &self,
        attempt: &Attempt,
        work: &Work,
        problem: &Problem,
    ) -> Result<GivenUp, Failure> {
        let (id, xid, fence) = (work.order_id, work.declaration.xid(), work.fence);
        fault::point(format_args!("tcc.{PLACE}.before-abort"));
        let leave = match self.engine.decide_abort(&work.declaration, &problem.code).await {
            Decided::Abort(leave) => leave,
            // It is placed all the same.
            Decided::Commit(leave) => return Ok(GivenUp::Not(leave)),
            // Nobody knows: the order will say.
            Decided::Unknown => return Ok(GivenUp::Unknown),
        };
        let (this, key, terms) = (self.clone(), attempt.clone(), self.terms());
        let (code, detail) = (problem.code.clone(), problem.detail.clone());
        let refused =
            (problem.status == StatusCode::CONFLICT).then(|| StoredAnswer::refusal(problem));
        let decide = move |tx: &mut Transaction<'_>| {
            this.engine.abort(tx, leave, &code)?;
            rows::note_reason(tx, id, &detail)?;
            let now = store::now(tx)?;
            match &refused {
                Some(answer) => store::finish(tx, &key, fence, answer, now, &terms)?,
                None => {
                    store::release(tx, &key, fence, now, &terms)?;
                }
            }
            Ok(())
        };
        let done = self.database.transaction("order abort", decide).await;
        fault::point(format_args!("tcc.{PLACE}.aborted"));
        self.engine.settle(xid);
        match done {
            Ok(()) => Ok(GivenUp::Now),
            // Another attempt with this key was faster, or has taken over: its answer counts.
            Err(TransactionError::Refused(
                WorkError::Log(LogError::Refused { .. }) | WorkError::Key(_),
            )) => Err(problems::in_flight()),
            Err(error) => {
                let error = chain(&error);
                tracing::error!(%xid, error, "failed to abort; the deadline will decide");
                Ok(GivenUp::Unknown)
            }
        }
    }
}
