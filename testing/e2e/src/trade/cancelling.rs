//! Cancelling: what is cancelled in time never ships.

use http::StatusCode;
use serde_json::json;

use super::{LIMIT, available, basket, place, points, reaches};
use crate::{Estate, Storage, eventually, wanted};

/// An order that is cancelled before it ships never ships; stock and points come back.
///
/// # Panics
/// When it is not so.
pub async fn a_cancelled_order_never_ships_and_gives_everything_back(storage: Storage) {
    let estate = Estate::start_on(storage, vec![("warehouse.ship_after", "60s".to_owned())]).await;
    let mut alice = estate.alice().await;
    let (stock, credit) = (available(&estate, 1).await, points(&mut alice).await);
    let placed = place(&mut alice, "regret", &basket(1, 1)).await;
    assert_eq!(placed.status, StatusCode::CREATED, "{}", placed.text());
    let id = placed.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/order/orders/{id}/cancel");
    eventually("it is cancelled", LIMIT, async || {
        let answer = alice.post(&path, &json!({})).await.map_err(|it| it.to_string())?;
        wanted((answer.status, answer.text()), |it| it.0 == StatusCode::OK)
    })
    .await;
    reaches(&mut alice, &id, "cancelled").await;
    eventually("all is given back", LIMIT, async || {
        let now = (available(&estate, 1).await, points(&mut alice).await);
        wanted(now, |it| *it == (stock, credit))
    })
    .await;
    // Cancelling again is the same answer and changes nothing.
    let again = alice.post(&path, &json!({})).await.unwrap();
    assert_eq!(again.status, StatusCode::OK, "{}", again.text());
    assert_eq!(available(&estate, 1).await, stock);
}

/// SHIP-2: cancelled while `order.placed` is on its way: the late message is absorbed.
///
/// # Panics
/// When it is not so.
pub async fn a_message_that_comes_after_the_cancel_ships_nothing(storage: Storage) {
    let estate = Estate::start_on(storage, vec![("warehouse.ship_after", "1s".to_owned())]).await;
    let mut alice = estate.alice().await;
    let placed = place(&mut alice, "late", &basket(1, 1)).await;
    // From here the message stays where it is, if it is not there yet.
    let broker = estate.process("broker");
    broker.freeze();
    assert_eq!(placed.status, StatusCode::CREATED, "{}", placed.text());
    let id = placed.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/order/orders/{id}/cancel");
    let cancelled = eventually("a definite answer", LIMIT, async || {
        let answer = alice.post(&path, &json!({})).await.map_err(|it| it.to_string())?;
        let definite = [StatusCode::OK, StatusCode::CONFLICT];
        wanted((answer.status, answer.text()), |it| definite.contains(&it.0))
    })
    .await;
    broker.thaw();
    // Either it was cancelled, then nothing ships; or it had shipped already, then it stays so.
    let last = if cancelled.0 == StatusCode::OK { "cancelled" } else { "shipped" };
    reaches(&mut alice, &id, last).await;
    // A second order through the same broker overtakes nothing: when it has shipped, the first
    // message has been delivered long since.
    let next = place(&mut alice, "next", &basket(1, 1)).await;
    reaches(&mut alice, next.json()["id"].as_str().unwrap(), "shipped").await;
    let order = alice.get(&format!("/order/orders/{id}")).await.unwrap().json();
    assert_eq!(order["state"], last, "{order}");
}
