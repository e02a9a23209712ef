//! Claim, finish, release and clean in transactions.

use std::time::Duration;

use serde_json::json;
use tradewind_base::Timestamp;
use tradewind_idempotency::{
    AnswerError, Claim, Fence, Scope, StoreError, StoredAnswer, store as keys,
};
use tradewind_sql::{TransactionError, params};

use crate::support::{Place, answer, attempt, refused, spawn, terms};

pub(crate) async fn a_key_goes_from_claim_to_answer(place: Place) {
    let it = attempt("user", "key", 1);
    let fence = match place.claim(&it, &json!({"id": "x"}), 1000).await {
        Claim::Mine { fence } => fence,
        other => panic!("{other:?}"),
    };
    assert_eq!(fence, Fence::FIRST);
    let retry_after = Duration::from_millis(400);
    assert_eq!(place.claim(&it, &json!(null), 1600).await, Claim::InFlight { retry_after });
    place.act(&it, fence, &answer("done").located("/x/1")).await.unwrap();
    for now in [1700, 90_000] {
        let Claim::Done(stored) = place.claim(&it, &json!(null), now).await else { panic!() };
        assert_eq!(stored, answer("done").located("/x/1"));
    }
    assert_eq!(place.effects().await, 1);
}

pub(crate) async fn another_content_is_a_mismatch_in_every_state(place: Place) {
    let (it, other) = (attempt("user", "key", 1), attempt("user", "key", 2));
    let fence = place.work(&it, 1000).await;
    assert_eq!(place.claim(&other, &json!(null), 1500).await, Claim::Mismatch);
    assert_eq!(place.claim(&other, &json!(null), 5000).await, Claim::Mismatch, "lease over");
    place.act(&it, fence, &answer("done")).await.unwrap();
    assert_eq!(place.claim(&other, &json!(null), 6000).await, Claim::Mismatch);
}

