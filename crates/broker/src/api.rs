//! The HTTP face: who may ask what, what is checked, what is answered.

mod branch;
mod messages;
mod operate;

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use tradewind_base::{Clock, Problem};
use tradewind_service::Failure;
use tradewind_service::answer::chain;
use tradewind_service::axum::Router;
use tradewind_service::axum::routing::{get, post, put};
use tradewind_sql::TransactionError;

use crate::dispatch::Dispatcher;
use crate::store::{BranchError, MessageError, Store};

/// The description of this API.
const OPENAPI: &str = include_str!("openapi.json");

/// What the handlers share.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) branch_grace: Duration,
    pub(crate) check_first: Duration,
}

pub(crate) fn router(app: App) -> Router {
    Router::new()
        .route("/messages/v1/publish", post(messages::publish))
        .route("/messages/v1/publish-all", post(messages::publish_all))
        .route("/messages/v1/half", post(messages::prepare))
        .route("/messages/v1/half/{id}/commit", post(messages::commit))
        .route("/messages/v1/half/{id}/rollback", post(messages::roll_back))
        .route("/messages/v1/messages", get(messages::list))
        .route("/messages/v1/messages/{id}", get(messages::find))
        .route("/messages/v1/subscriptions", get(operate::subscriptions))
        .route(
            "/messages/v1/subscriptions/{subscriber}/{topic}",
            put(operate::subscribe).delete(operate::unsubscribe),
        )
        .route("/messages/v1/dead", get(operate::dead))
        .route("/messages/v1/dead/replay", post(operate::replay_many))
        .route("/messages/v1/dead/{id}/{subscriber}/replay", post(operate::replay_one))
        .route("/messages/v1/parked", get(operate::parked))
        .route("/messages/v1/parked/{id}/commit", post(operate::resolve_commit))
        .route("/messages/v1/parked/{id}/rollback", post(operate::resolve_roll_back))
        .route("/tcc/message/try", post(branch::reserve))
        .route("/tcc/message/confirm", post(branch::confirm))
        .route("/tcc/message/trys", post(branch::reserve_all))
        .route("/tcc/message/confirms", post(branch::confirm_all))
        .route("/tcc/message/cancel", post(branch::cancel))
        .route("/tcc/message/close", post(branch::close))
        .route("/openapi.json", get(openapi))
        .with_state(app)
}

async fn openapi() -> ([(http::HeaderName, HeaderValue); 1], &'static str) {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], OPENAPI)
}

/// A refusal that is the caller's to mend.
fn refused(status: StatusCode, code: &str, detail: impl Into<String>) -> Failure {
    Problem::new(status, code, detail).into()
}

/// The database gave no answer: the log has the reason, the caller learns when to come back.
fn unavailable(error: &(dyn std::error::Error + 'static)) -> Failure {
    tracing::error!(error = chain(error), "message storage failed");
    Problem::unavailable("message.storage", "messages cannot be stored or read for now").into()
}

fn message_failure(error: TransactionError<MessageError>) -> Failure {
    match error {
        TransactionError::Refused(error) => of_message(&error),
        other => unavailable(&other),
    }
}

fn of_message(error: &MessageError) -> Failure {
    let text = error.to_string();
    match error {
        MessageError::Sql(_) => unavailable(error),
        MessageError::Unknown(_) => refused(StatusCode::NOT_FOUND, "message.unknown", text),
        MessageError::Reused(_) => refused(StatusCode::CONFLICT, "message.id-reused", text),
        MessageError::Conflict { .. } => refused(StatusCode::CONFLICT, "message.conflict", text),
        MessageError::OfBranch(_) => refused(StatusCode::CONFLICT, "message.of-branch", text),
    }
}

fn branch_failure(error: TransactionError<BranchError>) -> Failure {
    let error = match error {
        TransactionError::Refused(BranchError::Message(error)) => return of_branch(&error),
        TransactionError::Refused(error) => error,
        other => return unavailable(&other),
    };
    let text = error.to_string();
    let code = match error {
        BranchError::Suspended => "tcc.suspended",
        BranchError::Expired => "tcc.expired",
        BranchError::Conflict => "tcc.conflict",
        BranchError::NoTry => "tcc.no-try",
        BranchError::Mismatch => "tcc.mismatch",
        BranchError::Message(_) => "tcc.refused",
    };
    if matches!(error, BranchError::Conflict | BranchError::NoTry | BranchError::Mismatch) {
        tracing::error!(code, "a branch was called against its state");
    }
    refused(StatusCode::CONFLICT, code, text)
}

fn of_branch(error: &MessageError) -> Failure {
    match error {
        MessageError::Sql(_) => unavailable(error),
        // The id is derived from the branch: somebody used it for another message before.
        MessageError::Reused(_) => refused(StatusCode::CONFLICT, "tcc.refused", error.to_string()),
        MessageError::Unknown(_) | MessageError::Conflict { .. } | MessageError::OfBranch(_) => {
            tracing::error!(error = chain(error), "fence and message of a branch do not agree");
            refused(StatusCode::CONFLICT, "tcc.conflict", error.to_string())
        }
    }
}
