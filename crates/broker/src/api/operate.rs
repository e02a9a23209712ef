//! Subscriptions, dead letters, parked messages.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use tradewind_base::Problem;
use tradewind_message::batch::EVENTS_MAX;
use tradewind_message::wire::{self, MessageId, Receipt, State as Stands, Subscribe};
use tradewind_service::axum::extract::State;
use tradewind_service::{Answer, Caller, Failure, Json, Path, Query};

use super::messages::{Items, LIST_MAX, say};
use super::{App, branch_failure, refused, unavailable};
use crate::machine::message::Word;
use crate::store::{Branch, DeadLetter, Detail, Lane, SubscriptionRow};

/// The most dead letters that one request gives another life.
const REPLAY_MAX: u32 = 1000;

/// Which dead letters.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    subscriber: Option<String>,
    topic: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Replayed {
    replayed: usize,
    /// Whether there were more than one request replays.
    more: bool,
}

pub(super) async fn subscriptions(
    State(app): State<App>,
    Caller(_): Caller,
) -> Answer<Items<SubscriptionRow>> {
    let items = app.store.subscriptions().await.map_err(|it| unavailable(&it))?;
    Ok(Json(Items { items }))
}

pub(super) async fn subscribe(
    State(app): State<App>,
    Caller(caller): Caller,
    Path((subscriber, topic)): Path<(String, String)>,
    Json(it): Json<Subscribe>,
) -> Answer<SubscriptionRow> {
    let mut problem = Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "message.bad-subscription",
        "the subscription cannot be taken; see errors",
    );
    let names =
        [("path:subscriber", &subscriber), ("path:topic", &topic), ("service", &it.service)];
    for (field, name) in names {
        if !wire::is_name(name) {
            problem = problem.field(field, wire::NAME_RULE);
        }
    }
    if !wire::is_path(&it.path) {
        problem = problem.field("path", wire::PATH_RULE);
    }
    if !problem.errors.is_empty() {
        return Err(problem.into());
    }
    if !caller.service.eq_ignore_ascii_case(&it.service) {
        let detail = format!("{} may subscribe itself only", caller.service);
        return Err(refused(StatusCode::FORBIDDEN, "message.not-yours", detail));
    }
    let Subscribe { service, path, together } = it;
    let together = together.min(EVENTS_MAX);
    let row = SubscriptionRow { subscriber, topic, service, path, together, active: true };
    let taken = app.store.subscribe(row.clone(), app.clock.now()).await;
    if !taken.map_err(|it| unavailable(&it))? {
        let detail = "there are as many subscriptions as there may be";
        return Err(refused(StatusCode::CONFLICT, "message.too-many-subscriptions", detail));
    }
    app.dispatcher.look();
    Ok(Json(row))
}

pub(super) async fn unsubscribe(
    State(app): State<App>,
    Caller(_): Caller,
    Path((subscriber, topic)): Path<(String, String)>,
) -> Answer<Items<SubscriptionRow>> {
    let lane = Lane { subscriber, topic };
    let off = app.store.unsubscribe(lane.clone(), app.clock.now()).await;
    if !off.map_err(|it| unavailable(&it))? {
        let detail = format!("{} does not subscribe to {}", lane.subscriber, lane.topic);
        return Err(refused(StatusCode::NOT_FOUND, "message.unknown-subscription", detail));
    }
    app.dispatcher.look();
    let all = app.store.subscriptions().await.map_err(|it| unavailable(&it))?;
    Ok(Json(Items { items: all.into_iter().filter(|it| it.lane() == lane).collect() }))
}

pub(super) async fn dead(
    State(app): State<App>,
    Caller(_): Caller,
    Query(it): Query<Which>,
) -> Answer<Items<DeadLetter>> {
    let items = app.store.dead(it.subscriber, it.topic, LIST_MAX).await;
    Ok(Json(Items { items: items.map_err(|it| unavailable(&it))? }))
}

pub(super) async fn replay_many(
    State(app): State<App>,
    Caller(_): Caller,
    Json(it): Json<Which>,
) -> Answer<Replayed> {
    replay(&app, it.subscriber, it.topic, None).await
}

pub(super) async fn replay_one(
    State(app): State<App>,
    Caller(_): Caller,
    Path((id, subscriber)): Path<(MessageId, String)>,
) -> Answer<Replayed> {
    let done = replay(&app, Some(subscriber.clone()), None, Some(id)).await?;
    if done.0.replayed == 0 {
        let detail = format!("message {id} is no dead letter of {subscriber}");
        return Err(refused(StatusCode::NOT_FOUND, "message.no-dead-letter", detail));
    }
    Ok(done)
}

async fn replay(
    app: &App,
    subscriber: Option<String>,
    topic: Option<String>,
    id: Option<MessageId>,
) -> Answer<Replayed> {
    let done = app.store.replay(subscriber, topic, id, REPLAY_MAX, app.clock.now()).await;
    let done = done.map_err(|it| unavailable(&it))?;
    app.dispatcher.look();
    Ok(Json(Replayed { replayed: done, more: done == REPLAY_MAX as usize }))
}

pub(super) async fn parked(State(app): State<App>, Caller(_): Caller) -> Answer<Items<Detail>> {
    let items = app.store.parked(LIST_MAX).await.map_err(|it| unavailable(&it))?;
    Ok(Json(Items { items }))
}

pub(super) async fn resolve_commit(
    State(app): State<App>,
    Caller(_): Caller,
    Path(id): Path<MessageId>,
) -> Answer<Receipt> {
    resolve(&app, id, Word::Commit).await
}

pub(super) async fn resolve_roll_back(
    State(app): State<App>,
    Caller(_): Caller,
    Path(id): Path<MessageId>,
) -> Answer<Receipt> {
    resolve(&app, id, Word::RollBack).await
}

/// A human's decision over a message that nobody could tell about; a branch goes by its fence.
async fn resolve(app: &App, id: MessageId, word: Word) -> Answer<Receipt> {
    let found = app.store.message(id).await.map_err(|it| unavailable(&it))?;
    let Some(it) = found else {
        return Err(refused(StatusCode::NOT_FOUND, "message.unknown", format!("no message {id}")));
    };
    if it.state != Stands::ParkedUndecided {
        let detail = format!("message {id} is not parked undecided");
        return Err(refused(StatusCode::CONFLICT, "message.not-parked", detail));
    }
    tracing::warn!(msg.id = %id, ?word, "parked message decided by hand");
    let (Some(xid), Some(branch)) = (it.xid, it.branch) else { return say(app, id, word).await };
    let at = Branch { xid, branch, initiator: it.source };
    let now = app.clock.now();
    if word == Word::Commit {
        let done = app.store.branch_confirm(at, now).await.map_err(branch_failure)?;
        if let Some(changed) = done {
            app.dispatcher.hand_over(&changed);
            return Ok(Json(changed.receipt));
        }
    } else {
        app.store.branch_cancel(at, now).await.map_err(branch_failure)?;
    }
    let after = app.store.message(id).await.map_err(|it| unavailable(&it))?;
    let gone = || Failure::from(Problem::internal());
    let after = after.ok_or_else(gone)?;
    Ok(Json(Receipt { id, state: after.state, sequence: after.sequence }))
}
