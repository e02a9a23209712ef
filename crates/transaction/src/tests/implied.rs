//! Transactions that are committed as soon as they are tried: TX-5, whoever dies when.

use std::time::Duration;

use serde_json::json;
use tradewind_sql::{Error, Transaction, TransactionError};

use super::on_each_database;
use super::support::{Kind, World, until};
use crate::engine::faults::Point;
use crate::engine::{Declaration, Tried};
use crate::wire::Decision;
use crate::{Decided, Engine, LogError};

const SECONDS: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_millis(300);

const TRIED: u8 = 1;
const ROLLED_BACK: u8 = 3;
const SUSPENDED: u8 = 4;

on_each_database! {
    /// R5.3
    what_was_answered_before_a_death_is_committed_after_it,
    /// R5.3
    a_branch_that_was_not_tried_is_closed_and_the_transaction_aborted,
    while_a_participant_is_away_nothing_is_decided,
    another_attempt_gives_up_only_what_was_not_tried,
    who_began_it_may_abort_it_at_once,
    it_is_never_too_late_to_write_down_what_is_committed,
    nothing_implied_begins_that_nobody_else_could_commit,
}

fn declare(world: &World, count: i64, limit: Duration) -> Declaration {
    world.declare_as("implied", count, limit).implied()
}

