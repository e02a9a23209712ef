//! The JSON HTTP API.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tradewind_base::id::Xid;
use tradewind_base::{Problem, Timestamp};
use tradewind_discovery::ServiceName;
use tradewind_service::axum::extract::State;
use tradewind_service::axum::http::{StatusCode, header::CONTENT_TYPE};
use tradewind_service::axum::response::IntoResponse;
use tradewind_service::axum::{
    Router,
    routing::{get, post},
};
use tradewind_service::{Answer, Caller, Failure, Json, Path};
use tradewind_sql::{Database, Error, Transaction, TransactionError};
use tradewind_transaction::engine::{BRANCHES_MAX, Declaration, Found};
use tradewind_transaction::machine::fence::LIMIT_MAX;
use tradewind_transaction::machine::global::{Phase, Refused};
use tradewind_transaction::wire::Stuck;
use tradewind_transaction::{Engine, LogError, Tried};

const OPENAPI: &str = include_str!("openapi.json");

/// Between the caller's service and its transaction's name, as the log keeps them.
const MARK: char = '/';

/// The longest name of a transaction.
const NAME_MAX: usize = 40;

#[derive(Clone)]
struct App {
    engine: Engine,
    database: Database,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Begin {
    #[serde(default)]
    xid: Option<Xid>,
    name: String,
    limit_ms: u64,
    branches: Vec<BranchBody>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BranchBody {
    service: String,
    action: String,
    payload: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Abort {
    reason: String,
}

/// How far a transaction is.
#[derive(Serialize)]
struct View {
    xid: Xid,
    name: String,
    phase: Phase,
    begun_ms: i64,
    deadline_ms: i64,
}

/// What came of trying.
#[derive(Serialize)]
struct TriedBody {
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Box<Problem>>,
}

pub(crate) fn router(engine: Engine, database: Database) -> Router {
    Router::new()
        .route("/coordinator/v1/transactions", post(begin))
        .route("/coordinator/v1/transactions/{xid}", get(find))
        .route("/coordinator/v1/transactions/{xid}/try", post(try_all))
        .route("/coordinator/v1/transactions/{xid}/commit", post(commit))
        .route("/coordinator/v1/transactions/{xid}/abort", post(abort))
        .route("/coordinator/v1/stuck", get(stuck))
        .route("/coordinator/v1/openapi.json", get(openapi))
        .with_state(App { engine, database })
}

async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], OPENAPI)
}

async fn stuck(State(app): State<App>, _caller: Caller) -> Answer<Stuck> {
    Ok(Json(app.engine.stuck().await.map_err(|error| Failure::internal(&error))?))
}

async fn begin(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<Begin>,
) -> Result<(StatusCode, Json<View>), Failure> {
    let declaration = declare(&app.engine, &caller, &body)?;
    let xid = declaration.xid();
    let engine = app.engine.clone();
    let begun = app.database.transaction("begin", move |tx| engine.begin(tx, &declaration)).await;
    let status = match begun {
        Ok(()) => StatusCode::CREATED,
        // The same again, or somebody else's: the look below tells.
        Err(TransactionError::Refused(LogError::Taken { .. })) => StatusCode::OK,
        Err(error) => return Err(refused(error)),
    };
    Ok((status, Json(app.view(&caller, xid).await?)))
}

async fn find(State(app): State<App>, caller: Caller, Path(xid): Path<Xid>) -> Answer<View> {
    Ok(Json(app.view(&caller, xid).await?))
}

async fn try_all(
    State(app): State<App>,
    caller: Caller,
    Path(xid): Path<Xid>,
) -> Answer<TriedBody> {
    let view = app.view(&caller, xid).await?;
    let engine = app.engine.clone();
    let resumed = app.database.read("resume", move |tx| engine.resume(tx, xid)).await;
    let Some(declaration) = resumed.map_err(|error| log_failed(&error))? else {
        return Err(decided(view.phase).into());
    };
    let tried = Box::pin(app.engine.try_all(&declaration)).await;
    let (outcome, branch, service, problem) = match tried {
        Tried::Reserved => ("reserved", None, None, None),
        Tried::Refused { branch, service, problem } => {
            ("refused", Some(branch), Some(service), Some(problem))
        }
        Tried::Unavailable { branch, service, problem } => {
            ("unavailable", Some(branch), Some(service), Some(problem))
        }
    };
    Ok(Json(TriedBody { outcome, branch, service, problem }))
}

async fn commit(State(app): State<App>, caller: Caller, Path(xid): Path<Xid>) -> Answer<View> {
    app.view(&caller, xid).await?;
    let engine = app.engine.clone();
    app.database.transaction("commit", move |tx| engine.commit(tx, xid)).await.map_err(refused)?;
    app.engine.settle(xid);
    Ok(Json(app.view(&caller, xid).await?))
}

