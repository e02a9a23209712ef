//! The way of a transaction from end to end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tradewind_sql::TransactionError;

use super::on_each_database;
use super::support::{Kind, World, quick, until};
use crate::LogError;
use crate::engine::{Settings, Tried};
use crate::machine::global::Refused;
use crate::wire::Decision;

const SECONDS: Duration = Duration::from_secs(5);

on_each_database! {
    /// R5.1
    a_committed_transaction_confirms_every_branch,
    the_caller_waits_for_three_durable_steps,
    a_refusal_names_its_reason_and_undoes_everything,
    /// R5.1
    a_participant_that_is_down_fails_the_transaction_in_time,
    an_action_that_does_not_exist_is_refused_at_once,
    the_last_unit_goes_to_one_of_two,
    many_at_once_take_no_more_than_there_is,
    a_commit_after_the_deadline_is_refused_and_the_time_out_undoes_all,
    an_abort_after_a_commit_is_refused_and_changes_nothing,
    a_branch_that_is_not_ready_is_asked_again_within_the_limit,
    an_unknown_transaction_is_aborted_for_ever,
    a_branch_that_keeps_failing_is_on_the_list_until_it_works,
    an_own_branch_that_cannot_be_cancelled_is_on_the_list_until_it_can,
    whoever_asks_after_the_deadline_gets_a_decision,
}

async fn a_committed_transaction_confirms_every_branch(kind: Kind) {
    let world = World::new(kind).await;
    let (xid, tried) = world.place(2, SECONDS).await;
    assert_eq!(tried, Tried::Reserved);
    world.both_hold((8, 0, 2)).await;
    assert_eq!(world.order(xid).await, ("placed".to_owned(), 0));
    assert_eq!(world.engine.outcome(xid).await.unwrap().decision, Decision::Committed);
    world.all_finished().await;
    assert!(world.engine.stuck().await.unwrap().branches.is_empty());
}

async fn the_caller_waits_for_three_durable_steps(kind: Kind) {
    // Nothing in the background writes meanwhile.
    let still = Duration::from_secs(3600);
    let settings = Settings { lease: still, poll: still, ..quick() };
    let world = World::with(kind, settings).await;
    let held = || world.orders.stats().closures;
    let mut before = held();
    until(async || {
        let now = held();
        let same = before == now && 2 <= now;
        before = now;
        same
    })
    .await;
    let participants = || [&world.stock, &world.points].map(|it| it.database.stats().closures);
    let (orders, others) = (held(), participants());
    let declaration = world.declare(2, SECONDS);
    world.begin(&declaration).await;
    assert_eq!(world.engine.try_all(&declaration).await, Tried::Reserved);
    world.commit(declaration.xid()).await.unwrap();
    assert_eq!(held() - orders, 2, "begin, and decision");
    assert_eq!(participants(), others.map(|it| it + 1), "one each, at the same time");
}

async fn a_refusal_names_its_reason_and_undoes_everything(kind: Kind) {
    let world = World::new(kind).await;
    let (xid, tried) = world.place(11, SECONDS).await;
    let Tried::Refused { problem, .. } = tried else { panic!("{tried:?}") };
    assert_eq!((&*problem.code, &*problem.detail), ("stock.short", "too few are left"));
    assert_eq!(problem.errors[0].field, "count");
    world.all_finished().await;
    world.both_hold((10, 0, 0)).await;
    assert_eq!(world.order(xid).await, ("cancelled".to_owned(), 1));
    assert_eq!(world.engine.outcome(xid).await.unwrap().decision, Decision::Aborted);
}

async fn a_participant_that_is_down_fails_the_transaction_in_time(kind: Kind) {
    let world = World::new(kind).await;
    world.points_is_down();
    let start = world.clock.monotonic();
    let (xid, tried) = world.place(2, Duration::from_millis(500)).await;
    assert!(world.clock.monotonic() - start < Duration::from_secs(2));
    let Tried::Unavailable { service, problem, .. } = tried else { panic!("{tried:?}") };
    assert_eq!((&*service, problem.status.as_u16()), ("points", 503));
    until(async || world.stock.goods().await == (10, 0, 0)).await;
    assert_eq!(world.order(xid).await, ("cancelled".to_owned(), 1));
    world.everybody_is_up();
    world.all_finished().await;
    world.both_hold((10, 0, 0)).await;
    // The branch that never heard of it remembers the Cancel.
    assert_eq!((world.stock.fence(xid, 1).await, world.points.fence(xid, 2).await), (3, 4));
    let (_, tried) = world.place(2, SECONDS).await;
    assert_eq!(tried, Tried::Reserved, "it works again");
}

