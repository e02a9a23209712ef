//! The initiator dies between any two steps; answers are lost; others take over.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tradewind_sql::{Dialect, Error, Transaction, TransactionError};

use super::on_each_database;
use super::support::{Begin, Kind, World, quick, until};
use crate::LogError;
use crate::engine::faults::Point;
use crate::engine::{Settings, Tried};
use crate::wire::Decision;

const SECONDS: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_millis(300);

on_each_database! {
    a_death_after_begin_or_after_try_ends_in_an_abort,
    a_transaction_whose_caller_died_can_be_resumed,
    a_death_after_the_decision_ends_as_decided,
    a_death_of_the_driver_at_any_point_is_taken_over,
    lost_answers_change_nothing_but_the_number_of_calls,
    two_engines_share_the_log_and_one_takes_over_from_the_dead,
    participants_settle_by_asking_when_nobody_drives,
    trys_beside_a_begin_reserve_as_trys_after_it,
    what_was_tried_beside_something_else_is_given_back,
    what_was_tried_for_a_lost_begin_is_given_back_by_asking,
    a_driver_without_its_lease_changes_nothing,
    an_engine_that_ends_in_order_lets_its_shards_go,
}

async fn a_death_after_begin_or_after_try_ends_in_an_abort(kind: Kind) {
    for tries in [false, true] {
        let world = World::new(kind).await;
        let declaration = world.declare(2, SOON);
        world.begin(&declaration).await;
        if tries {
            assert_eq!(world.engine.try_all(&declaration).await, Tried::Reserved);
        }
        world.engine.crash();
        let after = world.another_engine();
        world.all_finished().await;
        world.both_hold((10, 0, 0)).await;
        assert_eq!(world.order(declaration.xid()).await, ("cancelled".to_owned(), 1));
        let outcome = after.outcome(declaration.xid()).await.unwrap();
        assert_eq!(outcome.decision, Decision::Aborted);
    }
}

async fn a_transaction_whose_caller_died_can_be_resumed(kind: Kind) {
    let world = World::new(kind).await;
    let declaration = world.declare(2, SECONDS);
    let xid = declaration.xid();
    world.begin(&declaration).await;
    assert_eq!(world.engine.try_all(&declaration).await, Tried::Reserved);
    drop(declaration);
    world.engine.crash();
    let other = world.another_engine();
    let resume = async || {
        let other = other.clone();
        let work = move |tx: &mut Transaction<'_>| other.resume(tx, xid);
        world.orders.read::<_, Error, _>("resume", work).await.unwrap()
    };
    let resumed = resume().await.unwrap();
    assert_eq!(other.try_all(&resumed).await, Tried::Reserved);
    assert_eq!(world.goods().await, [(8, 2, 0), (8, 2, 0)]);
    world.commit(xid).await.unwrap();
    world.all_finished().await;
    assert_eq!(world.goods().await, [(8, 0, 2), (8, 0, 2)]);
    assert!(resume().await.is_none(), "what is decided is not tried again");
}

async fn a_death_after_the_decision_ends_as_decided(kind: Kind) {
    for commits in [false, true] {
        let world = World::new(kind).await;
        let declaration = world.declare(2, SECONDS);
        let xid = declaration.xid();
        world.begin(&declaration).await;
        assert_eq!(world.engine.try_all(&declaration).await, Tried::Reserved);
        world.engine.crash();
        if commits {
            world.commit(xid).await.unwrap();
        } else {
            world.engine.abort_now(xid, "the caller left").await.unwrap();
        }
        let _after = world.another_engine();
        world.all_finished().await;
        world.both_hold(if commits { (8, 0, 2) } else { (10, 0, 0) }).await;
        let state = if commits { ("placed".to_owned(), 0) } else { ("cancelled".to_owned(), 1) };
        assert_eq!(world.order(xid).await, state);
    }
}

async fn a_death_of_the_driver_at_any_point_is_taken_over(kind: Kind) {
    let points = [
        Point::BeforeTimeout,
        Point::AfterTimeout,
        Point::BeforeSend,
        Point::AfterSend,
        Point::BeforeFinish,
    ];
    for point in points {
        let world = World::new(kind).await;
        world.engine.crash_at(point);
        let declaration = world.declare(2, SOON);
        let xid = declaration.xid();
        world.begin(&declaration).await;
        assert_eq!(world.engine.try_all(&declaration).await, Tried::Reserved);
        let commits = !matches!(point, Point::BeforeTimeout | Point::AfterTimeout);
        if commits {
            world.commit(xid).await.unwrap();
            world.engine.settle(xid);
        }
        until(async || world.engine.crashed()).await;
        let _after = world.another_engine();
        world.all_finished().await;
        world.both_hold(if commits { (8, 0, 2) } else { (10, 0, 0) }).await;
        let cancels = world.order(xid).await.1;
        assert_eq!(cancels, u32::from(!commits), "{point:?}: the own branch is cancelled once");
    }
}

