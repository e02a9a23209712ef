//! The HTTP face of orders.
//!
//! | request | answers |
//! |---|---|
//! | `POST /orders` with `Idempotency-Key` | 201 placed, also for a repeat; 202 not known yet; 409 out of stock, or the key in flight; 422 another body with the key; 503 a service is away |
//! | `GET /orders` | 200 the user's own, newest first |
//! | `GET /orders/{id}` | 200; 404 also for others' |
//! | `GET /orders/{id}/trail` | 200 events, transactions, message |
//! | `POST /orders/{id}/cancel` | 200 cancelled, also for a repeat; 202 not known yet; 409 shipped |
//! | `GET /trail` with `order_id`, `xid` or `message_id` | for services: 200 the same of anybody's order; 404 |
//! | `POST /messages/order-shipped` | for the broker |

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tradewind::base::Problem;
use tradewind::base::id::Xid;
use tradewind::idempotency::{KEY_HEADER, Key, REPLAYED_HEADER, StoredAnswer};
use tradewind::message::Consumer;
use tradewind::service::axum::Router;
use tradewind::service::axum::body::Body;
use tradewind::service::axum::extract::State;
use tradewind::service::axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use tradewind::service::axum::response::{IntoResponse as _, Response};
use tradewind::service::axum::routing::{get, post};
use tradewind::service::{Answer, Caller, Failure, Json, Path, Query, User};
use tradewind::sql::Transaction;

use super::cancel::Cancelled;
use super::place::Placed;
use super::problems::{self, database};
use super::rows::{self, Filter, Known};
use super::view::{OrderView, Page, Trail};
use super::{OrderId, Orders, WorkError, shipped};
use crate::inventory::Inventory;
use crate::machine::State as Stage;

pub use super::place::{ADDRESS_CHARS_MAX, PLACED_TOPIC};

/// The topic that the order service subscribes to.
pub const SHIPPED_TOPIC: &str = "order.shipped";
/// Where it takes the deliveries.
pub const SHIPPED_PATH: &str = "/messages/order-shipped";
/// The most orders a page has.
pub const PAGE_SIZE_MAX: u32 = 100;
/// Before an order that is placing is looked at again: another instance of this service may have
/// answered that it is placed, and be about to write that down.
const ELSEWHERE: [Duration; 3] =
    [Duration::from_millis(10), Duration::from_millis(20), Duration::from_millis(40)];
/// The size of a page when none is asked for.
pub const PAGE_SIZE: u32 = 20;

pub(crate) fn router<I>(orders: Orders<I>, consumer: &Consumer) -> Router
where
    I: Inventory + Clone + Send + Sync + 'static,
{
    let clock = Arc::clone(&orders.clock);
    let outcome = orders.engine().mount();
    let shipped = consumer
        .handler(move |tx: &mut Transaction<'_>, event| shipped::take(tx, event, clock.now()));
    Router::new()
        .route("/orders", post(place::<I>).get(list::<I>))
        .route("/orders/{id}", get(find::<I>))
        .route("/orders/{id}/trail", get(trail::<I>))
        .route("/orders/{id}/cancel", post(cancel::<I>))
        .route("/trail", get(trail_of::<I>))
        .route(SHIPPED_PATH, shipped)
        .with_state(orders)
        .merge(outcome)
}

async fn place<I>(
    State(orders): State<Orders<I>>,
    User(user): User,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Result<Response, Failure>
where
    I: Inventory + Clone + Send + Sync + 'static,
{
    let key = key(&headers)?;
    match Box::pin(orders.place(&user, key, &body)).await? {
        Placed::Now(it) => Ok(stored(&it)),
        Placed::Before(it) => {
            let mut response = stored(&it);
            response.headers_mut().insert(REPLAYED_HEADER, HeaderValue::from_static("true"));
            Ok(response)
        }
        Placed::Unknown(id) => Ok(unknown(id, &from_orders(&id.to_string()))),
    }
}

async fn cancel<I>(
    State(orders): State<Orders<I>>,
    User(user): User,
    Path(id): Path<String>,
) -> Result<Response, Failure>
where
    I: Inventory + Clone + Send + Sync + 'static,
{
    match Box::pin(orders.cancel(&user, order_id(&id)?)).await? {
        Cancelled::Done(view) => Ok(Json(*view).into_response()),
        Cancelled::Unknown(id) => Ok(unknown(id, &format!("../{id}"))),
    }
}

async fn find<I: Clone + Send + Sync + 'static>(
    State(orders): State<Orders<I>>,
    User(user): User,
    Path(id): Path<String>,
) -> Answer<OrderView> {
    orders.view(&user, order_id(&id)?).await.map(Json)
}

async fn trail<I: Clone + Send + Sync + 'static>(
    State(orders): State<Orders<I>>,
    User(user): User,
    Path(id): Path<String>,
) -> Answer<Trail> {
    let id = order_id(&id)?;
    orders.written(orders.deciding.of_order(id)).await;
    let id = id.to_string();
    let work = move |tx: &mut Transaction<'_>| {
        let found = rows::header(tx, &id)?.filter(|it| it.user_id == user.id);
        let found = found.map(|it| Ok::<_, WorkError>((rows::events(tx, &it.id)?, it)));
        found.transpose()
    };
    let found = orders.database.read("trail", work).await.map_err(|it| database(&it))?;
    let (events, it) = found.ok_or_else(problems::unknown_order)?;
    orders.follow(it, events).await
}