async fn abort(
    State(app): State<App>,
    caller: Caller,
    Path(xid): Path<Xid>,
    Json(body): Json<Abort>,
) -> Answer<View> {
    app.view(&caller, xid).await?;
    let reason: String = body.reason.chars().take(200).collect();
    app.engine.abort_now(xid, &reason).await.map_err(refused)?;
    Ok(Json(app.view(&caller, xid).await?))
}

impl App {
    /// How far a transaction of this caller is; another's is as unknown as one that is not there.
    async fn view(&self, caller: &Caller, xid: Xid) -> Result<View, Failure> {
        let engine = self.engine.clone();
        let work = move |tx: &mut Transaction<'_>| engine.find(tx, xid);
        let found = self.database.read("find", work).await.map_err(|error| log_failed(&error))?;
        let unknown = || {
            let detail = "there is no such transaction of this service";
            Problem::new(StatusCode::NOT_FOUND, "coordinator.unknown", detail)
        };
        let Found { phase, deadline, name, begun } = found.ok_or_else(unknown)?;
        let (owner, name) = name.split_once(MARK).ok_or_else(unknown)?;
        if owner != caller.0.service {
            return Err(unknown().into());
        }
        let millis = |it: Timestamp| it.millis();
        let (begun_ms, deadline_ms) = (millis(begun), millis(deadline));
        Ok(View { xid, name: name.to_owned(), phase, begun_ms, deadline_ms })
    }
}

fn declare(engine: &Engine, caller: &Caller, body: &Begin) -> Result<Declaration, Failure> {
    let wrong = |field: String, message: &str| {
        let detail = "the transaction cannot begin as it is declared";
        Failure::from(
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "coordinator.declaration", detail)
                .field(field, message),
        )
    };
    let plain = |text: &str, max: usize| {
        let fits = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || b"-.".contains(&it);
        !text.is_empty() && text.len() <= max && text.bytes().all(fits)
    };
    if !plain(&body.name, NAME_MAX) {
        let message = "must be 1 to 40 lower-case letters, digits, `-` or `.`";
        return Err(wrong("name".into(), message));
    }
    let limit = Duration::from_millis(body.limit_ms);
    if limit.is_zero() || LIMIT_MAX < limit {
        return Err(wrong("limit_ms".into(), "must be 1 to 3600000"));
    }
    if body.branches.is_empty() || BRANCHES_MAX < body.branches.len() {
        return Err(wrong("branches".into(), "must be 1 to 32"));
    }
    let name = format!("{}{MARK}{}", caller.0.service, body.name);
    let mut declaration = match body.xid {
        Some(xid) => engine.declare_as(xid, name, limit),
        None => engine.declare(name, limit),
    };
    for (at, branch) in body.branches.iter().enumerate() {
        if ServiceName::parse(&branch.service).is_err() {
            return Err(wrong(format!("branches[{at}].service"), "must be a service name"));
        }
        if !plain(&branch.action, 64) {
            let message = "must be 1 to 64 lower-case letters, digits, `-` or `.`";
            return Err(wrong(format!("branches[{at}].action"), message));
        }
        declaration = declaration
            .branch(&branch.service, &branch.action, &branch.payload)
            .map_err(|error| wrong(format!("branches[{at}]"), &error.to_string()))?;
    }
    Ok(declaration)
}

fn refused(error: TransactionError<LogError>) -> Failure {
    match error {
        TransactionError::Refused(LogError::Refused { source, .. }) => match source {
            Refused::Expired => {
                let detail = "the deadline has passed; it will be aborted";
                Problem::new(StatusCode::CONFLICT, "coordinator.expired", detail).into()
            }
            Refused::Committed => decided(Phase::Committed).into(),
            Refused::Aborted => decided(Phase::Aborted).into(),
        },
        TransactionError::Busy => {
            Problem::unavailable("coordinator.busy", "too much is waiting; nothing was done").into()
        }
        error => Failure::internal(&error),
    }
}

fn decided(phase: Phase) -> Problem {
    let (code, detail) = match phase {
        Phase::Committing | Phase::Committed => {
            ("coordinator.committed", "the transaction is committed")
        }
        Phase::Trying | Phase::Aborting | Phase::Aborted => {
            ("coordinator.aborted", "the transaction is aborted")
        }
    };
    Problem::new(StatusCode::CONFLICT, code, detail)
}

fn log_failed(error: &TransactionError<Error>) -> Failure {
    match error {
        TransactionError::Busy => {
            Problem::unavailable("coordinator.busy", "too much is waiting; nothing was done").into()
        }
        error => Failure::internal(error),
    }
}