pub(crate) async fn one_of_many_claims_at_once_wins(place: Place) {
    for round in 0..5 {
        let it = attempt("user", &format!("key-{round}"), 1);
        let claims: Vec<_> = (0..16)
            .map(|_| {
                let (database, it) = (place.database.clone(), it.clone());
                spawn(async move {
                    let claim = database.transaction("claim", move |tx| {
                        keys::claim(tx, &it, &json!(null), Timestamp::from_millis(1), &terms())
                    });
                    claim.await.unwrap()
                })
            })
            .collect();
        let mut mine = 0;
        for claim in claims {
            match claim.await.unwrap() {
                Claim::Mine { .. } => mine += 1,
                Claim::InFlight { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(mine, 1);
    }
}

/// The whole in one transaction: who comes second waits for the first and gets its answer.
pub(crate) async fn claim_effect_and_answer_in_one_transaction_happen_once(place: Place) {
    let it = attempt("user", "key", 1);
    let tasks: Vec<_> = (0..8)
        .map(|number| {
            let (database, it) = (place.database.clone(), it.clone());
            spawn(async move {
                let whole = database.transaction("whole", move |tx| {
                    let now = keys::now(tx)?;
                    let fence = match keys::claim(tx, &it, &json!(null), now, &terms())? {
                        Claim::Mine { fence } => fence,
                        Claim::Done(answer) => return Ok(answer),
                        other => panic!("{other:?}"),
                    };
                    tx.execute("INSERT INTO effect (what) VALUES (?)", params![number])?;
                    let answer = answer(&format!("by {number}"));
                    keys::finish(tx, &it, fence, &answer, now, &terms())?;
                    Ok::<_, StoreError>(answer)
                });
                whole.await.unwrap()
            })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    assert!(answers.windows(2).all(|it| it[0] == it[1]), "{answers:?}");
    assert_eq!(place.effects().await, 1);
}

pub(crate) async fn an_abandoned_claim_is_resumed_with_what_it_fixed(place: Place) {
    let it = attempt("user", "key", 1);
    let fixed = json!({"order": "ord_1", "xid": "txn_1", "quote\"": ["ü", 1]});
    let Claim::Mine { fence: first } = place.claim(&it, &fixed, 1000).await else { panic!() };
    let resumed = place.claim(&it, &json!({"order": "ord_2"}), 2000).await;
    let Claim::Resume { fixed: kept, fence: second } = resumed else { panic!("{resumed:?}") };
    assert_eq!(kept, fixed);
    assert!(first < second);
    // It is in flight again, and may be abandoned again.
    assert!(matches!(place.claim(&it, &json!(null), 2999).await, Claim::InFlight { .. }));
    let again = place.claim(&it, &json!(null), 3000).await;
    assert!(
        matches!(again, Claim::Resume { fixed: kept, fence } if kept == fixed && second < fence)
    );
}

pub(crate) async fn the_transaction_of_an_overtaken_owner_is_undone(place: Place) {
    let it = attempt("user", "key", 1);
    let late = place.work(&it, 1000).await;
    let next = place.work(&it, 3000).await;
    let over = |it: &StoreError| matches!(it, StoreError::Superseded);
    assert!(refused(&place.act(&it, late, &answer("late")).await, over));
    assert_eq!(place.effects().await, 0);
    place.act(&it, next, &answer("next")).await.unwrap();
    assert!(refused(&place.act(&it, late, &answer("late")).await, over));
    assert_eq!(place.effects().await, 1);
    let Claim::Done(stored) = place.claim(&it, &json!(null), 9000).await else { panic!() };
    assert_eq!(stored, answer("next"));
}

pub(crate) async fn a_released_key_can_be_used_for_anything(place: Place) {
    let (it, other) = (attempt("user", "key", 1), attempt("user", "key", 2));
    let first = place.work(&it, 1000).await;
    assert!(release(&place, &it, first).await);
    assert!(!release(&place, &it, first).await, "once");
    let second = place.work(&other, 1001).await;
    assert!(first < second, "the fence goes on, or a late owner of the first could finish");
    let over = |it: &StoreError| matches!(it, StoreError::Superseded);
    assert!(refused(&place.act(&it, first, &answer("late")).await, over));
    assert!(!release(&place, &it, first).await, "a late release takes nothing away");
    place.act(&other, second, &answer("done")).await.unwrap();
    assert!(!release(&place, &other, second).await, "what is done stays done");
    assert_eq!(place.effects().await, 1);
}

async fn release(place: &Place, it: &tradewind_idempotency::Attempt, fence: Fence) -> bool {
    let it = it.clone();
    let work = place.database.transaction("release", move |tx| {
        keys::release(tx, &it, fence, Timestamp::from_millis(1000), &terms())
    });
    work.await.unwrap()
}

pub(crate) async fn finishing_twice_undoes_the_second_effect(place: Place) {
    let it = attempt("user", "key", 1);
    let fence = place.work(&it, 1000).await;
    place.act(&it, fence, &answer("one")).await.unwrap();
    // As after a commit whose answer was lost.
    let again = place.act(&it, fence, &answer("two")).await;
    assert!(refused(&again, |it| matches!(it, StoreError::AlreadyDone)), "{again:?}");
    assert_eq!(place.effects().await, 1);
    let Claim::Done(stored) = place.claim(&it, &json!(null), 9000).await else { panic!() };
    assert_eq!(stored, answer("one"));
}

pub(crate) async fn keys_of_other_users_and_operations_are_apart(place: Place) {
    let it = attempt("user", "key", 1);
    let fence = place.work(&it, 1000).await;
    place.act(&it, fence, &answer("secret")).await.unwrap();
    let mut elsewhere = it.clone();
    elsewhere.scope = Scope::new("user", "demo.other").unwrap();
    let apart = [attempt("User", "key", 1), attempt("usér", "key", 1), attempt("user", "Key", 1)];
    for other in apart.iter().chain([&elsewhere]) {
        assert!(matches!(place.claim(other, &json!(null), 2000).await, Claim::Mine { .. }));
    }
}

pub(crate) async fn answers_that_are_not_final_or_too_large_are_not_stored(place: Place) {
    let it = attempt("user", "key", 1);
    let fence = place.work(&it, 1000).await;
    let body = "x".repeat(StoredAnswer::BODY_BYTES_MAX);
    for (bad, reason) in [
        (StoredAnswer::json(503, &json!({})), None),
        (StoredAnswer::json(409, &json!({})), None),
        (StoredAnswer::json(200, &json!(body)), Some(AnswerError::TooLarge)),
    ] {
        let result = place.act(&it, fence, &bad).await;
        let why = |it: &StoreError| match (it, reason) {
            (StoreError::Answer(it), Some(reason)) => *it == reason,
            (StoreError::Answer(it), None) => matches!(it, AnswerError::NotFinal(_)),
            _ => false,
        };
        assert!(refused(&result, why), "{result:?}");
    }
    assert_eq!(place.effects().await, 0);
    let largest = StoredAnswer::json(200, &json!(body.get(2..)));
    place.act(&it, fence, &largest).await.unwrap();
    let Claim::Done(stored) = place.claim(&it, &json!(null), 9000).await else { panic!() };
    assert_eq!(stored, largest);
}

pub(crate) async fn what_is_fixed_has_a_bound(place: Place) {
    let it = attempt("user", "key", 1);
    let claim = place.database.transaction("claim", move |tx| {
        let fixed = json!("x".repeat(keys::FIXED_BYTES_MAX));
        keys::claim(tx, &it, &fixed, Timestamp::from_millis(0), &terms())
    });
    let refused = claim.await;
    assert!(matches!(refused, Err(TransactionError::Refused(StoreError::FixedTooLarge))));
}

pub(crate) async fn a_claim_can_be_extended_by_its_owner_alone(place: Place) {
    let it = attempt("user", "key", 1);
    let extend = async |fence, now| {
        let it = it.clone();
        let work = place.database.transaction("extend", move |tx| {
            keys::extend(tx, &it, fence, Timestamp::from_millis(now), &terms())
        });
        work.await.unwrap()
    };
    let first = place.work(&it, 1000).await;
    assert!(extend(first, 1900).await);
    assert!(matches!(place.claim(&it, &json!(null), 2500).await, Claim::InFlight { .. }));
    let second = place.work(&it, 2900).await;
    assert!(!extend(first, 3000).await);
    assert!(extend(second, 3000).await);
}

pub(crate) async fn cleaning_takes_what_expired_and_never_what_runs(place: Place) {
    let clean = async |now, limit| {
        let work = place.database.transaction("clean", move |tx| {
            keys::clean(tx, Timestamp::from_millis(now), &terms(), limit)
        });
        work.await.unwrap()
    };
    let (running, released) = (attempt("u", "running", 1), attempt("u", "released", 1));
    for number in 0..3 {
        let it = attempt("u", &format!("done-{number}"), 1);
        let fence = place.work(&it, 0).await;
        place.act(&it, fence, &answer("x")).await.unwrap();
    }
    let fence = place.work(&released, 0).await;
    assert!(release(&place, &released, fence).await);
    place.work(&running, 0).await;
    assert_eq!(clean(99_999, 10).await, 0, "nothing has expired");
    // In batches; done ones expire a life after their end at 0. The claimed one, as old as they
    // are, stays for a life after its lease.
    assert_eq!(clean(100_900, 2).await, 2);
    while clean(100_900, 2).await == 2 {}
    let looked = place.claim(&running, &json!(null), 100_950).await;
    assert!(matches!(looked, Claim::Resume { .. }), "{looked:?}");
    assert_eq!(clean(101_100, 10).await, 1, "the released one");
    for key in ["done-0", "done-2", "released"] {
        let it = attempt("u", key, 2);
        let Claim::Mine { fence } = place.claim(&it, &json!(null), 101_200).await else {
            panic!("{key} is still there")
        };
        assert_eq!(fence, Fence::FIRST);
    }
    // However old it is, a claim whose lease runs is not cleaned away.
    assert_eq!(clean(101_201, 10).await, 0);
    assert!(matches!(place.claim(&running, &json!(null), 101_201).await, Claim::InFlight { .. }));
    // At the very end everything goes.
    while clean(900_000, 2).await == 2 {}
    let Claim::Mine { fence } = place.claim(&running, &json!(null), 900_000).await else {
        panic!()
    };
    assert_eq!(fence, Fence::FIRST);
}
