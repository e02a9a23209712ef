//! The trade chain on real processes: place, ship, cancel; what fails, fails cleanly.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tradewind_e2e::{Answer, Client, Estate, eventually, wanted};

const LIMIT: Duration = Duration::from_secs(30);

async fn place(client: &mut Client, key: &str, body: &Value) -> Answer {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    let body = Bytes::from(body.to_string());
    client.send(Method::POST, "/order/orders", &headers, body).await.expect("an answer")
}

fn basket(product: i64, quantity: i64) -> Value {
    json!({"items": [{"product_id": product, "quantity": quantity}], "address": "1 Harbour Road"})
}

async fn available(estate: &Estate, product: i64) -> i64 {
    let path = format!("/inventory/products/{product}");
    estate.gateway().get(&path).await.unwrap().json()["available"].as_i64().unwrap()
}

async fn points(client: &mut Client) -> i64 {
    client.get("/points/accounts/me").await.unwrap().json()["balance"].as_i64().unwrap_or(0)
}

async fn reaches(client: &mut Client, id: &str, state: &str) -> Value {
    let path = format!("/order/orders/{id}");
    eventually(&format!("order is {state}"), LIMIT, async || {
        let answer = client.get(&path).await.map_err(|it| it.to_string())?;
        wanted(answer.json(), |it| it["state"] == state)
    })
    .await
}

/// R0.1, R5.1, R6.3: an order is placed, the stock is taken, points are credited, it ships.
#[tokio::test]
async fn an_order_is_placed_and_shipped_and_its_ids_join() {
    let estate = Estate::start_with(vec![("warehouse.ship_after", "1s".to_owned())]).await;
    let mut alice = estate.alice().await;
    let (stock, credit) = (available(&estate, 1).await, points(&mut alice).await);

    let placed = place(&mut alice, "first", &basket(1, 2)).await;
    assert_eq!(placed.status, StatusCode::CREATED, "{}", placed.text());
    let order = placed.json();
    let id = order["id"].as_str().unwrap().to_owned();
    assert_eq!(order["state"], "placed");
    // Read your own write.
    let read = alice.get(&format!("/order/orders/{id}")).await.unwrap();
    assert_eq!(read.json()["id"], id.as_str());

    let shipped = reaches(&mut alice, &id, "shipped").await;
    assert_eq!(available(&estate, 1).await, stock - 2);
    eventually("points are credited", LIMIT, async || {
        wanted(points(&mut alice).await, |it| *it == credit + order["points"].as_i64().unwrap())
    })
    .await;

    let trail = alice.get(&format!("/order/orders/{id}/trail")).await.unwrap().json();
    assert_eq!(trail["xid"], shipped["xid"]);
    assert_eq!(trail["message_id"], shipped["message_id"]);
    let states: Vec<_> =
        trail["events"].as_array().unwrap().iter().map(|it| it["to"].clone()).collect();
    assert!(states.contains(&json!("placed")) && states.contains(&json!("shipped")), "{trail}");

    // After shipping there is nothing to cancel.
    let late = alice.post(&format!("/order/orders/{id}/cancel"), &json!({})).await.unwrap();
    assert_eq!(late.status, StatusCode::CONFLICT, "{}", late.text());
}

/// R4.2: one key, one order, one answer.
#[tokio::test]
async fn the_same_key_gives_the_same_order() {
    let estate = Estate::start().await;
    let mut alice = estate.alice().await;
    let stock = available(&estate, 3).await;
    let token = estate.token().await;
    let (mut one, mut two) = (estate.gateway().bearer(&token), estate.gateway().bearer(&token));
    let body = basket(3, 1);
    // A doubled click: one of them may be told that the other is on its way.
    let (first, second) =
        tokio::join!(place(&mut one, "click", &body), place(&mut two, "click", &body));
    let mut ids = Vec::new();
    for answer in [first, second] {
        match answer.status {
            StatusCode::CREATED => ids.push(answer.json()["id"].clone()),
            StatusCode::CONFLICT => assert!(!answer.header("retry-after").is_empty()),
            other => panic!("{other} {}", answer.text()),
        }
    }
    let again = place(&mut alice, "click", &body).await;
    assert_eq!(again.status, StatusCode::CREATED, "{}", again.text());
    ids.push(again.json()["id"].clone());
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(available(&estate, 3).await, stock - 1);

    let other = place(&mut alice, "click", &basket(3, 2)).await;
    assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", other.text());
    let mut bob = estate.gateway();
    let login = json!({"username": "bob", "password": "bob-demo"});
    let token = bob.post("/order/login", &login).await.unwrap().json();
    let mut bob = estate.gateway().bearer(token["access_token"].as_str().unwrap());
    let foreign = bob.get(&format!("/order/orders/{}", ids[0].as_str().unwrap())).await.unwrap();
    assert_eq!(foreign.status, StatusCode::NOT_FOUND, "{}", foreign.text());
}