async fn an_action_that_does_not_exist_is_refused_at_once(kind: Kind) {
    let world = World::new(kind).await;
    let declaration = world.declare(2, SECONDS).branch("stock", "nothing", &1).unwrap();
    let xid = declaration.xid();
    world.begin(&declaration).await;
    let tried = world.engine.try_all(&declaration).await;
    let Tried::Refused { branch, problem, .. } = tried else { panic!("{tried:?}") };
    assert_eq!((branch, problem.status.as_u16()), (3, 404));
    world.engine.abort_now(xid, "refused").await.unwrap();
    world.both_hold((10, 0, 0)).await;
    // Nobody can cancel there: that stays visible.
    until(async || !world.engine.stuck().await.unwrap().branches.is_empty()).await;
}

async fn the_last_unit_goes_to_one_of_two(kind: Kind) {
    let world = World::new(kind).await;
    let (one, two) = tokio::join!(world.place(10, SECONDS), world.place(10, SECONDS));
    let won = [&one.1, &two.1].iter().filter(|it| ***it == Tried::Reserved).count();
    assert!(won <= 1, "{one:?} {two:?}");
    world.all_finished().await;
    let left = if won == 1 { (0, 0, 10) } else { (10, 0, 0) };
    world.both_hold(left).await;
}

async fn many_at_once_take_no_more_than_there_is(kind: Kind) {
    let world = World::new(kind).await;
    let all = futures_util::future::join_all((0..60).map(|_| world.place(1, 2 * SECONDS))).await;
    let won = all.iter().filter(|it| it.1 == Tried::Reserved).count();
    let refused = all.iter().filter(|it| matches!(it.1, Tried::Refused { .. })).count();
    assert_eq!(won + refused, 60, "everybody has a definite answer");
    world.all_finished().await;
    let taken = i64::try_from(won).unwrap();
    assert!(taken <= 10);
    world.both_hold((10 - taken, 0, taken)).await;
    for (xid, tried) in all {
        let placed = if tried == Tried::Reserved { "placed" } else { "cancelled" };
        assert_eq!(world.order(xid).await.0, placed);
    }
}

async fn a_commit_after_the_deadline_is_refused_and_the_time_out_undoes_all(kind: Kind) {
    let world = World::new(kind).await;
    let declaration = world.declare(2, Duration::from_millis(400));
    let xid = declaration.xid();
    world.begin(&declaration).await;
    assert_eq!(world.engine.try_all(&declaration).await, Tried::Reserved);
    until(async || world.order(xid).await.0 == "cancelled").await;
    let late = world.commit(xid).await.unwrap_err();
    let TransactionError::Refused(LogError::Refused { source, .. }) = late else {
        panic!("{late:?}")
    };
    assert!(matches!(source, Refused::Expired | Refused::Aborted), "{source}");
    world.all_finished().await;
    world.both_hold((10, 0, 0)).await;
    assert_eq!(world.order(xid).await, ("cancelled".to_owned(), 1));
}

async fn an_abort_after_a_commit_is_refused_and_changes_nothing(kind: Kind) {
    let world = World::new(kind).await;
    let (xid, _) = world.place(2, SECONDS).await;
    let refused = world.engine.abort_now(xid, "too late").await.unwrap_err();
    assert!(matches!(
        refused,
        TransactionError::Refused(LogError::Refused { source: Refused::Committed, .. })
    ));
    world.commit(xid).await.unwrap();
    world.both_hold((8, 0, 2)).await;
    assert_eq!(world.order(xid).await, ("placed".to_owned(), 0));
}

