//! The way of an order with `order.transactions = "coordinator"`: the same scenarios as with the
//! embedded engine, and those that only a coordinator can spoil.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tradewind::base::{Clock, SystemClock, Tasks};
use tradewind::call::{Client, Identity};
use tradewind::discovery::ServiceName;
use tradewind::host::testing::Running;
use tradewind::service::Keys;
use tradewind::service::axum::extract::Request;
use tradewind::service::axum::http::StatusCode;
use tradewind::service::axum::middleware::{Next, from_fn};
use tradewind::service::axum::response::IntoResponse as _;
use tradewind::sql::{Database, DatabaseUrl, Options};
use tradewind::transaction::{Peers, Setup};
use tradewind_coordinator::SERVICE;

use super::support::*;
use super::{cancelling, crashes, placing};

/// A coordinator, and a network that can lose what it says.
struct Coordinator {
    running: Running,
    loses: Arc<AtomicBool>,
    _tasks: Tasks,
    _folder: tempfile::TempDir,
}

/// One that loses the answers to requests whose path ends like this, once it is told to.
async fn coordinator(shop: &Shop, lost: &'static str) -> Coordinator {
    let (folder, tasks) = (tempfile::tempdir().unwrap(), Tasks::new());
    let url = DatabaseUrl::sqlite(&folder.path().join("coordinator.db"));
    let migrations = tradewind_coordinator::MIGRATIONS;
    let log = Database::open(&url, Options::default(), SERVICE, migrations).unwrap();
    let keys = Keys::from_secret(&[7; 32]).unwrap();
    let identity = Identity::new(ServiceName::parse(SERVICE).unwrap(), keys.seal().clone());
    let peers = Peers::new(shop.discovery().clone(), Client::standard(&tasks), identity);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let engine = Setup::new(log.clone(), clock, peers).settings(quick()).start(&tasks);
    let loses = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&loses);
    let layer = from_fn(move |request: Request, next: Next| {
        let switch = Arc::clone(&switch);
        async move {
            let meant = request.uri().path().ends_with(lost);
            let answer = next.run(request).await;
            if meant && switch.load(Ordering::SeqCst) {
                return StatusCode::BAD_GATEWAY.into_response();
            }
            answer
        }
    });
    let router = tradewind_coordinator::router(engine, log).layer(layer);
    let running = Running::start(SERVICE, router).await;
    Coordinator { running, loses, _tasks: tasks, _folder: folder }
}

async fn coordinated(place_ms: u64, lease: Option<Duration>) -> (Shop, Coordinator) {
    that_loses("/nothing", place_ms, lease).await
}

async fn that_loses(
    lost: &'static str,
    place_ms: u64,
    lease: Option<Duration>,
) -> (Shop, Coordinator) {
    let shop = shop(settings(place_ms), lease).await;
    let coordinator = coordinator(&shop, lost).await;
    let at = Some(coordinator.running.address());
    (shop.coordinated(at, settings(place_ms), lease).await, coordinator)
}

/// R5.2
#[tokio::test]
async fn an_order_is_placed_once_and_found_again() {
    let (shop, _coordinator) = coordinated(2000, None).await;
    placing::an_order_is_placed(&shop).await;
}

#[tokio::test]
async fn an_order_fails_cleanly_while_points_are_away() {
    let (shop, _coordinator) = coordinated(800, None).await;
    placing::points_are_away(&shop).await;
}

#[tokio::test]
async fn a_refusal_of_inventory_is_told_in_its_words() {
    let (shop, _coordinator) = coordinated(2000, None).await;
    placing::inventory_refuses(&shop).await;
}

#[tokio::test]
async fn the_same_key_at_once_is_one_order() {
    let (shop, _coordinator) = coordinated(2000, None).await;
    placing::the_same_key_at_once(&shop).await;
}

#[tokio::test]
async fn an_order_is_cancelled_unless_it_shipped() {
    let (shop, _coordinator) = coordinated(2000, None).await;
    cancelling::an_order_is_cancelled(&shop).await;
}

#[tokio::test]
async fn a_cancellation_that_is_refused_leaves_the_order_placed() {
    let (shop, _coordinator) = coordinated(2000, None).await;
    cancelling::refused(&shop).await;
}

#[tokio::test]
async fn while_an_order_is_being_cancelled_nothing_else_happens_to_it() {
    let (shop, _coordinator) = coordinated(2000, None).await;
    cancelling::nothing_else_happens(&shop).await;
}

