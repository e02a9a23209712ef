//! The endpoints, and one branch call from the request to the answer.

use std::sync::Arc;

use futures_util::future::join_all;
use http::StatusCode;
use serde_json::Value;
use tradewind_base::{Context, Problem, Timestamp, TraceContext, fault};
use tradewind_service::axum::{Router, routing::post};
use tradewind_service::{Answer, Caller, Failure, Json, answer::chain};
use tradewind_sql::{Transaction, TransactionError};

use super::{Boxed, BranchError, Call, Participant, Participants};
use crate::fence::{self, Key};
use crate::machine::fence::Refusal;
use crate::wire;

/// What of a call does not depend on the participant's types.
#[derive(Clone)]
pub(crate) struct Settled {
    pub(crate) key: Key,
    pub(crate) now: Timestamp,
}

/// A participant without its types.
pub(crate) trait Action: Send + Sync {
    fn reserve(self: Arc<Self>, all: Participants, body: wire::Try) -> Boxed<Result<(), Failure>>;
    fn confirm(self: Arc<Self>, all: Participants, it: Settled) -> Boxed<Result<(), Failure>>;
    fn cancel(self: Arc<Self>, all: Participants, it: Settled) -> Boxed<Result<(), Failure>>;
}

pub(super) struct Mounted<P>(P);

impl<P> Mounted<P> {
    pub(super) const fn new(participant: P) -> Self {
        Self(participant)
    }
}

impl<P: Participant> Mounted<P> {
    fn read(payload: &Value) -> Result<P::Reservation, BranchError> {
        use serde::Deserialize as _;
        P::Reservation::deserialize(payload).map_err(|error| {
            let detail = "the payload is not what this action reserves";
            let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "tcc.payload", detail);
            problem.field("payload", error.to_string()).into()
        })
    }

    fn stored(text: &str) -> Result<P::Reservation, BranchError> {
        serde_json::from_str(text).map_err(|error| BranchError::Failed(Box::new(error)))
    }
}

impl<P: Participant> Action for Mounted<P> {
    fn reserve(self: Arc<Self>, all: Participants, body: wire::Try) -> Boxed<Result<(), Failure>> {
        Box::pin(async move {
            let reservation = Self::read(&body.payload).map_err(failure)?;
            let text = body.payload.to_string();
            let (now, skew) = (all.clock.now(), all.settings.skew);
            let deadline = Timestamp::from_millis(body.deadline_ms);
            let (xid, branch) = (body.xid, body.branch);
            let key =
                Key { xid, branch, action: P::ACTION.into(), initiator: body.initiator.clone() };
            let initiator = body.initiator;
            let mut call =
                Call { xid, branch, initiator, deadline: Some(deadline), now, token: None };
            let entered = self.0.enter(&call, &reservation).await.map_err(failure)?;
            fault::point(format_args!("tcc.{}.try.entered", P::ACTION));
            call.token = entered.token;
            let clock = Arc::clone(&all.clock);
            let done = all.database.transaction("tcc try", move |tx| {
                // Asked again: the way here may have led through a lock.
                let now = clock.now();
                fence::reserve(tx, &key, &text, deadline, (now, skew), |tx| {
                    self.0.reserve(tx, &call, &reservation)
                })
            });
            let result = settle(done.await);
            drop(entered);
            result
        })
    }

    fn confirm(self: Arc<Self>, all: Participants, it: Settled) -> Boxed<Result<(), Failure>> {
        Box::pin(async move {
            let done = all.database.transaction_at_leisure("tcc confirm", move |tx| {
                fence::confirm(tx, &it.key, it.now, |tx, text| {
                    self.0.confirm(tx, &it.call(), &Self::stored(text)?)
                })
            });
            settle(done.await)
        })
    }

    fn cancel(self: Arc<Self>, all: Participants, it: Settled) -> Boxed<Result<(), Failure>> {
        Box::pin(async move {
            let done = all.database.transaction_at_leisure("tcc cancel", move |tx| {
                fence::cancel(tx, &it.key, it.now, |tx, text| {
                    self.0.cancel(tx, &it.call(), &Self::stored(text)?)
                })
            });
            settle(done.await)
        })
    }
}

impl Settled {
    fn call(&self) -> Call {
        let Key { xid, branch, initiator, .. } = self.key.clone();
        Call { xid, branch, initiator, deadline: None, now: self.now, token: None }
    }
}

