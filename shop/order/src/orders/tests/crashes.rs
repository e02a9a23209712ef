//! The order service dies between its durable steps, on SQLite and on MySQL.

use std::time::Duration;

use super::support::*;

/// How long a claim of a key counts where a test repeats a request after a crash.
pub(super) const LEASE: Duration = Duration::from_millis(200);

/// The order service dies while the Trys are on their way; the xid of what it began.
pub(super) async fn died_trying(shop: &mut Shop, limit: u64, lease: Duration) -> String {
    shop.feels("message", Some(Mood::Hangs));
    let body = basket(&[(1, 2)]);
    tokio::select! {
        reply = shop.place("key-1", &body) => panic!("{reply:?}"),
        () = until(async || !shop.seen("message", "try").is_empty()) => {}
    }
    shop.restart(settings(limit), Some(lease)).await;
    shop.feels("message", None);
    shop.seen("message", "try")[0].body["xid"].as_str().unwrap().to_owned()
}

/// JOIN-2: a repeat goes on with the same order and the same xid.
#[tokio::test]
async fn a_repeat_after_a_crash_resumes_the_same_transaction() {
    resumes(shop(settings(20_000), Some(LEASE)).await).await;
}

pub(super) async fn resumes(mut shop: Shop) {
    let xid = died_trying(&mut shop, 20_000, LEASE).await;
    let body = basket(&[(1, 2)]);
    let mut reply = shop.place("key-1", &body).await;
    until(async || {
        if reply.status == 409 {
            assert_eq!(reply.problem().0, "idempotency.in-flight");
            reply = shop.place("key-1", &body).await;
        }
        reply.status != 409
    })
    .await;
    assert_eq!((reply.status, reply.json()["xid"].as_str()), (201, Some(xid.as_str())));
    assert_eq!(shop.states().await, [("placed".to_owned(), 1)].into());
    until(async || shop.seen("points.credit", "confirm").len() == 1).await;
    assert_eq!(shop.violations().await, []);
}

/// Another xid begins only after the first is aborted for good.
#[tokio::test]
async fn a_repeat_after_the_deadline_begins_another_once_the_first_is_aborted() {
    begins_another(shop(settings(300), Some(LEASE)).await).await;
}

pub(super) async fn begins_another(mut shop: Shop) {
    let xid = died_trying(&mut shop, 2000, LEASE).await;
    let body = basket(&[(1, 2)]);
    let mut reply = shop.place("key-1", &body).await;
    until(async || {
        if reply.status == 409 {
            reply = shop.place("key-1", &body).await;
        }
        reply.status != 409
    })
    .await;
    assert_eq!(reply.status, 201, "{reply:?}");
    assert_ne!(reply.json()["xid"].as_str(), Some(xid.as_str()));
    let states = [("failed".to_owned(), 1), ("placed".to_owned(), 1)];
    assert_eq!(shop.states().await, states.into());
    let cancelled = |it: &Seen| it.body["xid"] == xid.as_str();
    until(async || shop.seen("inventory.reserve", "cancel").iter().any(cancelled)).await;
    assert_eq!(shop.violations().await, []);
}

/// Nobody repeats: the deadline ends it, also in another process.
#[tokio::test]
async fn what_nobody_repeats_is_aborted_at_its_deadline() {
    aborts(shop(settings(300), None).await).await;
}

pub(super) async fn aborts(mut shop: Shop) {
    let xid = died_trying(&mut shop, 300, Duration::from_secs(60)).await;
    until(async || shop.states().await.contains_key("failed")).await;
    let id = shop.get(ALICE, "/orders").await.json()["items"][0]["id"].clone();
    let failed = shop.get(ALICE, &format!("/orders/{}", id.as_str().unwrap())).await.json();
    assert!(failed["reason"].as_str().is_some_and(|it| it.contains("time")), "{failed}");
    let cancelled = |it: &Seen| it.body["xid"] == xid.as_str();
    until(async || shop.seen("points.credit", "cancel").iter().any(cancelled)).await;
    assert_eq!(shop.seen("points.credit", "confirm").len(), 0);
    assert_eq!(shop.violations().await, []);
}

/// TX-1: what was decided is carried out by whoever comes next.
#[tokio::test]
async fn an_order_that_was_placed_before_a_crash_is_confirmed_after_it() {
    confirms(shop(settings(2000), None).await).await;
}

pub(super) async fn confirms(mut shop: Shop) {
    shop.feels("inventory.reserve", Some(Mood::Leaves));
    let body = basket(&[(1, 2)]);
    let reply = shop.place("key-1", &body).await;
    assert_eq!(reply.status, 201, "placed is placed, whoever is away now: {reply:?}");
    until(async || !shop.seen("inventory.reserve", "confirm").is_empty()).await;
    shop.restart(settings(2000), None).await;
    shop.feels("inventory.reserve", None);
    let order = reply.json();
    let path = format!("/orders/{}/trail", order["id"].as_str().unwrap());
    until(async || shop.get(ALICE, &path).await.json()["phase"] == "committed").await;
    assert!(shop.seen("inventory.reserve", "cancel").is_empty());
    let again = shop.place("key-1", &body).await;
    assert_eq!((again.status, again.json()), (201, order));
    assert_eq!(shop.violations().await, []);
}

#[cfg(feature = "services")]
mod on_mysql {
    use super::*;

    #[tokio::test]
    async fn a_repeat_after_a_crash_resumes_the_same_transaction() {
        resumes(mysql_shop("resumes", settings(20_000), Some(LEASE)).await).await;
    }

    #[tokio::test]
    async fn a_repeat_after_the_deadline_begins_another_once_the_first_is_aborted() {
        begins_another(mysql_shop("begins", settings(300), Some(LEASE)).await).await;
    }

    #[tokio::test]
    async fn what_nobody_repeats_is_aborted_at_its_deadline() {
        aborts(mysql_shop("aborts", settings(300), None).await).await;
    }

    #[tokio::test]
    async fn an_order_that_was_placed_before_a_crash_is_confirmed_after_it() {
        confirms(mysql_shop("confirms", settings(2000), None).await).await;
    }
}
