//! What the order service asks of inventory, in its own words: the declared client and the part of
//! the answers that it reads. Fields that inventory adds later are ignored.

use serde::{Deserialize, Serialize};
use tradewind::call::CallError;

/// The question which products can be bought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// One item per product.
    pub items: Vec<AskItem>,
}

/// One product of the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskItem {
    /// The product.
    pub product_id: i64,
    /// How many.
    pub quantity: u32,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Availability {
    /// One per asked product that is on sale.
    pub items: Vec<AvailableItem>,
    /// The asked products that are not on sale.
    pub unknown: Vec<i64>,
}

/// What there is of one product.
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
}

/// The inventory service.
#[tradewind::client(service = "inventory")]
pub trait Inventory {
    /// What there is of each product. A question changes nothing, so it may be repeated.
    #[post("/availability", idempotent)]
    async fn availability(&self, #[json] ask: &Ask) -> Result<Availability, CallError>;
}
