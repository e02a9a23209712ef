//! The HTTP face of the order service: what comes in, what is answered, which status means what.
//!
//! 400 is a body of the wrong form: not JSON, a field missing, unknown or of the wrong type. 422 is a
//! body of the right form with values that are not accepted. Both name every wrong field at once.
//! 401 wants a token; 429 and 503 say when to come back; 504 says that time ran out.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tradewind::base::Problem;
use tradewind::call::CallError;
use tradewind::service::answer::chain;
use tradewind::service::axum::Router;
use tradewind::service::axum::extract::{ConnectInfo, State};
use tradewind::service::axum::http::{HeaderMap, StatusCode};
use tradewind::service::axum::routing::{get, post};
use tradewind::service::{Answer, Failure, Json, User};

use crate::basket::{Basket, Draft};
use crate::fields::{Mistakes, Object, text};
use crate::inventory::{Ask, AskItem, Availability, Inventory};
use crate::login::{Login, LoginError};
use crate::quote::{Quote, QuoteError};
use crate::token::{Issuer, KeySet};

/// The longest user name, in characters.
pub const USERNAME_CHARS_MAX: usize = 64;
/// The longest password, in bytes: hashing time grows with it.
pub const PASSWORD_BYTES_MAX: usize = 256;

/// A token for a user.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// The token: goes into `Authorization: Bearer …`.
    pub access_token: String,
    /// Always `Bearer`.
    pub token_type: String,
    /// For how many seconds it is good.
    pub expires_in: u64,
}

impl fmt::Debug for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Granted").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

/// The user who asks, as the gateway vouched for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Me {
    /// The stable id.
    pub id: String,
    /// What to show for the user.
    pub name: String,
    /// What the user may do.
    pub roles: Vec<String>,
}

/// What the handlers work with.
#[derive(Debug)]
pub(crate) struct App<I> {
    pub(crate) login: Login,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) inventory: I,
}

pub(crate) fn router<I>(app: Arc<App<I>>) -> Router
where
    I: Inventory + Send + Sync + 'static,
{
    Router::new()
        .route("/login", post(login::<I>))
        .route("/.well-known/jwks.json", get(key_set::<I>))
        .route("/me", get(me))
        .route("/quotes", post(quote::<I>))
        .with_state(app)
}

async fn login<I: Send + Sync + 'static>(
    State(app): State<Arc<App<I>>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Answer<Granted> {
    let (username, password) =
        credentials(&body).map_err(|it| refused("order.invalid-credentials", it))?;
    let peer = peer_of(&headers, peer);
    let granted = app.login.sign_in(username, password.to_owned(), &peer).await?;
    Ok(Json(Granted {
        access_token: granted.token,
        token_type: "Bearer".to_owned(),
        expires_in: granted.lifetime.as_secs(),
    }))
}

async fn key_set<I: Send + Sync + 'static>(State(app): State<Arc<App<I>>>) -> Json<KeySet> {
    Json(app.issuer.key_set().clone())
}

async fn me(User(user): User) -> Json<Me> {
    Json(Me { id: user.id, name: user.name, roles: user.roles })
}

async fn quote<I: Inventory + Send + Sync + 'static>(
    State(app): State<Arc<App<I>>>,
    User(_): User,
    Json(body): Json<Value>,
) -> Answer<Quote> {
    Ok(Json(price(&app.inventory, Draft::read(&body)).await?.1))
}

/// The basket and what it costs now, or everything that is wrong with it.
pub(crate) async fn price<I: Inventory + Sync>(
    inventory: &I,
    draft: Draft,
) -> Result<(Basket, Quote), Failure> {
    match draft.outcome {
        Ok(basket) => {
            let answer =
                inventory.availability(&ask(&basket)).await.map_err(|it| no_answer(&it))?;
            let quote = priced(&basket, &answer)?;
            Ok((basket, quote))
        }
        Err(mut mistakes) => {
            // The basket is refused already. Asking about its products as well lets the answer
            // name the unknown ones beside the other mistakes; if inventory cannot tell, the
            // mistakes at hand will do.
            let ids = draft.products;
            let items = ids.values().map(|it| AskItem { product_id: *it, quantity: 1 }).collect();
            if !ids.is_empty()
                && let Ok(answer) = inventory.availability(&Ask { items }).await
            {
                for (index, _) in ids.iter().filter(|it| answer.unknown.contains(it.1)) {
                    note_unknown(*index, &mut mistakes);
                }
            }
            Err(refused("order.invalid-basket", mistakes))
        }
    }
}

fn ask(basket: &Basket) -> Ask {
    let item =
        |it: &crate::basket::Line| AskItem { product_id: it.product_id, quantity: it.quantity };
    Ask { items: basket.lines().iter().map(item).collect() }
}

