//! The admin API: routes as JSON, for whoever has the token.
//!
//! | request | answer |
//! |---|---|
//! | `GET /routes` | all rows |
//! | `POST /routes` | 201 with the row, which is in force; 409 when the id or the path is taken |
//! | `GET /routes/{id}` | the row |
//! | `PUT /routes/{id}` | the row, created or replaced and in force |
//! | `DELETE /routes/{id}` | 204; out of force |
//! | `GET /routes/status` | revision, routes in force, rows refused and why |
//! | `GET /routes/metrics` | counters and timings per route |
//!
//! A row that makes no sense is answered 422 with the field at fault.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;
use tradewind_base::Problem;
use tradewind_service::answer::chain;
use tradewind_service::axum::extract::{FromRequestParts, State};
use tradewind_service::axum::http::request::Parts;
use tradewind_service::axum::http::{StatusCode, header::LOCATION};
use tradewind_service::axum::response::IntoResponse;
use tradewind_service::axum::routing::get;
use tradewind_service::axum::{Router, response::Response};
use tradewind_service::{AdminToken, Answer, Failure, Json, Path};
use tradewind_sql::ErrorKind;

use crate::machine::route::{self, Route, RouteRow, Upstream};
use crate::proxy::gate::Gate;
use crate::routing::Report;
use crate::stats::RouteNumbers;
use crate::store::{Edit, EditError, Store};

/// Ids that name other resources beside `/routes/{id}`.
const RESERVED: [&str; 2] = ["status", "metrics"];

/// What the handlers need.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) store: Arc<Store>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) token: AdminToken,
}

/// Proof that the request bears the admin token.
struct Authorized;

impl FromRequestParts<Admin> for Authorized {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Failure> {
        admin.token.authorize(&parts.headers).map(|()| Self)
    }
}

pub(crate) fn router(admin: Admin) -> Router {
    Router::new()
        .route("/routes", get(list).post(create))
        .route("/routes/status", get(status))
        .route("/routes/metrics", get(numbers))
        .route("/routes/{id}", get(read).put(replace).delete(delete))
        .with_state(admin)
}

impl From<EditError> for Failure {
    fn from(error: EditError) -> Self {
        let conflict = |code, field: &str| {
            let text = error.to_string();
            Problem::new(StatusCode::CONFLICT, code, text.clone()).field(field, text)
        };
        match &error {
            EditError::Exists(_) => conflict("routes.exists", "id").into(),
            EditError::PathTaken { .. } => conflict("routes.path-taken", "path").into(),
            EditError::Unknown(_) => {
                Problem::new(StatusCode::NOT_FOUND, "routes.unknown", error.to_string()).into()
            }
            EditError::Absent | EditError::Unavailable(_) => {
                tracing::warn!(error = %error, "an edit of the routes was refused");
                Problem::unavailable("routes.database", "the database of the routes is not there")
                    .into()
            }
            EditError::Database(cause) if is_outage(cause.kind()) => {
                tracing::warn!(error = chain(&error), "the routes cannot be read or written");
                let detail = match cause.kind() {
                    ErrorKind::Full => "the database of the routes is full",
                    _ => "the database of the routes cannot be used; the log says why",
                };
                Problem::unavailable("routes.database", detail).into()
            }
            EditError::Database(_) => Self::internal(&error),
        }
    }
}

/// Whether it is the database's state that is at fault, which its operator can mend.
const fn is_outage(kind: ErrorKind) -> bool {
    use ErrorKind as K;
    matches!(
        kind,
        K::Full
            | K::ReadOnly
            | K::Connection
            | K::Storage
            | K::Busy
            | K::Interrupted
            | K::Statement
    )
}

fn checked(row: &RouteRow) -> Result<(), Failure> {
    let refuse = |field: &str, reason: &str| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "routes.invalid", "the route is not usable")
            .field(field, reason)
            .into()
    };
    if RESERVED.contains(&&*row.id) {
        return Err(refuse("id", "is the name of another resource"));
    }
    // Switched off or not: what is written through here makes sense.
    route::check(row).map_err(|it| refuse(it.field, &it.reason))?;
    Ok(())
}

