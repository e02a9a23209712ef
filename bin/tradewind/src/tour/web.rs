//! Requests of the tour, as a buyer's and as a service's.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use serde_json::Value;
use tokio::time::Instant;
use tradewind_base::identity::{CALLER_HEADER, Caller};
use tradewind_base::{Clock as _, SystemClock, Tasks};
use tradewind_http::{Client, Limits, Target, collect};
use tradewind_service::Keys;

use super::proof::{Held, Unmet};

/// The name in which the tour asks what only services of the estate may ask.
const NAME: &str = "tour";
/// The most bytes of an answer.
const BODY_MAX: usize = 1 << 20;
/// No answer is waited for longer.
const LIMITS: Limits = Limits {
    connect: Duration::from_secs(1),
    head: Duration::from_secs(10),
    body_idle: Duration::from_secs(5),
};

/// Sends requests.
#[derive(Debug)]
pub(super) struct Web {
    client: Client,
    clock: SystemClock,
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

/// An answer, whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
    pub(super) took: Duration,
    headers: HeaderMap,
    what: String,
}

impl Ask {
    pub(super) fn get(path: impl Into<String>) -> Self {
        let (headers, body) = (Vec::new(), Bytes::new());
        Self { method: Method::GET, path: path.into(), headers, body }
    }

    pub(super) fn post(path: impl Into<String>, body: &Value) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        let body = Bytes::from(body.to_string());
        Self { method: Method::POST, path: path.into(), headers, body }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// In the name of a buyer.
    pub(super) fn bearer(self, token: &str) -> Self {
        self.with("authorization", format!("Bearer {token}"))
    }
}

impl Web {
    pub(super) fn new(tasks: &Tasks) -> Self {
        Self { client: Client::standard(tasks), clock: SystemClock::new() }
    }

    /// One attempt.
    pub(super) async fn send(&self, to: SocketAddr, ask: Ask) -> Held<Answer> {
        let what = format!("{} {}", ask.method, ask.path);
        let wanted = format!("an answer to {what}");
        let mut request = Request::new(ask.body);
        *request.method_mut() = ask.method;
        let failed = |saw: String| Unmet::new(&wanted, saw);
        *request.uri_mut() = ask.path.parse().map_err(|it| failed(format!("{it}")))?;
        for (name, value) in ask.headers {
            let value = value.parse().map_err(|it| failed(format!("{name}: {it}")))?;
            request.headers_mut().insert(name, value);
        }
        let begun = Instant::now();
        let gone = |error: tradewind_http::SendError| failed(chain(&error));
        let answer = self.client.send(&Target::from(to), request, &LIMITS).await.map_err(gone)?;
        let (head, body) = answer.into_parts();
        let body = collect(body, BODY_MAX, &LIMITS).await.map_err(gone)?;
        let (status, headers, took) = (head.status, head.headers, begun.elapsed());
        Ok(Answer { status, body, took, headers, what })
    }

    /// A question to a service, in the name of another one.
    pub(super) async fn inside(&self, to: SocketAddr, keys: &Keys, path: &str) -> Held<Value> {
        let caller = Caller { service: NAME.to_owned() };
        let sealed = caller.seal(keys.seal(), self.clock.now());
        let sealed = sealed.map_err(|it| Unmet::new("a sealed name", it))?;
        self.send(to, Ask::get(path).with(CALLER_HEADER, sealed)).await?.ok()
    }
}

impl Answer {
    /// The body of an answer 200.
    pub(super) fn ok(&self) -> Held<Value> {
        self.with(StatusCode::OK)
    }

    /// The body of an answer with this status.
    pub(super) fn with(&self, status: StatusCode) -> Held<Value> {
        if self.status != status {
            let wanted = format!("{status} for {}", self.what);
            return Err(Unmet::new(wanted, self.brief()));
        }
        let json = serde_json::from_slice(&self.body);
        json.map_err(|it| Unmet::new(format!("JSON for {}", self.what), it))
    }

    /// Status and the beginning of the body.
    pub(super) fn brief(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let text: String = text.chars().take(400).collect();
        format!("{} {text}", self.status)
    }

    /// A header as text; empty when it is not there.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default()
    }

    /// What kind of refusal it is: the code of its problem document.
    pub(super) fn code(&self) -> String {
        let json: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        text(&json, "code").to_owned()
    }
}

/// A field that is a text; empty when it is not there.
pub(super) fn text<'a>(it: &'a Value, field: &str) -> &'a str {
    it.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// A field that is a whole number.
pub(super) fn number(it: &Value, field: &str) -> Held<i64> {
    let found = it.get(field).and_then(Value::as_i64);
    found.ok_or_else(|| Unmet::new(format!("a number `{field}`"), it))
}

/// A field that is a list; empty when it is not there.
pub(super) fn list<'a>(it: &'a Value, field: &str) -> &'a [Value] {
    it.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(it) = cause {
        text = format!("{text}: {it}");
        cause = it.source();
    }
    text
}