fn priced(basket: &Basket, answer: &Availability) -> Result<Quote, Failure> {
    Quote::price(basket, answer).map_err(|error| match error {
        QuoteError::Unknown(lines) => {
            let mut mistakes = Mistakes::default();
            lines.iter().for_each(|index| note_unknown(*index, &mut mistakes));
            refused("order.unknown-product", mistakes)
        }
        QuoteError::Nonsense { .. } | QuoteError::Money(_) => {
            tracing::error!(error = chain(&error), "inventory's answer cannot be priced");
            bad_answer()
        }
    })
}

fn note_unknown(index: usize, mistakes: &mut Mistakes) {
    let field = format!("items[{index}].product_id");
    mistakes.note_at(index + 1, field, "is not the id of a product on sale");
}

fn refused(code: &str, mistakes: Mistakes) -> Failure {
    // The code of a wrong form is the edge's own, whoever finds it.
    let mut problem = if mistakes.malformed() {
        let detail = "the body does not have the expected form";
        Problem::new(StatusCode::BAD_REQUEST, "request.body", detail)
    } else {
        let detail = "the body has values that are not accepted; see errors";
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    };
    problem.errors = mistakes.into_errors();
    problem.into()
}

/// Why there is no answer of inventory, in words for the one who asked for a quote.
fn no_answer(error: &CallError) -> Failure {
    let problem = Problem::from(error);
    if problem.status == StatusCode::SERVICE_UNAVAILABLE {
        // Health says once that inventory is away; every request saying so would flood the log.
        tracing::debug!(error = chain(error), "inventory gave no answer");
    } else {
        tracing::warn!(error = chain(error), "inventory gave no answer");
    }
    match problem.status {
        StatusCode::GATEWAY_TIMEOUT => {
            let detail = "inventory did not answer in time; try again";
            Problem::new(problem.status, "order.inventory-timeout", detail).into()
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            let detail = "inventory cannot be reached for now; try again";
            let after = problem.retry_after_seconds.unwrap_or(1);
            Problem::unavailable("order.inventory-unavailable", detail).retry_after(after).into()
        }
        _ => bad_answer(),
    }
}

/// Where a request comes from, for counting failed attempts. Behind the gateway that is the last
/// address of `X-Forwarded-For`, the one the gateway itself saw. Who reaches this port without the
/// gateway can write anything there; the limit per user holds all the same.
fn peer_of(headers: &HeaderMap, socket: SocketAddr) -> String {
    let forwarded = headers.get_all("x-forwarded-for").iter().next_back();
    let last = forwarded.and_then(|it| it.to_str().ok()).and_then(|it| it.rsplit(',').next());
    let parsed = last.and_then(|it| it.trim().parse::<IpAddr>().ok());
    match parsed.unwrap_or_else(|| socket.ip()).to_canonical() {
        IpAddr::V4(it) => it.to_string(),
        // One customer of an IPv6 network has 2^64 addresses or more: they count as one.
        IpAddr::V6(it) => {
            let [a, b, c, d, ..] = it.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

fn bad_answer() -> Failure {
    let detail = "inventory gave an answer that cannot be used; quote the request id to operators";
    Problem::new(StatusCode::BAD_GATEWAY, "order.inventory-answer", detail).into()
}

fn credentials(body: &Value) -> Result<(&str, &str), Mistakes> {
    let mut mistakes = Mistakes::default();
    let known = ["username", "password"];
    if let Some(body) = Object::body(body, &known, &mut mistakes) {
        let name = "a text of 1 to 64 characters";
        let plain = |it: &str| {
            let count = it.chars().count();
            (1..=USERNAME_CHARS_MAX).contains(&count) && !it.contains(char::is_control)
        };
        let username = body.field("username", name, &mut mistakes, |it| text(it, plain));
        let short = |it: &str| (1..=PASSWORD_BYTES_MAX).contains(&it.len());
        let expected = "a text of 1 to 256 bytes";
        let password = body.field("password", expected, &mut mistakes, |it| text(it, short));
        if let (Some(username), Some(password)) = (username, password)
            && mistakes.is_empty()
        {
            return Ok((username, password));
        }
    }
    Err(mistakes)
}

impl From<LoginError> for Failure {
    fn from(error: LoginError) -> Self {
        match &error {
            LoginError::Wrong => Problem::new(
                StatusCode::UNAUTHORIZED,
                "order.wrong-credentials",
                "the user name or the password is wrong",
            )
            .into(),
            LoginError::TooMany { wait } => {
                // Rounded up: coming back at the named second must not be too early.
                let seconds = wait.as_millis().div_ceil(1000);
                Problem::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "order.too-many-logins",
                    "too many failed attempts to log in for this user or from this address",
                )
                .retry_after(u32::try_from(seconds).unwrap_or(u32::MAX))
                .into()
            }
            LoginError::Busy => Problem::unavailable(
                "order.login-busy",
                "too many log-ins are being checked; try again",
            )
            .into(),
            LoginError::Store(source) => {
                tracing::error!(error = chain(source), "account cannot be read");
                Problem::unavailable("order.database-unavailable", "log-in is not possible for now")
                    .into()
            }
            LoginError::Sign(_) => Self::internal(&error),
        }
    }
}

#[cfg(test)]
mod tests;
