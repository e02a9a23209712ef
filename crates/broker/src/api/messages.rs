//! Publishing, half messages, looking up.

use futures_util::future::join_all;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tradewind_base::id::Xid;
use tradewind_base::{Context, Problem, TraceContext};
use tradewind_message::wire::{self, Half, MessageId, Publish, PublishAll, Published, Receipt};
use tradewind_service::axum::extract::State;
use tradewind_service::{Answer, Caller, Failure, Json, Path, Query};

use super::{App, message_failure, refused, unavailable};
use crate::machine::message::Word;
use crate::store::{Detail, NewMessage};

/// The most messages of one answer.
pub(super) const LIST_MAX: u32 = 200;

/// A list.
#[derive(Debug, Serialize)]
pub(super) struct Items<T> {
    pub(super) items: Vec<T>,
}

#[derive(Debug, Deserialize)]
pub(super) struct By {
    key: Option<String>,
    xid: Option<Xid>,
}

pub(super) async fn publish(
    State(app): State<App>,
    Caller(_): Caller,
    Json(it): Json<Publish>,
) -> Answer<Receipt> {
    let message = checked(it, invalid())?;
    let done = app.store.publish(message, app.clock.now()).await.map_err(message_failure)?;
    app.dispatcher.hand_over(&done);
    Ok(Json(done.receipt))
}

/// Several at once; which of them are stored. The others are published alone.
pub(super) async fn publish_all(
    State(app): State<App>,
    Caller(caller): Caller,
    Json(all): Json<PublishAll>,
) -> Answer<Published> {
    if PublishAll::MAX < all.messages.len() {
        return Err(invalid().field("messages", "are too many").into());
    }
    let mut traces = all.traces.into_iter();
    let asked = all.messages.into_iter().map(|it| {
        let trace = traces.next().as_deref().and_then(TraceContext::parse);
        let context = Context { trace, ..Context::current() };
        context.scope(publish(State(app.clone()), Caller(caller.clone()), Json(it)))
    });
    let done = join_all(asked).await.iter().map(Result::is_ok).collect();
    Ok(Json(Published { done }))
}

pub(super) async fn prepare(
    State(app): State<App>,
    Caller(_): Caller,
    Json(it): Json<Half>,
) -> Answer<Receipt> {
    let mut problem = invalid();
    let Half { id, topic, key, kind, source, data, check } = it;
    if !wire::is_name(&check.service) {
        problem = problem.field("check.service", wire::NAME_RULE);
    }
    if !wire::is_path(&check.path) {
        problem = problem.field("check.path", wire::PATH_RULE);
    }
    let message = checked(Publish { id, topic, key, kind, source, data }, problem)?;
    let now = app.clock.now();
    let first_check = now + app.check_first;
    let done = app.store.prepare(message, check, first_check, now).await;
    Ok(Json(done.map_err(message_failure)?.receipt))
}

pub(super) async fn commit(
    State(app): State<App>,
    Caller(_): Caller,
    Path(id): Path<MessageId>,
) -> Answer<Receipt> {
    say(&app, id, Word::Commit).await
}

pub(super) async fn roll_back(
    State(app): State<App>,
    Caller(_): Caller,
    Path(id): Path<MessageId>,
) -> Answer<Receipt> {
    say(&app, id, Word::RollBack).await
}

pub(super) async fn say(app: &App, id: MessageId, word: Word) -> Answer<Receipt> {
    let done = app.store.say(id, word, app.clock.now()).await.map_err(message_failure)?;
    app.dispatcher.hand_over(&done);
    Ok(Json(done.receipt))
}

pub(super) async fn find(
    State(app): State<App>,
    Caller(_): Caller,
    Path(id): Path<MessageId>,
) -> Answer<Detail> {
    let found = app.store.message(id).await.map_err(|it| unavailable(&it))?;
    let unknown = || refused(StatusCode::NOT_FOUND, "message.unknown", format!("no message {id}"));
    found.map(Json).ok_or_else(unknown)
}

pub(super) async fn list(
    State(app): State<App>,
    Caller(_): Caller,
    Query(query): Query<By>,
) -> Answer<Items<Detail>> {
    if let Some(xid) = query.xid {
        let items = app.store.messages_of_xid(xid).await.map_err(|it| unavailable(&it))?;
        return Ok(Json(Items { items }));
    }
    let key = query.key.unwrap_or_default();
    if !wire::is_text(&key) {
        let detail = "messages are looked up by what they are about, or by their transaction";
        let problem = Problem::new(StatusCode::BAD_REQUEST, "message.bad-query", detail);
        return Err(problem.field("query:key", "must be 1 to 128 visible ASCII characters").into());
    }
    let items = app.store.messages_of(key, LIST_MAX).await.map_err(|it| unavailable(&it))?;
    Ok(Json(Items { items }))
}

fn invalid() -> Problem {
    let detail = "the message cannot be taken; see errors";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "message.invalid", detail)
}

fn checked(it: Publish, problem: Problem) -> Result<NewMessage, Failure> {
    let Publish { id, topic, key, kind, source, data } = it;
    let problem = wire::check_parts(problem, [&topic, &key, &kind, &source], &data);
    if !problem.errors.is_empty() {
        return Err(problem.into());
    }
    let trace = Context::current().trace;
    let data = data.get().to_owned();
    Ok(NewMessage { id, topic, key, kind, source, data, trace })
}
