//! One attempt on one instance.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use tokio::time::timeout;
use tradewind_base::context::{DEADLINE_HEADER, REQUEST_ID_HEADER, TRACE_HEADER, XID_HEADER};
use tradewind_base::id::{RequestId, RequestText};
use tradewind_base::identity::{CALLER_HEADER, USER_HEADER};
use tradewind_base::problem::MEDIA_TYPE;
use tradewind_base::{Context, Rng, Timestamp, TraceContext};
use tradewind_discovery::Instance;
use tradewind_http::{Body, ErrorKind, Limits, Phase, SendError, collect};

use super::{Call, Chain, Content, Inner};
use crate::CallError;
use crate::error::{beginning, read_problem};
use crate::machine::schedule::Failure;
use crate::stats::add;

/// Most bytes of the body of an answer that is no success.
const ERROR_BODY_MAX: usize = 64 * 1024;

/// The longest `Retry-After` that another instance is tried on: beyond it the service is down on
/// purpose.
const RETRY_AFTER_SECONDS_MAX: u64 = 5;

/// An attempt that did not give what the call wants.
pub(super) enum Failed {
    /// The call ends with this.
    Finally(CallError),
    /// The call ends with this unless another attempt is allowed.
    Perhaps(Failure, CallError),
}

/// What an attempt tells about its instance.
pub(super) enum Sent<'a> {
    Answered,
    Failed(&'a SendError),
}

/// What the context puts into every attempt's headers.
pub(super) struct Headers {
    trace: TraceContext,
    fixed: HeaderMap,
}

impl Headers {
    pub(super) fn new(context: &Context, now: Timestamp, rng: &mut Rng) -> Self {
        // Work that no request began is its own trace; whether to record it, nobody has decided.
        let trace = context.trace.unwrap_or_else(|| TraceContext::start(rng, false));
        let id = context.request_id.clone();
        let id = id.unwrap_or_else(|| RequestText::from(RequestId::generate(now, rng)));
        let mut fixed = HeaderMap::new();
        put(&mut fixed, REQUEST_ID_HEADER, id.as_str());
        if let Some((_, sealed)) = &context.user {
            put(&mut fixed, USER_HEADER, sealed);
        }
        if let Some(xid) = &context.xid {
            put(&mut fixed, XID_HEADER, &xid.to_string());
        }
        if let Some(user) = fixed.get_mut(USER_HEADER) {
            user.set_sensitive(true);
        }
        Self { trace, fixed }
    }
}

/// Sets a header of ours. The values are ASCII by construction; one that is not is left out, since
/// the receiver would refuse it anyway.
fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

impl Inner {
    /// One attempt, within `left` of the total time.
    pub(super) async fn attempt(
        &self,
        call: &mut Call,
        instance: &Arc<Instance>,
        left: Duration,
        content: Content,
    ) -> Result<Bytes, Failed> {
        add(&self.counters.attempts, 1);
        let limits = self.policy.limits(left);
        let request = self.request(call, left);
        let start = self.clock.monotonic();
        // The inner limits are no longer than this one and are asked first, so that what a phase
        // knows of its failure is not lost.
        let result = timeout(left, self.exchange(instance, request, &limits, content)).await;
        let elapsed_ms = (self.clock.monotonic() - start).as_millis();
        let (service, attempt) = (self.service.as_str(), call.schedule.attempts());
        let (endpoint, id) = (call.request.endpoint, instance.id.as_str());
        match result {
            Ok(Ok(response)) => {
                let status = response.status().as_u16();
                tracing::debug!(
                    service,
                    endpoint,
                    instance.id = id,
                    attempt,
                    status,
                    elapsed_ms,
                    "attempt answered"
                );
                self.read(response)
            }
            Ok(Err(error)) => {
                let cause = Chain(&error);
                tracing::debug!(
                    service, endpoint, instance.id = id, attempt, elapsed_ms, error = %cause, "attempt failed"
                );
                call.sent |= !error.nothing_sent();
                Err(self.failed(call, instance, error))
            }
            Err(_) => {
                tracing::debug!(
                    service,
                    endpoint,
                    instance.id = id,
                    attempt,
                    elapsed_ms,
                    "no time left"
                );
                call.sent = true;
                Err(Failed::Finally(self.too_late(call, attempt)))
            }
        }
    }

    fn request(&self, call: &mut Call, left: Duration) -> http::Request<Bytes> {
        let mut request = http::Request::new(call.request.body.clone());
        *request.method_mut() = call.request.method.clone();
        *request.uri_mut() = call.request.uri.clone();
        let headers = request.headers_mut();
        headers.clone_from(&call.request.headers);
        for (name, value) in &call.headers.fixed {
            headers.insert(name, value.clone());
        }
        put(headers, TRACE_HEADER, &call.headers.trace.child(&mut call.rng).to_string());
        put(headers, DEADLINE_HEADER, &left.as_millis().max(1).to_string());
        let caller = self.caller.as_ref().and_then(|it| it.header(self.clock.now()));
        if let Some(caller) = caller {
            headers.insert(HeaderName::from_static(CALLER_HEADER), caller);
        }
        request
    }

