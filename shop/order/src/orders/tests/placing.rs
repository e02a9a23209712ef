use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::support::*;

/// R0.1: the way of an order, and everything that finds it again.
pub(super) async fn an_order_is_placed(shop: &Shop) {
    let body = basket(&[(3, 2), (1, 1)]);
    let reply = shop.place("key-1", &body).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    let order = reply.json();
    let id = order["id"].as_str().unwrap();
    assert_eq!(reply.header("location"), format!("orders/{id}"));
    assert_eq!((&order["state"], &order["total_cents"]), (&json!("placed"), &json!(700)));
    assert_eq!((&order["points"], &order["version"]), (&json!(7), &json!(2)));
    assert_eq!(order["lines"][0]["name"], "Thing 3");
    let payload = |action: &str| shop.seen(action, "try")[0].body["payload"].clone();
    let items = body["items"].clone();
    assert_eq!(payload("inventory.reserve"), json!({"order_id": id, "items": items}));
    assert_eq!(payload("points.credit"), json!({"user_id": ALICE, "order_id": id, "points": 7}));
    let message = payload("message");
    assert_eq!((&message["topic"], &message["key"]), (&json!("order.placed"), &json!(id)));
    assert_eq!(message["data"]["lines"][1]["sku"], "SKU-1");
    for action in ["inventory.reserve", "points.credit", "message"] {
        until(async || shop.seen(action, "confirm").len() == 1).await;
        assert_eq!(shop.seen(action, "cancel").len(), 0);
    }
    // A lost answer repeated; the same key for something else.
    let again = shop.place("key-1", &body).await;
    assert_eq!((again.status, again.json()), (201, order.clone()));
    assert_eq!(again.header("idempotency-replayed"), "true", "{again:?}");
    let other = shop.place("key-1", &basket(&[(3, 1)])).await;
    assert_eq!((other.status, other.problem().0.as_str()), (422, "idempotency.mismatch"));
    // Read by its owner alone, and found under every id.
    assert_eq!(shop.get(ALICE, &format!("/orders/{id}")).await.json(), order);
    assert_eq!(shop.get("usr_2", &format!("/orders/{id}")).await.status, 404);
    assert_eq!(shop.get("usr_2", &format!("/orders/{id}/trail")).await.status, 404);
    assert_eq!(shop.get(ALICE, "/orders/ord_x").await.status, 404);
    for query in ["xid", "message_id"] {
        let value = order[query].as_str().unwrap();
        let path = format!("/orders?{query}={value}");
        assert_eq!(shop.get(ALICE, &path).await.json()["items"][0]["id"], id);
        assert_eq!(shop.get("usr_2", &path).await.json()["items"], json!([]));
    }
    let path = format!("/orders/{id}/trail");
    until(async || shop.get(ALICE, &path).await.json()["phase"] == "committed").await;
    for (query, value) in [("order_id", id), ("xid", ""), ("message_id", "")] {
        let value = if value.is_empty() { order[query].as_str().unwrap() } else { value };
        let found = shop.as_service(&format!("/trail?{query}={value}")).await;
        assert_eq!((found.status, &found.json()["order_id"]), (200, &json!(id)), "{found:?}");
    }
    let trail = shop.get(ALICE, &path).await.json();
    assert_eq!((&trail["xid"], &trail["message_id"]), (&order["xid"], &order["message_id"]));
    let steps: Vec<_> =
        trail["events"].as_array().unwrap().iter().map(|it| it["step"].clone()).collect();
    assert_eq!(steps, ["begin", "place"]);
    assert_eq!(shop.violations().await, []);
}

/// Where it is told to, the answer waits for the decision.
#[tokio::test]
async fn without_parallel_commits_an_order_is_written_down_before_it_is_answered() {
    let settings = crate::orders::Settings { parallel_commit: false, ..settings(2000) };
    let shop = shop(settings, None).await;
    for number in 0..5 {
        let reply = shop.place(&format!("key-{number}"), &basket(&[(1, 1)])).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        let unwritten = shop.life.orders.deciding.of_user(ALICE);
        assert!(unwritten.is_over(), "nothing is left to be written");
    }
}

