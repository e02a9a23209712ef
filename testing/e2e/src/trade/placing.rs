//! Placing: one order for one key, one buyer for the last unit.

use http::StatusCode;
use serde_json::json;

use super::{LIMIT, available, basket, place, points, reaches};
use crate::{Estate, Storage, eventually, wanted};

/// An order is placed, the stock is taken, points are credited, it ships.
///
/// # Panics
/// When it is not so.
pub async fn an_order_is_placed_and_shipped_and_its_ids_join(storage: Storage) {
    let estate = Estate::start_on(storage, vec![("warehouse.ship_after", "1s".to_owned())]).await;
    let mut alice = estate.alice().await;
    let (stock, credit) = (available(&estate, 1).await, points(&mut alice).await);

    let placed = place(&mut alice, "first", &basket(1, 2)).await;
    assert_eq!(placed.status, StatusCode::CREATED, "{}", placed.text());
    let order = placed.json();
    let id = order["id"].as_str().unwrap().to_owned();
    assert_eq!(order["state"], "placed");
    // Read your own write, where the answer says it is: relative to what was asked.
    let read = alice.get(&format!("/order/{}", placed.header("location"))).await.unwrap();
    assert_eq!(read.status, StatusCode::OK, "{}", read.text());
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

/// One key, one order, one answer.
///
/// # Panics
/// When it is not so.
pub async fn the_same_key_gives_the_same_order(storage: Storage) {
    let estate = Estate::start_on(storage, vec![]).await;
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

/// Two want the last one; one gets it.
///
/// # Panics
/// When it is not so.
pub async fn the_last_unit_is_sold_once(storage: Storage) {
    let estate = Estate::start_on(storage, vec![]).await;
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