async fn a_branch_that_is_not_ready_is_asked_again_within_the_limit(kind: Kind) {
    let world = World::new(kind).await;
    world.stock.mischief.not_yet.store(true, Ordering::SeqCst);
    let placing = world.place(2, SECONDS);
    let open_later = async {
        until(async || world.points.goods().await == (8, 2, 0)).await;
        world.stock.mischief.not_yet.store(false, Ordering::SeqCst);
    };
    let ((_, tried), ()) = tokio::join!(placing, open_later);
    assert_eq!(tried, Tried::Reserved);
    world.both_hold((8, 0, 2)).await;
}

async fn an_unknown_transaction_is_aborted_for_ever(kind: Kind) {
    let world = World::new(kind).await;
    let declaration = world.declare(2, SECONDS);
    let xid = declaration.xid();
    let caller = world.order.caller("points");
    let path = format!("/tcc/outcome/{xid}");
    let reply = world.order.send("GET", &path, &[caller], "").await;
    assert_eq!((reply.status, &reply.json()["decision"]), (200, &"aborted".into()));
    assert_eq!(world.order.get(&path).await.status, 403, "only for services");
    let (engine, it) = (world.engine.clone(), declaration.clone());
    let begun = world.orders.transaction("begin", move |tx| engine.begin(tx, &it)).await;
    assert!(matches!(begun, Err(TransactionError::Refused(LogError::Taken { .. }))));
}

async fn a_branch_that_keeps_failing_is_on_the_list_until_it_works(kind: Kind) {
    let world = World::new(kind).await;
    world.points.mischief.fail_confirm.store(true, Ordering::SeqCst);
    let (xid, _) = world.place(2, SECONDS).await;
    until(async || !world.engine.stuck().await.unwrap().branches.is_empty()).await;
    let caller = world.order.caller("console");
    let list = world.order.send("GET", "/tcc/stuck", &[caller], "").await.json();
    let stuck = &list["branches"][0];
    assert_eq!(stuck["xid"], xid.to_string());
    assert_eq!((&stuck["service"], &stuck["decision"]), (&"points".into(), &"committed".into()));
    assert!(stuck["attempts"].as_u64().unwrap() >= 8, "{stuck}");
    assert!(stuck["reason"].as_str().unwrap().contains("500"), "{stuck}");
    assert!(stuck["next_attempt_ms"].as_i64().unwrap() > 0, "{stuck}");
    // The other branch is not held up by it.
    until(async || world.stock.goods().await == (8, 0, 2)).await;
    world.points.mischief.fail_confirm.store(false, Ordering::SeqCst);
    world.both_hold((8, 0, 2)).await;
    world.all_finished().await;
    assert!(world.engine.stuck().await.unwrap().branches.is_empty());
}

async fn an_own_branch_that_cannot_be_cancelled_is_on_the_list_until_it_can(kind: Kind) {
    let world = World::new(kind).await;
    let declaration = world.declare(2, Duration::from_millis(100));
    let xid = declaration.xid();
    let set = |state: &'static str| {
        let sql = "UPDATE orders SET state = ? WHERE xid = ?";
        world.orders.transaction("set", move |tx| {
            tx.execute(sql, tradewind_sql::params![state, xid.to_string()])
        })
    };
    world.begin(&declaration).await;
    set("lost").await.unwrap();
    until(async || !world.engine.stuck().await.unwrap().branches.is_empty()).await;
    let stuck = world.engine.stuck().await.unwrap().branches.remove(0);
    assert_eq!((stuck.branch, &*stuck.service, &*stuck.action), (0, "order", "place"));
    assert_eq!(stuck.decision, Decision::Undecided);
    assert!(stuck.reason.contains("no such order") && 0 < stuck.attempts, "{stuck:?}");
    set("pending").await.unwrap();
    world.all_finished().await;
    assert_eq!(world.order(xid).await, ("cancelled".to_owned(), 1));
}

async fn whoever_asks_after_the_deadline_gets_a_decision(kind: Kind) {
    let world = World::new(kind).await;
    world.engine.crash();
    let declaration = world.declare(2, Duration::from_millis(100));
    let xid = declaration.xid();
    world.begin(&declaration).await;
    let outcome = async || world.engine.outcome(xid).await.unwrap().decision;
    assert_eq!(outcome().await, Decision::Undecided);
    until(async || outcome().await == Decision::Aborted).await;
    assert_eq!(world.order(xid).await, ("cancelled".to_owned(), 1));
}
