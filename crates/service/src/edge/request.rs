//! One request: its context, its bounds, its handler, its answer.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts, Request};
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tracing::Instrument as _;
use tradewind_base::context::{DEADLINE_HEADER, REQUEST_ID_HEADER, TRACE_HEADER, XID_HEADER};
use tradewind_base::id::{RequestId, RequestText, Xid};
use tradewind_base::{Clock, Context, Deadline, Problem, Rng, Tasks, TraceContext};

use super::body::{Inbound, Tracked};
use super::connection::Busy;
use super::management::{self, wrong_method};
use super::measure::{Measured, Template};
use super::server::Page;
use super::{EdgeConfig, too_large, too_late};
use crate::Failure;
use crate::extract::Authority;
use crate::health::Health;
use crate::interfaces::Interfaces;
use crate::telemetry::{Metrics, panic_text};

/// What all requests of one server share.
pub(super) struct Edge {
    pub(super) name: &'static str,
    pub(super) config: EdgeConfig,
    pub(super) router: Router,
    pub(super) bare: fn(&str) -> bool,
    pub(super) pages: Vec<(&'static str, Page)>,
    pub(super) health: Health,
    pub(super) authority: Authority,
    pub(super) interfaces: Arc<Interfaces>,
    pub(super) metrics: Metrics,
    pub(super) clock: Arc<dyn Clock>,
    /// One permit for each connection there may be.
    pub(super) connections: Arc<Semaphore>,
    /// One permit for each handler that may run.
    pub(super) permits: Arc<Semaphore>,
    /// Requests that are not answered to their last byte.
    pub(super) total: Arc<AtomicUsize>,
    pub(super) tasks: Tasks,
    /// Ends what draining did not.
    pub(super) cut: CancellationToken,
}

/// Tells a handler with a long answer that the server is draining; an extractor.
#[derive(Clone, Debug)]
pub struct Draining(CancellationToken);

impl Draining {
    /// Waits until the server drains.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn wait(&self) {
        self.0.cancelled().await;
    }

    /// The same as a token.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.0.clone()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Draining {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        // Outside the edge nothing drains.
        Ok(parts
            .extensions
            .get::<Self>()
            .cloned()
            .unwrap_or_else(|| Self(CancellationToken::new())))
    }
}

impl Edge {
    /// Answers one request; every outcome is an answer.
    pub(super) async fn answer(
        self: Arc<Self>,
        request: http::Request<Incoming>,
        peer: SocketAddr,
        busy: Arc<Busy>,
    ) -> Result<http::Response<Tracked>, Infallible> {
        let start = Instant::now();
        let (parts, body) = request.into_parts();
        let context = self.context(&parts.headers);
        let request_id = context.request_id.clone();
        let bare = (self.bare)(parts.uri.path());
        let trace = context.trace.map(TraceContext::trace_id).unwrap_or_default();
        // For the log alone: whoever works on a transaction reads it from what it is sent.
        let xid =
            parts.headers.get(XID_HEADER).and_then(|it| it.to_str().ok()?.parse::<Xid>().ok());
        let span = tracing::info_span!(
            "request",
            service = self.name,
            http.method = %parts.method,
            request.id = request_id.as_ref().map(RequestText::as_str),
            trace.id = format!("{trace:032x}"),
            tcc.xid = xid.map(tracing::field::display),
        );
        let path = parts.uri.path().to_owned();
        let mut response =
            self.route(parts, body, peer, context, &busy).instrument(span.clone()).await;
        let took = start.elapsed();
        span.in_scope(|| {
            tracing::debug!(
                http.path = path,
                http.status = response.status().as_u16(),
                client.addr = %peer,
                took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                "answered"
            );
        });
        if bare && is_problem(&response) {
            *response.body_mut() = Body::empty();
            response.headers_mut().remove(CONTENT_TYPE);
            response.headers_mut().remove(CONTENT_LENGTH);
        }
        if let Some(value) = request_id.and_then(|it| HeaderValue::from_str(it.as_str()).ok()) {
            response.headers_mut().insert(REQUEST_ID_HEADER, value);
        }
        Ok(response.map(|body| Tracked::new(body, busy)))
    }

