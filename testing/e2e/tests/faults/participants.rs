//! Who takes part dies: inventory, points, warehouse, broker.

use http::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tradewind_e2e::trade::basket;
use tradewind_e2e::{Process, eventually, insist_on_cancelling, insist_on_placing, wanted};

use crate::LIMIT;
use crate::shop::{PRODUCT, Shop, ask, cancelled, id};

/// R5.1: each participant of a placing dies before its effect, and between effect and answer.
#[tokio::test]
async fn an_order_is_placed_once_however_its_participants_die() {
    let shop = Shop::open("600s").await;
    let orders = shop
        .place_through(&[
            "tcc.points.credit.try.received",
            "tcc.message.try.received",
            "tcc.inventory.reserve.try.received",
            "tcc.points.credit.try.done",
            "tcc.message.try.done",
            "tcc.inventory.reserve.try.done",
            "tcc.points.credit.confirm.received",
            "tcc.message.confirm.received",
            "tcc.inventory.reserve.confirm.received",
            "tcc.points.credit.confirm.done",
            "tcc.message.confirm.done",
            "tcc.inventory.reserve.confirm.done",
        ])
        .await;
    shop.agrees(&orders, 0).await;
}

/// R5.1: each participant of a cancelling dies before its effect, and between effect and
/// answer.
#[tokio::test]
async fn an_order_is_cancelled_once_however_its_participants_die() {
    let shop = Shop::open("600s").await;
    let deaths = [
        "tcc.points.revoke.try.received",
        "tcc.warehouse.void.try.received",
        "tcc.inventory.restock.try.received",
        "tcc.points.revoke.try.done",
        "tcc.warehouse.void.try.done",
        "tcc.inventory.restock.try.done",
        "tcc.points.revoke.confirm.received",
        "tcc.warehouse.void.confirm.received",
        "tcc.inventory.restock.confirm.received",
        "tcc.points.revoke.confirm.done",
        "tcc.warehouse.void.confirm.done",
        "tcc.inventory.restock.confirm.done",
    ];
    let orders = shop.orders(deaths.len()).await;
    shop.cancel_through(&deaths, &orders).await;
    shop.agrees(&[], i64::try_from(deaths.len()).unwrap()).await;
}

/// R5.1: an order that inventory or points refuse is undone whoever dies meanwhile.
#[tokio::test]
async fn a_refused_order_leaves_nothing_whoever_dies() {
    let shop = Shop::open("600s").await;
    let too_many = basket(PRODUCT, shop.stock + 1);
    let mut buyer = shop.buyer();
    for point in [
        "tcc.order.place.before-abort",
        "tcc.order.place.aborted",
        "tcc.points.credit.cancel.received",
        "tcc.message.cancel.received",
        "tcc.inventory.reserve.cancel.received",
        "tcc.points.credit.cancel.done",
        "tcc.message.cancel.done",
    ] {
        shop.estate.arm(point);
        let answer = insist_on_placing(&mut buyer, point, &too_many).await;
        assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.text());
        assert_eq!(answer.json()["code"], "inventory.insufficient", "{}", answer.text());
        shop.estate.died(point).await;
    }
    // Here inventory has reserved, and what it must undo is real.
    let point = "tcc.inventory.reserve.cancel.done";
    shop.estate.arm(point);
    let points = shop.running("points").await;
    points.freeze();
    let answer = ask(&mut buyer, "frozen", &basket(PRODUCT, 2)).await;
    shop.estate.died(point).await;
    points.thaw();
    let answer = answer.unwrap();
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text());
    shop.agrees(&[], 0).await;
}

/// R5.1: a cancelling that cannot go on is undone whoever dies meanwhile, and can be had later.
#[tokio::test]
async fn a_refused_cancelling_leaves_nothing_whoever_dies() {
    let shop = Shop::open("600s").await;
    let deaths = [
        "tcc.order.cancel.before-abort",
        "tcc.order.cancel.aborted",
        "tcc.points.revoke.cancel.received",
        "tcc.inventory.restock.cancel.received",
        "tcc.warehouse.void.cancel.received",
        "tcc.points.revoke.cancel.done",
        "tcc.inventory.restock.cancel.done",
        "tcc.warehouse.void.cancel.done",
    ];
    let orders = shop.orders(deaths.len()).await;
    for (point, order) in deaths.iter().zip(&orders) {
        // Nothing is armed here: who runs now does not die before it is frozen.
        let frozen = [shop.running("warehouse-a").await, shop.running("warehouse-b").await];
        frozen.iter().for_each(Process::freeze);
        shop.estate.arm(point);
        let (mut buyer, id) = (shop.buyer(), id(order));
        // Attempts run into the frozen warehouses until one is undone, or dies of it.
        eventually("the cancelling is refused", LIMIT, async || {
            let answer = buyer.post(&format!("/order/orders/{id}/cancel"), &json!({})).await;
            let code = answer.map_or(Value::Null, |it| it.json()["code"].clone());
            wanted(code, |it| it == "order.unavailable" || shop.estate.has_died(point))
        })
        .await;
        frozen.iter().for_each(Process::thaw);
        shop.estate.died(point).await;
    }
    let mut buyers = JoinSet::new();
    for order in &orders {
        let (mut buyer, id) = (shop.buyer(), id(order));
        buyers.spawn(async move { cancelled(&insist_on_cancelling(&mut buyer, &id).await) });
    }
    buyers.join_all().await;
    shop.agrees(&[], i64::try_from(deaths.len()).unwrap()).await;
}

/// R7.5: an instance of inventory dies with the lock of a product in its hand; the other sells on.
#[tokio::test]
async fn stock_is_right_when_the_owner_of_its_lock_dies() {
    let shop = Shop::open_with(&[("inventory.lock", "sql")]).await;
    let point = "tcc.inventory.reserve.try.entered";
    let orders = shop.place_through(&[point, point]).await;
    shop.agrees(&orders, 0).await;
}
