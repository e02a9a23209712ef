//! The tower layer for `Idempotency-Key`.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest as _, Request};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::HeaderValue;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Limited};
use serde_json::Value;
use tokio::time::Instant;
use tower::{Layer, Service};
use tradewind_base::{Context, Problem};
use tradewind_service::Failure;
use tradewind_sql::{Database, TransactionError};

use crate::answer::StoredAnswer;
use crate::claimed::Claimed;
use crate::fingerprint::Fingerprint;
use crate::key::{Key, Scope};
use crate::machine::{Ending, Terms};
use crate::store::{self, Attempt, Claim, StoreError};

/// The header that carries the key.
pub const KEY_HEADER: &str = "idempotency-key";
/// The header that marks an answer as a stored one: its value is `true`.
pub const REPLAYED_HEADER: &str = "idempotency-replayed";

/// The settings of the layer for one operation.
#[derive(Clone)]
pub struct Idempotency {
    database: Database,
    operation: &'static str,
    required: bool,
    terms: Terms,
    patience: Duration,
    body_bytes_max: usize,
    subject: fn(&Parts) -> Option<String>,
}

/// Claims the key of each POST and PATCH before its handler, and answers repeats.
///
/// It is for handlers whose effect is one transaction in the same database and who call
/// [`Claimed::finish`] in it. What such a handler leaves unfinished has had no effect: after a
/// final answer (see [`StoredAnswer::is_final`]) the layer stores that answer itself, after any
/// other it gives the key back, and a claim whose process died is worked on again after its lease.
/// Put what checks permissions around it, so that a repeat is checked as well.
#[derive(Clone, Debug)]
pub struct IdempotencyLayer {
    settings: Arc<Idempotency>,
}

/// A service behind the layer.
#[derive(Clone, Debug)]
pub struct IdempotencyService<S> {
    inner: S,
    settings: Arc<Idempotency>,
}

impl Idempotency {
    /// Settings for `operation` (`order.cancel`), with keys in `database`, which has the tables of
    /// [`crate::MIGRATIONS`]. A key is required, and belongs to the user whom the gateway vouches
    /// for.
    #[must_use]
    pub fn new(database: Database, operation: &'static str) -> Self {
        Self {
            database,
            operation,
            required: true,
            terms: Terms::default(),
            patience: Duration::ZERO,
            body_bytes_max: 1024 * 1024,
            subject: |_| Context::current().user.map(|(user, _)| user.id),
        }
    }

    /// Lets requests without a key pass as they are.
    #[must_use]
    pub const fn optional(mut self) -> Self {
        self.required = false;
        self
    }

    /// How long claims and answers last.
    #[must_use]
    pub const fn terms(mut self, terms: Terms) -> Self {
        self.terms = terms;
        self
    }

