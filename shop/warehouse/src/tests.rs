//! The service behind its real endpoints, twice on one database, on every engine.

mod rules;
mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tradewind::axum::extract::{Path, State};
use tradewind::axum::http::StatusCode;
use tradewind::axum::routing::{post, put};
use tradewind::axum::{Json, Router};
use tradewind::base::id::Xid;
use tradewind::base::{Clock as _, ManualClock, SystemClock};
use tradewind::host::testing::{Running, exchange};
use tradewind::message::Subscription;
use tradewind::service::config::{Reader, Sources};
use tradewind::service::{Shared, Stop};
use tradewind::sql::DatabaseUrl;

use crate::{Config, PLACED_PATH, subscription};
use support::{SHIP_AFTER, TRACE, Warehouse, at, until};

async fn all(url: &DatabaseUrl) {
    let clock = Arc::new(ManualClock::new());
    let a = Warehouse::start(url, &clock).await;
    let b = Warehouse::start(url, &clock).await;
    rules::an_order_is_received_once(&a, &b).await;
    rules::each_order_ships_once(&a, &b).await;
    rules::a_voided_order_never_ships(&a, &b).await;
    rules::a_void_row_absorbs_what_comes_late(&a, &b).await;
    rules::a_cancelled_void_lets_the_order_ship(&a, &b).await;
    rules::what_shipped_is_not_voided(&a, &b).await;
    rules::calls_out_of_order_change_nothing(&a, &b).await;
    rules::a_shipment_and_a_void_do_not_both_win(&a, &b).await;
    rules::a_message_and_a_void_at_once_agree(&a, &b).await;
    rules::what_is_no_order_is_a_dead_letter(&a).await;
    rules::a_message_days_after_its_void_breaks_nothing(&a).await;
    rules::the_schema_keeps_its_promises(&a).await;
}

/// R0.1, R5.3: an order that is placed ships once, one that is cancelled never does.
#[tokio::test]
async fn the_warehouse_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    all(&DatabaseUrl::sqlite(&folder.path().join("warehouse.db"))).await;
}

/// The same on a real server. `TRADEWIND_TEST_MYSQL_URL` is set by `cargo xtask test`.
#[cfg(feature = "services")]
#[tokio::test]
async fn the_warehouse_on_mysql() {
    all(&tradewind::host::testing::fresh_mysql("tradewind_test_warehouse")).await;
}

type Heard = Arc<Mutex<Vec<(String, Value)>>>;

/// A broker that takes everything and remembers it.
fn broker(heard: &Heard) -> Router {
    let publish = async |State(heard): State<Heard>,
                         headers: tradewind::axum::http::HeaderMap,
                         Json(mut body): Json<Value>| {
        let id = body["id"].clone();
        let trace = headers.get("traceparent").and_then(|it| it.to_str().ok()).unwrap_or("");
        body["trace"] = json!(trace);
        heard.lock().unwrap().push(("publish".to_owned(), body));
        Json(json!({"id": id, "state": "committed", "sequence": 1}))
    };
    let subscribe = async |State(heard): State<Heard>,
                           Path((who, topic)): Path<(String, String)>,
                           Json(body): Json<Value>| {
        heard.lock().unwrap().push((format!("{who} {topic}"), body));
        Json(json!({}))
    };
    Router::new()
        .route("/messages/v1/publish", post(publish))
        .route("/messages/v1/subscriptions/{who}/{topic}", put(subscribe))
        .with_state(Arc::clone(heard))
}

/// The background work alone: it subscribes, ships without being told and tells the broker, in the
/// trace of the order.
#[tokio::test]
async fn what_is_due_ships_by_itself_and_is_published() {
    let heard = Heard::default();
    let broker = Running::start("broker", broker(&heard)).await;
    let (folder, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::new()));
    let url = DatabaseUrl::sqlite(&folder.path().join("warehouse.db"));
    let warehouse = Warehouse::with(&url, &clock, &at("broker", &broker)).await;
    Subscription::declare(warehouse.broker.clone(), vec![subscription()], &warehouse.tasks);
    warehouse.outbox.relay(&warehouse.tasks);
    warehouse.shipper.start(&warehouse.tasks);
    warehouse.receive("o-1").await;
    clock.advance(SHIP_AFTER);
    let shipped_at = clock.now().millis();
    until(async || heard.lock().unwrap().len() == 2).await;
    let mut heard = heard.lock().unwrap().clone();
    heard.sort_by(|a, b| a.0.cmp(&b.0));
    let (what, publish) = &heard[0];
    assert_eq!((what.as_str(), &publish["topic"]), ("publish", &json!("order.shipped")));
    assert_eq!((&publish["key"], &publish["source"]), (&json!("o-1"), &json!("warehouse")));
    assert_eq!(publish["data"], json!({"order_id": "o-1", "shipped_at": shipped_at}));
    let trace = TRACE.split('-').nth(1).unwrap();
    assert!(publish["trace"].as_str().unwrap().contains(trace), "{publish}");
    let (what, subscribed) = &heard[1];
    assert_eq!(what, "warehouse order.placed");
    let wanted = json!({"service": "warehouse", "path": PLACED_PATH, "together": 32});
    assert_eq!(subscribed, &wanted);
}

