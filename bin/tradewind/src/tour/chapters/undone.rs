//! Points do not answer, and everything is undone.

use http::StatusCode;
use tokio::time::Instant;

use crate::tour::proof::{Held, hold, until};
use crate::tour::scene::{Books, Order, SETTLE_LIMIT, Scene, TEA};
use crate::tour::story::span;
use crate::tour::web::text;

/// What an answer may take beyond the limit of placing an order: the way through the gateway, and
/// a machine that does other things as well.
const SLACK: std::time::Duration = std::time::Duration::from_secs(1);

pub(super) async fn tell(scene: &Scene<'_>) -> Held {
    let story = scene.story;
    story.chapter(
        2,
        "Points fail, and everything is undone",
        "The points service is frozen in its tracks: its connections stay open, and nobody answers \
         on them. An order that needs it must fail in time, say why, and leave nothing behind.",
    );
    let before = scene.books(&scene.alice, TEA).await?;
    let points = scene.estate.process("points")?;
    story.does(format!("kill -STOP {}  (points, {})", points.pid, points.address));
    let frozen = points.freeze()?;
    scene.asks_for_order("tour-undone", TEA, 1);
    let refused = scene.order(&scene.alice, "tour-undone", TEA, 1).await?;
    let problem = refused.with(StatusCode::SERVICE_UNAVAILABLE)?;
    let detail = text(&problem, "detail");
    story.gets(format!("503 in {}: \"{detail}\"", span(refused.took)));
    hold(detail.contains("points"), "a refusal that names points", detail)?;
    let limit = scene.place_limit + SLACK;
    hold(refused.took <= limit, format!("an answer within {}", span(limit)), span(refused.took))?;
    let stock = until(SETTLE_LIMIT, async || {
        let stock = scene.stock(TEA).await?;
        hold(stock == before.stock, format!("{} in stock", before.stock), stock)?;
        Ok(stock)
    })
    .await?;
    story.sees(format!("stock {stock}, as before: what was reserved is free again"));
    story.does(format!("kill -CONT {}", points.pid));
    drop(frozen);
    let thawed = Instant::now();
    scene.books_become(TEA, before).await?;
    story.sees(format!("{}, as before", before.told()));

    story.tells("\n   Alice tries again with the same key, now that points answer.\n");
    scene.asks_for_order("tour-undone", TEA, 1);
    let order = until(SETTLE_LIMIT, async || {
        Order::read(&scene.order(&scene.alice, "tour-undone", TEA, 1).await?)
    })
    .await?;
    let back = span(thawed.elapsed());
    story.gets(order.told());
    let after = Books {
        stock: before.stock - 1,
        points: before.points + order.points,
        orders: before.orders + 1,
        ..before
    };
    scene.books_become(TEA, after).await?;
    story.sees(format!("orders work again, {back} after the thaw\n{}", after.told()));
    story.held(
        "The transaction was aborted durably and every Try cancelled; a Try that the points \
         service finds in its queue when it wakes is past its deadline, and the fence lets none in \
         after its Cancel.",
    );
    Ok(())
}
