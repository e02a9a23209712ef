//! A doubled click, and one order.

use http::StatusCode;

use crate::tour::proof::{Held, hold, same, until};
use crate::tour::scene::{Books, Order, SETTLE_LIMIT, Scene, TEA};
use crate::tour::story::span;
use crate::tour::web::Answer;

const KEY: &str = "tour-doubled";

pub(super) async fn tell(scene: &Scene<'_>) -> Held {
    let story = scene.story;
    story.chapter(
        5,
        "A doubled click, and one order",
        "Alice's finger slips: the same request goes out twice at the same time. Then a program of \
         hers uses the same key for something else.",
    );
    let before = scene.books(&scene.alice, TEA).await?;
    scene.asks_for_order(KEY, TEA, 1);
    scene.asks_for_order(KEY, TEA, 1);
    let ask = || scene.order(&scene.alice, KEY, TEA, 1);
    let (one, two) = tokio::join!(ask(), ask());
    let (one, two) = (one?, two?);
    let mut answers = Vec::new();
    for it in [&one, &two] {
        story.gets(told(it));
    }
    for it in [one, two] {
        answers.push(if it.status == StatusCode::CONFLICT {
            repeat(scene, &it).await?
        } else {
            it
        });
    }
    let order = answers.first().map(Order::read).transpose()?;
    let Some(order) = order else { return Ok(()) };
    let same_body = answers.windows(2).all(|it| matches!(it, [a, b] if a.body == b.body));
    let replayed = answers.iter().filter(|it| replayed(it)).count();
    hold(same_body, "the same answer twice", "two different ones")?;
    same("answers told again", &1, &replayed)?;
    let after = Books {
        stock: before.stock - 1,
        points: before.points + order.points,
        orders: before.orders + 1,
        ..before
    };
    scene.books_become(TEA, after).await?;
    story.sees(format!(
        "one order and one answer, {}\nstock {} -> {}, orders {} -> {}",
        order.id, before.stock, after.stock, before.orders, after.orders,
    ));
    scene.asks_for_order(KEY, TEA, 3);
    let other = scene.order(&scene.alice, KEY, TEA, 3).await?;
    other.with(StatusCode::UNPROCESSABLE_ENTITY)?;
    same("problem", "idempotency.mismatch", &other.code())?;
    story.gets(told(&other));
    scene.books_become(TEA, after).await?;
    story.held(
        "The key is claimed with a fingerprint of the request in the very transaction that begins \
         the order, and the answer is stored in the one that decides it.",
    );
    Ok(())
}

/// A key in flight is asked for again, until there is an answer.
async fn repeat(scene: &Scene<'_>, first: &Answer) -> Held<Answer> {
    same("problem", "idempotency.in-flight", &first.code())?;
    scene.asks_for_order(KEY, TEA, 1);
    let answer = until(SETTLE_LIMIT, async || {
        let answer = scene.order(&scene.alice, KEY, TEA, 1).await?;
        answer.with(StatusCode::CREATED)?;
        Ok(answer)
    })
    .await?;
    scene.story.gets(told(&answer));
    Ok(answer)
}

fn replayed(it: &Answer) -> bool {
    it.header("idempotency-replayed") == "true"
}

fn told(it: &Answer) -> String {
    let status = it.status.as_u16();
    let what = match (it.status, replayed(it)) {
        (StatusCode::CREATED, false) => "placed".to_owned(),
        (StatusCode::CREATED, true) => "the stored answer (Idempotency-Replayed: true)".to_owned(),
        (StatusCode::CONFLICT, _) => format!("{}, try again for the answer", it.code()),
        _ => it.code(),
    };
    format!("{status} in {}: {what}", span(it.took))
}