    /// Sends and reads the answer whole.
    async fn exchange(
        &self,
        instance: &Arc<Instance>,
        request: http::Request<Bytes>,
        limits: &Limits,
        content: Content,
    ) -> Result<Response<Bytes>, SendError> {
        let result = self.client.send(&instance.target(), request, limits).await;
        self.settle(instance, &result.as_ref().map_or_else(Sent::Failed, |_| Sent::Answered));
        let (parts, body) = result?.into_parts();
        let success = parts.status.is_success();
        let bytes = if success && content == Content::Wanted {
            collect(body, self.policy.body_max, limits).await?
        } else {
            // The head has said all that matters. Reading on gives the connection back.
            self.read_leniently(body, limits).await
        };
        Ok(Response::from_parts(parts, bytes))
    }

    async fn read_leniently(&self, body: Body, limits: &Limits) -> Bytes {
        collect(body, self.policy.body_max.min(ERROR_BODY_MAX), limits).await.unwrap_or_default()
    }

    /// The answer as the call's result.
    fn read(&self, response: Response<Bytes>) -> Result<Bytes, Failed> {
        let status = response.status();
        if status.is_success() {
            return Ok(response.into_body());
        }
        let is_problem =
            response.headers().get(CONTENT_TYPE).and_then(|it| it.to_str().ok()).is_some_and(
                |it| it.split(';').next().is_some_and(|it| is_problem_type(it.trim())),
            );
        let again = asks_to_come_again(status, response.headers(), is_problem);
        let body = response.into_body();
        let problem = is_problem.then(|| read_problem(status, &body)).flatten();
        let error = problem.map_or_else(
            || CallError::Status { service: self.service.clone(), status, text: beginning(&body) },
            CallError::Refused,
        );
        if again {
            Err(Failed::Perhaps(Failure::Unavailable, error))
        } else {
            Err(Failed::Finally(error))
        }
    }

    /// What follows from an attempt without a whole answer.
    fn failed(&self, call: &Call, instance: &Instance, error: SendError) -> Failed {
        let service = self.service.clone();
        let (nothing_sent, timed_out) = (error.nothing_sent(), error.timed_out());
        let (phase, kind) = (error.phase(), error.kind());
        if kind == ErrorKind::TooLarge {
            return Failed::Finally(CallError::TooLarge { service, limit: self.policy.body_max });
        }
        let (instance, attempts) = (instance.id.clone(), call.schedule.attempts());
        let (sent, source) = (call.sent, Box::new(error));
        let error = if timed_out {
            CallError::Timeout { service, instance, attempts, sent, source }
        } else {
            CallError::Transport { service, instance, attempts, sent, source }
        };
        match (phase, kind) {
            // The next attempt would be the same request, and as wrong.
            (_, ErrorKind::Request) => Failed::Finally(error),
            // The head of an answer was there: it was carried out, or refused.
            (Phase::Body, _) => Failed::Finally(error),
            (Phase::Connect | Phase::Send | Phase::Head, _) if nothing_sent => {
                Failed::Perhaps(Failure::NothingSent, error)
            }
            (Phase::Connect | Phase::Send | Phase::Head, _) => {
                Failed::Perhaps(Failure::NoAnswer, error)
            }
        }
    }
}

fn is_problem_type(media_type: &str) -> bool {
    media_type.eq_ignore_ascii_case(MEDIA_TYPE)
}

/// Whether a 503 says that a repeat may succeed soon: `Retry-After` of a few seconds (a date says
/// "much later"), or a problem document without one. A bare 503 may come from anything between,
/// and says nothing.
fn asks_to_come_again(status: StatusCode, headers: &HeaderMap, is_problem: bool) -> bool {
    let after = headers.get(RETRY_AFTER).map(|it| {
        it.to_str().ok().and_then(|it| it.trim().parse::<u64>().ok()).unwrap_or(u64::MAX)
    });
    status == StatusCode::SERVICE_UNAVAILABLE
        && after.map_or(is_problem, |it| it <= RETRY_AFTER_SECONDS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_503_that_says_so_asks_to_come_again() {
        let table = [
            (503, None, true, true),
            (503, None, false, false),
            (503, Some("1"), false, true),
            (503, Some(" 5 "), true, true),
            (503, Some("6"), true, false),
            (503, Some("Fri, 31 Dec 1999 23:59:59 GMT"), true, false),
            (500, Some("1"), true, false),
            (429, Some("1"), true, false),
        ];
        for (status, after, is_problem, expected) in table {
            let status = StatusCode::from_u16(status).unwrap();
            let mut headers = HeaderMap::new();
            if let Some(after) = after {
                headers.insert(RETRY_AFTER, HeaderValue::from_static(after));
            }
            let found = asks_to_come_again(status, &headers, is_problem);
            assert_eq!(found, expected, "{status} {after:?} {is_problem}");
        }
    }

    #[test]
    fn work_without_a_request_has_a_trace_and_an_id_of_its_own() {
        let now = Timestamp::from_millis(1);
        let headers = Headers::new(&Context::default(), now, &mut Rng::seeded(1));
        assert!(headers.fixed[REQUEST_ID_HEADER].to_str().unwrap().starts_with("req_"));
        assert!(!headers.trace.sampled());
        assert!(!headers.fixed.contains_key(USER_HEADER));
    }
}
