//! The JSON HTTP API.

use std::time::Duration;

use tradewind_base::id::Xid;
use tradewind_base::{Problem, fault};
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
use tradewind_transaction::machine::asked;
use tradewind_transaction::machine::fence::LIMIT_MAX;
use tradewind_transaction::machine::global::{Phase, Refused};
use tradewind_transaction::wire::Stuck;
use tradewind_transaction::wire::coordinator::{self as wire, Abort, Begin, Outcome, Try, View};
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

/// Why a local transaction did nothing.
#[derive(Debug, thiserror::Error)]
enum WorkError {
    #[error("the database failed")]
    Sql(#[from] Error),
    #[error("the log did not take the step")]
    Log(#[from] LogError),
    #[error("told to the caller: {}", .0.code)]
    Told(Box<Problem>),
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
    let declaration = declare(&app.engine, &caller, &body, body.xid)?;
    match app.begin(&caller, &declaration).await? {
        Begun::Now => Ok((StatusCode::CREATED, Json(app.view(&caller, declaration.xid()).await?))),
        Begun::Before(view) => Ok((StatusCode::OK, Json(view))),
    }
}

async fn find(State(app): State<App>, caller: Caller, Path(xid): Path<Xid>) -> Answer<View> {
    Ok(Json(app.view(&caller, xid).await?))
}

async fn try_all(
    State(app): State<App>,
    caller: Caller,
    Path(xid): Path<Xid>,
    Json(body): Json<Try>,
) -> Answer<wire::Tried> {
    let declaration = match &body.begin {
        Some(it) if it.xid.is_some_and(|it| it != xid) => {
            return Err(undeclarable("begin.xid".into(), "must be the one of the path"));
        }
        Some(it) => {
            let declaration = declare(&app.engine, &caller, it, Some(xid))?;
            match app.begin(&caller, &declaration).await? {
                Begun::Now => declaration,
                Begun::Before(_) => app.resume(&caller, xid).await?,
            }
        }
        None => app.resume(&caller, xid).await?,
    };
    fault::point(format_args!("coordinator.begun"));
    let tried = Box::pin(app.engine.try_all(&declaration)).await;
    fault::point(format_args!("coordinator.tried"));
    let (outcome, branch, service, problem) = match tried {
        Tried::Reserved => (Outcome::Reserved, None, None, None),
        Tried::Refused { branch, service, problem } => {
            (Outcome::Refused, Some(branch), Some(service), Some(problem))
        }
        Tried::Unavailable { branch, service, problem } => {
            (Outcome::Unavailable, Some(branch), Some(service), Some(problem))
        }
    };
    Ok(Json(wire::Tried { outcome, branch, service, problem }))
}

async fn commit(State(app): State<App>, caller: Caller, Path(xid): Path<Xid>) -> Answer<View> {
    let view = app.decide(&caller, xid, move |engine, tx| engine.commit(tx, xid)).await?;
    fault::point(format_args!("coordinator.committed"));
    app.engine.settle(xid);
    Ok(Json(view))
}

async fn abort(
    State(app): State<App>,
    caller: Caller,
    Path(xid): Path<Xid>,
    Json(body): Json<Abort>,
) -> Answer<View> {
    let reason: String = body.reason.chars().take(200).collect();
    // What is not known yet is not to begin any more.
    app.engine.outcome(xid).await.map_err(|error| log_failed(&error))?;
    let given_up = app.view(&caller, xid).await?;
    if given_up.name.is_empty() {
        return Ok(Json(given_up));
    }
    let view = app.decide(&caller, xid, move |engine, tx| engine.abort(tx, xid, &reason)).await?;
    fault::point(format_args!("coordinator.aborted"));
    app.engine.settle(xid);
    Ok(Json(view))
}

enum Begun {
    Now,
    Before(View),
}

impl App {
    async fn begin(&self, caller: &Caller, declaration: &Declaration) -> Result<Begun, Failure> {
        let (engine, it) = (self.engine.clone(), declaration.clone());
        let begun = self.database.transaction("begin", move |tx| engine.begin(tx, &it)).await;
        match begun {
            Ok(()) => Ok(Begun::Now),
            // The same again, or somebody else's: the look tells.
            Err(TransactionError::Refused(LogError::Taken { xid })) => {
                let view = self.view(caller, xid).await?;
                if view.name.is_empty() {
                    return Err(decided(view.phase).into());
                }
                Ok(Begun::Before(view))
            }
            Err(error) => Err(refused(error)),
        }
    }

    /// What has begun and is to be tried.
    async fn resume(&self, caller: &Caller, xid: Xid) -> Result<Declaration, Failure> {
        let view = self.view(caller, xid).await?;
        let engine = self.engine.clone();
        let resumed = self.database.read("resume", move |tx| engine.resume(tx, xid)).await;
        let resumed = resumed.map_err(|error| log_failed(&error))?;
        resumed.ok_or_else(|| decided(view.phase).into())
    }

    /// Decides a transaction of this caller, in one local transaction with the look at whose it is.
    async fn decide(
        &self,
        caller: &Caller,
        xid: Xid,
        step: impl Fn(&Engine, &mut Transaction<'_>) -> Result<(), LogError> + Send + 'static,
    ) -> Result<View, Failure> {
        let (engine, service) = (self.engine.clone(), caller.0.service.clone());
        let work = move |tx: &mut Transaction<'_>| {
            let view = mine(engine.find(tx, xid)?, xid, &service).map_err(WorkError::Told)?;
            if view.name.is_empty() {
                return Err(WorkError::Told(Box::new(decided(view.phase))));
            }
            step(&engine, tx)?;
            mine(engine.find(tx, xid)?, xid, &service).map_err(WorkError::Told)
        };
        self.database.transaction("decide", work).await.map_err(|error| match error {
            TransactionError::Refused(WorkError::Told(problem)) => (*problem).into(),
            TransactionError::Refused(WorkError::Log(error)) => {
                refused(TransactionError::Refused(error))
            }
            TransactionError::Busy => busy().into(),
            error => Failure::internal(&error),
        })
    }

    async fn view(&self, caller: &Caller, xid: Xid) -> Result<View, Failure> {
        let engine = self.engine.clone();
        let work = move |tx: &mut Transaction<'_>| engine.find(tx, xid);
        let found = self.database.read("find", work).await.map_err(|error| log_failed(&error))?;
        mine(found, xid, &caller.0.service).map_err(|it| (*it).into())
    }
}

/// How far a transaction of this service is; another's is as unknown as one that is not there.
/// What was given up before it began is nobody's, and has no name.
fn mine(found: Option<Found>, xid: Xid, service: &str) -> Result<View, Box<Problem>> {
    let unknown = || {
        let detail = "there is no such transaction of this service";
        Box::new(Problem::new(StatusCode::NOT_FOUND, asked::UNKNOWN, detail))
    };
    let Found { phase, deadline, name, begun, .. } = found.ok_or_else(unknown)?;
    let name = match name.split_once(MARK) {
        Some((owner, name)) if owner == service => name.to_owned(),
        None if name.is_empty() => name,
        Some(_) | None => return Err(unknown()),
    };
    Ok(View { xid, name, phase, begun_ms: begun.millis(), deadline_ms: deadline.millis() })
}

fn undeclarable(field: String, message: &str) -> Failure {
    let detail = "the transaction cannot begin as it is declared";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, asked::DECLARATION, detail)
        .field(field, message)
        .into()
}

fn declare(
    engine: &Engine,
    caller: &Caller,
    body: &Begin,
    xid: Option<Xid>,
) -> Result<Declaration, Failure> {
    let wrong = undeclarable;
    let action = "must be 1 to 64 lower-case letters, digits, `-` or `.`";
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
    let mut declaration = match xid {
        Some(xid) => engine.declare_as(xid, name, limit),
        None => engine.declare(name, limit),
    };
    for (at, branch) in body.branches.iter().enumerate() {
        if ServiceName::parse(&branch.service).is_err() {
            return Err(wrong(format!("branches[{at}].service"), "must be a service name"));
        }
        if !plain(&branch.action, 64) {
            return Err(wrong(format!("branches[{at}].action"), action));
        }
        declaration = declaration
            .branch(&branch.service, &branch.action, &branch.payload)
            .map_err(|error| wrong(format!("branches[{at}]"), &error.to_string()))?;
    }
    match &body.own {
        Some(own) if plain(own, 64) => Ok(declaration.reserved(&caller.0.service, own)),
        Some(_) => Err(wrong("own".into(), action)),
        None => Ok(declaration),
    }
}

fn refused(error: TransactionError<LogError>) -> Failure {
    match error {
        TransactionError::Refused(LogError::Refused { source, .. }) => match source {
            Refused::Expired => {
                let detail = "the deadline has passed; it will be aborted";
                Problem::new(StatusCode::CONFLICT, asked::EXPIRED, detail).into()
            }
            Refused::Committed => decided(Phase::Committed).into(),
            Refused::Aborted => decided(Phase::Aborted).into(),
        },
        TransactionError::Busy => busy().into(),
        error => Failure::internal(&error),
    }
}

fn decided(phase: Phase) -> Problem {
    let (code, detail) = match phase {
        Phase::Committing | Phase::Committed => (asked::COMMITTED, "the transaction is committed"),
        Phase::Trying | Phase::Aborting | Phase::Aborted => {
            (asked::ABORTED, "the transaction is aborted")
        }
    };
    Problem::new(StatusCode::CONFLICT, code, detail)
}

fn log_failed(error: &TransactionError<Error>) -> Failure {
    match error {
        TransactionError::Busy => busy().into(),
        error => Failure::internal(error),
    }
}

fn busy() -> Problem {
    Problem::unavailable("coordinator.busy", "too much is waiting; nothing was done")
}