async fn lost_answers_change_nothing_but_the_number_of_calls(kind: Kind) {
    let world = World::new(kind).await;
    let lose = |yes| world.stock.mischief.lose.store(yes, Ordering::SeqCst);
    // The Try takes effect, its answer is lost, the repeat is answered.
    lose(true);
    let healed = async {
        until(async || world.goods().await == [(8, 2, 0), (8, 2, 0)]).await;
        lose(false);
    };
    let ((_, tried), ()) = tokio::join!(world.place(2, SECONDS), healed);
    assert_eq!(tried, Tried::Reserved);
    world.both_hold((8, 0, 2)).await;
    world.all_finished().await;
    // The same with the Confirm.
    let declaration = world.declare(3, SECONDS);
    world.begin(&declaration).await;
    assert_eq!(world.engine.try_all(&declaration).await, Tried::Reserved);
    lose(true);
    world.commit(declaration.xid()).await.unwrap();
    world.engine.settle(declaration.xid());
    world.both_hold((5, 0, 5)).await;
    until(async || {
        let count = |tx: &mut Transaction<'_>| {
            let sql = "SELECT COUNT(*) FROM tradewind_tcc WHERE stuck = 1";
            Ok::<_, Error>(tx.query_one(sql, &[], |row| row.get::<i64>(0))?.unwrap_or(0))
        };
        world.orders.read("count", count).await.unwrap() == 1
    })
    .await;
    lose(false);
    world.all_finished().await;
    assert_eq!(world.goods().await, [(5, 0, 5), (5, 0, 5)]);
    assert_eq!(world.stock.mischief.effects.load(Ordering::SeqCst), 2);
}

/// How many different owners hold a lease.
async fn owners(world: &World) -> i64 {
    let count = |tx: &mut Transaction<'_>| {
        let sql = "SELECT COUNT(DISTINCT owner) FROM tradewind_tcc_shard WHERE until_ms > 0";
        Ok::<_, Error>(tx.query_one(sql, &[], |row| row.get::<i64>(0))?.unwrap_or(0))
    };
    world.orders.read("owners", count).await.unwrap()
}

async fn two_engines_share_the_log_and_one_takes_over_from_the_dead(kind: Kind) {
    let world = World::new(kind).await;
    until(async || owners(&world).await == 1).await;
    let other = world.another_engine();
    until(async || owners(&world).await == 2).await;
    for _ in 0..4 {
        assert_eq!(world.place(1, SECONDS).await.1, Tried::Reserved);
    }
    world.all_finished().await;
    world.engine.crash();
    let declaration = world.declare(2, SECONDS);
    world.begin(&declaration).await;
    assert_eq!(world.engine.try_all(&declaration).await, Tried::Reserved);
    world.commit(declaration.xid()).await.unwrap();
    until(async || owners(&world).await == 1).await;
    world.all_finished().await;
    world.both_hold((4, 0, 6)).await;
    assert!(!other.crashed());
}

async fn participants_settle_by_asking_when_nobody_drives(kind: Kind) {
    let world = World::new(kind).await;
    let (used, released) = (world.declare(2, SOON), world.declare(3, SOON));
    for declaration in [&used, &released] {
        world.begin(declaration).await;
        assert_eq!(world.engine.try_all(declaration).await, Tried::Reserved);
    }
    world.engine.crash();
    world.commit(used.xid()).await.unwrap();
    world.engine.abort_now(released.xid(), "the caller left").await.unwrap();
    world.resolvers();
    world.both_hold((8, 0, 2)).await;
    // Whoever drives the log later finds that all is done.
    let _after = world.another_engine();
    world.all_finished().await;
    assert_eq!(world.goods().await, [(8, 0, 2), (8, 0, 2)]);
}

/// Whether Trys are sent beside a begin.
fn hurries(world: &World) -> bool {
    world.orders.dialect() == Dialect::Sqlite
}

async fn trys_beside_a_begin_reserve_as_trys_after_it(kind: Kind) {
    let world = World::new(kind).await;
    world.one_began().await;
    let declaration = world.declare(2, SECONDS);
    let (begun, tried) = world.begin_and_try(&declaration, Begin::Durable).await;
    assert!(begun.unwrap());
    let tried = match tried {
        Some(tried) => tried,
        None => {
            assert!(!hurries(&world));
            world.engine.try_all(&declaration).await
        }
    };
    assert_eq!(tried, Tried::Reserved);
    world.commit(declaration.xid()).await.unwrap();
    world.engine.settle(declaration.xid());
    world.all_finished().await;
    assert_eq!(world.goods().await, [(8, 0, 2), (8, 0, 2)]);
    // Beside a begin that does not take place it means nothing.
    let (begun, tried) = world.begin_and_try(&declaration, Begin::Durable).await;
    assert!(matches!(begun, Err(TransactionError::Refused(LogError::Taken { .. }))), "{begun:?}");
    assert_eq!(tried, None);
    assert_eq!(world.goods().await, [(8, 0, 2), (8, 0, 2)]);
}

