//! What the headers of a request ask for.

use std::convert::Infallible;

use http::HeaderMap;
use http::header::ACCEPT;
use tradewind_eureka::{Form, Format, Version};
use tradewind_service::axum::extract::FromRequestParts;
use tradewind_service::axum::http::request::Parts;

use super::App;
use crate::documents::Look;

pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|it| it.to_str().ok())
}

/// What a reader's headers and path ask for.
impl FromRequestParts<App> for Look {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Infallible> {
        Ok(look(&parts.headers, parts.uri.path()))
    }
}

pub(super) fn look(headers: &HeaderMap, path: &str) -> Look {
    Look {
        format: Format::negotiate(header(headers, ACCEPT.as_str())),
        form: Form::of_header(header(headers, "x-eureka-accept")),
        version: if path.starts_with("/eureka/v1/") { Version::V1 } else { Version::V2 },
    }
}

/// Whether a peer passes on what a client told it: the header has exactly this value.
pub(super) fn replicated(headers: &HeaderMap) -> bool {
    header(headers, "x-netflix-discovery-replication") == Some("true")
}

/// Whether `Accept-Encoding` names gzip, and not only to refuse it.
pub(super) fn takes_gzip(accepted: &str) -> bool {
    accepted.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts.next().is_some_and(|it| it.eq_ignore_ascii_case("gzip"));
        named && !parts.any(|it| it.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f32)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_used_where_it_is_taken() {
        for text in ["gzip", "deflate, GZIP;q=0.5", "identity;q=0, gzip ; q=1"] {
            assert!(takes_gzip(text), "{text}");
        }
        for text in ["", "identity", "gzip;q=0", "br, gzip; q=0.0", "gzipped"] {
            assert!(!takes_gzip(text), "{text}");
        }
    }
}