#[tokio::test]
async fn an_order_is_placed_once_and_found_again() {
    an_order_is_placed(&shop(settings(2000), None).await).await;
}

/// R5.1: points stopped: within the limit a clear error, all as before, and the same key works
/// once they are back.
#[tokio::test]
async fn an_order_fails_cleanly_while_points_are_away() {
    points_are_away(&shop(settings(400), None).await).await;
}

pub(super) async fn points_are_away(shop: &Shop) {
    shop.feels("points.credit", Some(Mood::Away));
    let begun = Instant::now();
    let reply = shop.place("key-1", &basket(&[(1, 2)])).await;
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
    assert_eq!((reply.status, reply.problem().0.as_str()), (503, "order.unavailable"));
    assert_eq!(reply.problem().1, ["service:points"]);
    assert_eq!(reply.header("retry-after"), "1", "{reply:?}");
    until(async || shop.seen("inventory.reserve", "cancel").len() == 1).await;
    assert_eq!(shop.seen("inventory.reserve", "confirm").len(), 0);
    let page = shop.get(ALICE, "/orders").await.json();
    let failed = page["items"][0]["id"].as_str().unwrap().to_owned();
    let failed = shop.get(ALICE, &format!("/orders/{failed}")).await.json();
    assert_eq!(failed["state"], "failed");
    assert!(failed["reason"].as_str().unwrap().contains("points"), "{failed}");
    shop.feels("points.credit", None);
    let reply = shop.place("key-1", &basket(&[(1, 2)])).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    assert_ne!(reply.json()["xid"], failed["xid"]);
    assert_eq!(shop.violations().await, []);
}

#[tokio::test]
async fn a_refusal_of_inventory_is_told_in_its_words() {
    inventory_refuses(&shop(settings(2000), None).await).await;
}

pub(super) async fn inventory_refuses(shop: &Shop) {
    shop.feels("inventory.reserve", Some(Mood::Refuses("inventory.insufficient")));
    let reply = shop.place("key-1", &basket(&[(1, 2)])).await;
    assert_eq!((reply.status, reply.problem().0.as_str()), (409, "inventory.insufficient"));
    until(async || shop.seen("points.credit", "cancel").len() == 1).await;
    assert_eq!(shop.states().await["failed"], 1);

    // There is stock again. A duplicate that the network kept for a while must not order now what
    // the buyer was refused; a new intent has a new key.
    shop.feels("inventory.reserve", None);
    let again = shop.place("key-1", &basket(&[(1, 2)])).await;
    assert_eq!((again.status, again.problem().0.as_str()), (409, "inventory.insufficient"));
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.header("content-type"), reply.header("content-type"));
    assert_eq!(shop.states().await["failed"], 1);
    let other = shop.place("key-2", &basket(&[(1, 2)])).await;
    assert_eq!(other.status, 201, "{other:?}");
    assert_eq!(shop.violations().await, []);
}

/// ORDER-1: the same key at once is one order.
#[tokio::test]
async fn the_same_key_at_once_is_one_order() {
    the_same_key_at_once(&shop(settings(2000), None).await).await;
}

pub(super) async fn the_same_key_at_once(shop: &Shop) {
    let body = basket(&[(2, 1)]);
    let place = || shop.place("key-1", &body);
    let (a, b, c) = tokio::join!(place(), place(), place());
    let mut placed = Vec::new();
    for it in [a, b, c] {
        match it.status {
            201 => placed.push(it.json()),
            409 => {
                assert_eq!(it.problem().0, "idempotency.in-flight");
                assert_eq!(it.header("retry-after"), "1");
            }
            other => panic!("{other}: {it:?}"),
        }
    }
    assert!(!placed.is_empty() && placed.iter().all(|it| *it == placed[0]), "{placed:?}");
    let later = place().await;
    assert_eq!((later.status, later.json()), (201, placed[0].clone()));
    assert_eq!(shop.states().await, [("placed".to_owned(), 1)].into());
}

