//! The half message as a branch of a distributed transaction: `/tcc/message/…`.

use std::time::Duration;

use futures_util::future::join_all;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tradewind_base::id::Xid;
use tradewind_base::{Context, Problem, Timestamp, TraceContext, fault};
use tradewind_message::wire::{self, BranchMessage, MessageId};
use tradewind_service::axum::extract::State;
use tradewind_service::{Answer, Caller, Failure, Json};

use super::{App, branch_failure};
use crate::store::{Branch, NewMessage};

/// How far ahead a deadline may lie: what is remembered of a branch must outlive it.
const DEADLINE_AHEAD_MAX: Duration = Duration::from_secs(12 * 3600);

#[derive(Debug, Deserialize)]
pub(super) struct Try {
    xid: Xid,
    branch: u16,
    initiator: String,
    deadline_ms: i64,
    payload: BranchMessage,
}

#[derive(Debug, Deserialize)]
pub(super) struct Settle {
    xid: Xid,
    branch: u16,
    initiator: String,
}

/// Most branches of one request.
const TOGETHER_MAX: usize = 64;

#[derive(Debug, Deserialize)]
pub(super) struct Together<T> {
    branches: Vec<T>,
    /// The trace that each goes on in.
    #[serde(default)]
    traces: Vec<String>,
}

impl<T> Together<T> {
    fn branches(self) -> Result<std::vec::IntoIter<T>, Failure> {
        if TOGETHER_MAX < self.branches.len() {
            let detail = format!("at most {TOGETHER_MAX} branches may come together");
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return Err(Problem::new(status, "message.invalid", detail).into());
        }
        Ok(self.branches.into_iter())
    }
}

#[derive(Debug, Serialize)]
pub(super) struct DoneTogether {
    done: Vec<bool>,
}

#[derive(Debug, Serialize)]
pub(super) struct Closed {
    /// Whether there is a half message. If not, there never will be.
    tried: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Done {
    state: &'static str,
    /// The message of the branch.
    message: MessageId,
}

pub(super) async fn reserve(
    State(app): State<App>,
    Caller(caller): Caller,
    Json(body): Json<Try>,
) -> Answer<Done> {
    authorize(&caller.service, &body.initiator)?;
    let now = app.clock.now();
    let deadline = Timestamp::from_millis(body.deadline_ms);
    let Try { xid, branch, initiator, payload, .. } = body;
    let BranchMessage { topic, key, kind, source, data } = payload;
    let detail = "the message of the branch cannot be taken; see errors";
    let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "message.invalid", detail);
    let mut problem = wire::check_parts(problem, [&topic, &key, &kind, &source], &data);
    if !wire::is_name(&initiator) {
        problem = problem.field("initiator", wire::NAME_RULE);
    }
    if now + DEADLINE_AHEAD_MAX < deadline {
        problem = problem.field("deadline_ms", "must be at most twelve hours ahead");
    }
    if !problem.errors.is_empty() {
        return Err(problem.into());
    }
    let id = MessageId::of_branch(xid, branch);
    let trace = Context::current().trace;
    let data = data.get().to_owned();
    let message = NewMessage { id, topic, key, kind, source, data, trace };
    let at = Branch { xid, branch, initiator };
    let first_check = deadline + app.branch_grace;
    fault::point(format_args!("tcc.message.try.received"));
    let done = app.store.branch_try(at, message, deadline, first_check, now).await;
    done.map_err(branch_failure)?;
    fault::point(format_args!("tcc.message.try.done"));
    Ok(Json(Done { state: "tried", message: id }))
}

pub(super) async fn confirm(
    State(app): State<App>,
    Caller(caller): Caller,
    Json(body): Json<Settle>,
) -> Answer<Done> {
    authorize(&caller.service, &body.initiator)?;
    let (at, message) = body.branch()?;
    fault::point(format_args!("tcc.message.confirm.received"));
    let done = app.store.branch_confirm(at, app.clock.now()).await.map_err(branch_failure)?;
    if let Some(changed) = done {
        app.dispatcher.hand_over(&changed);
    }
    fault::point(format_args!("tcc.message.confirm.done"));
    Ok(Json(Done { state: "confirmed", message }))
}

/// Several Trys at once; which of them were done. The others are asked alone.
pub(super) async fn reserve_all(
    State(app): State<App>,
    Caller(caller): Caller,
    Json(body): Json<Together<Try>>,
) -> Answer<DoneTogether> {
    let mut traces = body.traces.clone().into_iter();
    let asked = body.branches()?.map(|it| {
        let trace = traces.next().as_deref().and_then(TraceContext::parse);
        let context = Context { trace, ..Context::current() };
        context.scope(reserve(State(app.clone()), Caller(caller.clone()), Json(it)))
    });
    let done = join_all(asked).await.iter().map(Result::is_ok).collect();
    Ok(Json(DoneTogether { done }))
}

/// Several Confirms at once; which of them were done. The others are asked alone.
pub(super) async fn confirm_all(
    State(app): State<App>,
    Caller(caller): Caller,
    Json(body): Json<Together<Settle>>,
) -> Answer<DoneTogether> {
    let asked = body.branches()?;
    let asked = asked.map(|it| confirm(State(app.clone()), Caller(caller.clone()), Json(it)));
    let done = join_all(asked).await.iter().map(Result::is_ok).collect();
    Ok(Json(DoneTogether { done }))
}

pub(super) async fn cancel(
    State(app): State<App>,
    Caller(caller): Caller,
    Json(body): Json<Settle>,
) -> Answer<Done> {
    authorize(&caller.service, &body.initiator)?;
    let (at, message) = body.branch()?;
    fault::point(format_args!("tcc.message.cancel.received"));
    app.store.branch_cancel(at, app.clock.now()).await.map_err(branch_failure)?;
    fault::point(format_args!("tcc.message.cancel.done"));
    Ok(Json(Done { state: "cancelled", message }))
}

pub(super) async fn close(
    State(app): State<App>,
    Caller(caller): Caller,
    Json(body): Json<Settle>,
) -> Answer<Closed> {
    authorize(&caller.service, &body.initiator)?;
    let (at, _) = body.branch()?;
    let closed = app.store.branch_close(at, app.clock.now()).await;
    let tried = closed.map_err(branch_failure)?;
    fault::point(format_args!("tcc.message.close.done"));
    Ok(Json(Closed { tried }))
}

/// Only the initiator itself may speak for its transactions.
fn authorize(caller: &str, initiator: &str) -> Result<(), Failure> {
    if caller == initiator {
        return Ok(());
    }
    let detail = "a branch is driven by the service that began its transaction";
    Err(Problem::new(StatusCode::FORBIDDEN, "tcc.initiator", detail)
        .field("initiator", "must be the calling service")
        .into())
}

impl Settle {
    fn branch(self) -> Result<(Branch, MessageId), Failure> {
        let Self { xid, branch, initiator } = self;
        if !wire::is_name(&initiator) {
            let detail = "the branch cannot be what it says; see errors";
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            let problem = Problem::new(status, "message.invalid", detail);
            return Err(problem.field("initiator", wire::NAME_RULE).into());
        }
        Ok((Branch { xid, branch, initiator }, MessageId::of_branch(xid, branch)))
    }
}