#[derive(Debug, Default, Deserialize)]
struct TrailQuery {
    order_id: Option<String>,
    xid: Option<String>,
    message_id: Option<String>,
}

/// The trail of anybody's order, for services of the estate: the gateway never vouches for one.
async fn trail_of<I: Clone + Send + Sync + 'static>(
    State(orders): State<Orders<I>>,
    Caller(_): Caller,
    Query(query): Query<TrailQuery>,
) -> Answer<Trail> {
    let by = query.known()?;
    let work = move |tx: &mut Transaction<'_>| {
        let found = rows::known(tx, &by)?;
        found.map(|it| Ok::<_, WorkError>((rows::events(tx, &it.id)?, it))).transpose()
    };
    let found = orders.database.read("trail", work.clone()).await.map_err(|it| database(&it))?;
    let (mut events, mut it) = found.ok_or_else(problems::unknown_id)?;
    if it.state == Stage::Placing {
        // Under another id than its own it is only known now.
        orders.written(orders.deciding.of_order(order_id(&it.id)?)).await;
        let found = orders.database.read("trail", work).await.map_err(|it| database(&it))?;
        (events, it) = found.ok_or_else(problems::unknown_id)?;
    }
    orders.follow(it, events).await
}

impl TrailQuery {
    fn known(self) -> Result<Known, Failure> {
        let wrong = |name: &str| Failure::from(bad_query(name, "is not such an id".to_owned()));
        match (self.order_id, self.xid, self.message_id) {
            (Some(it), None, None) => it.parse().map(Known::Order).map_err(|_| wrong("order_id")),
            (None, Some(it), None) => it.parse().map(Known::Xid).map_err(|_| wrong("xid")),
            (None, None, Some(it)) => {
                it.parse().map(Known::Message).map_err(|_| wrong("message_id"))
            }
            _ => {
                Err(bad_query("xid", "send xid, order_id or message_id, one of them".to_owned())
                    .into())
            }
        }
    }
}

/// As text, so that every wrong value of a query is named at once.
#[derive(Debug, Default, Deserialize)]
struct ListQuery {
    before: Option<String>,
    size: Option<String>,
    xid: Option<String>,
    message_id: Option<String>,
}

async fn list<I: Clone + Send + Sync + 'static>(
    State(orders): State<Orders<I>>,
    User(user): User,
    Query(query): Query<ListQuery>,
) -> Answer<Page> {
    let (size, mut filter) = (query.size()?, query.filter()?);
    orders.written(orders.deciding.of_user(&user.id)).await;
    filter.user_id = user.id;
    // One more than is shown tells whether there are older ones.
    filter.size = size + 1;
    let work = move |tx: &mut Transaction<'_>| rows::list(tx, &filter);
    let mut found = orders.database.read("orders", work).await.map_err(|it| database(&it))?;
    let shown = usize::try_from(size).unwrap_or(usize::MAX);
    let more = shown < found.len();
    found.truncate(shown);
    let next = found.last().filter(|_| more).map(|it| it.id.clone());
    Ok(Json(Page { items: found.into_iter().map(Into::into).collect(), next }))
}

impl ListQuery {
    fn size(&self) -> Result<u32, Failure> {
        let Some(text) = &self.size else { return Ok(PAGE_SIZE) };
        let number = text.parse::<u32>().ok().filter(|it| (1..=PAGE_SIZE_MAX).contains(it));
        let message = format!("must be a whole number from 1 to {PAGE_SIZE_MAX}");
        number.ok_or_else(|| bad_query("size", message).into())
    }

