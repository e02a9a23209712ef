//! What handlers give back: JSON, or a problem document.

use std::fmt;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use tradewind_base::{Context, Problem, problem};

use crate::extract::Json;

/// What most handlers return.
pub type Answer<T> = Result<Json<T>, Failure>;

/// A refusal or a fault, answered as a problem document with the id of the request.
///
/// `?` turns a [`Problem`] into one; a server writes one `From` for each of its own errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(Box<Problem>);

impl Failure {
    /// A fault of ours: `error` and its causes go to the log, the caller sees none of it.
    #[must_use]
    pub fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(error = chain(error), "request failed");
        Problem::internal().into()
    }

    /// The document.
    #[must_use]
    pub const fn problem(&self) -> &Problem {
        &self.0
    }

    /// The document, to be changed.
    #[must_use]
    pub fn into_problem(self) -> Problem {
        *self.0
    }
}

/// An error with all its causes, outermost first, for a log.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.0.status.as_u16(), self.0.code, self.0.detail)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut problem = *self.0;
        if problem.request_id.is_none() {
            problem.request_id = Context::current().request_id.map(|it| it.to_string());
        }
        let mut response = Response::new(problem.to_json().into());
        *response.status_mut() = problem.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(problem::MEDIA_TYPE));
        if let Some(seconds) = problem.retry_after_seconds {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if problem.status == StatusCode::UNAUTHORIZED {
            // RFC 9110 §15.5.2: a 401 says which scheme it wants.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
