//! A service that initiates through the engine of the library while this coordinator decides: what
//! is lost, repeated or dies on the way changes nothing but the number of calls.

mod shop;

use std::time::Duration;

use serde_json::json;
use tradewind_sql::TransactionError;
use tradewind_transaction::engine::{Decided, MayCommit};
use tradewind_transaction::machine::global::{Phase, Refused};
use tradewind_transaction::wire::Decision;
use tradewind_transaction::{LogError, Tried};

use shop::{LOSES, Shop, WORKS, until};

const SECONDS: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_millis(300);

/// R5.2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_is_decided_there_and_carried_out_everywhere() {
    let shop = Shop::new().await;
    let it = shop.begin(3, SECONDS).await;
    assert_eq!(shop.engine.try_all(&it).await, Tried::Reserved);
    assert_eq!((shop.goods().await, shop.order(&it).await), ((7, 3), ("pending".into(), 0)));
    let Decided::Commit(leave) = shop.engine.decide_commit(&it).await else { panic!() };
    shop.commit(leave).await.unwrap();
    assert_eq!(shop.order(&it).await, ("placed".into(), 1));
    until(async || shop.goods().await == (7, 0)).await;
    until(async || shop.phase(&it).await == Some(Phase::Committed)).await;
    assert_eq!(shop.engine.outcome(it.xid()).await.unwrap().decision, Decision::Committed);
    // Once more, as a closure that runs twice does it.
    shop.commit(leave).await.unwrap();
    assert_eq!(shop.order(&it).await, ("placed".into(), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_told_in_the_participants_words_and_undone() {
    let shop = Shop::new().await;
    let it = shop.begin(11, SECONDS).await;
    let Tried::Refused { branch, service, problem } = shop.engine.try_all(&it).await else {
        panic!()
    };
    assert_eq!((branch, &*service, &*problem.code), (1, "inventory", "stock.short"));
    shop.engine.give_up(&it, "stock.short").await.unwrap();
    assert_eq!(shop.order(&it).await, ("cancelled".into(), 1));
    until(async || shop.phase(&it).await == Some(Phase::Aborted)).await;
    assert_eq!(shop.goods().await, (10, 0));
}

/// What never left this process is given up without asking anybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_coordinator_it_fails_for_sure() {
    let shop = Shop::new().await;
    shop.coordinator_is_away();
    let it = shop.begin(3, SOON).await;
    let Tried::Unavailable { service, .. } = shop.engine.try_all(&it).await else { panic!() };
    assert_eq!(service, "coordinator");
    shop.engine.give_up(&it, "away").await.unwrap();
    assert_eq!(shop.order(&it).await, ("cancelled".into(), 1));
    shop.coordinator_is_back();
    assert_eq!(shop.there(&it).await, (404, "coordinator.unknown".into()));
}

/// Nobody waits for the answer any more, and the coordinator knows of it all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_dropped_on_its_way_is_given_up_there_too() {
    let shop = Shop::new().await;
    let it = shop.engine.declare("place", SECONDS).own(&json!({"count": 1})).unwrap();
    let it = it.branch("nowhere", "stock", &1).unwrap();
    shop.try_to_begin(&it).await.unwrap();
    tokio::select! {
        tried = shop.engine.try_all(&it) => panic!("{tried:?}"),
        () = until(async || shop.there(&it).await.0 == 200) => {}
    }
    shop.engine.give_up(&it, "gone").await.unwrap();
    assert_eq!(shop.phase(&it).await, Some(Phase::Aborting));
    assert_eq!(shop.order(&it).await, ("cancelled".into(), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_are_asked_for_again() {
    let shop = Shop::new().await;
    let it = shop.begin(3, SECONDS).await;
    let heals = async || {
        until(async || shop.lost() > 0).await;
        shop.network(WORKS);
    };
    shop.network(LOSES);
    let (tried, ()) = tokio::join!(shop.engine.try_all(&it), heals());
    assert_eq!((tried, shop.goods().await), (Tried::Reserved, (7, 3)));
    shop.network(LOSES);
    let (decided, ()) = tokio::join!(shop.engine.decide_commit(&it), heals());
    let Decided::Commit(leave) = decided else { panic!("{decided:?}") };
    shop.commit(leave).await.unwrap();
    assert_eq!(shop.order(&it).await, ("placed".into(), 1));
    until(async || shop.goods().await == (7, 0)).await;
}

/// Nobody knows, so nothing is done here until somebody does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_whose_answers_are_lost_is_unknown_and_becomes_definite() {
    let shop = Shop::new().await;
    let it = shop.begin(3, SOON).await;
    shop.network(LOSES);
    assert!(matches!(shop.engine.try_all(&it).await, Tried::Unavailable { .. }));
    let unknown = shop.engine.give_up(&it, "late").await.unwrap_err();
    assert!(matches!(unknown, TransactionError::Refused(LogError::Undecided { .. })));
    shop.network(WORKS);
    until(async || shop.order(&it).await == ("cancelled".into(), 1)).await;
    until(async || shop.goods().await == (10, 0)).await;
}

/// The decision arrives, its answers do not: the coordinator's Confirm places the order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answers_are_lost_is_carried_out_all_the_same() {
    let shop = Shop::new().await;
    let it = shop.begin(3, SECONDS).await;
    assert_eq!(shop.engine.try_all(&it).await, Tried::Reserved);
    shop.network(LOSES);
    assert_eq!(shop.engine.decide_commit(&it).await, Decided::Unknown);
    until(async || shop.order(&it).await == ("placed".into(), 1)).await;
    shop.network(WORKS);
    // Whoever asks late is told, and finds it done.
    let Decided::Commit(leave) = shop.engine.decide_abort(&it, "late").await else { panic!() };
    shop.commit(leave).await.unwrap();
    assert_eq!(shop.order(&it).await, ("placed".into(), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_restarts_in_between_goes_on() {
    let mut shop = Shop::new().await;
    let it = shop.begin(3, SECONDS).await;
    assert_eq!(shop.engine.try_all(&it).await, Tried::Reserved);
    shop.restart_coordinator().await;
    let Decided::Commit(leave) = shop.engine.decide_commit(&it).await else { panic!() };
    shop.restart_coordinator().await;
    shop.commit(leave).await.unwrap();
    until(async || shop.phase(&it).await == Some(Phase::Committed)).await;
    assert_eq!((shop.goods().await, shop.order(&it).await), ((7, 0), ("placed".into(), 1)));
}

/// R5.2: of several coordinators on one log any takes the requests, and any carries them out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_coordinators_share_a_log_and_one_goes_on_alone() {
    let mut shop = Shop::new().await;
    shop.another_coordinator().await;
    let mut all = Vec::new();
    for _ in 0..6 {
        let it = shop.begin(1, SECONDS).await;
        assert_eq!(shop.engine.try_all(&it).await, Tried::Reserved);
        all.push(it);
    }
    for (at, it) in all.iter().enumerate() {
        if at == 3 {
            shop.one_coordinator_dies();
        }
        let Decided::Commit(leave) = shop.engine.decide_commit(it).await else { panic!() };
        shop.commit(leave).await.unwrap();
    }
    for it in &all {
        until(async || shop.phase(it).await == Some(Phase::Committed)).await;
        assert_eq!(shop.order(it).await, ("placed".into(), 1));
    }
    assert_eq!(shop.goods().await, (4, 0));
}

/// The initiator dies between the coordinator's decision and its own Confirm.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_coordinator_confirms_the_own_branch_of_an_initiator_that_died() {
    let mut shop = Shop::new().await;
    let it = shop.begin(3, SECONDS).await;
    assert_eq!(shop.engine.try_all(&it).await, Tried::Reserved);
    shop.initiator_is_away();
    let Decided::Commit(leave) = shop.engine.decide_commit(&it).await else { panic!() };
    shop.restart_initiator().await;
    until(async || shop.order(&it).await == ("placed".into(), 1)).await;
    until(async || shop.phase(&it).await == Some(Phase::Committed)).await;
    assert!(shop.resume(&it).await.is_none(), "what is decided is not tried again");
    // The one who was thought dead.
    shop.commit(leave).await.unwrap();
    assert_eq!(shop.order(&it).await, ("placed".into(), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caller_and_coordinator_at_once_confirm_once() {
    let shop = Shop::new().await;
    for _ in 0..5 {
        let it = shop.begin(1, SECONDS).await;
        assert_eq!(shop.engine.try_all(&it).await, Tried::Reserved);
        let Decided::Commit(leave) = shop.engine.decide_commit(&it).await else { panic!() };
        let body = json!({"xid": it.xid(), "branch": 33, "initiator": "coordinator"});
        let confirm = || shop.call("/tcc/place/confirm", "coordinator", &body);
        let (here, one, two) = tokio::join!(shop.commit(leave), confirm(), confirm());
        here.unwrap();
        assert_eq!((one.status, two.status), (200, 200), "{one:?} {two:?}");
        assert_eq!(shop.order(&it).await, ("placed".into(), 1));
    }
    until(async || shop.goods().await == (5, 0)).await;
}

/// It died before it asked: nobody knows the transaction, and nobody ever will.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_initiator_never_sent_is_given_up_for_good_by_a_repeat() {
    let mut shop = Shop::new().await;
    let it = shop.begin(3, SECONDS).await;
    shop.restart_initiator().await;
    let again = shop.resume(&it).await.unwrap();
    assert!(matches!(shop.engine.try_all(&again).await, Tried::Unavailable { .. }));
    let Decided::Abort(leave) = shop.engine.decide_abort(&again, "lost").await else { panic!() };
    shop.abort(leave).await.unwrap();
    assert_eq!(shop.order(&it).await, ("cancelled".into(), 1));
    // What was on its way all the time comes late.
    assert!(matches!(shop.engine.try_all(&it).await, Tried::Unavailable { .. }));
    assert_eq!((shop.goods().await, shop.order(&it).await.0), ((10, 0), "cancelled".into()));
    assert!(shop.resume(&it).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_after_a_death_goes_on_with_the_same_transaction() {
    let mut shop = Shop::new().await;
    let it = shop.begin(3, SECONDS).await;
    assert_eq!(shop.engine.try_all(&it).await, Tried::Reserved);
    shop.restart_initiator().await;
    let again = shop.resume(&it).await.unwrap();
    assert_eq!((again.xid(), again.deadline()), (it.xid(), it.deadline()));
    assert_eq!(shop.engine.try_all(&again).await, Tried::Reserved);
    let Decided::Commit(leave) = shop.engine.decide_commit(&again).await else { panic!() };
    // A repeat after the decision finds it.
    assert_eq!(shop.engine.try_all(&again).await, Tried::Reserved);
    shop.commit(leave).await.unwrap();
    until(async || shop.goods().await == (7, 0)).await;
    assert_eq!(shop.order(&it).await, ("placed".into(), 1));
}

/// TX-2: with and without Trys, what nobody goes on with is aborted, also here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_initiator_leaves_is_cancelled_everywhere() {
    for tries in [false, true] {
        let mut shop = Shop::new().await;
        let it = shop.begin(3, SOON).await;
        if tries {
            assert_eq!(shop.engine.try_all(&it).await, Tried::Reserved);
        }
        shop.restart_initiator().await;
        until(async || shop.order(&it).await == ("cancelled".into(), 1)).await;
        until(async || shop.goods().await == (10, 0)).await;
        let Decided::Abort(_) = shop.engine.decide_commit(&it).await else { panic!() };
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_past_the_deadline_is_an_abort() {
    let shop = Shop::new().await;
    let it = shop.begin(3, SOON).await;
    assert_eq!(shop.engine.try_all(&it).await, Tried::Reserved);
    until(async || shop.now() > it.deadline() + SOON).await;
    let Decided::Abort(leave) = shop.engine.decide_commit(&it).await else { panic!() };
    shop.abort(leave).await.unwrap();
    assert_eq!(shop.order(&it).await, ("cancelled".into(), 1));
    until(async || shop.goods().await == (10, 0)).await;
}

/// TX-1: without the coordinator's word nothing is confirmed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_confirms_the_own_branch_without_a_decision() {
    let shop = Shop::new().await;
    let it = shop.begin(3, SECONDS).await;
    assert_eq!(shop.engine.try_all(&it).await, Tried::Reserved);
    let refused = shop.commit(MayCommit::from(it.xid())).await.unwrap_err();
    assert!(matches!(refused, TransactionError::Refused(LogError::Unknown { .. })), "{refused:?}");
    for (path, caller) in [
        ("/tcc/place/confirm", "inventory"),
        ("/tcc/place/confirm", "order"),
        ("/tcc/place/cancel", "order"),
        ("/tcc/place/try", "coordinator"),
    ] {
        let body = json!({"xid": it.xid(), "branch": 33, "initiator": caller,
            "deadline_ms": it.deadline().millis(), "payload": null});
        let reply = shop.call(path, caller, &body).await;
        assert_eq!((reply.status, reply.problem().0.as_str()), (409, "tcc.mismatch"), "{path}");
    }
    assert_eq!(shop.order(&it).await, ("pending".into(), 0));
    assert_eq!(shop.engine.outcome(it.xid()).await.unwrap().decision, Decision::Undecided);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_could_settle_does_not_begin() {
    let shop = Shop::new().await;
    let it = shop.engine.declare("nameless", SECONDS).branch("inventory", "stock", &1).unwrap();
    let refused = shop.try_to_begin(&it).await.unwrap_err();
    assert!(matches!(refused, TransactionError::Refused(LogError::Own { .. })), "{refused:?}");
    assert!(shop.resume(&it).await.is_none());
}

/// Only who began it decides it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_service_cannot_decide() {
    let shop = Shop::new().await;
    let it = shop.begin(3, SECONDS).await;
    assert_eq!(shop.engine.try_all(&it).await, Tried::Reserved);
    for (step, body) in
        [("try", json!({})), ("commit", json!({})), ("abort", json!({"reason": "mine"}))]
    {
        let reply = shop.ask("points", &it.xid().to_string(), step, &body).await;
        assert_eq!((reply.status, reply.problem().0.as_str()), (404, "coordinator.unknown"));
    }
    assert_eq!(shop.phase(&it).await, Some(Phase::Trying));
}

/// The setting changes between two lives of a service: what began one way ends that way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_began_before_the_setting_changed_ends_as_it_began() {
    let mut shop = Shop::new().await;
    let there = shop.begin(1, SECONDS).await;
    assert_eq!(shop.engine.try_all(&there).await, Tried::Reserved);
    shop.embedded = true;
    shop.restart_initiator().await;
    let here = shop.begin(1, SECONDS).await;
    assert_eq!(shop.engine.try_all(&here).await, Tried::Reserved);
    let again = shop.resume(&there).await.unwrap();
    let Decided::Commit(leave) = shop.engine.decide_commit(&again).await else { panic!() };
    shop.commit(leave).await.unwrap();
    shop.embedded = false;
    shop.restart_initiator().await;
    let again = shop.resume(&here).await.unwrap();
    let Decided::Commit(leave) = shop.engine.decide_commit(&again).await else { panic!() };
    assert_eq!(leave, MayCommit::from(here.xid()), "nobody is asked");
    shop.commit(leave).await.unwrap();
    shop.engine.settle(here.xid());
    for it in [&there, &here] {
        assert_eq!(shop.order(it).await, ("placed".into(), 1));
        until(async || shop.phase(it).await == Some(Phase::Committed)).await;
    }
    assert_eq!(shop.goods().await, (8, 0));
    let late = shop.engine.abort_now(here.xid(), "late").await.unwrap_err();
    let TransactionError::Refused(LogError::Refused { source, .. }) = late else { panic!() };
    assert_eq!(source, Refused::Committed);
}
