//! An acknowledgement is lost, and there is one shipment.

use crate::tour::proof::{Held, same, until};
use crate::tour::scene::{SETTLE_LIMIT, Scene, TEA};
use crate::tour::story::span;
use crate::tour::web::{list, number, text};

pub(super) async fn tell(scene: &Scene<'_>) -> Held {
    let story = scene.story;
    story.chapter(
        4,
        "An acknowledgement is lost, and there is one shipment",
        "The warehouse takes the message of an order and says so, but its answer never arrives. \
         The broker cannot know whether it was taken, so it must deliver again.",
    );
    scene.all_shipped().await?;
    let before = outbound(scene).await?;
    story.does("the wire between broker and warehouse loses the next answer");
    scene.wire.lose_next_answer();
    let order = scene.placed("tour-lost-ack", TEA, 1).await?;
    let (deliveries, attempts) = until(SETTLE_LIMIT, async || {
        let message = scene.message(&order.message).await?;
        let delivery = list(&message, "deliveries").first().unwrap_or(&message);
        same("the delivery", "delivered", text(delivery, "state"))?;
        Ok((scene.wire.deliveries(&order.message), number(delivery, "attempts")?))
    })
    .await?;
    let Some(first) = deliveries.first() else {
        return same("deliveries seen on the wire", &2, &0);
    };
    let mut told = vec![format!("{}, two attempts:", order.message)];
    for (index, it) in deliveries.iter().enumerate() {
        let (number, process, status) = (index + 1, it.process, it.status);
        let lost = if it.lost { ": lost on the wire" } else { "" };
        let after = match index {
            0 => String::new(),
            _ => format!(", {} later", span(it.at - first.at)),
        };
        told.push(format!("{number}  {process} answered {status}{after}{lost}"));
    }
    same("deliveries seen on the wire", &2, &deliveries.len())?;
    same("attempts counted by the broker", &2, &attempts)?;
    same("answers lost", &1, &deliveries.iter().filter(|it| it.lost).count())?;
    story.sees(told.join("\n"));
    scene.shipped(&order).await?;
    let after = outbound(scene).await?;
    same("outbound orders", &(before + 1), &after)?;
    let trail = scene.shop(&scene.alice, &format!("/order/orders/{}/trail", order.id)).await?;
    let ships = list(&trail, "events").iter().filter(|it| text(it, "step") == "ship").count();
    same("shipments of the order", &1, &ships)?;
    story.sees(format!("outbound orders {before} -> {after}; the order shipped once"));
    story.held(
        "The warehouse remembers the message's id in the transaction that writes the outbound \
         order: whichever process gets the repeat finds it there, acknowledges, and does no more.",
    );
    Ok(())
}

/// How many outbound orders there are.
async fn outbound(scene: &Scene<'_>) -> Held<i64> {
    number(&scene.warehouse("/outbound?size=1").await?, "total")
}
