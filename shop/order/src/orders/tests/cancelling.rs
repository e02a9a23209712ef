use serde_json::json;

use super::support::*;

async fn placed(shop: &Shop, key: &str) -> String {
    let reply = shop.place(key, &basket(&[(2, 1)])).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    reply.json()["id"].as_str().unwrap().to_owned()
}

/// R5.1: an order that has not shipped is cancelled everywhere, once.
pub(super) async fn an_order_is_cancelled(shop: &Shop) {
    let id = placed(shop, "cancel-1").await;
    assert_eq!(shop.cancel("usr_2", &id).await.status, 404);
    let reply = shop.cancel(ALICE, &id).await;
    assert_eq!((reply.status, &reply.json()["state"]), (200, &json!("cancelled")), "{reply:?}");
    let payload = |action: &str| shop.seen(action, "try").last().unwrap().body["payload"].clone();
    assert_eq!(payload("warehouse.void"), json!({"order_id": id}));
    assert_eq!(payload("inventory.restock"), json!({"order_id": id}));
    assert_eq!(payload("points.revoke"), json!({"user_id": ALICE, "order_id": id, "points": 2}));
    for action in ["warehouse.void", "inventory.restock", "points.revoke"] {
        until(async || shop.seen(action, "confirm").len() == 1).await;
    }
    let again = shop.cancel(ALICE, &id).await;
    assert_eq!((again.status, again.json()), (200, reply.json()));
    assert_eq!(shop.seen("warehouse.void", "try").len(), 1);
    // Shipped all the same: never.
    assert_eq!(shop.shipped(9, &id).await.status, 422);
    assert_eq!(shop.state(&id).await, "cancelled");
    // Another that has shipped.
    let id = placed(shop, "cancel-2").await;
    // Nothing ships before that is written down; who looks has it written down.
    assert_eq!(shop.state(&id).await, "placed");
    for _ in 0..2 {
        assert_eq!(shop.shipped(1, &id).await.status, 204);
    }
    let order = shop.get(ALICE, &format!("/orders/{id}")).await.json();
    assert_eq!((&order["state"], &order["version"]), (&json!("shipped"), &json!(3)));
    assert_eq!(order["shipped_at"], "1700000000000");
    let late = shop.cancel(ALICE, &id).await;
    assert_eq!((late.status, late.problem().0.as_str()), (409, "order.shipped"));
    assert_eq!(shop.violations().await, []);
}

#[tokio::test]
async fn an_order_is_cancelled_unless_it_shipped() {
    an_order_is_cancelled(&shop(settings(2000), None).await).await;
}

#[tokio::test]
async fn a_cancellation_that_is_refused_leaves_the_order_placed() {
    refused(&shop(settings(2000), None).await).await;
}

pub(super) async fn refused(shop: &Shop) {
    let id = placed(shop, "key-1").await;
    shop.feels("warehouse.void", Some(Mood::Refuses("warehouse.already-shipped")));
    let reply = shop.cancel(ALICE, &id).await;
    assert_eq!((reply.status, reply.problem().0.as_str()), (409, "order.shipped"));
    assert_eq!(shop.state(&id).await, "placed");
    until(async || shop.seen("inventory.restock", "cancel").len() == 1).await;
    shop.feels("warehouse.void", None);
    shop.feels("points.revoke", Some(Mood::Away));
    let reply = shop.cancel(ALICE, &id).await;
    assert_eq!((reply.status, reply.problem().0.as_str()), (503, "order.unavailable"));
    assert_eq!(reply.problem().1, ["service:points"]);
    assert_eq!(shop.state(&id).await, "placed");
    shop.feels("points.revoke", None);
    assert_eq!(shop.cancel(ALICE, &id).await.status, 200);
    assert_eq!(shop.violations().await, []);
}

#[tokio::test]
async fn while_an_order_is_being_cancelled_nothing_else_happens_to_it() {
    nothing_else_happens(&shop(settings(2000), None).await).await;
}

pub(super) async fn nothing_else_happens(shop: &Shop) {
    let id = placed(shop, "key-1").await;
    shop.feels("points.revoke", Some(Mood::Hangs));
    let second = async {
        until(async || shop.state(&id).await == "cancelling").await;
        let again = shop.cancel(ALICE, &id).await;
        assert_eq!((again.status, again.problem().0.as_str()), (409, "order.cancelling"));
        assert_eq!(shop.shipped(1, &id).await.status, 425);
    };
    let (first, ()) = tokio::join!(shop.cancel(ALICE, &id), second);
    assert_eq!(first.status, 503, "{first:?}");
    assert_eq!(shop.shipped(1, &id).await.status, 204, "the message comes again");
    assert_eq!(shop.state(&id).await, "shipped");
    assert_eq!(shop.shipped(2, "ord_00000000000000000000000000000001").await.status, 422);
    assert_eq!(shop.violations().await, []);
}