    /// How long a repeat waits for the attempt at work before it is told to come back; at most 30
    /// seconds, by default not at all.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience.min(Duration::from_secs(30));
        self
    }

    /// Who asks, as the server knows it: never what a client says about itself.
    #[must_use]
    pub const fn subject(mut self, subject: fn(&Parts) -> Option<String>) -> Self {
        self.subject = subject;
        self
    }

    /// The layer.
    #[must_use]
    pub fn layer(self) -> IdempotencyLayer {
        IdempotencyLayer { settings: Arc::new(self) }
    }

    /// The attempt that a request is; `None` when it is to pass as it is.
    fn attempt(&self, parts: &Parts, body: &Bytes, key: Key) -> Result<Attempt, Failure> {
        let Some(subject) = (self.subject)(parts) else {
            let detail = "sign in: an idempotency key belongs to a user";
            let status = StatusCode::UNAUTHORIZED;
            return Err(Problem::new(status, "idempotency.subject", detail).into());
        };
        let scope =
            Scope::new(&subject, self.operation).map_err(|error| Failure::internal(&error))?;
        let target = parts.uri.path_and_query().map_or("/", |it| it.as_str());
        let fingerprint = Fingerprint::of_request(parts.method.as_str(), target, body);
        Ok(Attempt { scope, key, fingerprint })
    }

    /// Claims, and waits for another attempt as long as patience lasts.
    async fn claim(&self, attempt: &Attempt) -> Result<Claim, Failure> {
        let patience = Context::current().time_left(self.patience);
        let end = Instant::now() + patience;
        let mut pause = Duration::from_millis(10);
        loop {
            let (attempt, terms) = (attempt.clone(), self.terms);
            let claimed = self.database.transaction("idempotency.claim", move |tx| {
                let now = store::now(tx)?;
                store::claim(tx, &attempt, &Value::Null, now, &terms)
            });
            let claimed = claimed.await.map_err(|error| unavailable(&error))?;
            let waits = matches!(claimed, Claim::InFlight { .. });
            if !waits || end <= Instant::now() + pause {
                return Ok(claimed);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    /// Ends the claim according to the handler's answer.
    async fn settle(&self, claimed: &Claimed, response: Response) -> Response {
        let (attempt, fence) = (claimed.attempt.clone(), claimed.fence);
        let known = self
            .database
            .transaction("idempotency.look", move |tx| store::ending(tx, &attempt, fence))
            .await;
        match known {
            Ok(Ending::Counts) => {}
            Ok(Ending::AlreadyDone | Ending::Superseded) => return response,
            Err(error) => {
                warn(&error);
                return response;
            }
        }
        let (response, answer) = storable(response).await;
        let (attempt, terms) = (claimed.attempt.clone(), self.terms);
        let settled = self.database.transaction("idempotency.settle", move |tx| {
            let now = store::now(tx)?;
            match &answer {
                Some(answer) => store::finish(tx, &attempt, fence, answer, now, &terms),
                None => store::release(tx, &attempt, fence, now, &terms).map(|_| ()),
            }
        });
        if let Err(error) = settled.await {
            // The handler left no effect; the next attempt does the work after the lease.
            warn(&error);
        }
        response
    }
}

/// The answer with its body in hand, and what of it can be stored.
async fn storable(response: Response) -> (Response, Option<StoredAnswer>) {
    let status = response.status();
    if !StoredAnswer::is_final(status) {
        return (response, None);
    }
    let size = response.body().size_hint().upper().and_then(|it| usize::try_from(it).ok());
    if size.is_none_or(|it| StoredAnswer::BODY_BYTES_MAX < it) {
        tracing::error!(http.status = status.as_u16(), "an answer is too large to be stored");
        return (response, None);
    }
    let (parts, body) = response.into_parts();
    match body.collect().await {
        Ok(body) => {
            let body = body.to_bytes();
            let answer = StoredAnswer::new(parts.status, &parts.headers, body.to_vec());
            (Response::from_parts(parts, Body::from(body)), Some(answer))
        }
        Err(error) => (Failure::internal(&error).into_response(), None),
    }
}

fn unavailable(error: &TransactionError<StoreError>) -> Failure {
    warn(error);
    let detail = "the key cannot be looked up for now; repeat the request with the same key";
    Problem::unavailable("idempotency.unavailable", detail).into()
}

fn warn(error: &TransactionError<StoreError>) {
    let error = tradewind_service::answer::chain(error);
    tracing::warn!(error, "the table of idempotency keys failed");
}

/// The key of a request, if it has one.
fn key(headers: &HeaderMap) -> Result<Option<Key>, Failure> {
    let refused = |message: String| {
        let detail = "the idempotency key cannot be used";
        Problem::new(StatusCode::BAD_REQUEST, "idempotency.key", detail)
            .field(format!("header:{KEY_HEADER}"), message)
    };
    let mut values = headers.get_all(KEY_HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(refused("must come once".to_owned()).into());
    }
    let text = value.to_str().map_err(|_| refused(crate::KeyError::Invisible.to_string()))?;
    Ok(Some(Key::parse(text).map_err(|error| refused(error.to_string()))?))
}

fn missing() -> Failure {
    let detail = "send a key that is new for each intent and the same for each repeat of it";
    Problem::new(StatusCode::BAD_REQUEST, "idempotency.key-required", detail)
        .field(format!("header:{KEY_HEADER}"), "is missing")
        .into()
}

fn in_flight(retry_after: Duration) -> Failure {
    let detail = "another request with this key is at work; repeat this one to get its answer";
    // The claim lasts longer than the work usually does: asking again soon costs little.
    let seconds = u32::try_from(retry_after.as_secs()).unwrap_or(u32::MAX).clamp(1, 5);
    Problem::new(StatusCode::CONFLICT, "idempotency.in-flight", detail).retry_after(seconds).into()
}

fn mismatch() -> Failure {
    let detail = "this key was used for another request; use a new key for a new intent";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency.mismatch", detail)
        .field(format!("header:{KEY_HEADER}"), "was used with another content")
        .into()
}

fn replay(answer: &StoredAnswer) -> Response {
    let mut response = Response::new(Body::from(answer.body().to_vec()));
    *response.status_mut() = answer.status();
    *response.headers_mut() = answer.headers();
    response.headers_mut().insert(REPLAYED_HEADER, HeaderValue::from_static("true"));
    response
}

/// Counts what keys come to; the operation is fixed in the program, so there are few.
fn count(operation: &'static str, outcome: &'static str) {
    let labels = [("operation", operation), ("outcome", outcome)];
    metrics::counter!("tradewind_idempotency_total", &labels).increment(1);
}

impl<S> IdempotencyService<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    async fn handle(mut self, request: Request) -> Result<Response, Failure> {
        let settings = Arc::clone(&self.settings);
        let (mut parts, body) = request.into_parts();
        let acts = parts.method == Method::POST || parts.method == Method::PATCH;
        let key = if acts { key(&parts.headers)? } else { None };
        let Some(key) = key else {
            if acts && settings.required {
                count(settings.operation, "missing");
                return Err(missing());
            }
            return Ok(self.call(Request::from_parts(parts, body)).await);
        };
        let limited = Limited::new(body, settings.body_bytes_max);
        let body = match limited.collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return Err(unreadable(error).await),
        };
        let attempt = settings.attempt(&parts, &body, key)?;
        let fence = match settings.claim(&attempt).await? {
            Claim::Mine { fence } => {
                count(settings.operation, "first");
                fence
            }
            Claim::Resume { fence, .. } => {
                count(settings.operation, "resumed");
                fence
            }
            Claim::Done(answer) => {
                count(settings.operation, "replayed");
                return Ok(replay(&answer));
            }
            Claim::InFlight { retry_after } => {
                count(settings.operation, "in_flight");
                return Err(in_flight(retry_after));
            }
            Claim::Mismatch => {
                count(settings.operation, "mismatch");
                return Err(mismatch());
            }
        };
        let claimed = Claimed { attempt, fence, terms: settings.terms };
        parts.extensions.insert(claimed.clone());
        let response = self.call(Request::from_parts(parts, Body::from(body))).await;
        Ok(settings.settle(&claimed, response).await)
    }

    async fn call(&mut self, request: Request) -> Response {
        match self.inner.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// The refusal of a body that could not be read to its end: what the edge itself answers.
async fn unreadable(error: Box<dyn std::error::Error + Send + Sync>) -> Failure {
    if error.is::<http_body_util::LengthLimitError>() {
        return tradewind_service::edge::too_large().into();
    }
    let failed = Body::from_stream(futures_util::stream::iter([Err::<Bytes, _>(error)]));
    let mut request = Request::new(failed);
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(http::header::CONTENT_TYPE, json);
    match tradewind_service::Json::<Value>::from_request(request, &()).await {
        Err(failure) => failure,
        // A body that failed is not read the second time.
        Ok(_) => Problem::internal().into(),
    }
}

impl<S> Layer<S> for IdempotencyLayer {
    type Service = IdempotencyService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        IdempotencyService { inner, settings: Arc::clone(&self.settings) }
    }
}

impl<S> Service<Request> for IdempotencyService<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // The one that was polled until it was ready goes; its clone stays.
        let clone = self.inner.clone();
        let ready = Self {
            inner: std::mem::replace(&mut self.inner, clone),
            settings: Arc::clone(&self.settings),
        };
        Box::pin(
            async move { Ok(ready.handle(request).await.unwrap_or_else(|it| it.into_response())) },
        )
    }
}

impl fmt::Debug for Idempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotency")
            .field("operation", &self.operation)
            .field("required", &self.required)
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}
