//! Eureka's REST: the operations a stock client or peer uses, under every prefix they use.
//!
//! Refusals carry no body: Java clients read any body of a heartbeat as an instance, and a client
//! that fails to read the body of a 404 never registers again. The one exception is the reason of
//! a refused registration, which a stock server gives too, as plain text.

mod asks;
mod batch;
mod body;
mod query;
mod status;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, VARY};
use http::{HeaderMap, StatusCode};
use tradewind_eureka::{Form, Format, Head, Instance, Status, hash_code, json, xml};
use tradewind_service::Path;
use tradewind_service::axum::Router;
use tradewind_service::axum::extract::{RawQuery, Request, State};
use tradewind_service::axum::response::{IntoResponse as _, Response};
use tradewind_service::axum::routing::{MethodRouter, get, post, put};

use crate::documents::{Document, Documents, Look, applications};
use crate::machine::{Key, Origin, Refusal, Renewal, Replica, Verdict};
use crate::state::Registry;
use asks::{header, look, replicated, takes_gzip};
use query::Pairs;

/// Spring's one segment, Netflix's two, and the bare version.
const PREFIXES: [&str; 4] = ["/eureka", "/eureka/v2", "/eureka/v1", "/v2"];

/// A path and what makes its handlers.
type Route = (&'static str, fn() -> MethodRouter<App>);

/// What the handlers share.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) registry: Arc<Registry>,
    pub(crate) documents: Arc<Documents>,
}

