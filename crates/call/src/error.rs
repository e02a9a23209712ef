//! What can go wrong with a call.

use http::StatusCode;
use serde::Deserialize;
use tradewind_base::Problem;
use tradewind_base::problem::FieldError;
use tradewind_discovery::{InstanceId, ServiceName};
use tradewind_http::SendError;

/// A call failed. [`CallError::outcome_unknown`] says whether it may have taken effect all the
/// same.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// No instance of the service is UP, as far as this process knows. Nothing was sent.
    #[error("no instance of {service} is up")]
    NoInstance {
        /// The service that was called.
        service: ServiceName,
    },
    /// The last attempt could not be carried through.
    #[error("failed to call {service} at {instance}, attempt {attempts}")]
    Transport {
        /// The service that was called.
        service: ServiceName,
        /// The instance of the last attempt.
        instance: InstanceId,
        /// How many attempts were made.
        attempts: u32,
        /// Whether any of them may have reached a server.
        sent: bool,
        /// What failed.
        source: Box<SendError>,
    },
    /// The last attempt waited for its connection or answer as long as the policy allows.
    #[error("{service} did not answer in time at {instance}, attempt {attempts}")]
    Timeout {
        /// The service that was called.
        service: ServiceName,
        /// The instance of the last attempt.
        instance: InstanceId,
        /// How many attempts were made.
        attempts: u32,
        /// Whether any of them may have reached a server.
        sent: bool,
        /// Which phase took too long.
        source: Box<SendError>,
    },
    /// The service answered with a problem document.
    #[error("refused with {} {}: {}", .0.status.as_u16(), .0.code, .0.detail)]
    Refused(Box<Problem>),
    /// The service answered with a status other than success and without a problem document.
    #[error("{service} answered {status}: {text:?}")]
    Status {
        /// The service that was called.
        service: ServiceName,
        /// What it answered.
        status: StatusCode,
        /// The beginning of the body, for the log.
        text: String,
    },
    /// The answer is a success, but not of the declared type.
    #[error("failed to read what {service} answered to {endpoint}")]
    Decode {
        /// The service that was called.
        service: ServiceName,
        /// The path template of the call.
        endpoint: &'static str,
        /// Where the content does not fit.
        source: serde_json::Error,
    },
    /// The answer is a success, but larger than the policy allows.
    #[error("the answer of {service} has more than {limit} bytes")]
    TooLarge {
        /// The service that was called.
        service: ServiceName,
        /// The limit of the policy.
        limit: usize,
    },
    /// The last attempt was answered, but not with success, and an earlier one, which may have been
    /// carried out, was not answered. Only of methods that change something.
    #[error("a repeat was refused, and what became of the first attempt is not known")]
    Unsettled {
        /// The answer to the last attempt.
        source: Box<Self>,
    },
    /// The total time is over, or too little of it is left for an attempt.
    #[error("no time left to call {service} after {attempts} attempts")]
    DeadlineExceeded {
        /// The service that was called.
        service: ServiceName,
        /// How many attempts were made.
        attempts: u32,
        /// Whether any of them may have reached a server.
        sent: bool,
    },
    /// A parameter cannot be sent as declared. Nothing was sent.
    #[error("parameter {parameter}: {reason}")]
    Invalid {
        /// Which one.
        parameter: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl CallError {
    /// The status of the answer, if there was one.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused(problem) => Some(problem.status),
            Self::Status { status, .. } => Some(*status),
            Self::Unsettled { source } => source.status(),
            Self::NoInstance { .. }
            | Self::Transport { .. }
            | Self::Timeout { .. }
            | Self::Decode { .. }
            | Self::TooLarge { .. }
            | Self::DeadlineExceeded { .. }
            | Self::Invalid { .. } => None,
        }
    }

    /// The problem document of the answer, if there was one.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) => Some(problem),
            Self::Unsettled { source } => source.problem(),
            Self::NoInstance { .. }
            | Self::Transport { .. }
            | Self::Timeout { .. }
            | Self::Status { .. }
            | Self::Decode { .. }
            | Self::TooLarge { .. }
            | Self::DeadlineExceeded { .. }
            | Self::Invalid { .. } => None,
        }
    }

    /// Whether the call may have taken effect although it failed. `false` is a promise: it did
    /// not. A 5xx other than 501 and 503 promises nothing.
    #[must_use]
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Self::Transport { sent, .. }
            | Self::Timeout { sent, .. }
            | Self::DeadlineExceeded { sent, .. } => *sent,
            Self::Refused(problem) => promises_nothing(problem.status),
            Self::Status { status, .. } => promises_nothing(*status),
            Self::Decode { .. } | Self::TooLarge { .. } | Self::Unsettled { .. } => true,
            Self::NoInstance { .. } | Self::Invalid { .. } => false,
        }
    }
}

fn promises_nothing(status: StatusCode) -> bool {
    let definite = matches!(status, StatusCode::NOT_IMPLEMENTED | StatusCode::SERVICE_UNAVAILABLE);
    // A success cannot be an error; a redirect is none of our services' answers, so whatever sent
    // it did not do what was asked.
    status.is_server_error() && !definite
}

