//! What a declared method puts into its request.

use std::fmt::{self, Display};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Uri};
use serde::Serialize;

use crate::{CallError, encode};

/// A request in the making. The attribute [`client`](crate::client) writes these calls; they may
/// be written by hand where a declaration does not fit.
///
/// A parameter that cannot be sent is remembered and reported by the call.
#[must_use = "a request does nothing until it is called"]
pub struct Request {
    method: Method,
    endpoint: &'static str,
    address: String,
    query: bool,
    headers: HeaderMap,
    body: Bytes,
    idempotent: bool,
    timeout: Option<Duration>,
    fault: Option<CallError>,
}

/// A request that can be sent, as often as needed.
pub(crate) struct Ready {
    pub(crate) method: Method,
    pub(crate) endpoint: &'static str,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) idempotent: bool,
    pub(crate) timeout: Option<Duration>,
}

impl Request {
    /// A request without a path yet. `endpoint` is its path template, for logs: it must not hold
    /// a parameter's value. Idempotent if the method is (RFC 9110 §9.2.2).
    pub fn new(method: Method, endpoint: &'static str) -> Self {
        let idempotent = method.is_idempotent();
        let mut headers = HeaderMap::with_capacity(12);
        let accepted = HeaderValue::from_static("application/json, application/problem+json");
        headers.insert(ACCEPT, accepted);
        headers.insert(USER_AGENT, HeaderValue::from_static("tradewind"));
        Self {
            method,
            endpoint,
            address: String::with_capacity(64),
            query: false,
            headers,
            body: Bytes::new(),
            idempotent,
            timeout: None,
            fault: None,
        }
    }

    /// Doing it twice is the same as doing it once, whatever the method.
    pub const fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// The time limit of the whole call, instead of the policy's.
    pub const fn timeout(mut self, total: Duration) -> Self {
        self.timeout = Some(total);
        self
    }

    /// Appends text to the path as it is.
    pub fn literal(mut self, text: &'static str) -> Self {
        self.address.push_str(text);
        self
    }

    /// Appends one path segment, escaped. An empty one, `.` and `..` are refused: they would lead
    /// elsewhere.
    pub fn segment(mut self, parameter: &'static str, value: &dyn Display) -> Self {
        let start = self.address.len();
        if encode::append(&mut self.address, value).is_err() {
            return self.fault(parameter, "the address becomes too long");
        }
        if self.address.get(start..).is_some_and(encode::misleads) {
            return self.fault(parameter, "empty, `.` and `..` are no path segments");
        }
        self
    }

    /// Appends one pair to the query, escaped. The path must be complete.
    pub fn query(mut self, name: &'static str, value: &dyn Display) -> Self {
        self.address.push(if self.query { '&' } else { '?' });
        self.query = true;
        let named = encode::append(&mut self.address, &name);
        self.address.push('=');
        match named.and_then(|()| encode::append(&mut self.address, value)) {
            Ok(()) => self,
            Err(_) => self.fault(name, "the address becomes too long"),
        }
    }

    /// Adds a header line.
    pub fn header(mut self, name: &'static str, value: &dyn Display) -> Self {
        let header = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::try_from(value.to_string());
        match (header, value) {
            (Ok(header), Ok(value)) => match self.headers.try_append(header, value) {
                Ok(_) => self,
                Err(_) => self.fault(name, "too many headers"),
            },
            (Err(_), _) => self.fault(name, "this is no header name"),
            (_, Err(_)) => self.fault(name, "a header holds no control characters"),
        }
    }

    /// Sets the body.
    pub fn json<T: Serialize + ?Sized>(mut self, body: &T) -> Self {
        match serde_json::to_vec(body) {
            Ok(bytes) => {
                self.body = bytes.into();
                let json = HeaderValue::from_static("application/json");
                self.headers.insert(CONTENT_TYPE, json);
                self
            }
            Err(error) => self.fault("body", &format!("does not serialise: {error}")),
        }
    }

    /// The first fault counts: later ones often follow from it.
    fn fault(mut self, parameter: &'static str, reason: &str) -> Self {
        let reason = reason.to_owned();
        self.fault.get_or_insert_with(|| CallError::Invalid { parameter, reason });
        self
    }

    /// The finished request.
    pub(crate) fn finish(self) -> Result<Ready, CallError> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let uri = Uri::try_from(self.address).map_err(|error| CallError::Invalid {
            parameter: "path",
            reason: format!("not an address: {error}"),
        })?;
        Ok(Ready {
            method: self.method,
            endpoint: self.endpoint,
            uri,
            headers: self.headers,
            body: self.body,
            idempotent: self.idempotent,
            timeout: self.timeout,
        })
    }
}

impl fmt::Debug for Request {
    /// Without address, headers and body: they hold what callers entrust to the service.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("endpoint", &self.endpoint)
            .field("idempotent", &self.idempotent)
            .field("timeout", &self.timeout)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get() -> Request {
        Request::new(Method::GET, "/x").literal("/x/")
    }

    fn refusal(request: Request) -> String {
        request.finish().err().unwrap().to_string()
    }

    #[test]
    fn the_address_is_put_together_and_escaped_by_component() {
        let ready = get()
            .segment("id", &"a/b c")
            .literal("/y")
            .query("q", &"1&2")
            .query("r s", &-7)
            .finish()
            .unwrap();
        assert_eq!(ready.uri, "/x/a%2Fb%20c/y?q=1%262&r%20s=-7");
        assert!(ready.idempotent);
    }

    #[test]
    fn a_segment_that_would_lead_elsewhere_is_refused() {
        for bad in ["", ".", ".."] {
            assert!(refusal(get().segment("id", &bad)).starts_with("parameter id: "), "{bad}");
        }
        assert!(get().segment("id", &"...").finish().is_ok());
    }

    #[test]
    fn what_cannot_be_sent_is_named() {
        let long = "x".repeat(encode::ADDRESS_MAX + 1);
        assert_eq!(
            refusal(get().segment("id", &long)),
            "parameter id: the address becomes too long"
        );
        assert_eq!(refusal(get().query("q", &long)), "parameter q: the address becomes too long");
        let split = get().header("if-match", &"a\r\nx-evil: 1");
        assert_eq!(refusal(split), "parameter if-match: a header holds no control characters");
        let map = std::collections::BTreeMap::from([((1, 2), 3)]);
        assert!(refusal(get().json(&map)).starts_with("parameter body: does not serialise"));
        let both = get().segment("id", &"").query("q", &long);
        assert!(refusal(both).starts_with("parameter id"), "the first fault is reported");
    }

    #[test]
    fn a_post_is_repeated_only_where_told_so() {
        let post = || Request::new(Method::POST, "/x").literal("/x");
        assert!(!post().finish().unwrap().idempotent);
        assert!(post().idempotent().finish().unwrap().idempotent);
        let ready = post().json(&[1, 2]).finish().unwrap();
        assert_eq!(
            (&ready.body[..], &ready.headers[CONTENT_TYPE]),
            (&b"[1,2]"[..], &HeaderValue::from_static("application/json"))
        );
    }
}