async fn list(_: Authorized, State(admin): State<Admin>) -> Answer<Vec<RouteRow>> {
    Ok(Json(admin.store.rows().await?))
}

async fn find(admin: &Admin, id: &str) -> Result<RouteRow, Failure> {
    let rows = admin.store.rows().await?;
    let found = rows.into_iter().find(|it| it.id == id);
    found.ok_or_else(|| EditError::Unknown(id.to_owned()).into())
}

async fn read(
    _: Authorized,
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Answer<RouteRow> {
    Ok(Json(find(&admin, &id).await?))
}

async fn create(
    _: Authorized,
    State(admin): State<Admin>,
    Json(row): Json<RouteRow>,
) -> Result<Response, Failure> {
    checked(&row)?;
    admin.store.edit(Edit::Create(row.clone())).await?;
    tracing::info!(route = row.id, path = row.path, "route created");
    let location = [(LOCATION, format!("/routes/{}", row.id))];
    Ok((StatusCode::CREATED, location, Json(row)).into_response())
}

async fn replace(
    _: Authorized,
    State(admin): State<Admin>,
    Path(id): Path<String>,
    Json(mut row): Json<RouteRow>,
) -> Answer<RouteRow> {
    if row.id.is_empty() {
        row.id.clone_from(&id);
    }
    if row.id != id {
        let problem = Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "routes.invalid",
            "a route keeps its id; create another one instead",
        );
        return Err(problem.field("id", "differs from the one in the path").into());
    }
    checked(&row)?;
    admin.store.edit(Edit::Replace(row.clone())).await?;
    tracing::info!(route = row.id, path = row.path, "route replaced");
    Ok(Json(row))
}

async fn delete(
    _: Authorized,
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    admin.store.edit(Edit::Delete(id.clone())).await?;
    tracing::info!(route = id, "route deleted");
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Serialize)]
struct Status {
    revision: u64,
    routes: Vec<InForce>,
    rejected: Vec<Report>,
    tokens: &'static str,
    connections: usize,
    in_flight: usize,
    access_log_lines_dropped: u64,
    pools: Pools,
}

#[derive(Serialize)]
struct Pools {
    active: usize,
    idle: usize,
    waiting: usize,
}

#[derive(Serialize)]
struct InForce {
    id: Arc<str>,
    path: String,
    to: String,
    strips: String,
    retryable: bool,
    auth: route::AuthPolicy,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_name: Option<String>,
}

impl InForce {
    fn new(route: &Route) -> Self {
        Self {
            id: Arc::clone(&route.id),
            path: route.pattern.to_string(),
            to: match &route.upstream {
                Upstream::Service(name) => format!("service {name}"),
                Upstream::Url(url) => {
                    let scheme = if url.secure { "https" } else { "http" };
                    format!("{scheme}://{}:{}{}", url.host, url.port, url.base)
                }
            },
            strips: route.strip.to_string(),
            retryable: route.retryable,
            auth: route.auth,
            api_name: route.api_name.as_deref().map(ToOwned::to_owned),
        }
    }
}

async fn status(_: Authorized, State(admin): State<Admin>) -> Json<Status> {
    let gate = &admin.gate;
    let snapshot = gate.routing.load();
    Json(Status {
        revision: snapshot.revision,
        routes: snapshot.routes().iter().map(|it| InForce::new(it)).collect(),
        rejected: snapshot.reports.clone(),
        tokens: if gate.tokens.ready() { "keys known" } else { "no keys yet" },
        connections: gate.connections.load(Ordering::Relaxed),
        in_flight: gate.inflight.load(Ordering::Relaxed),
        access_log_lines_dropped: gate.log.dropped(),
        pools: Pools {
            active: gate.pools.active.load(Ordering::Relaxed),
            idle: gate.pools.idle.load(Ordering::Relaxed),
            waiting: gate.pools.waiting.load(Ordering::Relaxed),
        },
    })
}

async fn numbers(_: Authorized, State(admin): State<Admin>) -> Json<Vec<RouteNumbers>> {
    Json(admin.gate.routing.numbers(admin.gate.clock.monotonic()))
}