impl From<&CallError> for Problem {
    /// What a service tells its own caller when it has nothing better to say: 503 when the other
    /// service cannot be reached or has no room, 504 when it was too slow, 502 for everything
    /// else. It names the service, and nothing of its inside.
    fn from(error: &CallError) -> Self {
        match error {
            CallError::Unsettled { source } => Self::from(&**source),
            CallError::NoInstance { service } | CallError::Transport { service, .. } => {
                Self::unavailable("call.unavailable", format!("{service} cannot be reached"))
            }
            CallError::Timeout { service, .. } | CallError::DeadlineExceeded { service, .. } => {
                let detail = format!("{service} did not answer in time");
                Self::new(StatusCode::GATEWAY_TIMEOUT, "call.timeout", detail)
            }
            CallError::Refused(problem) if problem.status == StatusCode::SERVICE_UNAVAILABLE => {
                let detail = "a service that is needed has no room";
                let after = problem.retry_after_seconds.unwrap_or(1);
                Self::unavailable("call.unavailable", detail).retry_after(after)
            }
            CallError::Status { status: StatusCode::SERVICE_UNAVAILABLE, service, .. } => {
                Self::unavailable("call.unavailable", format!("{service} has no room"))
            }
            CallError::Refused(_)
            | CallError::Status { .. }
            | CallError::Decode { .. }
            | CallError::TooLarge { .. } => {
                let detail = "a service that is needed gave an answer that cannot be used";
                Self::new(StatusCode::BAD_GATEWAY, "call.bad-answer", detail)
            }
            CallError::Invalid { .. } => Self::internal(),
        }
    }
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        Self::from(&error)
    }
}

/// A problem document as foreign servers write it: every member is optional (RFC 9457 §3.1), and
/// `code` is ours.
#[derive(Deserialize)]
struct Foreign {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    detail: Option<String>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    errors: Vec<FieldError>,
    #[serde(default)]
    request_id: Option<String>,
    #[serde(default)]
    retry_after_seconds: Option<u32>,
}

/// Reads a problem document. The status is the answer's: the member is a copy that may be wrong.
pub(crate) fn read_problem(status: StatusCode, body: &[u8]) -> Option<Box<Problem>> {
    let foreign: Foreign = serde_json::from_slice(body).ok()?;
    let phrase = || status.canonical_reason().unwrap_or("Error").to_owned();
    let kind = foreign.kind.unwrap_or_else(|| "about:blank".to_owned());
    Some(Box::new(Problem {
        code: foreign.code.unwrap_or_else(|| kind.clone()),
        kind,
        title: foreign.title.unwrap_or_else(phrase),
        status,
        detail: foreign.detail.unwrap_or_default(),
        errors: foreign.errors,
        request_id: foreign.request_id,
        retry_after_seconds: foreign.retry_after_seconds,
    }))
}

/// Most characters of a body that a log line gets.
const TEXT_MAX: usize = 512;

/// The beginning of a body, as text.
pub(crate) fn beginning(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(TEXT_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> ServiceName {
        ServiceName::parse("inventory").unwrap()
    }

    fn status(status: StatusCode) -> CallError {
        CallError::Status { service: service(), status, text: "<html>".into() }
    }

    #[test]
    fn a_definite_failure_is_told_from_an_unknown_outcome() {
        let refused = |it| CallError::Refused(Box::new(Problem::new(it, "x", "y")));
        for (definite, code) in
            [(true, 400), (true, 404), (true, 409), (true, 501), (true, 503), (true, 302)]
                .into_iter()
                .chain([(false, 500), (false, 502), (false, 504)])
        {
            let code = StatusCode::from_u16(code).unwrap();
            assert_eq!(status(code).outcome_unknown(), !definite, "{code}");
            assert_eq!(refused(code).outcome_unknown(), !definite, "{code}");
            assert_eq!(refused(code).status(), Some(code));
        }
        let late = |sent| CallError::DeadlineExceeded { service: service(), attempts: 1, sent };
        assert!(late(true).outcome_unknown());
        assert!(!late(false).outcome_unknown());
    }

    #[test]
    fn a_foreign_problem_document_is_read_with_the_status_of_the_answer() {
        let body = br#"{"type":"https://example.com/p","status":200,"extra":[1]}"#;
        let problem = read_problem(StatusCode::NOT_FOUND, body).unwrap();
        assert_eq!(problem.status, StatusCode::NOT_FOUND);
        assert_eq!((&*problem.code, &*problem.title), ("https://example.com/p", "Not Found"));
        let own = Problem::new(StatusCode::CONFLICT, "order.busy", "try later").field("a", "b");
        let read = read_problem(StatusCode::CONFLICT, own.to_json().as_bytes()).unwrap();
        assert_eq!(*read, own);
        assert!(read_problem(StatusCode::NOT_FOUND, b"<html>").is_none());
    }

    #[test]
    fn what_the_caller_of_a_caller_sees_names_no_inside() {
        let table = [
            (CallError::NoInstance { service: service() }, 503),
            (status(StatusCode::SERVICE_UNAVAILABLE), 503),
            (status(StatusCode::NOT_FOUND), 502),
            (status(StatusCode::INTERNAL_SERVER_ERROR), 502),
            (CallError::DeadlineExceeded { service: service(), attempts: 1, sent: true }, 504),
            (CallError::Invalid { parameter: "id", reason: "secret".into() }, 500),
        ];
        for (error, expected) in table {
            let problem = Problem::from(error);
            assert_eq!(problem.status.as_u16(), expected);
            assert!(!problem.to_json().contains("secret") && !problem.to_json().contains("html"));
        }
    }

    #[test]
    fn the_text_for_the_log_is_short_and_visible() {
        assert_eq!(beginning(&[b'x'; 9999]).len(), 512);
        assert!(
            status(StatusCode::BAD_GATEWAY).to_string().ends_with("502 Bad Gateway: \"<html>\"")
        );
        let broken = CallError::Status {
            service: service(),
            status: StatusCode::OK,
            text: beginning(b"a\nb\x1b\xff"),
        };
        assert!(!broken.to_string().contains(['\n', '\x1b']), "{broken}");
    }
}
