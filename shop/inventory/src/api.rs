//! The HTTP face of the inventory service: wire types, what is checked, what is answered.
//!
//! The catalogue is open to everybody. `POST /availability` is for other services of the estate:
//! it wants their sealed name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tradewind::base::Problem;
use tradewind::service::answer::chain;
use tradewind::service::axum::Router;
use tradewind::service::axum::extract::State;
use tradewind::service::axum::http::StatusCode;
use tradewind::service::axum::routing::{get, post};
use tradewind::service::{Answer, Caller, Failure, Json, Path, Query};

use crate::store::{Filter, Product, Store, StoreError};

/// The most products a page has.
pub const PAGE_SIZE_MAX: u32 = 100;
/// The size of a page when none is asked for.
pub const PAGE_SIZE: u32 = 20;
/// The last page that can be asked for: bounds what the database skips over.
pub const PAGE_MAX: u32 = 10_000;
/// The longest text to search for, in characters.
pub const QUERY_CHARS_MAX: usize = 64;
/// The most items one question for availability has.
pub const ASK_ITEMS_MAX: usize = 100;

/// A product as the shop shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductView {
    /// Its id.
    pub id: i64,
    /// Its article number.
    pub sku: String,
    /// Its name.
    pub name: String,
    /// The slug of its category.
    pub category: String,
    /// What it is in each respect: `{"colour": "Graphite"}`.
    pub attributes: BTreeMap<String, String>,
    /// Its price in the smallest unit of the currency.
    pub price_cents: i64,
    /// The currency (ISO 4217).
    pub currency: String,
    /// How many can be bought now.
    pub available: i64,
}

/// One page of products.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageView {
    /// The products, in the order of their ids.
    pub items: Vec<ProductView>,
    /// The number of this page, from 1.
    pub page: u32,
    /// How many products a full page has.
    pub size: u32,
    /// How many products there are over all pages.
    pub total: i64,
}

/// A category.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CategoryView {
    /// How it is named in addresses and queries.
    pub category: String,
    /// What people read.
    pub title: String,
    /// How many products it has.
    pub products: i64,
}

/// All categories.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CategoriesView {
    /// In the order in which they are shown.
    pub items: Vec<CategoryView>,
}

/// A question: can these be bought?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// What is asked for: 1 to 100 items.
    pub items: Vec<AskItem>,
}

/// One item of the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskItem {
    /// The product.
    pub product_id: i64,
    /// How many: at least 1.
    pub quantity: i64,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Availability {
    /// One per item of the question whose product is on sale, in the order of the question.
    pub items: Vec<AvailableItem>,
    /// The asked products that are not on sale, each once, ascending.
    pub unknown: Vec<i64>,
}

/// What there is of one product. Read in one snapshot, and only true of that moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AvailableItem {
    /// The product.
    pub product_id: i64,
    /// Its article number.
    pub sku: String,
    /// Its name.
    pub name: String,
    /// Its price in the smallest unit of the currency.
    pub price_cents: i64,
    /// The currency (ISO 4217).
    pub currency: String,
    /// How many can be bought now.
    pub available: i64,
    /// Whether that is enough for the asked quantity.
    pub sufficient: bool,
}

pub(crate) fn router(store: Store) -> Router {
    Router::new()
        .route("/products", get(list))
        .route("/products/{id}", get(find))
        .route("/categories", get(categories))
        .route("/availability", post(availability))
        .with_state(store)
}

/// As text, so that every wrong value of a query is named at once.
#[derive(Debug, Default, Deserialize)]
struct ListQuery {
    category: Option<String>,
    page: Option<String>,
    size: Option<String>,
    q: Option<String>,
}

async fn list(State(store): State<Store>, Query(query): Query<ListQuery>) -> Answer<PageView> {
    let (page, size, filter) = query.check()?;
    let found = store.page(filter).await.map_err(|it| unavailable(&it))?;
    let items = found.products.into_iter().map(ProductView::from).collect();
    Ok(Json(PageView { items, page, size, total: found.total }))
}

async fn find(State(store): State<Store>, Path(id): Path<i64>) -> Answer<ProductView> {
    let product = store.product(id).await.map_err(|it| unavailable(&it))?;
    product.map(|it| Json(it.into())).ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "inventory.unknown-product",
            format!("there is no product {id}; GET /products lists what there is"),
        )
        .title("Unknown product")
        .field("path:id", "is not the id of a product on sale")
        .into()
    })
}

