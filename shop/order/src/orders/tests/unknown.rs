//! The connection to the database is lost at the COMMIT that decides: the answer was there before, or
//! is 202, and looking or repeating tells what became of it.

use std::time::Duration;

use serde_json::Value;
use tradewind::host::testing::Reply;

use super::between::{Between, CUT_AFTER, CUT_BEFORE, PASS};
use super::crashes::died_trying;
use super::support::*;

const LEASE: Duration = Duration::from_millis(200);

async fn shop_behind(name: &str, place_ms: u64) -> (Shop, Between) {
    let between = Between::start(&format!("tradewind_test_unknown_{name}"));
    let folder = tempfile::tempdir().unwrap();
    let shop = shop_at(between.url.clone(), folder, settings(place_ms), Some(LEASE)).await;
    (shop, between)
}

/// The order's id and its path, out of an answer to `base` that does not know.
fn where_to_look(reply: &Reply, base: &str) -> (String, String) {
    assert_eq!(reply.status, 202, "{reply:?}");
    let id = reply.json()["order_id"].as_str().unwrap().to_owned();
    let path = format!("/orders/{id}");
    // Relative, so that it is right behind a gateway too.
    assert_eq!(reply.header("location"), format!("{base}{id}"), "{reply:?}");
    assert_eq!(reply.json()["location"], format!("{base}{id}"), "{reply:?}");
    assert_eq!(reply.json()["state"], "unknown");
    (id, path)
}

/// Repeats until the answer is definite.
async fn repeated(shop: &Shop, key: &str, body: &Value) -> Reply {
    let mut reply = shop.place(key, body).await;
    until(async || {
        if matches!(reply.status, 202 | 409 | 503) {
            reply = shop.place(key, body).await;
        }
        !matches!(reply.status, 202 | 409 | 503)
    })
    .await;
    reply
}

/// R4.2: it is answered before it is written down, and is placed whatever becomes of that: by another
/// attempt to write it down.
#[tokio::test]
async fn an_answered_order_is_placed_although_its_commit_got_lost() {
    for (name, what) in [("answered_after", CUT_AFTER), ("answered_before", CUT_BEFORE)] {
        let (shop, between) = shop_behind(name, 5000).await;
        shop.at_first_try(&between.at_commit, what);
        let body = basket(&[(1, 2)]);
        let reply = shop.place("key-1", &body).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        between.does(PASS);
        let id = reply.json()["id"].as_str().unwrap().to_owned();
        until(async || shop.state(&id).await == "placed").await;
        let again = repeated(&shop, "key-1", &body).await;
        assert_eq!((again.status, again.json()), (201, reply.json()));
        assert_eq!(again.header("idempotency-replayed"), "true", "{again:?}");
        carried_out(&shop).await;
    }
}

/// Nobody can write it down until its process has given up: then the deadline finds out.
#[tokio::test]
async fn an_answered_order_is_placed_at_its_deadline_at_the_latest() {
    let (shop, between) = shop_behind("deadline", 1000).await;
    shop.at_first_try(&between.at_commit, CUT_BEFORE);
    let reply = shop.place("key-1", &basket(&[(1, 2)])).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    let id = reply.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(shop.state(&id).await, "placing", "who asks waits no longer than for a while");
    between.does(PASS);
    until(async || shop.state(&id).await == "placed").await;
    carried_out(&shop).await;
}

/// R4.2: for what an earlier attempt had begun, an answer waits for the decision. It was taken and
/// nobody could tell, or not; a look or a repeat tells.
#[tokio::test]
async fn a_resumed_order_whose_commit_got_lost_is_placed() {
    for (name, what) in [("resumed_after", CUT_AFTER), ("resumed_before", CUT_BEFORE)] {
        let (mut shop, between) = shop_behind(name, 10_000).await;
        let xid = died_trying(&mut shop, 10_000, LEASE).await;
        let body = basket(&[(1, 2)]);
        let attempt = async || {
            between.does(PASS);
            shop.at_first_try(&between.at_commit, what);
            shop.place("key-1", &body).await
        };
        let mut reply = attempt().await;
        until(async || {
            // In flight still, or a late Try of the dead attempt cut the begin of this one.
            if matches!(reply.status, 409 | 503) {
                reply = attempt().await;
            }
            !matches!(reply.status, 409 | 503)
        })
        .await;
        between.does(PASS);
        let (id, path) = where_to_look(&reply, "orders/");
        until(async || shop.get(ALICE, &path).await.status == 200).await;
        let again = repeated(&shop, "key-1", &body).await;
        let (placed, same) = (again.json(), (Some(id.as_str()), Some(xid.as_str())));
        assert_eq!(again.status, 201, "{again:?}");
        assert_eq!((placed["id"].as_str(), placed["xid"].as_str()), same);
        carried_out(&shop).await;
    }
}

