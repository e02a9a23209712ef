//! The routes every server has: health, metrics, interfaces.

use axum::response::{IntoResponse as _, Response};
use http::header::{ALLOW, CONTENT_TYPE, FORWARDED, HeaderValue, VIA};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use serde_json::json;
use tradewind_base::{Context, Problem};

use super::request::{Edge, respond};
use crate::{Failure, Json};

/// The answer, if the request is for one of these routes and did not come through a proxy: what
/// comes from outside has no business here and is not told that these routes exist.
pub(super) fn answer(edge: &Edge, parts: &Parts, context: &Context) -> Option<Response> {
    let path = parts.uri.path();
    let show: &dyn Fn() -> Response = match path {
        "/health/live" => &live,
        "/health/ready" => &|| ready(edge),
        "/metrics" => &|| metrics(edge),
        "/interfaces" => &|| interfaces(edge),
        _ => {
            let (_, page) = edge.pages.iter().find(|(own, _)| *own == path)?;
            &|| Json(page()).into_response()
        }
    };
    if through_a_proxy(&parts.headers) {
        return None;
    }
    if parts.method != Method::GET && parts.method != Method::HEAD {
        let mut response = respond(wrong_method(), context);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Some(response);
    }
    Some(show())
}

pub(super) fn wrong_method() -> Failure {
    let detail = "this route does not take this method; the header `Allow` lists those it takes";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "edge.wrong-method", detail).into()
}

fn through_a_proxy(headers: &HeaderMap) -> bool {
    let forwarded = |name: &str| name.starts_with("x-forwarded-");
    headers.contains_key(VIA)
        || headers.contains_key(FORWARDED)
        || headers.keys().any(|it| forwarded(it.as_str()))
}

fn live() -> Response {
    Json(json!({"live": true})).into_response()
}

fn ready(edge: &Edge) -> Response {
    let ready = edge.health.ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({"ready": ready, "components": edge.health.states()}))).into_response()
}

fn metrics(edge: &Edge) -> Response {
    let count = |max: usize, free: usize| {
        f64::from(u32::try_from(max.saturating_sub(free)).unwrap_or(u32::MAX))
    };
    let config = &edge.config;
    let connections = count(config.connections_max, edge.connections.available_permits());
    ::metrics::gauge!("tradewind_http_connections", "service" => edge.name).set(connections);
    let requests = count(config.requests_in_flight_max, edge.permits.available_permits());
    ::metrics::gauge!("tradewind_http_requests_in_flight", "service" => edge.name).set(requests);
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(CONTENT_TYPE, text)], edge.metrics.render()).into_response()
}

fn interfaces(edge: &Edge) -> Response {
    Json(edge.interfaces.report()).into_response()
}
