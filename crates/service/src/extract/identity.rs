//! Who asks, as the gateway and the calling service vouch for it.

use std::fmt;
use std::sync::Arc;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use tradewind_base::identity::{self, CALLER_HEADER, USER_HEADER};
use tradewind_base::seal::OpenError;
use tradewind_base::{Clock, Problem};

use crate::{Failure, Keys};

/// The end user, vouched for by the gateway. Without a good word of it: a 401 problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User(pub identity::User);

/// The end user, if the gateway vouches for one. A word that is forged or expired is still a 401
/// problem: whoever sends one means to be somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaybeUser(pub Option<identity::User>);

/// The calling service, vouched for by itself. Without its good word: a 403 problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller(pub identity::Caller);

/// What identities are checked with; the edge puts it into the extensions of each request.
#[derive(Clone)]
pub struct Authority {
    keys: Option<Keys>,
    clock: Arc<dyn Clock>,
}

/// Why a request has no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Absent,
    /// The header comes twice or is no text.
    Ambiguous,
    Open(OpenError),
}

impl Authority {
    /// An authority that opens with `keys`; without keys it vouches for nobody.
    #[must_use]
    pub const fn new(keys: Option<Keys>, clock: Arc<dyn Clock>) -> Self {
        Self { keys, clock }
    }

    /// The user that `headers` vouch for with the sealed value, if they do.
    #[must_use]
    pub fn user(&self, headers: &HeaderMap) -> Option<(identity::User, String)> {
        let sealed = single(headers, USER_HEADER).ok()?;
        let user = self.open_user(headers).ok()?;
        Some((user, sealed.to_owned()))
    }

    fn open_user(&self, headers: &HeaderMap) -> Result<identity::User, Refusal> {
        let sealed = single(headers, USER_HEADER)?;
        let keys = self.keys.as_ref().ok_or(Refusal::Open(OpenError::Forged))?;
        identity::User::open(keys.seal(), sealed, self.clock.now()).map_err(Refusal::Open)
    }

    fn open_caller(&self, headers: &HeaderMap) -> Result<identity::Caller, Refusal> {
        let sealed = single(headers, CALLER_HEADER)?;
        let keys = self.keys.as_ref().ok_or(Refusal::Open(OpenError::Forged))?;
        identity::Caller::open(keys.seal(), sealed, self.clock.now()).map_err(Refusal::Open)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("keys", &self.keys.is_some()).finish_non_exhaustive()
    }
}

/// A header that must not come twice: two words on who asks are none.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Err(Refusal::Absent),
        (Some(value), None) => value.to_str().map_err(|_| Refusal::Ambiguous),
        (Some(_), Some(_)) => Err(Refusal::Ambiguous),
    }
}

fn authority(parts: &Parts) -> Result<&Authority, Failure> {
    parts.extensions.get::<Authority>().ok_or_else(|| {
        tracing::error!("a handler asks for an identity outside the HTTP edge");
        Problem::internal().into()
    })
}

fn message(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Absent => "is missing",
        Refusal::Ambiguous => "must come once, as a sealed value",
        Refusal::Open(OpenError::Malformed) => "is not a sealed value",
        Refusal::Open(OpenError::Forged) => "was not sealed by this estate",
        Refusal::Open(OpenError::Expired) => "has expired",
    }
}

fn no_user(refusal: Refusal) -> Failure {
    let detail = "sign in, and send the request through the gateway";
    Problem::new(StatusCode::UNAUTHORIZED, "identity.user", detail)
        .field(format!("header:{USER_HEADER}"), message(refusal))
        .into()
}

impl<S: Send + Sync> FromRequestParts<S> for User {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        authority(parts)?.open_user(&parts.headers).map(Self).map_err(no_user)
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for User {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, Failure> {
        match authority(parts)?.open_user(&parts.headers) {
            Ok(user) => Ok(Some(Self(user))),
            Err(Refusal::Absent) => Ok(None),
            Err(refusal) => Err(no_user(refusal)),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for MaybeUser {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let user = <Option<User> as FromRequestParts<S>>::from_request_parts(parts, state).await?;
        Ok(Self(user.map(|it| it.0)))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        authority(parts)?.open_caller(&parts.headers).map(Self).map_err(|refusal| {
            let detail = "only services of this estate may call this interface";
            Problem::new(StatusCode::FORBIDDEN, "identity.caller", detail)
                .field(format!("header:{CALLER_HEADER}"), message(refusal))
                .into()
        })
    }
}
