//! The server as it is started: settings, database, registration, end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tradewind_base::SystemClock;
use tradewind_broker::Config;
use tradewind_host::testing::{Running, exchange};
use tradewind_service::axum::Router;
use tradewind_service::axum::body::Bytes;
use tradewind_service::axum::http::StatusCode;
use tradewind_service::axum::routing::{delete, post};
use tradewind_service::config::{Reader, Sources};
use tradewind_service::{Keys, Shared, Stop};

use crate::support::{Estate, until};

#[tokio::test]
async fn it_registers_serves_and_ends_in_order() {
    let port = Arc::new(AtomicU16::new(0));
    let told = Arc::clone(&port);
    let register = post(move |body: Bytes| async move {
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["instance"]["app"], "BROKER");
        let at = body["instance"]["port"]["$"].as_u64().unwrap();
        told.store(u16::try_from(at).unwrap(), Ordering::SeqCst);
        StatusCode::NO_CONTENT
    });
    let leave = delete(async || StatusCode::OK).put(async || StatusCode::OK);
    let router =
        Router::new().route("/eureka/apps/{app}", register).route("/eureka/apps/{app}/{id}", leave);
    let registry = Running::start("registry", router).await;
    let folder = tempfile::tempdir().unwrap();
    let keys = Keys::from_secret(&[7; 32]).unwrap();
    let urls = vec![format!("http://{}", registry.address())];
    let shared = Shared::new(folder.path().to_owned(), keys, Arc::new(SystemClock::new()), urls);
    let file = Some(("tradewind.toml".into(), "[broker]\nbind = \"127.0.0.1:0\"".to_owned()));
    let mut reader = Reader::new(Sources { file, environment: vec![], flags: vec![] });
    let config = Config::read(&mut reader);
    reader.finish().unwrap();
    let stop = Stop::manual();
    let meanwhile = async {
        until("registered", async || port.load(Ordering::SeqCst) != 0).await;
        let address = ([127, 0, 0, 1], port.load(Ordering::SeqCst)).into();
        let described = exchange(address, "GET", "/openapi.json", &[], "").await;
        assert_eq!(described.status, 200);
        let draft = Estate::new().draft("order.placed", "ord_1");
        let body = serde_json::to_string(&draft.publish()).unwrap();
        let headers = [registry.caller("order"), ("content-type", "application/json".to_owned())];
        let path = "/messages/v1/publish";
        let reply = exchange(address, "POST", path, &headers, &body).await;
        assert_eq!(reply.json()["state"], "parked-unrouted", "{reply:?}");
        stop.now();
    };
    let run = Box::pin(tradewind_broker::run(config, shared, stop.clone()));
    let both = async { tokio::join!(run, meanwhile) };
    let (ended, ()) = tokio::time::timeout(Duration::from_secs(30), both).await.unwrap();
    ended.unwrap();
    assert!(folder.path().join("broker.db").is_file());
}
