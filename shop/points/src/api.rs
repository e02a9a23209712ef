//! The HTTP face of the points service: what users see of their own account.

use serde::{Deserialize, Serialize};
use tradewind::axum::Router;
use tradewind::axum::extract::State;
use tradewind::axum::http::StatusCode;
use tradewind::axum::routing::get;
use tradewind::base::{Problem, Timestamp};
use tradewind::service::answer::chain;
use tradewind::service::{Answer, Failure, Json, Query, User};

use crate::store::{Entry, Store, StoreError};

/// The most rows a page has.
pub const PAGE_SIZE_MAX: u32 = 100;
/// The size of a page when none is asked for.
pub const PAGE_SIZE: u32 = 20;
/// The last page that can be asked for: bounds what the database skips over.
pub const PAGE_MAX: u32 = 10_000;

/// A user's account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountView {
    /// The user.
    pub user_id: String,
    /// The points the user has.
    pub balance: i64,
    /// Points of orders that are being placed right now.
    pub pending: i64,
}

/// A row of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryView {
    /// Its id; rows are numbered in the order in which they were written.
    pub id: i64,
    /// The order that earned.
    pub order_id: String,
    /// `credit` or `revoke`.
    pub kind: String,
    /// What was added; negative when points were taken back.
    pub amount: i64,
    /// The transaction that moved them.
    pub xid: String,
    /// When, in milliseconds since the Unix epoch.
    pub at: Timestamp,
}

/// One page of a ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerView {
    /// The rows, the newest first.
    pub items: Vec<EntryView>,
    /// The number of this page, from 1.
    pub page: u32,
    /// How many rows a full page has.
    pub size: u32,
    /// How many rows there are over all pages.
    pub total: i64,
}

pub(crate) fn router(store: Store) -> Router {
    Router::new()
        .route("/accounts/me", get(account))
        .route("/accounts/me/ledger", get(ledger))
        .with_state(store)
}

/// As text, so that every wrong value of a query is named at once.
#[derive(Debug, Default, Deserialize)]
struct PageQuery {
    page: Option<String>,
    size: Option<String>,
}

async fn account(State(store): State<Store>, User(user): User) -> Answer<AccountView> {
    let found = store.account(user.id.clone()).await.map_err(|it| unavailable(&it))?;
    let user_id = user.id;
    Ok(Json(AccountView { user_id, balance: found.balance, pending: found.pending }))
}

async fn ledger(
    State(store): State<Store>,
    User(user): User,
    Query(query): Query<PageQuery>,
) -> Answer<LedgerView> {
    let (page, size) = query.check()?;
    let span = (i64::from(size), i64::from(page - 1) * i64::from(size));
    let (rows, total) = store.ledger(user.id, span).await.map_err(|it| unavailable(&it))?;
    let items = rows.into_iter().map(EntryView::from).collect();
    Ok(Json(LedgerView { items, page, size, total }))
}

impl PageQuery {
    fn check(self) -> Result<(u32, u32), Failure> {
        let detail = "the query asks for a page that there is not; see errors";
        let mut problem = Problem::new(StatusCode::BAD_REQUEST, "points.bad-query", detail);
        let mut number = |name: &str, text: Option<String>, default: u32, max: u32| {
            let Some(text) = text else { return default };
            match text.parse::<u32>() {
                Ok(it) if (1..=max).contains(&it) => it,
                _ => {
                    let message = format!("must be a whole number from 1 to {max}");
                    let field = format!("query:{name}");
                    problem.errors.push(tradewind::base::problem::FieldError { field, message });
                    default
                }
            }
        };
        let page = number("page", self.page, 1, PAGE_MAX);
        let size = number("size", self.size, PAGE_SIZE, PAGE_SIZE_MAX);
        if problem.errors.is_empty() { Ok((page, size)) } else { Err(problem.into()) }
    }
}

impl From<Entry> for EntryView {
    fn from(it: Entry) -> Self {
        Self {
            id: it.id,
            order_id: it.order_id,
            kind: it.kind,
            amount: it.amount,
            xid: it.xid,
            at: it.at,
        }
    }
}

/// The database gave no answer: the log has the reason, the caller learns when to come back.
fn unavailable(error: &StoreError) -> Failure {
    tracing::error!(error = chain(error), "query failed");
    Problem::unavailable("points.database-unavailable", "the account cannot be read for now").into()
}
