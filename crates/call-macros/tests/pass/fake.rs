//! The expansion of a right declaration, and a fake that implements the trait with `async fn`.

#[path = "../fail/stub.rs"]
mod stub;

use stub::CallError;
use tradewind_call_macros::client;

#[client(service = "inventory", crate = "crate::stub")]
pub trait Inventory: Send + Sync {
    /// One product.
    #[get("/products/{id}")]
    async fn product(
        &self,
        #[path] id: i64,
        #[query] fields: Option<&str>,
        #[header("if-none-match")] tag: &str,
    ) -> Result<String, CallError>;
}

struct Fake;

impl Inventory for Fake {
    async fn product(&self, id: i64, _: Option<&str>, _: &str) -> Result<String, CallError> {
        Ok(format!("product {id}"))
    }
}

fn sendable<T: Send>(_: T) {}

fn both(inventory: &impl Inventory) {
    sendable(inventory.product(1, None, "x"));
}

fn main() {
    both(&Fake);
    both(&InventoryClient::new(stub::__private::Channel).clone());
    assert_eq!(InventoryClient::SERVICE, "inventory");
}
