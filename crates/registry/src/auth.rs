//! Basic auth (RFC 7617), as Eureka clients can send it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use tradewind_base::{ExposeSecret as _, Problem, SecretString};
use tradewind_service::Failure;
use tradewind_service::axum::extract::{Request, State};
use tradewind_service::axum::middleware::Next;
use tradewind_service::axum::response::{IntoResponse as _, Response};

/// The one `Authorization` value that is let through.
#[derive(Clone)]
pub(crate) struct Basic(Arc<SecretString>);

impl Basic {
    pub(crate) fn new(user: &str, password: &SecretString) -> Self {
        let pair = format!("{user}:{}", password.expose_secret());
        let text = format!("Basic {}", STANDARD.encode(pair));
        Self(Arc::new(SecretString::from(text)))
    }

    /// The header for requests to peers, which have the same user.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(self.0.expose_secret()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    fn lets_in(&self, headers: &HeaderMap) -> bool {
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (given.next(), given.next()) else { return false };
        let (given, wanted) = (value.as_bytes(), self.0.expose_secret().as_bytes());
        // The scheme's case does not count (RFC 9110 §11.1), the credentials' does.
        let Some((scheme, rest)) = given.split_at_checked(5) else { return false };
        let Some((_, wanted)) = wanted.split_at_checked(5) else { return false };
        scheme.eq_ignore_ascii_case(b"basic") && equal(rest, wanted)
    }
}

impl std::fmt::Debug for Basic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Basic(…)")
    }
}

/// Lets only requests with the right credentials through.
pub(crate) async fn require(State(basic): State<Basic>, request: Request, next: Next) -> Response {
    if basic.lets_in(request.headers()) {
        return next.run(request).await;
    }
    let detail = "this registry asks for user and password (basic auth)";
    let problem = Problem::new(StatusCode::UNAUTHORIZED, "registry.unauthorized", detail);
    let mut response = Failure::from(problem).into_response();
    let scheme = HeaderValue::from_static("Basic realm=\"registry\", charset=\"UTF-8\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    response
}

/// Takes the same time wherever the first difference is. The length is no secret worth hiding.
fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let difference = a.iter().zip(b).fold(0_u8, |sum, (a, b)| sum | (a ^ b));
    // Keeps the compiler from leaving the loop early.
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let pair = |it: &&str| (AUTHORIZATION, HeaderValue::from_str(it).unwrap());
        values.iter().map(pair).collect()
    }

    #[test]
    fn only_the_right_credentials_are_let_in() {
        let basic = Basic::new("Aladdin", &SecretString::from("open sesame"));
        for good in ["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="] {
            assert!(basic.lets_in(&headers(&[good])), "{good}");
        }
        let right = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
        for bad in [
            &[][..],
            &[""],
            &["Basic "],
            &["Basic QWxhZGRpbjpvcGVuIHNlc2FtZR=="],
            &["Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ=="],
            &[right, right],
        ] {
            assert!(!basic.lets_in(&headers(bad)), "{bad:?}");
        }
        assert_eq!(format!("{basic:?}"), "Basic(…)");
    }
}
