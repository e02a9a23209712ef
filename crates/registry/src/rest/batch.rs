//! 13: what peers tell, from stock servers and from servers like this one.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use tradewind_eureka::{
    Format, ReplicationAction, ReplicationInstance, ReplicationResponse, ReplicationResult, Status,
    json,
};
use tradewind_service::axum::extract::{Request, State};
use tradewind_service::axum::response::{IntoResponse as _, Response};

use super::{App, bare, body, header};
use crate::machine::{Key, Origin, Replica, Verdict};
use crate::peers::wire::{self, Aside};
use crate::state::Registry;

/// The most changes of one batch; a stock server sends 250.
const ITEMS_MAX: usize = 5000;

pub(super) async fn batch(State(app): State<App>, request: Request) -> Response {
    let registry = &app.registry;
    let body = match body::read(request, registry.config.decompressed_bytes_max).await {
        Ok(body) => body,
        Err(status) => return bare(status),
    };
    let Ok(list) = json::read_replication_list(&body.bytes) else {
        return bare(StatusCode::BAD_REQUEST);
    };
    if ITEMS_MAX < list.items.len() {
        return bare(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let asides = asides(&body.headers, list.items.len());
    let origin = if asides.is_some() { Origin::Tradewind } else { Origin::Stock };
    let asides = asides.unwrap_or_else(|| vec![Aside::default(); list.items.len()]);
    let mut response = ReplicationResponse::default();
    let mut replies = Vec::new();
    for (item, aside) in list.items.iter().zip(asides) {
        let verdict = apply(registry, item, aside, origin);
        let (result, reply) = result(item, verdict, origin);
        response.results.push(result);
        replies.push(reply);
    }
    let mut out = String::new();
    json::replication_response(&mut out, &response);
    let kind = HeaderValue::from_static(Format::Json.content_type());
    let mut answer = ([(CONTENT_TYPE, kind)], out).into_response();
    if origin == Origin::Tradewind {
        let headers = answer.headers_mut();
        wire::identify(headers, &registry.node, &registry.epoch);
        if let Ok(value) = HeaderValue::from_str(&replies.join(",")) {
            headers.insert(wire::REPLIES_HEADER, value);
        }
    }
    answer
}

/// What a server like this one says beside the batch; `None` from a stock server.
fn asides(headers: &HeaderMap, count: usize) -> Option<Vec<Aside>> {
    let asides = wire::read_asides(header(headers, wire::ASIDES_HEADER)?)?;
    (asides.len() == count).then_some(asides)
}

fn apply(registry: &Registry, item: &ReplicationInstance, aside: Aside, origin: Origin) -> Verdict {
    let key = Key::new(&item.app_name, &item.id);
    let (dirty, age) = (item.last_dirty_ts, Duration::from_millis(aside.renewed_ms));
    let status = item.status.unwrap_or(Status::Unknown);
    registry.change(|table, now| match item.action {
        ReplicationAction::Register => {
            let Some(instance) = item.instance.as_ref() else { return Verdict::Done };
            if instance.validate(&item.app_name).is_err() {
                return Verdict::Done;
            }
            let replica = match origin {
                Origin::Stock => Replica::stock(Arc::clone(instance)),
                Origin::Tradewind => aside.replica(Arc::clone(instance)),
            };
            table.merge(&replica, origin, now)
        }
        ReplicationAction::Heartbeat => {
            let over = item.overridden_status.unwrap_or(Status::Unknown);
            table.merge_heartbeat(&key, dirty, over, age, origin, now)
        }
        ReplicationAction::Cancel => {
            // Stock servers send no timestamp that could be compared.
            let dirty = dirty.filter(|_| origin == Origin::Tradewind);
            table.merge_cancel(&key, dirty, age, now)
        }
        ReplicationAction::StatusUpdate => table.merge_override(&key, status, None, dirty, now),
        ReplicationAction::DeleteStatusOverride => {
            table.merge_override(&key, Status::Unknown, item.status, dirty, now)
        }
    })
}

/// The code of one item, and what a server like this one is told beside it.
fn result(
    item: &ReplicationInstance,
    verdict: Verdict,
    origin: Origin,
) -> (ReplicationResult, String) {
    let own = origin == Origin::Tradewind;
    let code = |status_code| ReplicationResult { status_code, instance: None };
    let nothing = wire::NOTHING.to_owned();
    match (verdict, item.action) {
        // Register and cancel of a stock server never fail on what is newer here.
        (
            Verdict::Newer(_) | Verdict::Buried { .. } | Verdict::Refused(_) | Verdict::Unknown,
            ReplicationAction::Register,
        )
        | (Verdict::Newer(_), ReplicationAction::Cancel)
            if !own =>
        {
            (code(200), nothing)
        }
        (Verdict::Done, _) => (code(200), nothing),
        (Verdict::Unknown, _) => (code(404), nothing),
        (Verdict::Newer(ours), _) => {
            let reply = wire::write_newer(&ours);
            (ReplicationResult { status_code: 409, instance: Some(ours.doc) }, reply)
        }
        (Verdict::Buried { dirty, age }, _) if own => (code(410), wire::write_buried(dirty, age)),
        (Verdict::Buried { .. }, _) => (code(404), nothing),
        (Verdict::Refused(refusal), _) => {
            tracing::warn!(instance.id = item.id, error = %refusal, "refused what a peer holds");
            (code(507), nothing)
        }
    }
}
