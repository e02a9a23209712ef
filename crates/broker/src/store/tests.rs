//! What holds on every database.

use std::time::Duration;

use tradewind_base::Timestamp;
use tradewind_base::id::Xid;
use tradewind_message::wire::{CheckAt, MessageId, State};
use tradewind_sql::{DatabaseUrl, TransactionError};

use super::*;
use crate::machine::delivery::{Cause, Next};
use crate::machine::message::Word;

const LEASE: Duration = Duration::from_secs(15);

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + millis)
}

fn message(id: u128, topic: &str) -> NewMessage {
    NewMessage {
        id: MessageId::from_u128(id),
        topic: topic.into(),
        key: format!("key-{id}"),
        kind: "t".into(),
        source: "test".into(),
        data: r#"{"ä":"🙂"}"#.into(),
        trace: None,
    }
}

fn check() -> CheckAt {
    CheckAt { service: "order".into(), path: "/messages/check".into() }
}

async fn subscribe(store: &Store, subscriber: &str, topic: &str) {
    let row = SubscriptionRow {
        subscriber: subscriber.into(),
        topic: topic.into(),
        service: "warehouse".into(),
        path: "/in".into(),
        together: 0,
        active: true,
    };
    assert!(store.subscribe(row, at(0)).await.unwrap());
}

fn outcome(next: Next) -> Outcome {
    Outcome { next, status: Some(500), error: Some("no".into()), instance: Some("i1".into()) }
}

/// Writes one end of an attempt.
async fn settle(
    store: &Store,
    key: &Key,
    (token, attempt): (i64, u32),
    outcome: Outcome,
    now: Timestamp,
) -> bool {
    let it = Settled { key: key.clone(), token, attempt, outcome };
    store.settle(vec![it], now).await.unwrap().remove(0)
}

async fn state_of(store: &Store, id: u128) -> State {
    store.message(MessageId::from_u128(id)).await.unwrap().unwrap().state
}

async fn a_commit_fixes_deliveries_and_number(store: &Store) {
    subscribe(store, "a", "fixed").await;
    subscribe(store, "b", "fixed").await;
    let first = store.publish(message(1, "fixed"), at(1)).await.unwrap();
    assert_eq!((first.receipt.state, first.deliveries.len()), (State::Committed, 2));
    subscribe(store, "c", "fixed").await;
    let again = store.publish(message(1, "fixed"), at(2)).await.unwrap();
    assert_eq!(again.receipt, first.receipt, "the same message, the same place");
    assert!(again.deliveries.is_empty());
    let detail = store.message(MessageId::from_u128(1)).await.unwrap().unwrap();
    assert_eq!(detail.deliveries.len(), 2, "who came later gets later messages");
    assert_eq!((detail.key.as_str(), detail.sequence), ("key-1", first.receipt.sequence));
    let mut other = message(1, "fixed");
    other.data = "{}".into();
    let refused = store.publish(other, at(3)).await.unwrap_err();
    assert!(matches!(refused, TransactionError::Refused(MessageError::Reused(_))), "{refused}");
    let second = store.publish(message(2, "fixed"), at(4)).await.unwrap();
    assert_eq!(second.receipt.sequence, first.receipt.sequence.map(|it| it + 1));
    assert_eq!(store.messages_of("key-1".into(), 10).await.unwrap().len(), 1);
}

async fn a_half_message_is_decided_once(store: &Store) {
    subscribe(store, "a", "half").await;
    for (id, word, other, state) in [
        (10, Word::Commit, Word::RollBack, State::Committed),
        (11, Word::RollBack, Word::Commit, State::Cancelled),
    ] {
        let key = MessageId::from_u128(id);
        for _ in 0..2 {
            let it = store.prepare(message(id, "half"), check(), at(50), at(0)).await.unwrap();
            assert_eq!((it.receipt.state, it.receipt.sequence), (State::Prepared, None));
        }
        assert!(store.message(key).await.unwrap().unwrap().deliveries.is_empty());
        let done = store.say(key, word, at(1)).await.unwrap();
        assert_eq!(done.receipt.state, state);
        assert_eq!(done.deliveries.len(), usize::from(word == Word::Commit));
        let again = store.say(key, word, at(2)).await.unwrap();
        assert_eq!((again.receipt, again.deliveries.len()), (done.receipt, 0));
        let conflict = store.say(key, other, at(3)).await.unwrap_err();
        let conflict = conflict.refused::<Error>().unwrap();
        assert!(matches!(conflict, MessageError::Conflict { .. }), "{conflict}");
    }
    let unknown = store.say(MessageId::from_u128(99), Word::Commit, at(0)).await.unwrap_err();
    assert!(matches!(unknown, TransactionError::Refused(MessageError::Unknown(_))));
}

