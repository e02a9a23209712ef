//! The native interface: the change stream, suspicions, and what explains the registry.

mod record;
mod sync;
mod watch;

use std::collections::BTreeMap;
use std::time::Duration;

use http::StatusCode;
use serde::Serialize;
use tradewind_base::Problem;
use tradewind_discovery::ServiceName;
use tradewind_discovery::wire::{self, InstanceRecord};
use tradewind_service::axum::Router;
use tradewind_service::axum::extract::State;
use tradewind_service::axum::routing::{get, post};
use tradewind_service::{Answer, Failure, Json, Path};

use crate::machine::{Explanation, Key, Reason, Source, Stage};
use crate::rest::App;
use crate::state::Registry;

/// The longest name of a reporter that is kept.
const BY_BYTES_MAX: usize = 128;

/// The routes.
pub(crate) fn router() -> Router<App> {
    Router::new()
        .route(wire::WATCH_PATH, get(watch::watch))
        .route(wire::SUSPICIONS_PATH, post(suspicion))
        .route(wire::SERVICES_PATH, get(services))
        .route(&format!("{}/{{service}}", wire::INSTANCES_PATH), get(instances))
        .route(wire::STATUS_PATH, get(status))
        .route(crate::peers::wire::SYNC_PATH, post(sync::sync))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn service_name(text: &str, field: &str) -> Result<ServiceName, Failure> {
    ServiceName::parse(text).map_err(|error| {
        let detail = "the service's name is not one";
        let problem = Problem::new(StatusCode::BAD_REQUEST, "registry.service-name", detail);
        problem.field(field, error.to_string()).into()
    })
}

/// A caller takes an instance for dead.
async fn suspicion(
    State(app): State<App>,
    Json(report): Json<wire::Suspicion>,
) -> Result<StatusCode, Failure> {
    let service = service_name(&report.service, "service")?;
    let key = Key::new(service.as_str(), &report.id);
    let reason = match report.reason {
        wire::Reason::Refused => Reason::Refused,
        wire::Reason::Timeout => Reason::Timeout,
        wire::Reason::Reset => Reason::Reset,
    };
    if BY_BYTES_MAX < report.by.len() || report.by.chars().any(char::is_control) {
        let problem = Problem::new(StatusCode::BAD_REQUEST, "registry.suspicion", "");
        let message = format!("at most {BY_BYTES_MAX} bytes, no control characters");
        return Err(problem.field("by", message).into());
    }
    // Reports of an instance that has just gone are as good as any other.
    app.registry.suspect(&key, reason, &report.by);
    Ok(StatusCode::ACCEPTED)
}

#[derive(Debug, Serialize)]
struct Services {
    revision: u64,
    services: Vec<ServiceCount>,
}

#[derive(Debug, Serialize)]
struct ServiceCount {
    service: String,
    instances: usize,
    up: usize,
}

async fn services(State(app): State<App>) -> Answer<Services> {
    let (revision, counts) = app.registry.read(|table, _| (table.revision(), table.counts()));
    let count = |it: crate::machine::Counts| ServiceCount {
        service: it.app.to_lowercase(),
        instances: it.total,
        up: it.up,
    };
    Ok(Json(Services { revision, services: counts.into_iter().map(count).collect() }))
}

#[derive(Debug, Serialize)]
struct Instances {
    service: String,
    instances: Vec<Explained>,
}

/// An instance and why it is in the list.
#[derive(Debug, Serialize)]
struct Explained {
    #[serde(flatten)]
    record: InstanceRecord,
    why: Why,
}

#[derive(Debug, Serialize)]
struct Why {
    /// `own`: the client registered at this node; `replicated`: a peer passed it on.
    source: &'static str,
    /// What the client says of itself, which an override may hide.
    reported: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    overridden: Option<&'static str>,
    last_heartbeat_age_ms: u64,
    lease_ms: u64,
    lease_left_ms: u64,
    late: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    suspicion: Option<Suspected>,
    /// Only protection keeps it in the list, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    protected: Option<String>,
}

#[derive(Debug, Serialize)]
struct Suspected {
    reason: &'static str,
    by: String,
    age_ms: u64,
    reports: u32,
    stage: &'static str,
}

async fn instances(State(app): State<App>, Path(service): Path<String>) -> Answer<Instances> {
    let service = service_name(&service, "path:service")?;
    let explained = app.registry.read(|table, now| table.explain_app(&service.eureka_app(), now));
    let instances = explained.into_iter().map(Explained::from).collect();
    Ok(Json(Instances { service: service.as_str().to_owned(), instances }))
}

impl From<Explanation> for Explained {
    fn from(it: Explanation) -> Self {
        let over = it.doc.overridden_status;
        let why = Why {
            source: match it.source {
                Source::Own => "own",
                Source::Peer => "replicated",
            },
            reported: it.reported.as_str(),
            overridden: (over != tradewind_eureka::Status::Unknown).then(|| over.as_str()),
            last_heartbeat_age_ms: millis(it.silent_for),
            lease_ms: millis(it.lease),
            lease_left_ms: millis(it.left),
            late: it.late,
            suspicion: it.suspicion.map(|it| Suspected {
                reason: it.reason.as_str(),
                by: it.by.into(),
                age_ms: millis(it.age),
                reports: it.reports,
                stage: match it.stage {
                    Stage::Waiting => "waiting",
                    Stage::Probing => "probing",
                    Stage::Unanswered => "unanswered",
                },
            }),
            protected: it.protected,
        };
        Self { record: record::unchecked(&it.doc), why }
    }
}

/// The node's own state. Peers recognise each other by it.
#[derive(Debug, Serialize)]
struct NodeStatus {
    node: String,
    epoch: String,
    revision: u64,
    warm: bool,
    uptime_ms: u64,
    instances: usize,
    tombstones: usize,
    watchers: usize,
    peers: Vec<crate::peers::PeerState>,
    protection: Protection,
}

#[derive(Debug, Serialize)]
struct Protection {
    enabled: bool,
    /// The scopes in which expiry is held back, and why.
    holding: BTreeMap<String, String>,
}

async fn status(State(app): State<App>) -> Answer<NodeStatus> {
    Ok(Json(node_status(&app.registry)))
}

fn node_status(registry: &Registry) -> NodeStatus {
    let mut status = registry.read(|table, now| NodeStatus {
        node: registry.node.clone(),
        epoch: registry.epoch.clone(),
        revision: table.revision(),
        warm: table.warm(now),
        uptime_ms: millis(now.mono.since_zero()),
        instances: table.len(),
        tombstones: table.tombstones(),
        watchers: registry.watchers.load(std::sync::atomic::Ordering::Relaxed),
        peers: Vec::new(),
        protection: Protection {
            enabled: registry.config.protection.enabled,
            holding: table.protections(now).into_iter().map(|it| (it.scope, it.text)).collect(),
        },
    });
    status.peers = registry.peers.iter().map(|it| it.state(registry.now().mono)).collect();
    status
}
