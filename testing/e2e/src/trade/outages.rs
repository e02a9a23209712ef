//! Orders while a server is away.

use http::StatusCode;

use super::{LIMIT, available, basket, place, reaches};
use crate::{Estate, Storage, eventually, wanted};

/// Points down, the order fails with a clear error and everything is as before.
///
/// # Panics
/// When it is not so.
pub async fn an_order_without_points_changes_nothing_and_works_again_later(storage: Storage) {
    let estate = Estate::start_on(storage, vec![]).await;
    let mut alice = estate.alice().await;
    let stock = available(&estate, 2).await;
    let points = estate.process("points");
    points.freeze();
    let failed = place(&mut alice, "without", &basket(2, 1)).await;
    points.thaw();
    assert_eq!(failed.status, StatusCode::SERVICE_UNAVAILABLE, "{}", failed.text());
    assert_eq!(failed.header("content-type"), "application/problem+json");
    assert!(failed.text().contains("points"), "it names who is missing: {}", failed.text());
    eventually("the stock is free again", LIMIT, async || {
        wanted(available(&estate, 2).await, |it| *it == stock)
    })
    .await;
    eventually("orders work again", LIMIT, async || {
        let answer = place(&mut alice, "with", &basket(2, 1)).await;
        wanted(answer.status, |it| *it == StatusCode::CREATED)
    })
    .await;
    assert_eq!(available(&estate, 2).await, stock - 1);
}

/// The warehouse is away; orders succeed all the same and ship when it is back.
///
/// # Panics
/// When it is not so.
pub async fn orders_wait_for_a_warehouse_that_is_away(storage: Storage) {
    let estate = Estate::start_on(storage, vec![("warehouse.ship_after", "1s".to_owned())]).await;
    let mut alice = estate.alice().await;
    let warehouses = [estate.process("warehouse-a"), estate.process("warehouse-b")];
    warehouses.iter().for_each(crate::Process::freeze);
    let placed = place(&mut alice, "away", &basket(1, 1)).await;
    let again = place(&mut alice, "away", &basket(1, 1)).await;
    warehouses.iter().for_each(crate::Process::thaw);
    assert_eq!(placed.status, StatusCode::CREATED, "{}", placed.text());
    assert_eq!(placed.body, again.body, "a repeat gets the stored answer");
    reaches(&mut alice, placed.json()["id"].as_str().unwrap(), "shipped").await;
}

/// The broker is away: an order fails cleanly, and orders work again once it is back.
///
/// # Panics
/// When it is not so.
pub async fn orders_fail_cleanly_without_the_broker(storage: Storage) {
    let estate = Estate::start_on(storage, vec![]).await;
    let mut alice = estate.alice().await;
    let stock = available(&estate, 1).await;
    let broker = estate.process("broker");
    broker.freeze();
    let failed = place(&mut alice, "no-broker", &basket(1, 1)).await;
    broker.thaw();
    assert_eq!(failed.status, StatusCode::SERVICE_UNAVAILABLE, "{}", failed.text());
    assert_eq!(failed.header("content-type"), "application/problem+json");
    eventually("the stock is free again", LIMIT, async || {
        wanted(available(&estate, 1).await, |it| *it == stock)
    })
    .await;
    eventually("orders work again", LIMIT, async || {
        let answer = place(&mut alice, "broker", &basket(1, 1)).await;
        wanted((answer.status, answer.text()), |it| it.0 == StatusCode::CREATED)
    })
    .await;
}
