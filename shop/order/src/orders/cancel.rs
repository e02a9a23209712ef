//! Cancelling an order that has not shipped.

use serde_json::json;
use tradewind::base::identity::User;
use tradewind::base::{Problem, fault};
use tradewind::service::Failure;
use tradewind::sql::{Transaction, TransactionError};
use tradewind::transaction::engine::MayCommit;
use tradewind::transaction::{Decided, Declaration, LogError, Tried};

use super::problems::{self, database};
use super::rows::{self, Header};
use super::view::OrderView;
use super::{CANCEL, OrderId, Orders, Own, WorkError};
use crate::machine::{State, Step};

/// How the warehouse refuses to void an order that has left the house.
const ALREADY_SHIPPED: &str = "warehouse.already-shipped";

/// What came of a request to cancel.
#[derive(Debug)]
pub(super) enum Cancelled {
    /// It is cancelled, now or before.
    Done(Box<OrderView>),
    /// Whether it is cancelled cannot be told yet.
    Unknown(OrderId),
}

impl<I: Clone + Send + Sync + 'static> Orders<I> {
    /// Cancels an order of this user, unless it has shipped.
    pub(super) async fn cancel(&self, user: &User, id: OrderId) -> Result<Cancelled, Failure> {
        let header = self.own(user, id).await?;
        if header.state == State::Cancelled {
            return self.view(user, id).await.map(|it| Cancelled::Done(Box::new(it)));
        }
        // The same question is asked again where it counts, in the local transaction.
        cancellable(id, header.state)?;
        let declaration = self.declare_cancel(id, &header)?;
        let xid = declaration.xid();
        let (this, declared) = (self.clone(), declaration.clone());
        let begin = move |tx: &mut Transaction<'_>| {
            this.engine.begin(tx, &declared)?;
            rows::step(tx, id, Step::Cancel, Some(xid), this.clock.now())?;
            Ok(rows::note_cancel(tx, id, xid)?)
        };
        match self.database.transaction("cancel begin", begin).await {
            Ok(()) => {}
            // Somebody else was faster.
            Err(TransactionError::Refused(WorkError::Moved(_))) => {
                let state = self.own(user, id).await?.state;
                if state == State::Cancelled {
                    return self.view(user, id).await.map(|it| Cancelled::Done(Box::new(it)));
                }
                cancellable(id, state)?;
                return Err(busy(id).into());
            }
            Err(error) => return Err(database(&error)),
        }
        match Box::pin(self.engine.try_all(&declaration)).await {
            Tried::Reserved => match self.engine.decide_commit(&declaration).await {
                Decided::Commit(leave) => self.commit_cancel(id, &declaration, leave).await,
                Decided::Abort(_) => {
                    self.undo_cancel(id, &declaration, problems::too_late("cancelled")).await
                }
                Decided::Unknown => Ok(Cancelled::Unknown(id)),
            },
            Tried::Refused { problem, .. } if problem.code == ALREADY_SHIPPED => {
                self.undo_cancel(id, &declaration, problems::shipped(id)).await
            }
            failed => {
                let problem = problems::of_tried("cancelled", failed);
                self.undo_cancel(id, &declaration, problem).await
            }
        }
    }

    fn declare_cancel(&self, id: OrderId, header: &Header) -> Result<Declaration, Failure> {
        let points = header.points;
        let order = json!({"order_id": id});
        let declaration = self
            .engine
            .declare(CANCEL, self.settings.cancel_limit)
            .own(&Own { order_id: id })
            .and_then(|it| it.branch("warehouse", "warehouse.void", &order))
            .and_then(|it| it.branch("inventory", "inventory.restock", &order))
            .and_then(|it| {
                if points == 0 {
                    return Ok(it);
                }
                let payload = json!({"user_id": header.user_id, "order_id": id, "points": points});
                it.branch("points", "points.revoke", &payload)
            });
        declaration.map_err(|it| Failure::internal(&it))
    }

    async fn commit_cancel(
        &self,
        id: OrderId,
        declaration: &Declaration,
        leave: MayCommit,
    ) -> Result<Cancelled, Failure> {
        let (this, xid) = (self.clone(), declaration.xid());
        let decide = move |tx: &mut Transaction<'_>| {
            // With the order's own Confirm: it is cancelled.
            this.engine.commit(tx, leave)?;
            let header = rows::header(tx, &id.to_string())?.ok_or(WorkError::Moved(id))?;
            Ok::<_, WorkError>(OrderView::read(tx, header)?)
        };
        let done = self.database.transaction("cancel commit", decide).await;
        match done {
            Ok(view) => {
                fault::point(format_args!("tcc.{CANCEL}.decided"));
                self.engine.settle(xid);
                Ok(Cancelled::Done(Box::new(view)))
            }
            Err(TransactionError::Unknown { .. }) => {
                self.engine.settle(xid);
                Ok(Cancelled::Unknown(id))
            }
            Err(TransactionError::Refused(WorkError::Log(LogError::Refused { .. }))) => {
                self.undo_cancel(id, declaration, problems::too_late("cancelled")).await
            }
            Err(error) => {
                let problem = database(&error).into_problem();
                self.undo_cancel(id, declaration, problem).await
            }
        }
    }

    /// A definite failure: the order is placed again, in the local transaction of the abort.
    async fn undo_cancel(
        &self,
        id: OrderId,
        declaration: &Declaration,
        problem: Problem,
    ) -> Result<Cancelled, Failure> {
        fault::point(format_args!("tcc.{CANCEL}.before-abort"));
        let done = Box::pin(self.engine.give_up(declaration, &problem.code)).await;
        fault::point(format_args!("tcc.{CANCEL}.aborted"));
        match done {
            Ok(()) => Err(problem.into()),
            Err(error) => {
                let error = tradewind::service::answer::chain(&error);
                let xid = declaration.xid();
                tracing::error!(%xid, error, "failed to abort; the deadline will");
                Ok(Cancelled::Unknown(id))
            }
        }
    }

    /// The head of an order of this user.
    async fn own(&self, user: &User, id: OrderId) -> Result<Header, Failure> {
        self.written(self.deciding.of_order(id)).await;
        let text = id.to_string();
        let work = move |tx: &mut Transaction<'_>| rows::header(tx, &text);
        let found = self.database.read("order", work).await.map_err(|it| database(&it))?;
        found.filter(|it| it.user_id == user.id).ok_or_else(problems::unknown_order)
    }
}

/// Whether an order in this state can begin to be cancelled.
fn cancellable(id: OrderId, state: State) -> Result<(), Failure> {
    let problem = match state {
        State::Placed => return Ok(()),
        State::Shipped => problems::shipped(id),
        State::Cancelling => busy(id),
        State::Placing => {
            let detail = format!("order {id} is still being placed; try again");
            problems::state("order.placing", detail).retry_after(1)
        }
        State::Failed | State::Cancelled => {
            let detail = format!("order {id} was never placed: there is nothing to cancel");
            problems::state("order.failed", detail)
        }
    };
    Err(problem.into())
}

fn busy(id: OrderId) -> Problem {
    let detail = format!("order {id} is being cancelled by another request; ask for it again");
    problems::state("order.cancelling", detail).retry_after(1)
}
