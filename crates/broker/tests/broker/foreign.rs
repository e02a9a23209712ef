//! A subscriber of another make: it answers what it is told and keeps every request as it came.

use std::sync::{Arc, Mutex};

use tradewind_host::testing::Running;
use tradewind_service::axum::Router;
use tradewind_service::axum::body::Bytes;
use tradewind_service::axum::http::{HeaderMap, StatusCode};
use tradewind_service::axum::response::{IntoResponse as _, Response};
use tradewind_service::axum::routing::post;

/// A request as it came.
pub(crate) type Request = (HeaderMap, Bytes);

pub(crate) struct Foreign {
    requests: Arc<Mutex<Vec<Request>>>,
    server: Running,
}

impl Foreign {
    /// Starts it; `answer` is told how many requests came before.
    pub(crate) async fn start<F>(answer: F) -> Self
    where
        F: Fn(usize, &HeaderMap, &Bytes) -> Response + Clone + Send + Sync + 'static,
    {
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let kept = Arc::clone(&requests);
        let handler = post(move |headers: HeaderMap, body: Bytes| async move {
            let before = {
                let mut kept = kept.lock().unwrap();
                kept.push((headers.clone(), body.clone()));
                kept.len() - 1
            };
            answer(before, &headers, &body)
        });
        let router = Router::new().route("/in", handler);
        Self { requests, server: Running::start("subscriber", router).await }
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.address().port()
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// An answer without a body.
pub(crate) fn status(code: u16) -> Response {
    StatusCode::from_u16(code).unwrap().into_response()
}

/// A request as text, with a word in place of what differs from one to the next.
pub(crate) fn written((headers, body): &Request) -> String {
    let mut lines: Vec<String> = headers
        .iter()
        .map(|(name, value)| {
            let value = match name.as_str() {
                "host" | "ce-time" | "webhook-timestamp" | "webhook-signature" | "traceparent"
                | "x-request-id" | "x-tradewind-caller" | "content-length" => "…",
                // Of a batch: made anew for each attempt.
                "webhook-id" if value.as_bytes().starts_with(b"bat_") => "bat_…",
                _ => value.to_str().unwrap(),
            };
            format!("{name}: {value}\n")
        })
        .collect();
    lines.sort();
    let mut body = String::from_utf8_lossy(body).into_owned();
    for name in ["time", "traceparent"] {
        body = masked(&body, &format!("\"{name}\":\""));
    }
    format!("{}\n{body}\n", lines.concat())
}

/// `text` with a word in place of what comes after each `start`, up to the next quotation mark.
fn masked(text: &str, start: &str) -> String {
    let mut parts = text.split(start);
    let mut masked = parts.next().unwrap().to_owned();
    for part in parts {
        let (_, rest) = part.split_once('"').unwrap();
        masked += &format!("{start}…\"{rest}");
    }
    masked
}
