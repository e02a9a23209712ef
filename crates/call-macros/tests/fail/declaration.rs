//! Everything the macro itself refuses.

use tradewind_call_macros::client;

#[client(service = "Inventory")]
trait Name {}

#[client(service = "inventory", url = "http://127.0.0.1")]
trait Argument {}

#[client(service = "inventory")]
trait Inventory<T> {
    const X: u8;

    #[get("/products/{id}")]
    async fn unfilled(&self) -> Result<u8, CallError>;

    #[get("/products")]
    async fn superfluous(&self, #[path] id: i64) -> Result<u8, CallError>;

    #[get("/products/{id}.json")]
    async fn template(&self, #[path] id: i64) -> Result<u8, CallError>;

    #[post("/products")]
    async fn bodies(&self, #[json] a: &u8, #[json] b: &u8) -> Result<u8, CallError>;

    #[get("/products")]
    async fn body_on_get(&self, #[json] a: &u8) -> Result<u8, CallError>;

    #[get("/products", retries = 3)]
    fn blocking(&self) -> Result<u8, CallError>;

    #[get("/products", timeout = "soon")]
    async fn impatient(&mut self, page: u8) -> Result<u8, CallError>;

    async fn unsaid(&self) -> Result<u8, CallError>;

    #[get("/products")]
    async fn forged(#[header("x-tradewind-user")] user: &str) -> u8;

    #[get("/products")]
    async fn generic<Q>(&self, #[query] q: Q) -> Result<u8, CallError>;
}

fn main() {}
