//! The server as it is started: settings, database, registration, end, and start again.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tradewind_base::SystemClock;
use tradewind_host::testing::{Running, exchange};
use tradewind_service::axum::Router;
use tradewind_service::axum::body::Bytes;
use tradewind_service::axum::http::StatusCode;
use tradewind_service::axum::routing::{delete, post};
use tradewind_service::config::{Reader, Sources};
use tradewind_service::{Keys, Shared, Stop};

use crate::Config;

const LIMIT: Duration = Duration::from_secs(30);

/// Something that takes registrations, and tells the port of each.
async fn registry(told: watch::Sender<u16>) -> Running {
    let register = post(move |body: Bytes| async move {
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["instance"]["app"], "COORDINATOR");
        let port = body["instance"]["port"]["$"].as_u64().unwrap();
        told.send_replace(u16::try_from(port).unwrap());
        StatusCode::NO_CONTENT
    });
    let leave = delete(async || StatusCode::OK).put(async || StatusCode::OK);
    let router =
        Router::new().route("/eureka/apps/{app}", register).route("/eureka/apps/{app}/{id}", leave);
    Running::start("registry", router).await
}

/// Runs a coordinator over `data` while `work` talks to it.
async fn while_it_runs(
    registry: &Running,
    port: &mut watch::Receiver<u16>,
    data: &Path,
    work: impl AsyncFnOnce(SocketAddr),
) {
    let keys = Keys::from_secret(&[7; 32]).unwrap();
    let urls = vec![format!("http://{}", registry.address())];
    let shared = Shared::new(data.to_owned(), keys, Arc::new(SystemClock::new()), urls);
    let file = Some(("tradewind.toml".into(), "[coordinator]\nbind = \"127.0.0.1:0\"".to_owned()));
    let mut reader = Reader::new(Sources { file, environment: vec![], flags: vec![] });
    let config = Config::read(&mut reader);
    reader.finish().unwrap();
    let stop = Stop::manual();
    let meanwhile = async {
        port.changed().await.unwrap();
        let at = *port.borrow_and_update();
        work(SocketAddr::from(([127, 0, 0, 1], at))).await;
        stop.now();
    };
    let both = async { tokio::join!(crate::run(config, shared, stop.clone()), meanwhile) };
    let (ended, ()) = tokio::time::timeout(LIMIT, both).await.unwrap();
    ended.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_begun_survives_a_restart() {
    let (told, mut port) = watch::channel(0);
    let registry = registry(told).await;
    let folder = tempfile::tempdir().unwrap();
    let path = "/coordinator/v1/transactions";
    let headers = [registry.caller("order"), ("content-type", "application/json".to_owned())];
    let mut xid = String::new();
    while_it_runs(&registry, &mut port, folder.path(), async |at| {
        let body = json!({"name": "place", "limit_ms": 600_000,
            "branches": [{"service": "inventory", "action": "stock", "payload": 1}]});
        let reply = exchange(at, "POST", path, &headers, &body.to_string()).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        reply.json()["xid"].as_str().unwrap().clone_into(&mut xid);
        let document = exchange(at, "GET", "/coordinator/v1/openapi.json", &[], "").await;
        assert_eq!(document.json()["openapi"], "3.1.0");
    })
    .await;
    assert!(folder.path().join("coordinator.db").is_file());
    while_it_runs(&registry, &mut port, folder.path(), async |at| {
        let reply = exchange(at, "GET", &format!("{path}/{xid}"), &headers, "").await;
        assert_eq!(reply.json()["phase"], "trying", "{reply:?}");
    })
    .await;
}