pub(super) fn mount(all: &Participants) -> Router {
    all.actions.iter().fold(Router::new(), |router, (name, action)| {
        router.merge(first_phase(all, name, action)).merge(second_phase(all, name, action))
    })
}

/// Try, and Close, which ends the time of Trys.
fn first_phase(all: &Participants, name: &'static str, action: &Arc<dyn Action>) -> Router {
    let (all_1, action_1) = (all.clone(), Arc::clone(action));
    let on_try = async move |caller: Caller, Json(body): Json<wire::Try>| -> Answer<wire::Done> {
        authorize(&caller, &body.initiator)?;
        fault::point(format_args!("tcc.{name}.try.received"));
        action_1.reserve(all_1, body).await?;
        fault::point(format_args!("tcc.{name}.try.done"));
        Ok(done("tried"))
    };
    let (all_2, action_2) = (all.clone(), Arc::clone(action));
    let on_trys =
        async move |caller: Caller, Json(body): Json<wire::Trys>| -> Answer<wire::DoneTogether> {
            let allowed = body.branches.iter().map(|it| it.initiator.as_str());
            authorize_all(&caller, allowed, <wire::Trys>::MAX)?;
            fault::point(format_args!("tcc.{name}.try.received"));
            let mut traces = body.traces.into_iter();
            let asked = body.branches.into_iter().map(|it| {
                let trace = traces.next().as_deref().and_then(TraceContext::parse);
                let context = Context { trace, ..Context::current() };
                context.scope(action_2.clone().reserve(all_2.clone(), it))
            });
            let done = join_all(asked).await;
            fault::point(format_args!("tcc.{name}.try.done"));
            Ok(done_together(&done))
        };
    let all_3 = all.clone();
    let on_close =
        async move |caller: Caller, Json(body): Json<wire::Second>| -> Answer<wire::Closed> {
            authorize(&caller, &body.initiator)?;
            let tried = close(&all_3, settled(&all_3, name, body)).await?;
            fault::point(format_args!("tcc.{name}.close.done"));
            Ok(Json(wire::Closed { tried }))
        };
    Router::new()
        .route(&format!("/tcc/{name}/try"), post(on_try))
        .route(&format!("/tcc/{name}/trys"), post(on_trys))
        .route(&format!("/tcc/{name}/close"), post(on_close))
}

fn second_phase(all: &Participants, name: &'static str, action: &Arc<dyn Action>) -> Router {
    let (all_1, action_1) = (all.clone(), Arc::clone(action));
    let on_confirm =
        async move |caller: Caller, Json(body): Json<wire::Second>| -> Answer<wire::Done> {
            authorize(&caller, &body.initiator)?;
            let settled = settled(&all_1, name, body);
            fault::point(format_args!("tcc.{name}.confirm.received"));
            action_1.confirm(all_1, settled).await?;
            fault::point(format_args!("tcc.{name}.confirm.done"));
            Ok(done("confirmed"))
        };
    let (all_2, action_2) = (all.clone(), Arc::clone(action));
    let on_confirms = async move |caller: Caller,
                                  Json(body): Json<wire::Confirms>|
                -> Answer<wire::DoneTogether> {
        let allowed = body.branches.iter().map(|it| it.initiator.as_str());
        authorize_all(&caller, allowed, wire::Confirms::MAX)?;
        fault::point(format_args!("tcc.{name}.confirm.received"));
        let asked = body.branches.into_iter().map(|it| settled(&all_2, name, it));
        let done = join_all(asked.map(|it| action_2.clone().confirm(all_2.clone(), it))).await;
        fault::point(format_args!("tcc.{name}.confirm.done"));
        Ok(done_together(&done))
    };
    let (all_3, action_3) = (all.clone(), Arc::clone(action));
    let on_cancel =
        async move |caller: Caller, Json(body): Json<wire::Second>| -> Answer<wire::Done> {
            authorize(&caller, &body.initiator)?;
            let settled = settled(&all_3, name, body);
            fault::point(format_args!("tcc.{name}.cancel.received"));
            action_3.cancel(all_3, settled).await?;
            fault::point(format_args!("tcc.{name}.cancel.done"));
            Ok(done("cancelled"))
        };
    Router::new()
        .route(&format!("/tcc/{name}/confirm"), post(on_confirm))
        .route(&format!("/tcc/{name}/confirms"), post(on_confirms))
        .route(&format!("/tcc/{name}/cancel"), post(on_cancel))
}