async fn questions_come_when_due_and_to_one_asker(store: &Store) {
    let id = MessageId::from_u128(20);
    store.prepare(message(20, "asked"), check(), at(100), at(0)).await.unwrap();
    let due = async |now, again| {
        let all = store.questions(at(now), at(again), 10).await.unwrap();
        all.into_iter().filter(|it| it.id == id).count()
    };
    assert_eq!(due(99, 200).await, 0);
    assert_eq!(due(100, 200).await, 1);
    assert_eq!(due(100, 200).await, 0, "somebody is asking");
    store.ask_again(id, at(300), "busy".into()).await.unwrap();
    assert_eq!(due(299, 400).await, 0);
    assert_eq!(due(300, 400).await, 1);
    store.say(id, Word::GiveUpAsking, at(301)).await.unwrap();
    assert_eq!(state_of(store, 20).await, State::ParkedUndecided);
    assert_eq!(due(9999, 10_000).await, 0, "a parked message is a human's");
    assert!(store.parked(100).await.unwrap().iter().any(|it| it.id == id));
    assert_eq!(store.say(id, Word::RollBack, at(1)).await.unwrap().receipt.state, State::Cancelled);
}

async fn a_claim_is_exclusive_until_its_lease_ends(store: &Store) {
    subscribe(store, "a", "claim").await;
    let made = store.publish(message(30, "claim"), at(0)).await.unwrap();
    let fresh = || vec![Seen { key: made.deliveries[0].clone(), token: None }];
    let first = store.claim(fresh(), at(1), at(1) + LEASE).await.unwrap().remove(0);
    assert_eq!((first.attempt, first.token), (1, 1));
    assert_eq!(first.data, r#"{"ä":"🙂"}"#);
    assert!(store.claim(fresh(), at(2), at(2) + LEASE).await.unwrap().is_empty());
    assert!(store.due("a", "claim", at(2), 9).await.unwrap().is_empty());
    let over = at(1) + LEASE;
    let seen = store.due("a", "claim", over, 9).await.unwrap();
    let second = store.claim(seen, over, over + LEASE).await.unwrap().remove(0);
    assert_eq!((second.attempt, second.token), (2, 2));
    let key = first.key.clone();
    let again = Next::Again { due: at(0), attempts: 0 };
    let late = (first.token, 1);
    assert!(
        !settle(store, &key, late, outcome(again), over).await,
        "the first attempt has lost its word"
    );
    let dead = Next::Dead(Cause::Refused);
    assert!(!settle(store, &key, late, outcome(dead), over).await);
    let ack = outcome(Next::Done);
    assert!(settle(store, &key, late, ack.clone(), over).await);
    assert!(!settle(store, &key, (second.token, 2), ack, over).await, "once");
    assert_eq!(state_of(store, 30).await, State::Done);
}

async fn ends_of_one_request_are_written_together_each_for_itself(store: &Store) {
    subscribe(store, "a", "together").await;
    let mut seen = Vec::new();
    for id in 170..174 {
        let made = store.publish(message(id, "together"), at(0)).await.unwrap();
        seen.push(Seen { key: made.deliveries[0].clone(), token: None });
    }
    let claimed = store.claim(seen, at(1), at(1) + LEASE).await.unwrap();
    let next = [
        Next::Dead(Cause::Refused),
        Next::Done,
        Next::Again { due: at(9), attempts: 0 },
        Next::Again { due: at(9), attempts: 1 },
    ];
    let mut all: Vec<_> =
        claimed.iter().zip(next).map(|(it, next)| Settled::of(it, outcome(next))).collect();
    // Another attempt has the word over the last.
    all[3].token -= 1;
    all.reverse();
    assert_eq!(store.settle(all, at(2)).await.unwrap(), [true, true, true, false]);
    assert_eq!(state_of(store, 171).await, State::Done);
    let dead = store.dead(Some("a".into()), Some("together".into()), 9).await.unwrap();
    assert_eq!(dead.iter().map(|it| it.key.as_str()).collect::<Vec<_>>(), ["key-170"]);
    let due = store.due("a", "together", at(9), 9).await.unwrap();
    assert_eq!(due[0].key, claimed[2].key);
    assert_eq!(due.len(), 1, "the other is still in flight");
}

async fn dead_letters_are_kept_and_live_again(store: &Store) {
    subscribe(store, "a", "dead").await;
    let made = store.publish(message(40, "dead"), at(0)).await.unwrap();
    let key = made.deliveries[0].clone();
    let seen = vec![Seen { key: key.clone(), token: None }];
    let it = store.claim(seen, at(1), at(1) + LEASE).await.unwrap().remove(0);
    let dead = outcome(Next::Dead(Cause::Exhausted));
    assert!(settle(store, &key, (it.token, 1), dead, at(2)).await);
    let listed = store.dead(Some("a".into()), Some("dead".into()), 9).await.unwrap();
    assert_eq!((listed.len(), listed[0].reason.as_str()), (1, "exhausted"));
    assert_eq!((listed[0].last_status, listed[0].key.as_str()), (Some(500), "key-40"));
    assert_eq!(state_of(store, 40).await, State::Committed, "not done");
    store.clean(at(1_000_000), 100).await.unwrap();
    assert_eq!(state_of(store, 40).await, State::Committed, "and not cleaned");
    let none = store.replay(Some("b".into()), None, None, 9, at(3)).await.unwrap();
    assert_eq!(none, 0);
    let one = store.replay(Some("a".into()), None, Some(key.message), 9, at(3)).await.unwrap();
    assert_eq!(one, 1);
    let seen = store.due("a", "dead", at(3), 9).await.unwrap();
    let again = store.claim(seen, at(3), at(3) + LEASE).await.unwrap().remove(0);
    assert_eq!(again.attempt, 1, "attempts count anew");
    assert!(it.token < again.token);
    let done = outcome(Next::Done);
    assert!(settle(store, &key, (again.token, 1), done, at(4)).await);
    assert_eq!(state_of(store, 40).await, State::Done);
}

async fn the_last_of_many_acknowledgements_ends_the_message(store: &Store) {
    let names: Vec<String> = (0..8).map(|it| format!("s{it}")).collect();
    for it in &names {
        subscribe(store, it, "many").await;
    }
    let made = store.publish(message(50, "many"), at(0)).await.unwrap();
    let acks =
        made.deliveries.iter().map(|key| settle(store, key, (1, 1), outcome(Next::Done), at(1)));
    assert!(futures_util::future::join_all(acks).await.iter().all(|it| *it));
    assert_eq!(state_of(store, 50).await, State::Done);
    store.clean(at(1), 100).await.unwrap();
    assert_eq!(state_of(store, 50).await, State::Done, "kept until it is old enough");
    assert!(1 <= store.clean(at(2), 100).await.unwrap());
    assert_eq!(store.message(MessageId::from_u128(50)).await.unwrap(), None);
}

async fn parked_messages_find_their_first_subscriber(store: &Store) {
    let parked = store.publish(message(60, "later"), at(0)).await.unwrap();
    assert_eq!(parked.receipt.state, State::ParkedUnrouted);
    let unpark = async || {
        let all = store.unpark(100, at(1)).await.unwrap();
        all.into_iter().filter(|it| it.topic == "later").collect::<Vec<_>>()
    };
    assert!(unpark().await.is_empty());
    subscribe(store, "a", "later").await;
    let routed = unpark().await;
    assert_eq!((routed.len(), routed[0].deliveries.len()), (1, 1));
    assert_eq!(routed[0].receipt.sequence, parked.receipt.sequence, "it keeps its place");
    assert!(unpark().await.is_empty());
    assert_eq!(state_of(store, 60).await, State::Committed);
}

async fn what_waits_for_a_gone_subscriber_is_buried(store: &Store) {
    subscribe(store, "a", "gone").await;
    store.publish(message(70, "gone"), at(0)).await.unwrap();
    assert_eq!(store.bury_lane("a", "gone", at(1), 9).await.unwrap(), 0, "it is active");
    let lane = Lane { subscriber: "a".into(), topic: "gone".into() };
    assert!(store.unsubscribe(lane, at(1)).await.unwrap());
    assert_eq!(store.bury_lane("a", "gone", at(1), 9).await.unwrap(), 1);
    let dead = store.dead(None, Some("gone".into()), 9).await.unwrap();
    assert_eq!(dead[0].reason, "subscription-off");
    let parked = store.publish(message(71, "gone"), at(2)).await.unwrap();
    assert_eq!(parked.receipt.state, State::ParkedUnrouted);
}

fn branch(xid: u128) -> Branch {
    Branch { xid: Xid::from_u128(xid << 64), branch: 2, initiator: "order".into() }
}

async fn reserve(store: &Store, it: Branch, deadline: i64) -> Result<(), BranchError> {
    let mut half = message(0, "branch");
    half.id = MessageId::of_branch(it.xid, it.branch);
    let done = store.branch_try(it, half, at(deadline), at(deadline + 2), at(0)).await;
    done.map_err(|it| it.refused::<Error>().unwrap())
}

async fn every_cell_of_the_fence_holds(store: &Store) {
    subscribe(store, "a", "branch").await;
    let confirm = async |it: Branch| {
        let done = store.branch_confirm(it, at(1)).await;
        done.map_err(|it| it.refused::<Error>().unwrap())
    };
    let cancel = async |it: Branch| {
        let done = store.branch_cancel(it, at(1)).await;
        done.map_err(|it| it.refused::<Error>().unwrap())
    };
    let stands = async |it: Branch| {
        let id = MessageId::of_branch(it.xid, it.branch);
        store.message(id).await.unwrap().map(|it| it.state)
    };
    // none
    assert!(matches!(confirm(branch(1)).await, Err(BranchError::NoTry)));
    assert!(matches!(reserve(store, branch(1), -1).await, Err(BranchError::Expired)));
    assert_eq!(stands(branch(1)).await, None, "neither left anything behind");
    // tried, confirmed
    reserve(store, branch(1), 100).await.unwrap();
    reserve(store, branch(1), 100).await.unwrap();
    reserve(store, branch(1), -1).await.unwrap();
    assert_eq!(stands(branch(1)).await, Some(State::Prepared));
    let id = MessageId::of_branch(branch(1).xid, 2);
    let said = store.say(id, Word::Commit, at(1)).await.unwrap_err();
    assert!(matches!(said, TransactionError::Refused(MessageError::OfBranch(_))), "{said}");
    assert_eq!(confirm(branch(1)).await.unwrap().unwrap().deliveries.len(), 1);
    assert!(confirm(branch(1)).await.unwrap().is_none(), "repeated");
    reserve(store, branch(1), 100).await.unwrap();
    assert!(matches!(cancel(branch(1)).await, Err(BranchError::Conflict)));
    assert_eq!(stands(branch(1)).await, Some(State::Committed));
    // tried, cancelled
    reserve(store, branch(2), 100).await.unwrap();
    cancel(branch(2)).await.unwrap();
    cancel(branch(2)).await.unwrap();
    assert!(matches!(confirm(branch(2)).await, Err(BranchError::Conflict)));
    assert!(matches!(reserve(store, branch(2), 100).await, Err(BranchError::Suspended)));
    assert_eq!(stands(branch(2)).await, Some(State::Cancelled));
    // suspended
    cancel(branch(3)).await.unwrap();
    cancel(branch(3)).await.unwrap();
    assert!(matches!(reserve(store, branch(3), 100).await, Err(BranchError::Suspended)));
    assert!(matches!(confirm(branch(3)).await, Err(BranchError::Conflict)));
    assert_eq!(stands(branch(3)).await, None);
}

async fn a_cancel_racing_its_try_leaves_nothing_to_deliver(store: &Store) {
    for xid in 100..120 {
        let (first, second) = tokio::join!(
            reserve(store, branch(xid), 100),
            store.branch_cancel(branch(xid), at(1)),
        );
        second.unwrap();
        assert!(matches!(first, Ok(()) | Err(BranchError::Suspended)), "{first:?}");
        let id = MessageId::of_branch(branch(xid).xid, 2);
        let found = store.message(id).await.unwrap().map(|it| it.state);
        assert_eq!(found, first.is_ok().then_some(State::Cancelled));
    }
}

async fn everything(store: &Store) {
    a_commit_fixes_deliveries_and_number(store).await;
    a_half_message_is_decided_once(store).await;
    questions_come_when_due_and_to_one_asker(store).await;
    a_claim_is_exclusive_until_its_lease_ends(store).await;
    ends_of_one_request_are_written_together_each_for_itself(store).await;
    dead_letters_are_kept_and_live_again(store).await;
    the_last_of_many_acknowledgements_ends_the_message(store).await;
    parked_messages_find_their_first_subscriber(store).await;
    what_waits_for_a_gone_subscriber_is_buried(store).await;
    every_cell_of_the_fence_holds(store).await;
    a_cancel_racing_its_try_leaves_nothing_to_deliver(store).await;
}

async fn open(url: &DatabaseUrl) -> Store {
    Store::new(crate::open_database(url).unwrap()).await.unwrap()
}

/// R6.1: a half message is stored and invisible, and a repeat of its producer is the same message.
#[tokio::test]
async fn the_store_keeps_its_rules_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = DatabaseUrl::sqlite(&folder.path().join("broker.db"));
    everything(&open(&url).await).await;
    assert_eq!(state_of(&open(&url).await, 40).await, State::Done, "still there when reopened");
}

#[cfg(feature = "services")]
#[tokio::test]
async fn the_store_keeps_its_rules_on_mysql() {
    let url = tradewind_host::testing::fresh_mysql("tradewind_test_broker");
    everything(&open(&url).await).await;
    assert_eq!(state_of(&open(&url).await, 40).await, State::Done, "still there when reopened");
}
