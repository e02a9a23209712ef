//! Every answer the gateway gives by itself: which status, which code, which words.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Response, StatusCode};
use tradewind_base::context::REQUEST_ID_HEADER;
use tradewind_base::{Problem, problem};

use super::body::Fault;
use super::inbound::Arrival;
use crate::machine::auth::Denial;
use crate::machine::framing::Refusal;
use crate::machine::headers::HeaderRefusal;
use crate::machine::path::PathError;

/// A refusal: the problem, where it arose and, for the log alone, why.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) problem: Box<Problem>,
    pub(crate) phase: &'static str,
    pub(crate) reason: Option<String>,
    /// Whether the connection must end with the answer.
    pub(crate) close: bool,
    /// The value of `WWW-Authenticate`.
    pub(crate) challenge: Option<&'static str>,
}

impl Refused {
    fn new(phase: &'static str, problem: Problem) -> Self {
        Self { problem: Box::new(problem), phase, reason: None, close: false, challenge: None }
    }

    fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    const fn closing(mut self) -> Self {
        self.close = true;
        self
    }
}

impl Refused {
    /// The problem document with the id of its request.
    pub(crate) fn into_response<B>(
        mut self,
        request_id: String,
        body: impl FnOnce(Bytes) -> B,
    ) -> Response<B> {
        let id = HeaderValue::try_from(request_id.as_str());
        self.problem.request_id = Some(request_id);
        let mut response = Response::new(body(Bytes::from(self.problem.to_json())));
        *response.status_mut() = self.problem.status;
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(problem::MEDIA_TYPE));
        fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(id) = id {
            fields.insert(REQUEST_ID_HEADER, id);
        }
        if let Some(seconds) = self.problem.retry_after_seconds {
            fields.insert(RETRY_AFTER, seconds.into());
        }
        if let Some(challenge) = self.challenge {
            fields.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if self.close {
            fields.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

fn bad_request(code: &str, detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, code, detail)
}

pub(crate) fn framing(refusal: Refusal) -> Refused {
    use Refusal as R;
    let (status, code) = match refusal {
        R::RequestLine => (StatusCode::BAD_REQUEST, "gateway.request-line"),
        R::Version => (StatusCode::HTTP_VERSION_NOT_SUPPORTED, "gateway.version"),
        R::Method => (StatusCode::NOT_IMPLEMENTED, "gateway.method"),
        R::Target => (StatusCode::BAD_REQUEST, "gateway.target"),
        R::TargetTooLong => (StatusCode::URI_TOO_LONG, "gateway.target-too-long"),
        R::HeadTooLarge | R::TooManyHeaders => {
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "gateway.head-too-large")
        }
        R::HeaderField | R::Folded | R::LineEnd => (StatusCode::BAD_REQUEST, "gateway.header"),
        R::Host => (StatusCode::BAD_REQUEST, "gateway.host"),
        R::ContentLength | R::BothLengths | R::OldTransferEncoding => {
            (StatusCode::BAD_REQUEST, "gateway.framing")
        }
        R::TransferEncoding => (StatusCode::NOT_IMPLEMENTED, "gateway.transfer-encoding"),
        R::Expectation => (StatusCode::EXPECTATION_FAILED, "gateway.expectation"),
        R::UpgradeWithBody => (StatusCode::BAD_REQUEST, "gateway.upgrade-with-body"),
        R::Chunk | R::Trailer => (StatusCode::BAD_REQUEST, "gateway.chunked"),
    };
    Refused::new("head", Problem::new(status, code, refusal.to_string())).closing()
}

pub(crate) fn arrival(arrival: Option<Arrival>) -> Refused {
    match arrival {
        Some(Arrival::Refused(refusal)) => framing(refusal),
        Some(Arrival::TooSlow) => Refused::new(
            "head",
            Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "gateway.head-timeout",
                "the request head did not arrive in time",
            ),
        )
        .closing(),
        // Two readings of one connection that differ: whatever it is, it ends here.
        Some(Arrival::Head(_)) | None => Refused::new(
            "head",
            bad_request("gateway.framing", "the request could not be told apart from others"),
        )
        .because("the tracker and hyper read different heads")
        .closing(),
    }
}

pub(crate) fn path(error: PathError) -> Refused {
    Refused::new(
        "route",
        bad_request("gateway.path", error.to_string()).field("path", error.to_string()),
    )
}