/// A Try reaches one of the two.
async fn only_stock_is_tried(world: &World, it: &Declaration) {
    let reply = world.stock.send("try", "order", &body(it, 1)).await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

fn body(it: &Declaration, branch: u16) -> serde_json::Value {
    json!({"xid": it.xid(), "branch": branch, "initiator": "order",
        "deadline_ms": it.deadline().millis(), "payload": {"id": 1, "count": 2}})
}

async fn resume(world: &World, engine: &Engine, it: &Declaration) -> Declaration {
    let (engine, xid) = (engine.clone(), it.xid());
    let work = move |tx: &mut Transaction<'_>| engine.resume(tx, xid);
    world.orders.read::<_, Error, _>("resume", work).await.unwrap().unwrap()
}

async fn what_was_answered_before_a_death_is_committed_after_it(kind: Kind) {
    for point in [None, Some(Point::BeforeTimeout), Some(Point::AfterTimeout)] {
        let world = World::new(kind).await;
        let it = declare(&world, 2, SOON);
        world.begin(&it).await;
        assert_eq!(world.engine.try_all(&it).await, Tried::Reserved);
        assert!(it.may_answer(), "here somebody is told that it is placed");
        if let Some(point) = point {
            world.engine.crash_at(point);
            until(async || world.engine.crashed()).await;
        } else {
            world.engine.crash();
        }
        let after = world.another_engine();
        world.all_finished().await;
        world.both_hold((8, 0, 2)).await;
        assert_eq!(world.order(it.xid()).await, ("placed".to_owned(), 0), "{point:?}");
        let outcome = after.outcome(it.xid()).await.unwrap();
        assert_eq!(outcome.decision, Decision::Committed);
    }
}

async fn a_branch_that_was_not_tried_is_closed_and_the_transaction_aborted(kind: Kind) {
    let world = World::new(kind).await;
    let it = declare(&world, 2, SOON);
    world.begin(&it).await;
    only_stock_is_tried(&world, &it).await;
    world.engine.crash();
    let _after = world.another_engine();
    world.all_finished().await;
    world.both_hold((10, 0, 0)).await;
    assert_eq!(world.order(it.xid()).await, ("cancelled".to_owned(), 1));
    let fences = (world.stock.fence(it.xid(), 1).await, world.points.fence(it.xid(), 2).await);
    assert_eq!(fences, (ROLLED_BACK, SUSPENDED));
    let late = world.points.send("try", "order", &body(&it, 2)).await;
    assert_eq!((late.status, late.json()["code"].as_str()), (409, Some("tcc.suspended")));
}

async fn while_a_participant_is_away_nothing_is_decided(kind: Kind) {
    let world = World::new(kind).await;
    let it = declare(&world, 2, SOON);
    world.begin(&it).await;
    assert_eq!(world.engine.try_all(&it).await, Tried::Reserved);
    world.points_is_down();
    world.engine.crash();
    let after = world.another_engine();
    until(async || {
        let stuck = after.stuck().await.unwrap().branches;
        stuck.iter().any(|it| (it.branch, it.decision) == (2, Decision::Undecided))
    })
    .await;
    let outcome = after.outcome(it.xid()).await.unwrap();
    assert_eq!(outcome.decision, Decision::Undecided, "also for one who holds a reservation");
    assert_eq!(world.goods().await, [(8, 2, 0), (8, 2, 0)]);
    world.everybody_is_up();
    world.all_finished().await;
    world.both_hold((8, 0, 2)).await;
    assert_eq!(world.order(it.xid()).await, ("placed".to_owned(), 0));
}

async fn another_attempt_gives_up_only_what_was_not_tried(kind: Kind) {
    let world = World::new(kind).await;
    let it = declare(&world, 2, SECONDS);
    world.begin(&it).await;
    assert_eq!(world.engine.try_all(&it).await, Tried::Reserved);
    let other = resume(&world, &world.engine, &it).await;
    assert!(!other.may_answer(), "a decision comes first where somebody else may have answered");
    let decided = world.engine.decide_abort(&other, "no time").await;
    assert!(matches!(decided, Decided::Commit(_)), "{decided:?}");
    assert_eq!(world.stock.fence(it.xid(), 1).await, TRIED, "a closed branch keeps what it holds");
    world.commit(it.xid()).await.unwrap();
    world.all_finished().await;
    world.both_hold((8, 0, 2)).await;

    let it = declare(&world, 2, SECONDS);
    world.begin(&it).await;
    only_stock_is_tried(&world, &it).await;
    let other = resume(&world, &world.engine, &it).await;
    world.points_is_down();
    let decided = world.engine.decide_abort(&other, "no time").await;
    assert_eq!(decided, Decided::Unknown, "who is not heard may hold its part");
    world.everybody_is_up();
    world.engine.give_up(&other, "no time").await.unwrap();
    // The first attempt is still at it, and hears that it is too late.
    let tried = world.engine.try_all(&it).await;
    assert!(matches!(tried, Tried::Refused { .. }), "{tried:?}");
    world.all_finished().await;
    world.both_hold((8, 0, 2)).await;
    assert_eq!(world.order(it.xid()).await, ("cancelled".to_owned(), 1));
}

async fn who_began_it_may_abort_it_at_once(kind: Kind) {
    let world = World::new(kind).await;
    let it = declare(&world, 11, SECONDS);
    world.begin(&it).await;
    let tried = world.engine.try_all(&it).await;
    assert!(matches!(tried, Tried::Refused { .. }), "{tried:?}");
    world.points_is_down();
    world.engine.give_up(&it, "too few").await.unwrap();
    assert_eq!(world.order(it.xid()).await, ("cancelled".to_owned(), 1), "nobody had to be asked");
    world.everybody_is_up();
    world.all_finished().await;
    world.both_hold((10, 0, 0)).await;
}

async fn it_is_never_too_late_to_write_down_what_is_committed(kind: Kind) {
    let world = World::new(kind).await;
    world.engine.crash();
    let it = declare(&world, 2, SOON);
    world.begin(&it).await;
    assert_eq!(world.engine.try_all(&it).await, Tried::Reserved);
    until(async || it.deadline() < world.clock.now()).await;
    world.commit(it.xid()).await.unwrap();
    let _after = world.another_engine();
    world.all_finished().await;
    world.both_hold((8, 0, 2)).await;
}

async fn nothing_implied_begins_that_nobody_else_could_commit(kind: Kind) {
    let world = World::new(kind).await;
    let it = world.declare(2, SECONDS).implied();
    let (engine, declared) = (world.engine.clone(), it.clone());
    let begin = move |tx: &mut Transaction<'_>| engine.begin(tx, &declared);
    let begun = world.orders.transaction("begin", begin).await;
    assert!(matches!(begun, Err(TransactionError::Refused(LogError::Own { .. }))), "{begun:?}");
}