#[tokio::test]
async fn a_repeat_after_a_crash_resumes_the_same_transaction() {
    let (shop, _coordinator) = coordinated(20_000, Some(crashes::LEASE)).await;
    crashes::resumes(shop).await;
}

#[tokio::test]
async fn a_repeat_after_the_deadline_begins_another_once_the_first_is_aborted() {
    let (shop, _coordinator) = coordinated(300, Some(crashes::LEASE)).await;
    crashes::begins_another(shop).await;
}

#[tokio::test]
async fn what_nobody_repeats_is_aborted_at_its_deadline() {
    let (shop, _coordinator) = coordinated(300, None).await;
    crashes::aborts(shop).await;
}

#[tokio::test]
async fn an_order_that_was_placed_before_a_crash_is_confirmed_after_it() {
    let (shop, _coordinator) = coordinated(2000, None).await;
    crashes::confirms(shop).await;
}

/// R5.2
#[cfg(feature = "services")]
#[tokio::test]
async fn orders_on_mysql() {
    let shop = mysql_shop("coordinated", settings(2000), None).await;
    let coordinator = coordinator(&shop, "/nothing").await;
    let at = Some(coordinator.running.address());
    let shop = shop.coordinated(at, settings(2000), None).await;
    placing::an_order_is_placed(&shop).await;
    cancelling::an_order_is_cancelled(&shop).await;
}

/// It is sure that nothing was ordered: nothing ever left the order service.
#[tokio::test]
async fn without_a_coordinator_an_order_fails_cleanly() {
    let shop = shop(settings(400), None).await.coordinated(None, settings(400), None).await;
    for key in ["key-1", "key-1"] {
        let reply = shop.place(key, &basket(&[(1, 2)])).await;
        assert_eq!((reply.status, reply.problem().0.as_str()), (503, "order.unavailable"));
        assert_eq!(reply.problem().1, ["service:coordinator"]);
    }
    assert_eq!(shop.states().await, [("failed".to_owned(), 2)].into());
    assert!(shop.seen("inventory.reserve", "try").is_empty());
    assert_eq!(shop.violations().await, []);
}

/// The decision is taken and nobody hears of it: 202, and the order is placed all the same.
#[tokio::test]
async fn an_order_whose_decision_is_not_heard_is_unknown_and_becomes_placed() {
    let (shop, coordinator) = that_loses("/commit", 2000, Some(crashes::LEASE)).await;
    coordinator.loses.store(true, Ordering::SeqCst);
    let body = basket(&[(1, 2)]);
    let reply = shop.place("key-1", &body).await;
    assert_eq!((reply.status, reply.json()["state"].as_str()), (202, Some("unknown")));
    let id = reply.json()["order_id"].as_str().unwrap().to_owned();
    until(async || shop.state(&id).await == "placed").await;
    let mut again = shop.place("key-1", &body).await;
    until(async || {
        if again.status == 409 {
            again = shop.place("key-1", &body).await;
        }
        again.status != 409
    })
    .await;
    assert_eq!((again.status, again.json()["id"].as_str()), (201, Some(id.as_str())));
    assert_eq!(shop.states().await, [("placed".to_owned(), 1)].into());
    // A cancellation likewise.
    let reply = shop.cancel(ALICE, &id).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    until(async || shop.state(&id).await == "cancelled").await;
    assert_eq!(shop.cancel(ALICE, &id).await.status, 200);
    assert_eq!(shop.violations().await, []);
}

/// The abort is taken and nobody hears of it: 202, and the order fails.
#[tokio::test]
async fn a_refusal_whose_abort_is_not_heard_is_unknown_and_becomes_a_failure() {
    let (shop, coordinator) = that_loses("/abort", 2000, Some(crashes::LEASE)).await;
    coordinator.loses.store(true, Ordering::SeqCst);
    shop.feels("inventory.reserve", Some(Mood::Refuses("inventory.insufficient")));
    let reply = shop.place("key-1", &basket(&[(1, 2)])).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    let id = reply.json()["order_id"].as_str().unwrap().to_owned();
    until(async || shop.state(&id).await == "failed").await;
    assert_eq!(shop.seen("points.credit", "confirm").len(), 0);
    assert_eq!(shop.violations().await, []);
}
