//! Buyers who repeat a request until its answer is definite.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::Value;

use crate::{Answer, Client};

/// No outcome stays unknown longer: dead processes restart, leases and deadlines run out.
const LIMIT: Duration = Duration::from_secs(60);

/// Between two requests of one buyer.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers that say "ask again", whatever their status.
const AGAIN: [&str; 3] = ["idempotency.in-flight", "order.cancelling", "order.placing"];

/// Places an order, again and again with the same key, until it is placed or refused for good.
///
/// # Panics
/// When that takes too long.
pub async fn insist_on_placing(client: &mut Client, key: &str, body: &Value) -> Answer {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    insist(client, "/order/orders", &headers, Bytes::from(body.to_string())).await
}

/// Cancels an order, again and again, until it is cancelled or that is refused for good.
///
/// # Panics
/// When that takes too long.
pub async fn insist_on_cancelling(client: &mut Client, id: &str) -> Answer {
    insist(client, &format!("/order/orders/{id}/cancel"), &[], Bytes::new()).await
}

async fn insist(client: &mut Client, path: &str, headers: &[(&str, &str)], body: Bytes) -> Answer {
    let end = tokio::time::Instant::now() + LIMIT;
    loop {
        let answer = client.send(Method::POST, path, headers, body.clone()).await;
        let last = match answer {
            Ok(answer) if is_definite(&answer) => return answer,
            Ok(answer) => format!("{} {}", answer.status, answer.text()),
            Err(error) => format!("{error:#}"),
        };
        let late = end <= tokio::time::Instant::now();
        assert!(!late, "{path} {headers:?}: unknown after {LIMIT:?}; last answer: {last}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether asking again could not give another answer.
fn is_definite(answer: &Answer) -> bool {
    match answer.status {
        StatusCode::ACCEPTED => false,
        it if it.is_success() => true,
        StatusCode::CONFLICT => {
            !answer.json()["code"].as_str().is_some_and(|it| AGAIN.contains(&it))
        }
        it => it.is_client_error() && it != StatusCode::TOO_MANY_REQUESTS,
    }
}