async fn what_was_tried_beside_something_else_is_given_back(kind: Kind) {
    let world = World::new(kind).await;
    world.one_began().await;
    let all = if hurries(&world) { 2 } else { 0 };
    // Before anything of it has had an effect, and after all has.
    for end in [
        Begin::Another { reserved: 0 },
        Begin::Another { reserved: all },
        Begin::Late { reserved: all },
    ] {
        let declaration = world.declare(2, SECONDS);
        let (begun, tried) = world.begin_and_try(&declaration, end).await;
        assert!(!begun.unwrap_or(false));
        assert_eq!(tried, None);
        // Nobody has to ask.
        world.all_finished().await;
        assert_eq!(world.goods().await, [(10, 0, 0), (10, 0, 0)]);
        let outcome = world.engine.outcome(declaration.xid()).await.unwrap();
        assert_eq!(outcome.decision, Decision::Aborted);
        assert_eq!(world.order(declaration.xid()).await, (String::new(), 0));
    }
}

async fn what_was_tried_for_a_lost_begin_is_given_back_by_asking(kind: Kind) {
    let world = World::new(kind).await;
    world.one_began().await;
    let declaration = world.declare(2, SOON);
    let reserved = if hurries(&world) { 2 } else { 0 };
    let (begun, _) = world.begin_and_try(&declaration, Begin::Lost { reserved }).await;
    assert!(begun.is_err());
    if hurries(&world) {
        world.both_hold((8, 2, 0)).await;
    }
    world.resolvers();
    world.both_hold((10, 0, 0)).await;
    // What fails once may fail again: the next one waits until it has begun.
    let next = world.declare(2, SOON);
    assert_eq!(world.begin_and_try(&next, Begin::Lost { reserved: 0 }).await.1, None);
    assert_eq!(world.stock.fence(next.xid(), 1).await, 0);
    let outcome = world.engine.outcome(declaration.xid()).await.unwrap();
    assert_eq!(outcome.decision, Decision::Aborted);
    // A begin that was only slow comes too late, whatever the hour.
    let declaration = world.declare(2, SECONDS);
    let outcome = world.engine.outcome(declaration.xid()).await.unwrap();
    assert_eq!(outcome.decision, Decision::Aborted);
    let (begun, tried) = world.begin_and_try(&declaration, Begin::Durable).await;
    assert!(matches!(begun, Err(TransactionError::Refused(LogError::Taken { .. }))), "{begun:?}");
    assert_eq!(tried, None);
}

async fn a_driver_without_its_lease_changes_nothing(kind: Kind) {
    // Its own view of the lease lasts for an hour; the database gives the shards to another.
    let settings = Settings { lease: Duration::from_secs(3600), ..quick() };
    let world = World::with(kind, settings).await;
    until(async || owners(&world).await == 1).await;
    let steal = |tx: &mut Transaction<'_>| {
        tx.execute("UPDATE tradewind_tcc_shard SET epoch = epoch + 1", &[])
    };
    let declaration = world.declare(2, SOON);
    world.begin(&declaration).await;
    world.orders.transaction("steal", steal).await.unwrap();
    until(async || declaration.deadline() + SOON < world.clock.now()).await;
    assert_eq!(world.order(declaration.xid()).await, ("pending".to_owned(), 0));
    let free = |tx: &mut Transaction<'_>| {
        tx.execute("UPDATE tradewind_tcc_shard SET until_ms = 0", &[])?;
        tx.execute("DELETE FROM tradewind_tcc_driver", &[])
    };
    world.orders.transaction("free", free).await.unwrap();
    let _after = world.another_engine();
    world.all_finished().await;
    assert_eq!(world.order(declaration.xid()).await, ("cancelled".to_owned(), 1));
}

async fn an_engine_that_ends_in_order_lets_its_shards_go(kind: Kind) {
    let world = World::new(kind).await;
    until(async || owners(&world).await == 1).await;
    assert_eq!(world.place(2, SECONDS).await.1, Tried::Reserved);
    world.both_hold((8, 0, 2)).await;
    world.tasks.shutdown(SECONDS).await.unwrap();
    assert_eq!(owners(&world).await, 0);
}