    /// Trace, id and deadline of a request; its user comes later, when it is worth the work.
    fn context(&self, headers: &HeaderMap) -> Context {
        let text = |name: &str| headers.get(name).and_then(|it| it.to_str().ok());
        let mut rng = Rng::from_entropy();
        let request_id = text(REQUEST_ID_HEADER)
            .and_then(RequestText::parse)
            .unwrap_or_else(|| RequestId::generate(self.clock.now(), &mut rng).into());
        let trace = match text(TRACE_HEADER).and_then(TraceContext::parse) {
            Some(trace) => trace.child(&mut rng),
            None => TraceContext::start(&mut rng, false),
        };
        let left = text(DEADLINE_HEADER).and_then(|it| it.parse().ok()).map(Duration::from_millis);
        let span = left.unwrap_or(Duration::MAX).min(self.config.request_timeout);
        Context {
            trace: Some(trace),
            deadline: Some(Deadline::after(span)),
            request_id: Some(request_id),
            ..Context::default()
        }
    }

    /// The refusal of what is not a request at all, or one beyond even the library's bounds.
    pub(super) fn malformed(&self, status: StatusCode) -> Problem {
        self.interfaces.record(&Method::GET, None, status, Duration::ZERO);
        let mut problem = malformed(status);
        let id = RequestId::generate(self.clock.now(), &mut Rng::from_entropy());
        problem.request_id = Some(id.to_string());
        problem
    }

    async fn route(
        self: &Arc<Self>,
        mut parts: Parts,
        body: Incoming,
        peer: SocketAddr,
        mut context: Context,
        busy: &Arc<Busy>,
    ) -> Response {
        let template = Template::default();
        let (interfaces, method) = (Arc::clone(&self.interfaces), parts.method.clone());
        let measured = Arc::new(Measured::start(interfaces, method, template.clone()));
        let deadline = context.deadline.unwrap_or_else(|| Deadline::after(Duration::ZERO));
        let bytes_max = self.config.body_bytes_max;
        let declared = body.size_hint().lower();
        let activity = Arc::clone(busy.activity());
        let body = Inbound::new(Body::new(body), bytes_max, deadline.instant(), activity);
        let refused = |failure: Failure| {
            measured.record(failure.problem().status);
            respond(failure, &context)
        };
        if self.config.head_bytes_max < head_bytes(&parts) {
            return refused(head_too_large().into());
        }
        if let Err(field) = host(&parts) {
            let problem = malformed(StatusCode::BAD_REQUEST);
            return refused(problem.field("header:host", field).into());
        }
        if let Some(response) = management::answer(self, &parts, &context) {
            // Probes and scrapers would drown the numbers of the real interfaces.
            measured.leave_out();
            return response;
        }
        if bytes_max < declared {
            return refused(too_large().into());
        }
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            metrics::counter!("tradewind_http_shed_total", "service" => self.name).increment(1);
            let detail = "the server has as many requests in work as it can bear";
            return refused(Problem::unavailable("edge.overloaded", detail).into());
        };
        if deadline.passed() {
            return refused(too_late().into());
        }
        context.user = self.authority.user(&parts.headers);
        parts.extensions.insert(self.authority.clone());
        parts.extensions.insert(Draining(self.tasks.cancelled()));
        parts.extensions.insert(ConnectInfo(peer));
        parts.extensions.insert(template);
        let safe = parts.method.is_safe();
        let request = Request::from_parts(parts, Body::new(body));
        let work =
            handle(self.router.clone(), request, context.clone(), Arc::clone(&measured), permit);
        // On the heap once: it is large, and moved several times until it runs.
        let work = Box::pin(work);
        let answered = if safe {
            tokio::time::timeout_at(deadline.instant(), work).await.ok()
        } else {
            let answer = self.detach(work, deadline, Arc::clone(busy));
            // A task that ended without an answer was cut off with the server.
            tokio::time::timeout_at(deadline.instant(), answer).await.ok().and_then(Result::ok)
        };
        answered.unwrap_or_else(|| {
            measured.record(StatusCode::GATEWAY_TIMEOUT);
            respond(too_late().into(), &context)
        })
    }

    /// Runs `work` as a task of its own, which the end of the connection does not end.
    fn detach(
        &self,
        work: impl Future<Output = Response> + Send + 'static,
        deadline: Deadline,
        busy: Arc<Busy>,
    ) -> oneshot::Receiver<Response> {
        let (sender, receiver) = oneshot::channel();
        let end = deadline.instant() + self.config.overrun;
        let cut = self.cut.clone();
        let span = tracing::Span::current();
        self.tasks.spawn_plain("request", |_| {
            async move {
                let work = tokio::time::timeout_at(end, work);
                match cut.run_until_cancelled(work).await {
                    // Whether the client is still there to get it is all the same here.
                    Some(Ok(response)) => drop(sender.send(response)),
                    Some(Err(_)) => tracing::error!("a handler did not end after its deadline"),
                    None => tracing::warn!("a handler was cut off by the end of the server"),
                }
                // Until here the request counts as one that draining waits for.
                drop(busy);
            }
            .instrument(span)
        });
        receiver
    }
}