async fn categories(State(store): State<Store>) -> Answer<CategoriesView> {
    let rows = store.categories().await.map_err(|it| unavailable(&it))?;
    let view = |it: crate::store::CategoryRow| CategoryView {
        category: it.slug,
        title: it.title,
        products: it.products,
    };
    Ok(Json(CategoriesView { items: rows.into_iter().map(view).collect() }))
}

async fn availability(
    State(store): State<Store>,
    Caller(_): Caller,
    Json(ask): Json<Ask>,
) -> Answer<Availability> {
    ask.check()?;
    let ids = ask.items.iter().map(|it| it.product_id).collect();
    let known = store.products(ids).await.map_err(|it| unavailable(&it))?;
    Ok(Json(ask.answer(&known)))
}

impl ListQuery {
    fn check(self) -> Result<(u32, u32, Filter), Failure> {
        let mut problem = Problem::new(
            StatusCode::BAD_REQUEST,
            "inventory.bad-query",
            "the query asks for something that cannot be listed; see errors",
        );
        let mut number = |name: &str, text: Option<String>, default: u32, max: u32| {
            let Some(text) = text else { return default };
            match text.parse::<u32>() {
                Ok(it) if (1..=max).contains(&it) => it,
                _ => {
                    let errors = &mut problem.errors;
                    errors.push(field(name, format!("must be a whole number from 1 to {max}")));
                    default
                }
            }
        };
        let page = number("page", self.page, 1, PAGE_MAX);
        let size = number("size", self.size, PAGE_SIZE, PAGE_SIZE_MAX);
        let category = self.category.unwrap_or_default();
        let slug = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
        if 48 < category.len() || !category.bytes().all(slug) {
            let text = "must be a category of GET /categories, such as tea-coffee";
            problem.errors.push(field("category", text.to_owned()));
        }
        let text = self.q.unwrap_or_default().trim().to_lowercase();
        if QUERY_CHARS_MAX < text.chars().count() || text.contains(char::is_control) {
            let text = format!("must be at most {QUERY_CHARS_MAX} characters of plain text");
            problem.errors.push(field("q", text));
        }
        if !problem.errors.is_empty() {
            return Err(problem.into());
        }
        let offset = i64::from(page - 1) * i64::from(size);
        Ok((page, size, Filter { category, text, size: i64::from(size), offset }))
    }
}

fn field(name: &str, message: String) -> tradewind::base::problem::FieldError {
    tradewind::base::problem::FieldError { field: format!("query:{name}"), message }
}

impl Ask {
    fn check(&self) -> Result<(), Failure> {
        let mut problem = Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "inventory.bad-ask",
            "the question cannot be answered; see errors",
        );
        if !(1..=ASK_ITEMS_MAX).contains(&self.items.len()) {
            problem = problem.field("items", format!("must be 1 to {ASK_ITEMS_MAX} items"));
        }
        for (index, it) in self.items.iter().enumerate().take(ASK_ITEMS_MAX) {
            if it.quantity < 1 {
                problem = problem.field(format!("items[{index}].quantity"), "must be at least 1");
            }
        }
        if problem.errors.is_empty() { Ok(()) } else { Err(problem.into()) }
    }

    fn answer(&self, known: &BTreeMap<i64, Product>) -> Availability {
        let mut items = Vec::with_capacity(self.items.len());
        let mut unknown = Vec::new();
        for ask in &self.items {
            match known.get(&ask.product_id) {
                Some(it) => items.push(AvailableItem {
                    product_id: it.id,
                    sku: it.sku.clone(),
                    name: it.name.clone(),
                    price_cents: it.price_cents,
                    currency: it.currency.clone(),
                    available: it.available,
                    sufficient: ask.quantity <= it.available,
                }),
                None => unknown.push(ask.product_id),
            }
        }
        unknown.sort_unstable();
        unknown.dedup();
        Availability { items, unknown }
    }
}

impl From<Product> for ProductView {
    fn from(it: Product) -> Self {
        Self {
            id: it.id,
            sku: it.sku,
            name: it.name,
            category: it.category,
            attributes: it.attributes,
            price_cents: it.price_cents,
            currency: it.currency,
            available: it.available,
        }
    }
}

/// The database gave no answer: the log has the reason, the caller learns when to come back.
fn unavailable(error: &StoreError) -> Failure {
    tracing::error!(error = chain(error), "query failed");
    Problem::unavailable("inventory.database-unavailable", "the catalogue cannot be read for now")
        .into()
}

#[cfg(test)]
mod tests;
