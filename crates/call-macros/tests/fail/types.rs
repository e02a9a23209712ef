//! What the compiler refuses in the expansion must point at the type that was written.

mod stub;

use stub::CallError;
use tradewind_call_macros::client;

struct Silent;

#[client(service = "inventory", crate = "crate::stub")]
trait Inventory {
    #[get("/products/{id}")]
    async fn path(&self, #[path] id: Silent) -> Result<u8, CallError>;

    #[get("/products")]
    async fn query(&self, #[query] ids: &[Option<Silent>]) -> Result<u8, CallError>;

    #[get("/products")]
    async fn answer(&self) -> Result<Silent, CallError>;

    #[get("/products")]
    async fn error(&self) -> Result<u8, String>;
}

fn main() {}