/// Runs the handler in its context, counts it, and turns a panic and the router's own empty
/// refusals into problem documents.
async fn handle(
    router: Router,
    request: Request,
    context: Context,
    measured: Arc<Measured>,
    permit: OwnedSemaphorePermit,
) -> Response {
    let _permit = permit;
    let work = AssertUnwindSafe(router.oneshot(request)).catch_unwind();
    let response = match context.clone().scope(work).await {
        Ok(Ok(response)) => response,
        Err(payload) => {
            tracing::error!(panic = panic_text(&*payload), "a handler panicked");
            respond(Problem::internal().into(), &context)
        }
    };
    let response = explain(response, measured.matched(), &context);
    measured.record(response.status());
    response
}

/// The router refuses without a body: what matched no route, or no method of its route.
fn explain(response: Response, matched: bool, context: &Context) -> Response {
    let empty = response.body().size_hint().exact() == Some(0)
        && !response.headers().contains_key(CONTENT_TYPE);
    let failure = match response.status() {
        StatusCode::NOT_FOUND if empty && !matched => unknown_route(),
        StatusCode::METHOD_NOT_ALLOWED if empty => wrong_method(),
        _ => return response,
    };
    let (mut explained, original) = (respond(failure, context), response.into_parts().0);
    for (name, value) in &original.headers {
        if *name != CONTENT_LENGTH {
            explained.headers_mut().append(name, value.clone());
        }
    }
    explained
}

/// The answer of a refusal, with the id of the request.
pub(super) fn respond(failure: Failure, context: &Context) -> Response {
    let mut problem = failure.into_problem();
    if problem.request_id.is_none() {
        problem.request_id = context.request_id.as_ref().map(ToString::to_string);
    }
    Failure::from(problem).into_response()
}

fn is_problem(response: &Response) -> bool {
    let media = HeaderValue::from_static(tradewind_base::problem::MEDIA_TYPE);
    response.headers().get(CONTENT_TYPE) == Some(&media)
}

/// The size of a head as HTTP/1.1 writes it.
fn head_bytes(parts: &Parts) -> usize {
    // Spaces, version, colons, line ends.
    let uri = parts.uri.path().len() + parts.uri.query().map_or(0, str::len);
    let line = parts.method.as_str().len() + uri + 13;
    let headers = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    line + headers.sum::<usize>() + 2
}

/// RFC 9112 §3.2: a request of HTTP/1.1 names its host, once.
fn host(parts: &Parts) -> Result<(), &'static str> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if parts.version == Version::HTTP_11 => Err("is missing"),
        (Some(_), Some(_)) => Err("comes more than once"),
        _ => Ok(()),
    }
}

/// The refusal of what is not a request, by the status that says what is wrong with it.
fn malformed(status: StatusCode) -> Problem {
    match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => head_too_large(),
        StatusCode::URI_TOO_LONG => {
            Problem::new(status, "edge.uri-too-long", "the URI is longer than this server takes")
        }
        _ => Problem::new(status, "edge.malformed", "this is not an HTTP request"),
    }
}

fn head_too_large() -> Problem {
    let detail = "the request line and headers are larger than this server takes";
    Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "edge.head-too-large", detail)
}

fn unknown_route() -> Failure {
    Problem::new(StatusCode::NOT_FOUND, "edge.unknown-route", "there is nothing at this path")
        .into()
}