#[tokio::test]
async fn a_wrong_request_names_what_is_wrong_and_begins_nothing() {
    let shop = shop(settings(2000), None).await;
    let user = || as_user(&shop.life.running, ALICE);
    let good = basket(&[(1, 1)]).to_string();
    let reply = shop.life.running.post("/orders", &[user()], &good).await;
    assert_eq!((reply.status, reply.problem().0.as_str()), (400, "idempotency.key-required"));
    let reply = shop.life.running.post("/orders", &[], &good).await;
    assert_eq!(reply.status, 401, "{reply:?}");
    let items = json!([{"product_id": 900, "quantity": 0}]);
    for (body, status, fields) in [
        (json!({"items": items}), 400, vec!["address", "items[0].quantity", "items[0].product_id"]),
        (json!({"items": items, "address": ""}), 422, vec!["address", "items[0].quantity"]),
        (json!({"items": [], "address": 3, "note": 1}), 400, vec!["note", "items", "address"]),
        (basket(&[(900, 1)]), 422, vec!["items[0].product_id"]),
        (Value::Null, 400, vec!["body"]),
    ] {
        let reply = shop.place("key-1", &body).await;
        assert_eq!(reply.status, status, "{body}: {reply:?}");
        let named = reply.problem().1;
        assert!(fields.iter().all(|it| named.contains(&(*it).to_owned())), "{body}: {named:?}");
    }
    for query in ["size=0", "size=x", "before=1", "xid=ord_1", "message_id=1"] {
        assert_eq!(shop.get(ALICE, &format!("/orders?{query}")).await.status, 400, "{query}");
    }
    assert_eq!(shop.states().await, [].into());
}

/// Anybody's order is shown to services alone.
#[tokio::test]
async fn a_service_finds_an_order_by_each_of_its_ids() {
    let shop = shop(settings(2000), None).await;
    let order = shop.place("key-1", &basket(&[(1, 1)])).await.json();
    let id = order["id"].as_str().unwrap();
    assert_eq!(shop.cancel(ALICE, id).await.status, 200);
    let trail = shop.as_service(&format!("/trail?order_id={id}")).await.json();
    let by_cancel = format!("/trail?xid={}", trail["cancel_xid"].as_str().unwrap());
    assert_eq!(shop.as_service(&by_cancel).await.json()["order_id"], id);
    assert_eq!(trail["trace_id"].as_str().map(str::len), Some(32), "{trail}");
    assert_eq!(shop.get(ALICE, &by_cancel).await.status, 403);
    let none = "00000000000000000000000000000001";
    for unknown in [format!("xid=txn_{none}"), format!("message_id=msg_{none}")] {
        let reply = shop.as_service(&format!("/trail?{unknown}")).await;
        assert_eq!((reply.status, reply.problem().0.as_str()), (404, "order.unknown"));
    }
    for wrong in ["", "xid=1", "order_id=x", "message_id=ord_1", "xid=a&order_id=b"] {
        assert_eq!(shop.as_service(&format!("/trail?{wrong}")).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn the_list_goes_page_by_page() {
    let shop = shop(settings(2000), None).await;
    for number in 0..3 {
        assert_eq!(shop.place(&format!("key-{number}"), &basket(&[(1, 1)])).await.status, 201);
    }
    let first = shop.get(ALICE, "/orders?size=2").await.json();
    let next = first["next"].as_str().unwrap();
    let second = shop.get(ALICE, &format!("/orders?size=2&before={next}")).await.json();
    assert_eq!(second["items"].as_array().unwrap().len(), 1);
    assert_eq!(second.get("next"), None);
}

#[cfg(feature = "services")]
#[tokio::test]
async fn orders_on_mysql() {
    let url = tradewind::host::testing::fresh_mysql("tradewind_test_orders");
    let shop = shop_at(url, tempfile::tempdir().unwrap(), settings(2000), None).await;
    an_order_is_placed(&shop).await;
    super::cancelling::an_order_is_cancelled(&shop).await;
}