    fn filter(self) -> Result<Filter, Failure> {
        let wrong = |name: &str| Failure::from(bad_query(name, "is not such an id".to_owned()));
        let before = self.before.unwrap_or_default();
        if !before.is_empty() && before.parse::<OrderId>().is_err() {
            return Err(wrong("before"));
        }
        let xid = self.xid.unwrap_or_default();
        if !xid.is_empty() && xid.parse::<Xid>().is_err() {
            return Err(wrong("xid"));
        }
        let message_id = self.message_id.unwrap_or_default();
        if !message_id.is_empty() && message_id.parse::<tradewind::message::MessageId>().is_err() {
            return Err(wrong("message_id"));
        }
        Ok(Filter { before, xid, message_id, ..Filter::default() })
    }
}

fn bad_query(name: &str, message: String) -> Problem {
    let detail = "the query asks for something that cannot be listed; see errors";
    Problem::new(StatusCode::BAD_REQUEST, "order.bad-query", detail)
        .field(format!("query:{name}"), message)
}

impl<I: Clone + Send + Sync + 'static> Orders<I> {
    /// An order of this user.
    pub(super) async fn view(
        &self,
        user: &tradewind::base::identity::User,
        id: OrderId,
    ) -> Result<OrderView, Failure> {
        self.written(self.deciding.of_order(id)).await;
        let (id, user) = (id.to_string(), user.id.clone());
        let work = move |tx: &mut Transaction<'_>| {
            let found = rows::header(tx, &id)?.filter(|it| it.user_id == user);
            Ok::<_, WorkError>(found.map(|it| OrderView::read(tx, it)).transpose()?)
        };
        let mut pauses = ELSEWHERE.into_iter();
        loop {
            let found = self.database.read("order", work.clone()).await;
            let found = found.map_err(|it| database(&it))?.ok_or_else(problems::unknown_order)?;
            match pauses.next() {
                Some(pause) if found.state == Stage::Placing.as_str() => {
                    tokio::time::sleep(pause).await;
                }
                _ => return Ok(found),
            }
        }
    }

    /// All that belongs to an order.
    async fn follow(&self, it: rows::Header, events: Vec<super::Event>) -> Answer<Trail> {
        let (phase, cancel_phase) =
            tokio::join!(self.phase(Some(&it.xid)), self.phase(it.cancel_xid.as_deref()));
        Ok(Json(Trail {
            order_id: it.id,
            xid: it.xid,
            phase: phase?,
            message_id: it.message_id,
            cancel_xid: it.cancel_xid,
            cancel_phase: cancel_phase?,
            trace_id: it.trace_id,
            events,
        }))
    }

    /// How far a transaction is, in a word.
    async fn phase(&self, xid: Option<&str>) -> Result<Option<String>, Failure> {
        let Some(Ok(xid)) = xid.map(str::parse::<Xid>) else { return Ok(None) };
        let phase = Box::pin(self.engine.progress(xid)).await;
        let phase = phase.map_err(|it| {
            it.refused().map_or_else(|it| database(&it), |it| Failure::internal(&it))
        })?;
        Ok(phase.map(|it| format!("{it:?}").to_ascii_lowercase()))
    }
}

/// An id that is none is an order that nobody has.
fn order_id(text: &str) -> Result<OrderId, Failure> {
    text.parse().map_err(|_| problems::unknown_order())
}

fn key(headers: &HeaderMap) -> Result<Key, Failure> {
    let wrong = |code: &str, message: String| {
        let detail = "send a key that is new for each intent and the same for each repeat of it";
        Failure::from(
            Problem::new(StatusCode::BAD_REQUEST, code, detail)
                .field(format!("header:{KEY_HEADER}"), message),
        )
    };
    let mut values = headers.get_all(KEY_HEADER).iter();
    let Some(value) = values.next() else {
        return Err(wrong("idempotency.key-required", "is missing".to_owned()));
    };
    if values.next().is_some() {
        return Err(wrong("idempotency.key", "must come once".to_owned()));
    }
    let text = value.to_str().unwrap_or("\u{fffd}");
    Key::parse(text).map_err(|error| wrong("idempotency.key", error.to_string()))
}

fn stored(it: &StoredAnswer) -> Response {
    let mut response = Response::new(Body::from(it.body().to_vec()));
    *response.status_mut() = it.status();
    *response.headers_mut() = it.headers();
    response
}

/// Where an order is, as seen from `/orders`. A gateway puts a prefix before all paths, and what is
/// relative stays right behind any.
pub(super) fn from_orders(id: &str) -> String {
    format!("orders/{id}")
}

/// The outcome is not known: where to look, never a guess.
fn unknown(id: OrderId, location: &str) -> Response {
    let body = json!({
        "order_id": id,
        "state": "unknown",
        "location": location,
        "detail": "the outcome is not known yet; GET the location, relative to this request, or \
                   repeat the request",
    });
    let mut response = (StatusCode::ACCEPTED, Json(body)).into_response();
    if let Ok(value) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}