/// Whether refusals at this path carry no body.
pub(crate) fn is_bare(path: &str) -> bool {
    PREFIXES.iter().any(|prefix| {
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// The routes.
pub(crate) fn router() -> Router<App> {
    let routes: [Route; 12] = [
        ("/apps", || get(all)),
        ("/apps/delta", || get(delta)),
        ("/apps/{app}", || get(application).post(register)),
        ("/apps/{app}/{id}", || get(instance).put(heartbeat).delete(cancel)),
        ("/apps/{app}/{id}/status", || put(set_status).delete(delete_status)),
        ("/apps/{app}/{id}/metadata", || put(metadata)),
        ("/instances/{id}", || get(by_id)),
        ("/vips/{vip}", || get(vip)),
        ("/svips/{vip}", || get(secure_vip)),
        ("/peerreplication/batch", || post(batch::batch)),
        ("/asg/{name}/status", || put(asg)),
        ("/status", || get(status::status)),
    ];
    let mut router = Router::new();
    for prefix in PREFIXES {
        for (path, handlers) in routes {
            router = router
                .route(&format!("{prefix}{path}"), handlers())
                .route(&format!("{prefix}{path}/"), handlers());
        }
    }
    router
}

fn bare(status: StatusCode) -> Response {
    status.into_response()
}

fn reason(status: StatusCode, text: &dyn std::fmt::Display) -> Response {
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    (status, [(CONTENT_TYPE, plain)], text.to_string()).into_response()
}

fn document(format: Format, text: impl Into<Bytes>) -> Response {
    let kind = HeaderValue::from_static(format.content_type());
    ([(CONTENT_TYPE, kind)], text.into()).into_response()
}

fn one(instance: &Instance, look: Look) -> String {
    let mut out = String::new();
    match look.format {
        Format::Json => json::instance(&mut out, instance),
        Format::Xml => {
            // A single instance has no compact form.
            let style = xml::Style { form: Form::Full, version: look.version };
            xml::instance(&mut out, instance, style);
        }
    }
    out
}

const fn known(known: bool) -> StatusCode {
    if known { StatusCode::OK } else { StatusCode::NOT_FOUND }
}

const fn refused(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::TableFull { .. } | Refusal::AppFull { .. } => StatusCode::INSUFFICIENT_STORAGE,
        Refusal::NameTooLong { .. } | Refusal::TooLarge { .. } => StatusCode::BAD_REQUEST,
    }
}

// === operations ===

/// 1: register.
async fn register(State(app): State<App>, Path(name): Path<String>, request: Request) -> Response {
    let registry = &app.registry;
    let body = match body::read(request, registry.config.decompressed_bytes_max).await {
        Ok(body) => body,
        Err(status) => return bare(status),
    };
    let read = match body.format {
        Format::Json => json::read_instance(&body.bytes),
        Format::Xml => xml::read_instance(&body.bytes),
    };
    let instance = match read {
        Ok(instance) => instance,
        Err(error) => return reason(StatusCode::BAD_REQUEST, &error),
    };
    if let Err(invalid) = instance.validate(&name) {
        return reason(StatusCode::BAD_REQUEST, &invalid);
    }
    let result = if replicated(&body.headers) {
        let replica = Replica::stock(Arc::new(instance));
        match registry.change(|table, now| table.merge(&replica, Origin::Stock, now)) {
            Verdict::Refused(refusal) => Err(refusal),
            Verdict::Done | Verdict::Unknown | Verdict::Newer(_) | Verdict::Buried { .. } => Ok(()),
        }
    } else {
        registry.change(|table, now| table.register(instance, now)).map(|key| {
            tracing::debug!(app = %key.app, instance.id = %key.id, "registered");
        })
    };
    match result {
        Ok(()) => bare(StatusCode::NO_CONTENT),
        Err(refusal) => reason(refused(&refusal), &refusal),
    }
}

/// 2: heartbeat.
async fn heartbeat(
    State(app): State<App>,
    Path((name, id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let (key, pairs) = (Key::new(&name, &id), Pairs::parse(query.as_deref()));
    let dirty = pairs.dirty();
    if !replicated(&headers) {
        let renewal = app.registry.change(|table, now| table.renew(&key, dirty, now));
        return bare(known(renewal == Renewal::Renewed));
    }
    let over = pairs.status("overriddenstatus").ok().flatten().unwrap_or(Status::Unknown);
    let none = std::time::Duration::ZERO;
    let verdict = app
        .registry
        .change(|table, now| table.merge_heartbeat(&key, dirty, over, none, Origin::Stock, now));
    match verdict {
        Verdict::Done => bare(StatusCode::OK),
        Verdict::Newer(ours) => {
            let look = look(&headers, "");
            let body = document(look.format, one(&ours.doc, look));
            (StatusCode::CONFLICT, body).into_response()
        }
        Verdict::Unknown | Verdict::Buried { .. } | Verdict::Refused(_) => {
            bare(StatusCode::NOT_FOUND)
        }
    }
}

/// 3: cancel.
async fn cancel(
    State(app): State<App>,
    Path((name, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let key = Key::new(&name, &id);
    let none = std::time::Duration::ZERO;
    let there = app.registry.change(|table, now| {
        if replicated(&headers) {
            matches!(table.merge_cancel(&key, None, none, now), Verdict::Done)
        } else {
            table.cancel(&key, now)
        }
    });
    bare(known(there))
}

/// 4: everything.
async fn all(State(app): State<App>, look: Look, headers: HeaderMap) -> Response {
    polled(&app, Document::Full, look, &headers).await
}

/// 5: the recent changes. 403 makes a client fetch everything.
async fn delta(State(app): State<App>, look: Look, headers: HeaderMap) -> Response {
    polled(&app, Document::Delta, look, &headers).await
}

async fn polled(app: &App, which: Document, look: Look, headers: &HeaderMap) -> Response {
    let gzip = header(headers, ACCEPT_ENCODING.as_str()).is_some_and(takes_gzip);
    let Some(bytes) = app.documents.get(&app.registry, which, look, gzip).await else {
        return bare(StatusCode::FORBIDDEN);
    };
    let mut response = document(look.format, bytes);
    let vary = HeaderValue::from_static("accept, accept-encoding, x-eureka-accept");
    response.headers_mut().insert(VARY, vary);
    if gzip {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// 6: one application.
async fn application(State(app): State<App>, Path(name): Path<String>, look: Look) -> Response {
    let name = name.to_uppercase();
    let Some(instances) = app.registry.read(|table, _| table.app(&name)) else {
        return bare(StatusCode::NOT_FOUND);
    };
    let mut out = String::new();
    match look.format {
        Format::Json => json::application(&mut out, &name, &instances),
        Format::Xml => {
            let style = xml::Style { form: look.form, version: look.version };
            xml::application(&mut out, &name, &instances, style);
        }
    }
    document(look.format, out)
}

/// 7: one instance.
async fn instance(
    State(app): State<App>,
    Path((name, id)): Path<(String, String)>,
    look: Look,
) -> Response {
    let key = Key::new(&name, &id);
    match app.registry.read(|table, now| table.instance(&key, now)) {
        Some(instance) => document(look.format, one(&instance, look)),
        None => bare(StatusCode::NOT_FOUND),
    }
}

/// 8: one instance, of whatever application.
async fn by_id(State(app): State<App>, Path(id): Path<String>, look: Look) -> Response {
    let found =
        app.registry.read(|table, now| table.by_id(&id).and_then(|key| table.instance(&key, now)));
    match found {
        Some(instance) => document(look.format, one(&instance, look)),
        None => bare(StatusCode::NOT_FOUND),
    }
}

/// 9: set an override.
async fn set_status(
    State(app): State<App>,
    Path((name, id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let (key, pairs) = (Key::new(&name, &id), Pairs::parse(query.as_deref()));
    let dirty = pairs.dirty();
    // A stock server fails on a name that is no status.
    let Ok(Some(status)) = pairs.status("value") else {
        return bare(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let there = app.registry.change(|table, now| {
        if replicated(&headers) {
            matches!(table.merge_override(&key, status, None, dirty, now), Verdict::Done)
        } else {
            table.set_override(&key, status, dirty, now)
        }
    });
    bare(known(there))
}

/// 10: delete the override.
async fn delete_status(
    State(app): State<App>,
    Path((name, id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let (key, pairs) = (Key::new(&name, &id), Pairs::parse(query.as_deref()));
    let dirty = pairs.dirty();
    let Ok(value) = pairs.status("value") else {
        return bare(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let there = app.registry.change(|table, now| {
        if replicated(&headers) {
            let verdict = table.merge_override(&key, Status::Unknown, value, dirty, now);
            matches!(verdict, Verdict::Done)
        } else {
            table.delete_override(&key, value, dirty, now)
        }
    });
    bare(known(there))
}

/// 11: add to the metadata.
async fn metadata(
    State(app): State<App>,
    Path((name, id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Response {
    let key = Key::new(&name, &id);
    let pairs = Pairs::parse(query.as_deref()).into_first().into_iter().collect();
    match app.registry.change(|table, now| table.add_metadata(&key, &pairs, now)) {
        Ok(added) => bare(known(added.is_some())),
        Err(refusal) => bare(refused(&refusal)),
    }
}

/// 12: by virtual address.
async fn vip(State(app): State<App>, Path(vip): Path<String>, look: Look) -> Response {
    by_vip(&app, look, &vip, |it| it.vip_address.as_deref())
}

/// 12, for TLS.
async fn secure_vip(State(app): State<App>, Path(vip): Path<String>, look: Look) -> Response {
    by_vip(&app, look, &vip, |it| it.secure_vip_address.as_deref())
}

fn by_vip(app: &App, look: Look, vip: &str, of: fn(&Instance) -> Option<&str>) -> Response {
    let mut all = app.registry.read(|table, _| table.snapshot());
    let has = |it: &Arc<Instance>| of(it).is_some_and(|held| held.split(',').any(|it| it == vip));
    for (_, instances) in &mut all.apps {
        instances.retain(has);
    }
    all.apps.retain(|(_, instances)| !instances.is_empty());
    let statuses = all.apps.iter().flat_map(|(_, instances)| instances).map(|it| it.status);
    let hash = hash_code(statuses);
    let head = Head { version_delta: "-1", hash_code: &hash };
    let groups = all.apps.iter().map(|(name, instances)| (&**name, instances));
    document(look.format, applications(head, groups, look))
}

/// 14: auto scaling groups are Amazon's.
async fn asg() -> Response {
    bare(StatusCode::BAD_REQUEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eureka_paths_are_bare_and_others_are_not() {
        for path in ["/eureka", "/eureka/apps", "/eureka/v2/x", "/v2/apps/A/b"] {
            assert!(is_bare(path), "{path}");
        }
        for path in ["/", "/eurekas", "/v2x", "/tradewind/v1/watch", "/health/ready"] {
            assert!(!is_bare(path), "{path}");
        }
    }
}
