//! Parameters of path and query.

use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, RawPathParams};
use http::StatusCode;
use http::request::Parts;
use serde::de::DeserializeOwned;
use tradewind_base::Problem;

use super::{named_field, shorten};
use crate::Failure;

/// The parameters of the path; a value of the wrong form is a 400 problem that names it as
/// `path:id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path<T>(pub T);

/// The parameters of the query; a value of the wrong form is a 400 problem that names it as
/// `query:page`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query<T>(pub T);

impl<T, S> FromRequestParts<S> for Path<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(PathRejection::FailedToDeserializePathParams(error)) => {
                let names: Vec<String> = RawPathParams::from_request_parts(parts, state)
                    .await
                    .map(|it| it.iter().map(|(name, _)| name.to_owned()).collect())
                    .unwrap_or_default();
                Err(refused_path(error.into_kind(), &names))
            }
            Err(other) => Err(Failure::internal(&other)),
        }
    }
}

fn refused_path(kind: ErrorKind, names: &[String]) -> Failure {
    let only = |index: usize| names.get(index).cloned().unwrap_or_default();
    let (name, message) = match kind {
        ErrorKind::ParseErrorAtKey { key, expected_type, .. } => (key, expected(expected_type)),
        ErrorKind::ParseErrorAtIndex { index, expected_type, .. } => {
            (only(index), expected(expected_type))
        }
        ErrorKind::ParseError { expected_type, .. } => (only(0), expected(expected_type)),
        ErrorKind::InvalidUtf8InPathParam { key } => (key, "must be UTF-8".to_owned()),
        ErrorKind::DeserializeError { key, message, .. } => (key, message),
        ErrorKind::Message(message) => (only(0), message),
        // A handler that asks for what the route does not have.
        other => {
            tracing::error!(error = %other, "a handler does not fit its route");
            return Problem::internal().into();
        }
    };
    Problem::new(StatusCode::BAD_REQUEST, "request.path", "the path has a malformed parameter")
        .field(format!("path:{name}"), shorten(&message))
        .into()
}

fn expected(kind: &str) -> String {
    match kind {
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => "must be a number of 0 or more".into(),
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "must be a number".into(),
        other => format!("must be a {other}"),
    }
}

impl<T, S> FromRequestParts<S> for Query<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        match axum::extract::Query::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => {
                let text = std::error::Error::source(&rejection)
                    .map_or_else(|| rejection.to_string(), ToString::to_string);
                let (field, message) = match (named_field(&text), text.split_once(": ")) {
                    (Some((what, name)), _) => (name, what.to_owned()),
                    (None, Some((name, message))) => (name, shorten(message)),
                    (None, None) => ("", shorten(&text)),
                };
                let detail = "the query has a malformed parameter";
                Err(Problem::new(StatusCode::BAD_REQUEST, "request.query", detail)
                    .field(format!("query:{}", shorten(field)), message)
                    .into())
            }
        }
    }
}