pub(crate) fn no_route() -> Refused {
    let detail = "no route leads there";
    Refused::new("route", Problem::new(StatusCode::NOT_FOUND, "gateway.no-route", detail))
}

pub(crate) fn no_routes_yet() -> Refused {
    let detail = "the gateway has no routes yet";
    Refused::new("route", Problem::unavailable("gateway.starting", detail))
}

pub(crate) fn headers(refusal: HeaderRefusal) -> Refused {
    let problem = match refusal {
        HeaderRefusal::Nomination => bad_request("gateway.connection", refusal.to_string())
            .field("header:connection", refusal.to_string()),
        HeaderRefusal::Loop => {
            Problem::new(StatusCode::LOOP_DETECTED, "gateway.loop", refusal.to_string())
        }
    };
    Refused::new("head", problem)
}

pub(crate) fn denial(denial: Denial) -> Refused {
    let unauthorized = |code, detail: &str| {
        Problem::new(StatusCode::UNAUTHORIZED, code, detail).field("header:authorization", detail)
    };
    let (problem, challenge, reason) = match denial {
        Denial::Missing => {
            (unauthorized("auth.missing", "a bearer token is needed"), Some("Bearer"), None)
        }
        Denial::Invalid(reason) => (
            unauthorized("auth.invalid", "the bearer token is not valid; get a new one"),
            Some("Bearer error=\"invalid_token\""),
            Some(reason),
        ),
        Denial::NoKeys => {
            let detail = "tokens cannot be checked yet";
            (Problem::unavailable("auth.no-keys", detail), None, None)
        }
    };
    let refused = Refused { challenge, ..Refused::new("auth", problem) };
    match reason {
        Some(reason) => refused.because(reason),
        None => refused,
    }
}

pub(crate) fn body(fault: Fault) -> Refused {
    let problem = match fault {
        Fault::TooLarge => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "gateway.body-too-large",
            "the body is larger than the gateway takes",
        ),
        Fault::TooSlow => Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "gateway.body-timeout",
            "the body stopped arriving",
        ),
        Fault::Malformed => {
            bad_request("gateway.chunked", "the body is not framed as HTTP asks for")
        }
        Fault::Gone => bad_request("gateway.body-cut", "the body ended early"),
    };
    Refused::new("body", problem).closing()
}

pub(crate) fn overloaded() -> Refused {
    let detail = "the gateway has too many requests in work";
    Refused::new("queue", Problem::unavailable("gateway.overloaded", detail))
}

pub(crate) fn no_instance(service: &str) -> Refused {
    let detail = format!("no instance of {service} is there");
    Refused::new("discovery", Problem::unavailable("gateway.no-instance", detail))
}

pub(crate) fn unreachable(service: &str, reason: String) -> Refused {
    let detail = format!("no instance of {service} could be reached; nothing was sent");
    Refused::new("connect", Problem::unavailable("gateway.unreachable", detail)).because(reason)
}

pub(crate) fn busy(service: &str) -> Refused {
    let detail = format!("every connection to {service} is in use; nothing was sent");
    Refused::new("queue", Problem::unavailable("gateway.pool-full", detail))
}

pub(crate) fn connect_timeout(service: &str) -> Refused {
    let detail = format!("no connection to {service} in time; nothing was sent");
    Refused::new(
        "connect",
        Problem::new(StatusCode::GATEWAY_TIMEOUT, "gateway.connect-timeout", detail),
    )
}

pub(crate) fn head_timeout(service: &str) -> Refused {
    let detail = format!("{service} did not answer in time; whether it acted is unknown");
    Refused::new("head", Problem::new(StatusCode::GATEWAY_TIMEOUT, "gateway.timeout", detail))
}

pub(crate) fn lost(service: &str, reason: String) -> Refused {
    let detail = format!("the connection to {service} broke; whether it acted is unknown");
    Refused::new("head", Problem::new(StatusCode::BAD_GATEWAY, "gateway.connection-lost", detail))
        .because(reason)
}

pub(crate) fn bad_answer(service: &str, reason: String) -> Refused {
    let detail = format!("{service} did not answer in HTTP");
    Refused::new("head", Problem::new(StatusCode::BAD_GATEWAY, "gateway.bad-answer", detail))
        .because(reason)
}

pub(crate) fn internal() -> Refused {
    Refused::new("gateway", Problem::internal()).closing()
}