/// Whether a branch is tried; it is closed when this is answered.
async fn close(all: &Participants, it: Settled) -> Result<bool, Failure> {
    let work = move |tx: &mut Transaction<'_>| {
        fence::close(tx, &it.key, it.now).map_err(BranchError::Storage)
    };
    let mut tried = false;
    let closed = all.database.transaction("tcc close", work).await;
    settle(closed.map(|it| it.map(|it| tried = it)))?;
    Ok(tried)
}

/// Each had a local transaction of its own, which the database commits together.
fn done_together(done: &[Result<(), Failure>]) -> Json<wire::DoneTogether> {
    Json(wire::DoneTogether { done: done.iter().map(Result::is_ok).collect() })
}

fn authorize_all<'a>(
    caller: &Caller,
    initiators: impl ExactSizeIterator<Item = &'a str>,
    most: usize,
) -> Result<(), Failure> {
    if most < initiators.len() {
        let detail = format!("at most {most} branches may come together");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "tcc.too-many", detail).into());
    }
    initiators.into_iter().try_for_each(|it| authorize(caller, it))
}

fn settled(all: &Participants, action: &'static str, body: wire::Second) -> Settled {
    let wire::Second { xid, branch, initiator } = body;
    Settled { key: Key { xid, branch, action: action.into(), initiator }, now: all.clock.now() }
}

fn done(state: &str) -> Json<wire::Done> {
    Json(wire::Done { state: state.to_owned() })
}

/// Only the initiator itself may speak for its transactions.
fn authorize(caller: &Caller, initiator: &str) -> Result<(), Failure> {
    if caller.0.service == initiator {
        return Ok(());
    }
    let detail = "a branch is driven by the service that began its transaction";
    Err(Problem::new(StatusCode::FORBIDDEN, "tcc.initiator", detail)
        .field("initiator", "must be the calling service")
        .into())
}

/// The answer for what the local transaction came to.
pub(crate) fn settle(
    result: Result<Result<(), Refusal>, TransactionError<BranchError>>,
) -> Result<(), Failure> {
    match result {
        Ok(Ok(())) => Ok(()),
        Ok(Err(refusal)) => Err(refused(refusal).into()),
        Err(TransactionError::Refused(error)) => Err(failure(error)),
        Err(TransactionError::Busy) => {
            let detail = "too much is waiting; nothing was done";
            Err(Problem::unavailable("tcc.busy", detail).into())
        }
        Err(error) => Err(Failure::internal(&error)),
    }
}

pub(super) fn failure(error: BranchError) -> Failure {
    match error {
        BranchError::Refused(problem) => {
            let mut problem = *problem;
            // The type keeps the participant's own code; the code says that it is definite.
            problem.status = StatusCode::CONFLICT;
            wire::REFUSED.clone_into(&mut problem.code);
            problem.into()
        }
        BranchError::NotYet(pause) => {
            let detail = "something this needs is not settled yet";
            // Rounded up, and never "at once".
            let seconds = u32::try_from(pause.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
            Problem::new(StatusCode::TOO_EARLY, wire::NOT_YET, detail)
                .retry_after(seconds.max(1))
                .into()
        }
        BranchError::Storage(error) if error.is_transient() => {
            tracing::warn!(error = chain(&error), "a branch's database cannot take it now");
            Problem::unavailable("tcc.busy", "the database is busy; nothing was done").into()
        }
        error => Failure::internal(&error),
    }
}

fn refused(refusal: Refusal) -> Problem {
    let (code, detail) = match refusal {
        Refusal::NoTry => (wire::NO_TRY, "there is nothing to confirm: no Try was seen"),
        Refusal::Conflict => (wire::CONFLICT, "the branch has ended the other way"),
        Refusal::Ended => (wire::ENDED, "the branch has ended"),
        Refusal::Suspended => {
            (wire::SUSPENDED, "the branch was cancelled or closed before its Try came")
        }
        Refusal::Expired => (wire::EXPIRED, "the deadline has passed"),
        Refusal::TooFar => (wire::EXPIRED, "the deadline is further ahead than any may be"),
        Refusal::Mismatch => (wire::MISMATCH, "xid and branch belong to another call"),
    };
    if matches!(refusal, Refusal::NoTry | Refusal::Conflict | Refusal::Mismatch) {
        tracing::error!(code, "a branch call that must not be");
    }
    Problem::new(StatusCode::CONFLICT, code, detail)
}
