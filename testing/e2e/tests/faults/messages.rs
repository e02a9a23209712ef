//! Who carries a message dies: producer, broker, consumer.

use crate::shop::Shop;

/// R6.3: whoever carries a message dies on every step of its way; each order ships once.
#[tokio::test]
async fn each_order_ships_once_whoever_carries_the_messages_dies() {
    let shop = Shop::open("100ms").await;
    let orders = shop
        .place_through(&[
            "message.order.placed.committed",
            "message.order.placed.received",
            "warehouse.shipped",
            "message.order.shipped.received",
            "message.order.placed.claimed",
            "message.order.placed.consumed",
            "message.order.shipped.taken",
            "message.order.shipped.consumed",
            "message.order.placed.delivered",
            "message.order.shipped.relayed",
        ])
        .await;
    shop.agrees(&orders, 0).await;
    let shipped = "SELECT COUNT(*) FROM order_header WHERE state = 'shipped'";
    let count = i64::try_from(orders.len()).unwrap();
    assert_eq!(shop.estate.count("order", shipped).unwrap(), count);
}

/// R6.3: the broker dies on the way of the second message.
#[tokio::test]
async fn each_shipment_is_told_once_however_the_broker_dies() {
    let shop = Shop::open("100ms").await;
    let orders = shop
        .place_through(&[
            "message.order.shipped.committed",
            "message.order.shipped.claimed",
            "message.order.shipped.delivered",
        ])
        .await;
    shop.agrees(&orders, 0).await;
}
