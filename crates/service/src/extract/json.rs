//! JSON bodies, in and out.

use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tradewind_base::Problem;

use super::{named_field, shorten};
use crate::Failure;
use crate::edge::BodyError;

/// A JSON body: read from a request and checked field by field, or written to a response.
///
/// Refused are a body that is not declared as JSON (415), too large (413), not JSON or not of the
/// type (400, with the path of the field like `items[0].quantity`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T, S> FromRequest<S> for Json<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Failure;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Failure> {
        if !is_json(request.headers()) {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "request.media-type",
                "the body must be JSON",
            )
            .field("header:content-type", "must be application/json")
            .into());
        }
        let body = request.into_body().collect().await.map_err(|it| unreadable(&it))?;
        parse(&body.to_bytes()).map(Self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(text) => {
                let json = HeaderValue::from_static("application/json");
                ([(CONTENT_TYPE, json)], text).into_response()
            }
            Err(error) => Failure::internal(&error).into_response(),
        }
    }
}

impl<T> From<T> for Json<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let declared = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or("");
    let essence = declared.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let Some((kind, subtype)) = essence.split_once('/') else { return false };
    kind == "application" && (subtype == "json" || subtype.ends_with("+json"))
}

fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, Failure> {
    let refused = |field: &str, message: &str| {
        let detail = "the body does not have the expected form";
        let field = if field.is_empty() { "body" } else { field };
        Failure::from(
            Problem::new(StatusCode::BAD_REQUEST, "request.body", detail)
                .field(shorten(field), shorten(message)),
        )
    };
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.inner();
        if !inner.is_data() {
            return refused("", &format!("not JSON: {inner}"));
        }
        // The path ends in `?` where the field itself was not recognised.
        let path = path.trim_end_matches('?').trim_end_matches('.');
        match named_field(&inner.to_string()) {
            // An unknown name may already be the end of the path.
            Some((what, name)) if path == name || path.ends_with(&format!(".{name}")) => {
                refused(path, what)
            }
            Some((what, name)) if path.is_empty() => refused(name, what),
            Some((what, name)) => refused(&format!("{path}.{name}"), what),
            None => refused(path, &inner.to_string()),
        }
    })?;
    deserializer.end().map_err(|error| refused("", &format!("not JSON: {error}")))?;
    Ok(value)
}

/// The refusal for a body that could not be read to its end.
fn unreadable(error: &axum::Error) -> Failure {
    match BodyError::of(error) {
        Some(BodyError::TooLarge) => crate::edge::too_large().into(),
        Some(BodyError::TooSlow) => crate::edge::too_slow().into(),
        // The client broke off: nobody reads the answer, the log does.
        Some(BodyError::Broken(_)) | None => {
            let detail = "the body ended before it was whole";
            Problem::new(StatusCode::BAD_REQUEST, "request.body", detail).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read by serde")]
    struct Order {
        items: Vec<Item>,
        note: Option<String>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read by serde")]
    struct Item {
        product_id: i64,
        quantity: u32,
    }

    fn refused(body: &str) -> (String, String) {
        let failure = parse::<Order>(&Bytes::copy_from_slice(body.as_bytes())).unwrap_err();
        assert_eq!(failure.problem().status, StatusCode::BAD_REQUEST);
        let error = failure.problem().errors[0].clone();
        (error.field, error.message)
    }

    #[test]
    fn the_refusal_names_the_field() {
        for (body, field, message) in [
            (r#"{"items":[{"product_id":1,"quantity":-2}]}"#, "items[0].quantity", "-2"),
            (r#"{"items":[{"product_id":1,"quantity":"x"}]}"#, "items[0].quantity", "string"),
            (r#"{"items":[{"product_id":1}]}"#, "items[0].quantity", "is missing"),
            (r#"{"items":[{"product_id":1,"quantity":1,"x":1}]}"#, "items[0].x", "is unknown"),
            (r"{}", "items", "is missing"),
            (r#"{"items":[],"nope":1}"#, "nope", "is unknown"),
            (r"[]", "body", "missing"),
            (r"5", "body", "invalid type"),
            (r#"{"items":["#, "body", "not JSON"),
            (r"", "body", "not JSON"),
            (r#"{"items":[]} x"#, "body", "not JSON"),
        ] {
            let (at, said) = refused(body);
            assert!(
                !said.is_empty() && (message == "missing" || said.contains(message)),
                "{body}: {said}"
            );
            if message != "missing" {
                assert_eq!(at, field, "{body}: {said}");
            }
        }
    }

    #[test]
    fn a_quoted_input_is_cut() {
        let long = "y".repeat(100_000);
        let (_, message) = refused(&format!(r#"{{"items":"{long}"}}"#));
        assert!(message.chars().count() <= 201, "{}", message.len());
    }

    #[test]
    fn only_json_is_json() {
        let with = |value: &'static str| {
            is_json(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]))
        };
        for good in ["application/json", "Application/JSON; charset=utf-8", "application/a+json"] {
            assert!(with(good), "{good}");
        }
        for bad in ["text/plain", "application/jsonp", "json", "", "text/json"] {
            assert!(!with(bad), "{bad}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