#[tokio::test]
async fn outbound_orders_are_listed_for_services_alone() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::new()));
    let url = DatabaseUrl::sqlite(&folder.path().join("warehouse.db"));
    let warehouse = Warehouse::start(&url, &clock).await;
    for it in 0..5 {
        warehouse.receive(&format!("o-{it}")).await;
    }
    support::ok(&warehouse.void().reserve("o-3").await);
    let running = &warehouse.running;
    let get = async |path: &str| running.send("GET", path, &[running.caller("order")], "").await;
    let page = get("/outbound?state=received&page=2&size=3").await.json();
    let ids: Vec<_> = page["items"].as_array().unwrap().iter().map(|it| &it["order_id"]).collect();
    assert_eq!((ids, &page["total"]), (vec![&json!("o-0")], &json!(4)));
    assert_eq!(get("/outbound").await.json()["items"][1]["state"], "voiding");
    for (query, fields) in
        [("page=0", vec!["query:page"]), ("state=lost&size=101", vec!["query:size", "query:state"])]
    {
        let reply = get(&format!("/outbound?{query}")).await;
        let fields = fields.into_iter().map(str::to_owned).collect();
        assert_eq!(reply.problem(), ("warehouse.bad-query".to_owned(), fields), "{query}");
        assert_eq!(reply.status, 400);
    }
    let reply = get("/outbound/nobody").await;
    assert_eq!((reply.status, reply.problem().0.as_str()), (404, "warehouse.unknown-order"));
    for path in ["/outbound", "/outbound/o-1"] {
        for headers in [vec![], vec![running.user()]] {
            assert_eq!(running.send("GET", path, &headers, "").await.status, 403, "{path}");
        }
    }
}

#[test]
fn the_delay_is_a_setting() {
    let read = |file: &str| {
        let file = Some(("tradewind.toml".into(), file.to_owned()));
        let mut reader = Reader::new(Sources { file, environment: vec![], flags: vec![] });
        let config = Config::read(&mut reader);
        reader.finish().map(|_| config).map_err(|it| it.to_string())
    };
    let normal = read("").unwrap();
    assert_eq!((normal.ship_after, normal.bind().port()), (SHIP_AFTER, 9004));
    assert!(read("[warehouse]\nship_after = \"0s\"").unwrap().ship_after.is_zero());
    let error = read("[warehouse]\nship_after = \"soon\"").unwrap_err();
    assert!(error.contains("warehouse.ship_after"), "{error}");
}

/// The whole service, without a broker: it comes up all the same, answers, and ends when told to.
#[tokio::test]
async fn the_service_runs_and_stops() {
    let (told, mut registered) = tokio::sync::mpsc::channel(1);
    let register = async move |Json(body): Json<Value>| {
        let port = body["instance"]["port"]["$"].as_u64().unwrap();
        told.send(u16::try_from(port).unwrap()).await.unwrap();
        StatusCode::NO_CONTENT
    };
    let registry = Router::new().route("/eureka/apps/{app}", post(register));
    let registry = Running::start("registry", registry).await;
    let (folder, stop) = (tempfile::tempdir().unwrap(), Stop::manual());
    let clock = Arc::new(SystemClock::new());
    let url = format!("http://{}", registry.address());
    let shared = Shared::new(folder.path().to_owned(), registry.keys().clone(), clock, vec![url]);
    let mut config = Config::read(&mut Reader::new(Sources::default()));
    config.host.edge.bind.set_port(0);
    let running = crate::run(config, shared, stop.clone());
    let meanwhile = async {
        let address = SocketAddr::from(([127, 0, 0, 1], registered.recv().await.unwrap()));
        let caller = [registry.caller("order")];
        let list = exchange(address, "GET", "/outbound", &caller, "").await;
        assert_eq!((list.status, &list.json()["total"]), (200, &json!(0)));
        let unsigned = exchange(address, "POST", PLACED_PATH, &[], "{}").await;
        assert_eq!(unsigned.status, 401);
        let headers = [registry.caller("order"), ("content-type", "application/json".into())];
        let body = json!({"xid": Xid::from_u128(1), "branch": 1, "initiator": "order"}).to_string();
        let cancel = exchange(address, "POST", "/tcc/warehouse.void/cancel", &headers, &body).await;
        assert_eq!(cancel.status, 200, "{cancel:?}");
        stop.now();
    };
    let both = Box::pin(async { tokio::join!(running, meanwhile) });
    tokio::time::timeout(Duration::from_secs(30), both).await.unwrap().0.unwrap();
    assert!(folder.path().join("warehouse.db").is_file());
}
