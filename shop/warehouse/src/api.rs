//! The HTTP face of the warehouse service: for services of the estate, which name themselves, and
//! for the broker, which signs its deliveries.

use serde::{Deserialize, Serialize};
use tradewind::axum::Router;
use tradewind::axum::body::Bytes;
use tradewind::axum::extract::State;
use tradewind::axum::http::{HeaderMap, StatusCode};
use tradewind::axum::routing::{get, post};
use tradewind::base::problem::FieldError;
use tradewind::base::{Problem, Timestamp};
use tradewind::message::Reply;
use tradewind::service::answer::chain;
use tradewind::service::{Answer, Caller, Failure, Json, Path, Query};

use crate::PLACED_PATH;
use crate::placed::{Intake, Line};
use crate::store::{Outbound, Store, StoreError};

/// The most rows a page has.
pub const PAGE_SIZE_MAX: u32 = 100;
/// The size of a page when none is asked for.
pub const PAGE_SIZE: u32 = 20;
/// The last page that can be asked for: bounds what the database skips over.
pub const PAGE_MAX: u32 = 10_000;

/// The states that can be asked for.
const STATES: [&str; 4] = ["received", "voiding", "void", "shipped"];

/// An outbound order. What came with `order.placed` is null while that has not come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboundView {
    /// The order.
    pub order_id: String,
    /// `received`, `voiding`, `void` or `shipped`.
    pub state: String,
    /// Who gets it.
    pub user_id: Option<String>,
    /// Where to.
    pub address: Option<String>,
    /// What.
    pub lines: Vec<Line>,
    /// What is paid on delivery, in the smallest unit of the currency.
    pub total_cents: Option<i64>,
    /// The message that brought it.
    pub message_id: Option<String>,
    /// The transaction that placed it.
    pub xid: Option<String>,
    /// What all hops of the order's way log, also the shipment: 32 hexadecimal digits.
    pub trace_id: Option<String>,
    /// The transaction that cancels or cancelled it.
    pub void_xid: Option<String>,
    /// When it came, in milliseconds since the Unix epoch; so are the other times.
    pub received_at: Option<Timestamp>,
    /// When it may ship.
    pub ship_after: Option<Timestamp>,
    /// When it shipped.
    pub shipped_at: Option<Timestamp>,
}

/// One page of outbound orders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageView {
    /// The orders, the newest first.
    pub items: Vec<OutboundView>,
    /// The number of this page, from 1.
    pub page: u32,
    /// How many orders a full page has.
    pub size: u32,
    /// How many orders there are over all pages.
    pub total: i64,
}

pub(crate) fn router(store: Store, intake: Intake) -> Router {
    let deliveries = Router::new().route(PLACED_PATH, post(placed)).with_state(intake);
    Router::new()
        .route("/outbound", get(list))
        .route("/outbound/{order_id}", get(find))
        .with_state(store)
        .merge(deliveries)
}

/// As text, so that every wrong value of a query is named at once.
#[derive(Debug, Default, Deserialize)]
struct ListQuery {
    state: Option<String>,
    page: Option<String>,
    size: Option<String>,
}

async fn placed(
    State(intake): State<Intake>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Reply, Failure> {
    intake.take(&headers, body).await
}

async fn find(
    State(store): State<Store>,
    Caller(_): Caller,
    Path(order): Path<String>,
) -> Answer<OutboundView> {
    let found = store.find(order).await.map_err(|it| unavailable(&it))?;
    found.map(|it| Json(it.into())).ok_or_else(|| {
        let detail = "the warehouse knows nothing of this order";
        Problem::new(StatusCode::NOT_FOUND, "warehouse.unknown-order", detail)
            .title("Unknown order")
            .field("path:order_id", "is not the id of an order that came here")
            .into()
    })
}

async fn list(
    State(store): State<Store>,
    Caller(_): Caller,
    Query(query): Query<ListQuery>,
) -> Answer<PageView> {
    let (state, page, size) = query.check()?;
    let span = (i64::from(size), i64::from(page - 1) * i64::from(size));
    let (rows, total) = store.page(state, span).await.map_err(|it| unavailable(&it))?;
    let items = rows.into_iter().map(OutboundView::from).collect();
    Ok(Json(PageView { items, page, size, total }))
}

impl ListQuery {
    fn check(self) -> Result<(String, u32, u32), Failure> {
        let detail = "the query asks for something that cannot be listed; see errors";
        let mut problem = Problem::new(StatusCode::BAD_REQUEST, "warehouse.bad-query", detail);
        let mut number = |name: &str, text: Option<String>, default: u32, max: u32| {
            let Some(text) = text else { return default };
            match text.parse::<u32>() {
                Ok(it) if (1..=max).contains(&it) => it,
                _ => {
                    let message = format!("must be a whole number from 1 to {max}");
                    problem.errors.push(FieldError { field: format!("query:{name}"), message });
                    default
                }
            }
        };
        let page = number("page", self.page, 1, PAGE_MAX);
        let size = number("size", self.size, PAGE_SIZE, PAGE_SIZE_MAX);
        let state = self.state.unwrap_or_default();
        if !state.is_empty() && !STATES.contains(&state.as_str()) {
            let message = format!("must be one of {}", STATES.join(", "));
            problem.errors.push(FieldError { field: "query:state".to_owned(), message });
        }
        if problem.errors.is_empty() { Ok((state, page, size)) } else { Err(problem.into()) }
    }
}

impl From<Outbound> for OutboundView {
    fn from(it: Outbound) -> Self {
        let mut view = Self {
            order_id: it.order_id,
            state: it.state,
            user_id: None,
            address: None,
            lines: Vec::new(),
            total_cents: None,
            message_id: None,
            xid: None,
            trace_id: None,
            void_xid: it.void_xid,
            received_at: None,
            ship_after: None,
            shipped_at: it.shipped,
        };
        if let Some(it) = it.contents {
            view.user_id = Some(it.user_id);
            view.address = Some(it.address);
            view.lines = it.lines;
            view.total_cents = Some(it.total_cents);
            view.message_id = Some(it.message_id);
            view.xid = it.xid;
            view.trace_id = it.trace.map(|it| format!("{:032x}", it.trace_id()));
            view.received_at = Some(it.received);
            view.ship_after = Some(it.ship_after);
        }
        view
    }
}

/// The database gave no answer: the log has the reason, the caller learns when to come back.
fn unavailable(error: &StoreError) -> Failure {
    tracing::error!(error = chain(error), "query failed");
    let detail = "the warehouse's book cannot be read for now";
    Problem::unavailable("warehouse.database-unavailable", detail).into()
}
