//! The queries of the inventory service. SQL lives in this module and its children only.

mod load;

use std::collections::BTreeMap;

use tradewind::base::Timestamp;
use tradewind::sql::{self, Database, Row, Transaction, TransactionError, params};

/// The catalogue and the stock, in a database.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    database: Database,
}

/// An article as the shop shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Product {
    pub(crate) id: i64,
    pub(crate) sku: String,
    pub(crate) name: String,
    pub(crate) category: String,
    /// A JSON object of texts.
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) price_cents: i64,
    pub(crate) currency: String,
    /// On hand and not frozen.
    pub(crate) available: i64,
}

/// One page of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) products: Vec<Product>,
    /// How many there are over all pages.
    pub(crate) total: i64,
}

/// What a page is asked for; valid by construction in [`crate::api`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Empty: all categories.
    pub(crate) category: String,
    /// Part of the name or the article number, in lower case; empty: all.
    pub(crate) text: String,
    pub(crate) size: i64,
    pub(crate) offset: i64,
}

/// A category and how many articles it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CategoryRow {
    pub(crate) slug: String,
    pub(crate) title: String,
    pub(crate) products: i64,
}

/// Why the database gave no answer.
pub(crate) type StoreError = TransactionError<sql::Error>;

const PRODUCT_BY_ID: &str = "SELECT p.id, p.sku, p.name, p.category, p.attributes, p.price_cents, \
     p.currency, s.on_hand - s.frozen \
     FROM product p JOIN stock s ON s.product_id = p.id \
     WHERE p.id = ? AND p.status = 'active'";

/// How many ids one statement of [`PRODUCTS_BY_IDS`] takes.
const IDS: usize = 16;

const PRODUCTS_BY_IDS: &str = "SELECT p.id, p.sku, p.name, p.category, p.attributes, p.price_cents, \
     p.currency, s.on_hand - s.frozen \
     FROM product p JOIN stock s ON s.product_id = p.id \
     WHERE p.id IN (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) AND p.status = 'active'";

const PAGE: &str = "SELECT p.id, p.sku, p.name, p.category, p.attributes, p.price_cents, \
     p.currency, s.on_hand - s.frozen \
     FROM product p JOIN stock s ON s.product_id = p.id \
     WHERE p.status = 'active' AND (? = '' OR p.category = ?) \
     AND (? = '' OR LOWER(p.name) LIKE ? ESCAPE '!' OR LOWER(p.sku) LIKE ? ESCAPE '!') \
     ORDER BY p.id LIMIT ? OFFSET ?";

const TOTAL: &str = "SELECT COUNT(*) FROM product p \
     WHERE p.status = 'active' AND (? = '' OR p.category = ?) \
     AND (? = '' OR LOWER(p.name) LIKE ? ESCAPE '!' OR LOWER(p.sku) LIKE ? ESCAPE '!')";

const CATEGORIES: &str = "SELECT c.slug, c.title, COUNT(p.id) FROM category c \
     LEFT JOIN product p ON p.category = c.slug AND p.status = 'active' \
     GROUP BY c.slug, c.title, c.position ORDER BY c.position, c.slug";

impl Store {
    pub(crate) const fn new(database: Database) -> Self {
        Self { database }
    }

    /// Loads the first day's catalogue unless some process did before; says whether it loaded.
    pub(crate) async fn load_first_day(&self, now: Timestamp) -> Result<bool, StoreError> {
        self.database.transaction("load first day", move |tx| load::first_day(tx, now)).await
    }

    /// The article, if it is on sale.
    pub(crate) async fn product(&self, id: i64) -> Result<Option<Product>, StoreError> {
        self.database
            .read("product", move |tx| tx.query_one(PRODUCT_BY_ID, params![id], product))
            .await
    }

    /// Those of the articles that are on sale, by id. One snapshot.
    pub(crate) async fn products(
        &self,
        ids: Vec<i64>,
    ) -> Result<BTreeMap<i64, Product>, StoreError> {
        self.database.read("products", move |tx| products(tx, &ids)).await
    }

    /// A page of what is on sale, in the order of ids, with the total: one snapshot.
    pub(crate) async fn page(&self, filter: Filter) -> Result<Page, StoreError> {
        self.database
            .read("page", move |tx| {
                let Filter { category, text, size, offset } = &filter;
                let (category, text) = (category.as_str(), text.as_str());
                let like = contains(text);
                let like = like.as_str();
                let total = tx
                    .query_one(TOTAL, params![category, category, text, like, like], |row| {
                        row.get(0)
                    })?
                    .unwrap_or(0);
                let params = params![category, category, text, like, like, *size, *offset];
                Ok(Page { products: tx.query(PAGE, params, product)?, total })
            })
            .await
    }

    /// All categories in the order in which they are shown.
    pub(crate) async fn categories(&self) -> Result<Vec<CategoryRow>, StoreError> {
        self.database
            .read("categories", |tx| {
                tx.query(CATEGORIES, &[], |row| {
                    Ok(CategoryRow { slug: row.get(0)?, title: row.get(1)?, products: row.get(2)? })
                })
            })
            .await
    }
}

fn products(tx: &mut Transaction<'_>, ids: &[i64]) -> Result<BTreeMap<i64, Product>, sql::Error> {
    let mut found = BTreeMap::new();
    for chunk in ids.chunks(IDS) {
        // A short chunk is filled up with an id that is in it: `IN` does not mind repeats, and the
        // statement stays one text that is prepared once.
        let Some(last) = chunk.last() else { continue };
        let filled = chunk.iter().chain(std::iter::repeat(last)).take(IDS);
        let params: Vec<sql::Value> = filled.map(|id| sql::Value::Integer(*id)).collect();
        for it in tx.query(PRODUCTS_BY_IDS, &params, product)? {
            found.insert(it.id, it);
        }
    }
    Ok(found)
}

fn product(row: &Row) -> Result<Product, sql::Error> {
    let attributes: String = row.get(4)?;
    Ok(Product {
        id: row.get(0)?,
        sku: row.get(1)?,
        name: row.get(2)?,
        category: row.get(3)?,
        // Only for show: what an operator mistyped there must not hide the product.
        attributes: serde_json::from_str(&attributes).unwrap_or_default(),
        price_cents: row.get(5)?,
        currency: row.get(6)?,
        available: row.get(7)?,
    })
}

/// A LIKE pattern (with `!` as escape) that finds `text` anywhere.
fn contains(text: &str) -> String {
    let mut pattern = String::from("%");
    for it in text.chars() {
        if matches!(it, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(it);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests;
