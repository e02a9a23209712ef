//! The answer that repeats get.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use tradewind_base::problem::{self, Problem};

/// Headers that mean the same when they are sent again. Everything else is not stored: cookies and
/// secrets are for one time, dates and request ids belong to one attempt.
const HEADERS: [HeaderName; 4] = [
    http::header::CONTENT_TYPE,
    http::header::LOCATION,
    http::header::CONTENT_LANGUAGE,
    http::header::ETAG,
];

/// A final answer: status, headers on the list, body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAnswer {
    status: StatusCode,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Final although its status says otherwise.
    definite: bool,
}

/// Why an answer is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// A body beyond [`StoredAnswer::BODY_BYTES_MAX`].
    #[error("the body of a stored answer has at most {} bytes", StoredAnswer::BODY_BYTES_MAX)]
    TooLarge,
    /// A status that the client may hope to change by trying again.
    #[error("the status {0} is not final")]
    NotFinal(StatusCode),
}

/// The form of the headers in the table.
#[derive(Serialize, Deserialize)]
struct Headers(Vec<(String, String)>);

impl StoredAnswer {
    /// The largest body that is stored, in bytes.
    pub const BODY_BYTES_MAX: usize = 64 * 1024;

    /// A JSON answer. A status that is none counts as 500, which cannot be stored.
    #[must_use]
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Self { status, headers, body: body.to_string().into_bytes(), definite: false }
    }

    /// A refusal that repeats get too, also with a status that elsewhere means "try again": the
    /// business said no to this intent, and a duplicate that the network kept for a while must not
    /// turn that into a yes the client never hears of.
    #[must_use]
    pub fn refusal(problem: &Problem) -> Self {
        let status = problem.status;
        let headers = vec![("content-type".to_owned(), problem::MEDIA_TYPE.to_owned())];
        let body = serde_json::to_vec(problem).unwrap_or_default();
        Self { status, headers, body, definite: !Self::is_final(status) }
    }

    /// An answer from its parts; headers that are not on the list are left out.
    #[must_use]
    pub fn new(status: StatusCode, headers: &HeaderMap, body: Vec<u8>) -> Self {
        let text = |name: &HeaderName| {
            let value = headers.get(name)?.to_str().ok()?;
            Some((name.as_str().to_owned(), value.to_owned()))
        };
        let headers = HEADERS.iter().filter_map(text).collect();
        Self { status, headers, body, definite: false }
    }

    /// Adds a `Location`.
    #[must_use]
    pub fn located(mut self, location: &str) -> Self {
        self.headers.push(("location".to_owned(), location.to_owned()));
        self
    }

    /// Whether a status is final: a success, a redirection, or a refusal of this very content.
    /// Who is not signed in, not allowed, too early, too often or unlucky may try again.
    #[must_use]
    pub fn is_final(status: StatusCode) -> bool {
        let transient = [401, 403, 407, 408, 409, 421, 423, 425, 428, 429];
        (200..500).contains(&status.as_u16()) && !transient.contains(&status.as_u16())
    }

    /// Whether it can be stored.
    ///
    /// # Errors
    /// When its status is not final or its body too large.
    pub fn check(&self) -> Result<(), AnswerError> {
        if !self.definite && !Self::is_final(self.status) {
            return Err(AnswerError::NotFinal(self.status));
        }
        if Self::BODY_BYTES_MAX < self.body.len() {
            return Err(AnswerError::TooLarge);
        }
        Ok(())
    }

    /// The status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        let pair = |(name, value): &(String, String)| {
            Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?))
        };
        self.headers.iter().filter_map(pair).collect()
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    pub(crate) fn headers_text(&self) -> String {
        // Strings only: there is nothing to fail on.
        serde_json::to_string(&Headers(self.headers.clone())).unwrap_or_default()
    }

    /// From the columns of a row; `None` when they were not written by this library.
    pub(crate) fn stored(status: u16, headers: &str, body: Vec<u8>) -> Option<Self> {
        let status = StatusCode::from_u16(status).ok()?;
        let Headers(headers) = serde_json::from_str(headers).ok()?;
        Some(Self { status, headers, body, definite: !Self::is_final(status) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_headers_on_the_list_are_stored() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "text/plain"),
            ("location", "/orders/1"),
            ("set-cookie", "secret"),
            ("date", "now"),
            ("authorization", "secret"),
            ("x-request-id", "req_1"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let answer = StoredAnswer::new(StatusCode::CREATED, &headers, b"x".to_vec());
        let kept = answer.headers();
        assert_eq!(kept.len(), 2);
        assert!(kept.contains_key("content-type") && kept.contains_key("location"));
        let again = StoredAnswer::stored(201, &answer.headers_text(), b"x".to_vec());
        assert_eq!(again, Some(answer));
    }

    #[test]
    fn what_may_change_by_trying_again_is_not_final() {
        for status in [200, 201, 202, 204, 303, 400, 404, 410, 412, 422] {
            assert!(StoredAnswer::is_final(StatusCode::from_u16(status).unwrap()), "{status}");
        }
        for status in [100, 401, 403, 408, 409, 425, 429, 500, 502, 503, 504] {
            assert!(!StoredAnswer::is_final(StatusCode::from_u16(status).unwrap()), "{status}");
        }
    }

    #[test]
    fn a_large_body_is_not_stored() {
        let of = |len| StoredAnswer::new(StatusCode::OK, &HeaderMap::new(), vec![0; len]).check();
        assert_eq!(of(StoredAnswer::BODY_BYTES_MAX), Ok(()));
        assert_eq!(of(StoredAnswer::BODY_BYTES_MAX + 1), Err(AnswerError::TooLarge));
    }
}