/// Every branch is confirmed, and the books are right.
async fn carried_out(shop: &Shop) {
    for action in ["inventory.reserve", "points.credit", "message"] {
        until(async || !shop.seen(action, "confirm").is_empty()).await;
        assert_eq!(shop.seen(action, "cancel").len(), 0);
    }
    assert_eq!(shop.states().await, [("placed".to_owned(), 1)].into());
    assert_eq!(shop.violations().await, []);
}

/// A refusal whose abort got lost is not known either, and becomes definite.
#[tokio::test]
async fn a_refusal_whose_abort_got_lost_becomes_a_failure() {
    for (name, what) in [("refused_after", CUT_AFTER), ("refused_before", CUT_BEFORE)] {
        let (shop, between) = shop_behind(name, 1000).await;
        shop.feels("inventory.reserve", Some(Mood::Refuses("inventory.insufficient")));
        shop.at_first_try(&between.at_commit, what);
        let body = basket(&[(1, 2)]);
        let reply = shop.place("key-1", &body).await;
        between.does(PASS);
        let (id, _) = where_to_look(&reply, "orders/");
        until(async || shop.state(&id).await == "failed").await;
        until(async || !shop.seen("points.credit", "cancel").is_empty()).await;
        shop.feels("inventory.reserve", None);
        if what == CUT_AFTER {
            // The refusal was stored with the abort: it stays one.
            let again = shop.place("key-1", &body).await;
            assert_eq!((again.status, &*again.problem().0), (409, "inventory.insufficient"));
        } else {
            let again = repeated(&shop, "key-1", &body).await;
            assert_eq!(again.status, 201, "{again:?}");
        }
        assert_eq!(shop.violations().await, []);
    }
}

/// A cancellation nobody could tell about: looking and repeating both become definite.
#[tokio::test]
async fn a_cancellation_whose_commit_got_lost_becomes_definite() {
    for (name, what) in [("cancel_after", CUT_AFTER), ("cancel_before", CUT_BEFORE)] {
        let (shop, between) = shop_behind(name, 5000).await;
        let placed = shop.place("key-1", &basket(&[(1, 2)])).await;
        assert_eq!(placed.status, 201, "{placed:?}");
        let id = placed.json()["id"].as_str().unwrap().to_owned();
        shop.at_first_try(&between.at_commit, what);
        let reply = shop.cancel(ALICE, &id).await;
        between.does(PASS);
        assert_eq!(where_to_look(&reply, "../").0, id);
        let definite = if what == CUT_AFTER { "cancelled" } else { "placed" };
        until(async || shop.state(&id).await == definite).await;
        let again = shop.cancel(ALICE, &id).await;
        assert_eq!((again.status, &again.json()["state"]), (200, &"cancelled".into()), "{again:?}");
        for action in ["warehouse.void", "inventory.restock", "points.revoke"] {
            until(async || shop.seen(action, "confirm").len() == 1).await;
            let undone = usize::from(what == CUT_BEFORE);
            until(async || shop.seen(action, "cancel").len() == undone).await;
        }
        assert_eq!(shop.violations().await, []);
    }
}

/// Nothing can be placed before the begin is durable, so a begin that got lost is a failure that
/// says to repeat; what it left is taken up by the repeat, or ends by itself.
#[tokio::test]
async fn a_begin_that_got_lost_is_repeated_with_the_same_key() {
    for (name, what) in [("begin_after", CUT_AFTER), ("begin_before", CUT_BEFORE)] {
        let (shop, between) = shop_behind(name, 5000).await;
        between.does(what);
        let body = basket(&[(1, 2)]);
        let reply = shop.place("key-1", &body).await;
        between.does(PASS);
        assert_eq!((reply.status, reply.problem().0.as_str()), (503, "order.database-unavailable"));
        assert!(shop.seen("inventory.reserve", "try").is_empty());
        let again = repeated(&shop, "key-1", &body).await;
        assert_eq!(again.status, 201, "{again:?}");
        assert_eq!(shop.states().await, [("placed".to_owned(), 1)].into());
        let id = again.json()["id"].as_str().unwrap().to_owned();
        between.does(what);
        let reply = shop.cancel(ALICE, &id).await;
        between.does(PASS);
        assert_eq!(reply.status, 503, "{reply:?}");
        until(async || shop.cancel(ALICE, &id).await.status == 200).await;
        assert_eq!(shop.state(&id).await, "cancelled");
        assert_eq!(shop.violations().await, []);
    }
}