/// R5.1: points down, the order fails with a clear error and everything is as before.
#[tokio::test]
async fn an_order_without_points_changes_nothing_and_works_again_later() {
    let estate = Estate::start().await;
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

/// R0.1: an order that is cancelled before it ships never ships; stock and points come back.
#[tokio::test]
async fn a_cancelled_order_never_ships_and_gives_everything_back() {
    let estate = Estate::start_with(vec![("warehouse.ship_after", "60s".to_owned())]).await;
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

/// R7.5: two want the last one; one gets it.
#[tokio::test]
async fn the_last_unit_is_sold_once() {
    let estate = Estate::start().await;
    let token = estate.token().await;
    let mut products = Vec::new();
    for page in 1..=2 {
        let path = format!("/inventory/products?size=100&page={page}");
        let page = estate.gateway().get(&path).await.unwrap().json();
        products.extend(page["items"].as_array().unwrap().clone());
    }
    let last = products.iter().find(|it| it["available"] == 1).expect("a product with one left");
    let last = last["id"].as_i64().unwrap();
    let mut buyers = tokio::task::JoinSet::new();
    for number in 0..6 {
        let mut buyer = estate.gateway().bearer(&token);
        buyers.spawn(async move {
            place(&mut buyer, &format!("last-{number}"), &basket(last, 1)).await
        });
    }
    let answers = buyers.join_all().await;
    let won = answers.iter().filter(|it| it.status == StatusCode::CREATED).count();
    let seen: Vec<_> = answers.iter().map(|it| (it.status, it.text())).collect();
    assert_eq!(won, 1, "{seen:?}");
    for answer in answers.iter().filter(|it| it.status != StatusCode::CREATED) {
        assert_eq!(answer.status, StatusCode::CONFLICT, "{seen:?}");
        assert_eq!(answer.header("content-type"), "application/problem+json", "{seen:?}");
    }
    assert_eq!(available(&estate, last).await, 0);
}

/// R6.3: the warehouse is away; orders succeed all the same and ship when it is back.
#[tokio::test]
async fn orders_wait_for_a_warehouse_that_is_away() {
    let estate = Estate::start_with(vec![("warehouse.ship_after", "1s".to_owned())]).await;
    let mut alice = estate.alice().await;
    let warehouses = [estate.process("warehouse-a"), estate.process("warehouse-b")];
    warehouses.iter().for_each(tradewind_e2e::Process::freeze);
    let placed = place(&mut alice, "away", &basket(1, 1)).await;
    let again = place(&mut alice, "away", &basket(1, 1)).await;
    warehouses.iter().for_each(tradewind_e2e::Process::thaw);
    assert_eq!(placed.status, StatusCode::CREATED, "{}", placed.text());
    assert_eq!(placed.body, again.body, "a repeat gets the stored answer");
    reaches(&mut alice, placed.json()["id"].as_str().unwrap(), "shipped").await;
}

/// The broker is away: an order fails cleanly, and orders work again once it is back.
#[tokio::test]
async fn orders_fail_cleanly_without_the_broker() {
    let estate = Estate::start().await;
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

/// SHIP-2: cancelled while `order.placed` is on its way: the late message is absorbed.
#[tokio::test]
async fn a_message_that_comes_after_the_cancel_ships_nothing() {
    let estate = Estate::start_with(vec![("warehouse.ship_after", "1s".to_owned())]).await;
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
