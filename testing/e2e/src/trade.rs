//! The trade chain as scenarios: each runs on any storage.
//!
//! A scenario starts an estate of its own and does over HTTP what a user does.

pub mod cancelling;
pub mod locking;
pub mod outages;
pub mod placing;

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::{Answer, Client, Estate, eventually, wanted};

/// No condition of a scenario takes longer to come true.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Orders `body` under an idempotency key.
///
/// # Panics
/// When there is no answer.
pub async fn place(client: &mut Client, key: &str, body: &Value) -> Answer {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    let body = Bytes::from(body.to_string());
    client.send(Method::POST, "/order/orders", &headers, body).await.expect("an answer")
}

/// A basket with one line.
#[must_use]
pub fn basket(product: i64, quantity: i64) -> Value {
    json!({"items": [{"product_id": product, "quantity": quantity}], "address": "1 Harbour Road"})
}

/// How many of a product can be bought.
///
/// # Panics
/// When there is no answer.
pub async fn available(estate: &Estate, product: i64) -> i64 {
    let path = format!("/inventory/products/{product}");
    estate.gateway().get(&path).await.unwrap().json()["available"].as_i64().unwrap()
}

/// The balance of the points of whoever asks.
///
/// # Panics
/// When there is no answer.
pub async fn points(client: &mut Client) -> i64 {
    client.get("/points/accounts/me").await.unwrap().json()["balance"].as_i64().unwrap_or(0)
}

/// Waits until an order is in a state, and returns it.
///
/// # Panics
/// When there is no answer.
pub async fn reaches(client: &mut Client, id: &str, state: &str) -> Value {
    let path = format!("/order/orders/{id}");
    eventually(&format!("order is {state}"), LIMIT, async || {
        let answer = client.get(&path).await.map_err(|it| it.to_string())?;
        wanted(answer.json(), |it| it["state"] == state)
    })
    .await
}
