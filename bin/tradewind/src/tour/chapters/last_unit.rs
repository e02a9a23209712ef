//! The same last unit, wanted by two.

use http::StatusCode;

use crate::tour::proof::{Held, Unmet, same, until};
use crate::tour::scene::{Order, SETTLE_LIMIT, Scene};
use crate::tour::story::span;
use crate::tour::web::{Ask, list, number, text};

pub(super) async fn tell(scene: &Scene<'_>) -> Held {
    let story = scene.story;
    let (product, name) = last(scene).await?;
    story.chapter(
        6,
        "The last unit, wanted by two",
        &format!(
            "Of \"{name}\" one is left. Alice and Bob want it, and click at the same moment.",
        ),
    );
    scene.asks_for_order("tour-last-unit", product, 1);
    let ask = |buyer| scene.order(buyer, "tour-last-unit", product, 1);
    let (alice, bob) = tokio::join!(ask(&scene.alice), ask(&scene.bob));
    let mut refusals = Vec::new();
    let mut winners = 0;
    for (buyer, answer) in [(&scene.alice, alice?), (&scene.bob, bob?)] {
        let name = buyer.title();
        if answer.status == StatusCode::CREATED {
            story.gets(format!("{name}: {}", Order::read(&answer)?.told()));
            winners += 1;
        } else {
            let problem = answer.with(StatusCode::CONFLICT)?;
            let (took, code) = (span(answer.took), answer.code());
            story.gets(format!("{name}: 409 in {took}: {code}, \"{}\"", text(&problem, "detail")));
            refusals.push(code);
        }
    }
    same("winners", &1, &winners)?;
    same("refusals", "inventory.insufficient", &refusals.join(", "))?;
    until(SETTLE_LIMIT, async || same("stock", &0, &scene.stock(product).await?)).await?;
    story.sees("stock 1 -> 0, and not below");
    story.held(
        "The reservation is one statement that carries its own condition (… AND ? <= on_hand - frozen): \
         of two that run at once the database lets one find what it asks for.",
    );
    Ok(())
}

/// A product of which one is left.
async fn last(scene: &Scene<'_>) -> Held<(i64, String)> {
    for page in 1..=20 {
        let ask = Ask::get(format!("/inventory/products?size=100&page={page}"));
        let found = scene.web.send(scene.estate.ports.gateway, ask).await?.ok()?;
        let items = list(&found, "items");
        if let Some(it) = items.iter().find(|it| number(it, "available") == Ok(1)) {
            return Ok((number(it, "id")?, text(it, "name").to_owned()));
        }
        if items.is_empty() {
            break;
        }
    }
    Err(Unmet::new("a product of which one is left", "none in the catalogue"))
}
