//! An instance dies, and the next order succeeds.

use std::time::Duration;

use tokio::time::Instant;

use crate::tour::estate::Process;
use crate::tour::proof::{Held, Unmet, hold, until};
use crate::tour::scene::{Order, SETTLE_LIMIT, Scene, TEA};
use crate::tour::story::span;
use crate::tour::web::{Ask, list, number};

/// How many orders follow on the kill.
const ORDERS: u8 = 5;
/// How much younger than the kill a heartbeat is to be a new process's: ages are whole milliseconds.
const ROUNDING: Duration = Duration::from_millis(5);
/// How soon the registry has noticed, at the latest.
const NOTICE_LIMIT: Duration = Duration::from_secs(10);

pub(super) async fn tell(scene: &Scene<'_>) -> Held {
    let story = scene.story;
    story.chapter(
        3,
        "An instance is killed, and the next order succeeds",
        "Inventory runs twice. One of the two is killed with no chance to say good-bye, and orders \
         go on at once, before anybody can have told anybody.",
    );
    let victim = scene.estate.process("inventory-a")?;
    story.does(format!("kill -9 {}  (inventory-a, {})", victim.pid, victim.address));
    victim.kill()?;
    let killed = Instant::now();
    scene.asks_for_order("tour-killed-1", TEA, 1);
    let (orders, noticed) = tokio::join!(orders(scene, killed), gone(scene, &victim, killed));
    let (first, rest) = orders?;
    story.gets(first);
    story.sees(rest);
    let noticed = noticed?;
    let again = scene.estate.started_again(&victim, SETTLE_LIMIT).await?;
    until(SETTLE_LIMIT, async || {
        let there = listed(scene, &victim).await?;
        hold(there.is_some(), "inventory-a registered again", "only inventory-b")
    })
    .await?;
    let back = span(killed.elapsed());
    story.sees(format!(
        "{} after the kill the registry had it off the list\n\
         {back} after the kill it was back, as process {}, and registered again",
        span(noticed),
        again.pid,
    ));
    story.held(
        "A refused or broken connection sends the caller to the next instance at once (a Try may \
         come twice, its fence counts it once); the registry learns of it and probes, instead of \
         waiting for the lease to run out; `up` starts what died.",
    );
    Ok(())
}

/// Orders one after the other; in words, the first, and the others.
async fn orders(scene: &Scene<'_>, killed: Instant) -> Held<(String, String)> {
    let mut slowest = Duration::ZERO;
    let mut first = String::new();
    let mut sent = Duration::ZERO;
    for number in 1..=ORDERS {
        let begun = Instant::now();
        if number == 1 {
            sent = begun - killed;
        }
        let key = format!("tour-killed-{number}");
        let answer = scene.order(&scene.alice, &key, TEA, 1).await?;
        let order = Order::read(&answer)?;
        if number == 1 {
            first = order.told();
        } else {
            slowest = slowest.max(answer.took);
        }
    }
    let rest = ORDERS - 1;
    let (sent, slowest) = (span(sent), span(slowest));
    let rest = format!(
        "asked {sent} after the kill; the {rest} orders after it: 201 each, the slowest in \
         {slowest}"
    );
    Ok((first, rest))
}

/// Waits until the registry has taken the dead instance off the list, or has it anew, which comes
/// after that; how long that took since the kill.
async fn gone(scene: &Scene<'_>, victim: &Process, killed: Instant) -> Held<Duration> {
    until(NOTICE_LIMIT, async || {
        let age = listed(scene, victim).await?;
        let anew = |age: Duration| age + ROUNDING < killed.elapsed();
        let noticed = age.is_none_or(anew);
        hold(noticed, "inventory-a off the list", "it is there")
    })
    .await?;
    Ok(killed.elapsed())
}

/// How old the last heartbeat of an instance is, if the registry lists it.
async fn listed(scene: &Scene<'_>, it: &Process) -> Held<Option<Duration>> {
    let ask = Ask::get("/tradewind/v1/instances/inventory");
    let all = scene.web.send(scene.estate.ports.registry, ask).await?.ok()?;
    let port = i64::from(it.address.port());
    let Some(found) = list(&all, "instances").iter().find(|it| number(it, "port") == Ok(port))
    else {
        return Ok(None);
    };
    let why = found.get("why").ok_or_else(|| Unmet::new("why it is listed", found))?;
    let age = u64::try_from(number(why, "last_heartbeat_age_ms")?).unwrap_or(0);
    Ok(Some(Duration::from_millis(age)))
}
