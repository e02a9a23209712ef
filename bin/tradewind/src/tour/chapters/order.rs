//! An order, from the click to the shipment.

use serde_json::Value;

use crate::tour::proof::{Held, hold, same, until};
use crate::tour::scene::{Books, Order, SETTLE_LIMIT, Scene, TEA};
use crate::tour::story::span;
use crate::tour::web::{list, number, text};

/// How many are bought.
const QUANTITY: i64 = 2;

pub(super) async fn tell(scene: &Scene<'_>) -> Held {
    let story = scene.story;
    story.chapter(
        1,
        "An order",
        "Alice buys two packets of tea. One request changes four databases: the order, the stock, \
         her points, and the message that makes the warehouse ship. All of it happens, or none.",
    );
    let before = scene.books(&scene.alice, TEA).await?;
    let order = scene.placed("tour-order", TEA, QUANTITY).await?;
    scene.shipped(&order).await?;
    let after = Books {
        stock: before.stock - QUANTITY,
        points: before.points + order.points,
        orders: before.orders + 1,
        ..before
    };
    scene.books_become(TEA, after).await?;
    story.sees(format!(
        "stock   {} -> {}\npoints  {} -> {}",
        before.stock, after.stock, before.points, after.points,
    ));
    let trail = scene.shop(&scene.alice, &format!("/order/orders/{}/trail", order.id)).await?;
    story.sees(timeline(&trail)?);
    joined(scene, &order, &trail).await?;
    story.sees(format!(
        "the same ids in the order, the points' ledger, the broker and the warehouse:\n\
         order        {}\n\
         transaction  {}\n\
         message      {}",
        order.id, order.xid, order.message,
    ));
    story.held(
        "Each service reserved first (Try), one local transaction of the order service decided, \
         and only then was anything used (Confirm).",
    );
    Ok(())
}

/// The events of an order, with the time since the first.
fn timeline(trail: &Value) -> Held<String> {
    let events = list(trail, "events");
    let mut steps = Vec::with_capacity(events.len());
    let begun = events.first().map_or(Ok(0), |it| number(it, "at_ms"))?;
    for it in events {
        let after = u64::try_from(number(it, "at_ms")? - begun).unwrap_or(0);
        let after = span(std::time::Duration::from_millis(after));
        steps.push(format!("{} at {after}", text(it, "to")));
    }
    let states: Vec<_> = events.iter().map(|it| text(it, "to")).collect();
    same("events", "placing, placed, shipped", &states.join(", "))?;
    Ok(steps.join(", "))
}

/// Holds that all databases tell of the same order, transaction and message.
async fn joined(scene: &Scene<'_>, order: &Order, trail: &Value) -> Held {
    same("phase", "committed", text(trail, "phase"))?;
    same("transaction of the trail", order.xid.as_str(), text(trail, "xid"))?;
    same("message of the trail", order.message.as_str(), text(trail, "message_id"))?;
    let ledger = scene.shop(&scene.alice, "/points/accounts/me/ledger?size=100").await?;
    let mut rows = list(&ledger, "items").iter().filter(|it| text(it, "order_id") == order.id);
    let credit = rows.next().unwrap_or(&Value::Null);
    same("transaction in the ledger", order.xid.as_str(), text(credit, "xid"))?;
    hold(rows.next().is_none(), "one row in the ledger", "two")?;
    let outbound = scene.warehouse(&format!("/outbound/{}", order.id)).await?;
    same("transaction of the outbound order", order.xid.as_str(), text(&outbound, "xid"))?;
    same("message of the outbound order", order.message.as_str(), text(&outbound, "message_id"))?;
    // The broker writes the acknowledgement down after the warehouse has acted.
    until(SETTLE_LIMIT, async || {
        let message = scene.message(&order.message).await?;
        same("subject of the message", order.id.as_str(), text(&message, "key"))?;
        same("transaction of the message", order.xid.as_str(), text(&message, "xid"))?;
        let states = list(&message, "deliveries").iter().map(|it| text(it, "state"));
        let states: Vec<_> = states.collect();
        same("deliveries", "delivered", &states.join(", "))
    })
    .await
}
