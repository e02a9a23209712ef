//! The native interface.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::Instant;

use crate::support::{LIMIT, eventually, instance, local, node};

/// A port that nobody listens on any more, as a killed process leaves it.
async fn closed_port() -> u16 {
    TcpListener::bind(local()).await.unwrap().local_addr().unwrap().port()
}

/// R1.2: a new instance is visible to subscribers at once.
#[tokio::test]
async fn a_watch_sees_arrivals_changes_and_departures() {
    let (node, http) = node(|_| {}).await;
    http.registered(&instance("orders", "old", 80, 90)).await;
    let mut watch = http.watch("services=orders,pay").await;
    let first = watch.next().await.unwrap()["snapshot"].clone();
    assert_eq!(first["services"]["orders"][0]["id"], "old");
    assert_eq!(first["services"]["pay"], json!([]), "every service asked for has an entry");
    http.registered(&instance("other", "x", 80, 90)).await;
    http.registered(&instance("pay", "p", 8080, 90)).await;
    let change = watch.event().await["change"].clone();
    assert_eq!(
        change["upsert"],
        json!([{"id": "p", "service": "pay", "host": "127.0.0.1", "port": 8080, "secure": false,
                "status": "UP", "metadata": {"version": "current"}}])
    );
    assert!(first["revision"].as_u64() < change["revision"].as_u64());
    http.put("/eureka/apps/PAY/p/status?value=DOWN").await;
    assert_eq!(watch.event().await["change"]["upsert"][0]["status"], "DOWN");
    http.delete("/eureka/apps/PAY/p").await;
    let gone = watch.event().await["change"]["remove"].clone();
    assert_eq!(gone, json!([{"service": "pay", "id": "p", "why": "cancelled"}]));
    node.stop().await;
    assert_eq!(
        watch.next().await.map(|it| it.get("ping").is_some()),
        None,
        "it ends with the node"
    );
}

/// R1.2: a dead instance is gone from every subscriber when its lease ends.
#[tokio::test]
async fn a_watch_sees_an_expiry_and_pings() {
    let (node, http) = node(|_| {}).await;
    let mut watch = http.watch("services=orders").await;
    let first = watch.next().await.unwrap()["snapshot"].clone();
    assert_eq!(first["warm"], false, "it has just started");
    let ping = watch.next().await.unwrap()["ping"].clone();
    assert_eq!(ping["revision"], first["revision"]);
    http.registered(&instance("orders", "a", 80, 1)).await;
    assert_eq!(watch.event().await["change"]["upsert"][0]["id"], "a");
    assert_eq!(watch.event().await["change"]["remove"][0]["why"], "expired");
    node.stop().await;
}

#[tokio::test]
async fn a_watch_resumes_where_it_ended_or_begins_anew() {
    let (node, http) = node(|config| config.limits.history_max = 4).await;
    let first = http.watch("services=orders").await.next().await.unwrap()["snapshot"].clone();
    let (epoch, revision) = (first["epoch"].as_str().unwrap(), first["revision"].as_u64().unwrap());
    for id in ["a", "b"] {
        http.registered(&instance("orders", id, 80, 90)).await;
    }
    let query = format!("services=orders&epoch={epoch}&revision={revision}");
    let mut resumed = http.watch(&query).await;
    assert_eq!(resumed.next().await.unwrap()["resume"]["revision"], revision);
    let missed = resumed.event().await["change"].clone();
    assert_eq!(missed["upsert"].as_array().unwrap().len(), 2);
    for query in [
        format!("services=orders&epoch=other&revision={revision}"),
        format!("services=orders&epoch={epoch}&revision=99"),
        format!("services=orders&epoch={epoch}"),
    ] {
        let line = http.watch(&query).await.next().await.unwrap();
        assert!(line.get("snapshot").is_some(), "{query}: {line}");
    }
    for id in ["c", "d", "e"] {
        http.registered(&instance("orders", id, 80, 90)).await;
    }
    let line = http.watch(&query).await.next().await.unwrap();
    assert!(line.get("snapshot").is_some(), "the history does not reach that far back: {line}");
    node.stop().await;
}

#[tokio::test]
async fn a_watcher_that_does_not_read_is_cut() {
    let (node, http) = node(|config| {
        config.limits.history_max = 64;
        config.limits.metadata_bytes_max = 200_000;
    })
    .await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut slow = socket.connect(node.local_addr()).await.unwrap();
    slow.write_all(
        b"GET /tradewind/v1/watch?services=orders HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    )
    .await
    .unwrap();
    for n in 0..160 {
        let mut big = instance("orders", &format!("i{n}"), 80, 90);
        big["instance"]["metadata"]["k"] = "v".repeat(100_000).into();
        http.registered(&big).await;
    }
    let mut read = Vec::new();
    tokio::time::timeout(LIMIT, slow.read_to_end(&mut read)).await.unwrap().unwrap();
    assert!(read.len() < 160 * 100_000, "it was told everything");
    eventually("its place is free", || async {
        http.get("/tradewind/v1/status").await.json()["watchers"] == 0
    })
    .await;
    node.stop().await;
}

#[tokio::test]
async fn streams_beyond_the_bound_are_refused() {
    let (node, http) = node(|config| config.watchers_max = 1).await;
    let mut watch = http.watch("services=orders").await;
    watch.next().await.unwrap();
    let refused = http.get("/tradewind/v1/watch?services=orders").await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "1"));
    assert_eq!(refused.header("content-type"), "application/problem+json");
    drop(watch);
    eventually("the place is free again", || async {
        http.get("/tradewind/v1/status").await.json()["watchers"] == 0
    })
    .await;
    http.watch("services=orders").await.next().await.unwrap();
    node.stop().await;
}

/// R1.7: a killed instance with a lease of 90 s is out of the list well within 5 s.
#[tokio::test]
async fn a_suspect_that_refuses_is_removed_at_once() {
    let (node, http) = node(|_| {}).await;
    http.registered(&instance("orders", "dead", closed_port().await, 90)).await;
    let mut watch = http.watch("services=orders").await;
    watch.next().await.unwrap();
    let report = json!({"service": "orders", "id": "dead", "reason": "refused", "by": "gateway"});
    let start = Instant::now();
    let json = http.with("content-type", "application/json");
    let answer = json.send("POST", "/tradewind/v1/suspicions", report.to_string()).await;
    assert_eq!(answer.status, 202);
    let gone = watch.event().await["change"]["remove"].clone();
    assert_eq!(gone, json!([{"service": "orders", "id": "dead", "why": "refused"}]));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(http.put("/eureka/apps/ORDERS/dead").await, 404, "if it lives, it registers again");
    node.stop().await;
}

#[tokio::test]
async fn a_suspect_that_answers_stays_and_is_cleared() {
    let (node, http) = node(|_| {}).await;
    let listener = TcpListener::bind(local()).await.unwrap();
    http.registered(&instance("orders", "a", listener.local_addr().unwrap().port(), 90)).await;
    let report = json!({"service": "ORDERS", "id": "a", "reason": "timeout"}).to_string();
    let json = http.with("content-type", "application/json");
    assert_eq!(json.send("POST", "/tradewind/v1/suspicions", report).await.status, 202);
    tokio::time::timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    eventually("cleared", || async {
        let got = http.get("/tradewind/v1/instances/orders").await.json();
        got["instances"][0]["why"].get("suspicion").is_none()
    })
    .await;
    assert!(http.has("orders", "a").await);
    node.stop().await;
}

/// R1.7: the stream of a killed process closes, and nobody has to call it to find out.
#[tokio::test]
async fn a_closed_stream_of_a_dead_instance_removes_it() {
    let (node, http) = node(|_| {}).await;
    let listener = TcpListener::bind(local()).await.unwrap();
    let alive = listener.local_addr().unwrap().port();
    http.registered(&instance("orders", "a:dead", closed_port().await, 90)).await;
    http.registered(&instance("orders", "alive", alive, 90)).await;
    let mut streams = Vec::new();
    for id in ["a%3Adead", "alive"] {
        let mut watch =
            http.with("x-tradewind-instance", &format!("orders/{id}")).watch("services=").await;
        watch.next().await.unwrap();
        streams.push(watch);
    }
    assert_eq!(http.instances("orders").await.len(), 2);
    drop(streams);
    eventually("the dead one is removed", || async { !http.has("orders", "a:dead").await }).await;
    tokio::time::timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    assert!(http.has("orders", "alive").await);
    node.stop().await;
}

#[tokio::test]
async fn without_probes_reports_change_nothing() {
    let (node, http) = node(|config| config.probe.enabled = false).await;
    http.registered(&instance("orders", "a", closed_port().await, 1)).await;
    let mut watch = http.watch("services=orders").await;
    watch.next().await.unwrap();
    let report = json!({"service": "orders", "id": "a", "reason": "refused"}).to_string();
    let json = http.with("content-type", "application/json");
    assert_eq!(json.send("POST", "/tradewind/v1/suspicions", report).await.status, 202);
    assert_eq!(watch.event().await["change"]["remove"][0]["why"], "expired");
    node.stop().await;
}

#[tokio::test]
async fn every_instance_is_explained() {
    let (node, http) = node(|_| {}).await;
    http.registered(&instance("orders", "a", 80, 90)).await;
    http.put("/eureka/apps/ORDERS/a/status?value=OUT_OF_SERVICE").await;
    let got = http.get("/tradewind/v1/instances/Orders").await.json();
    let it = &got["instances"][0];
    assert_eq!((&got["service"], &it["status"]), (&"orders".into(), &"OUT_OF_SERVICE".into()));
    let why = &it["why"];
    assert_eq!((&why["source"], &why["reported"]), (&"own".into(), &"UP".into()));
    assert_eq!((&why["overridden"], &why["lease_ms"]), (&"OUT_OF_SERVICE".into(), &90_000.into()));
    assert!(why["last_heartbeat_age_ms"].as_u64().unwrap() < 20_000);
    let services = http.get("/tradewind/v1/services").await.json();
    assert_eq!(services["services"], json!([{"service": "orders", "instances": 1, "up": 0}]));
    let status = http.get("/tradewind/v1/status").await.json();
    assert_eq!((&status["instances"], &status["protection"]["holding"]), (&1.into(), &json!({})));
    node.stop().await;
}

/// R1.3: protection says what it holds and why.
#[tokio::test]
async fn protection_is_explained_from_outside() {
    let (node, http) = node(|config| config.protection.hosts_min = 1).await;
    for n in 0..12 {
        http.registered(&instance("orders", &format!("i{n}"), 80, 1)).await;
    }
    eventually("protection holds them", || async {
        let got = http.get("/tradewind/v1/instances/orders").await.json();
        let held = got["instances"].as_array().unwrap().iter();
        12 == held.filter(|it| it["why"]["protected"].is_string()).count()
    })
    .await;
    let status = http.get("/tradewind/v1/status").await.json();
    let text = status["protection"]["holding"]["ORDERS"].as_str().unwrap();
    assert!(text.contains("12 of 12 instances"), "{text}");
    node.stop().await;
}

#[tokio::test]
async fn bad_input_names_the_field() {
    let (node, http) = node(|_| {}).await;
    let json = http.with("content-type", "application/json");
    let suspicions = "/tradewind/v1/suspicions";
    let long =
        json!({"service": "a", "id": "x", "reason": "reset", "by": "b".repeat(200)}).to_string();
    for (method, path, body, status, field) in [
        ("GET", "/tradewind/v1/watch?services=a%20b", "", 400, "query:services"),
        ("GET", "/tradewind/v1/watch?services=a&revision=x", "", 400, "query:revision"),
        ("GET", "/tradewind/v1/instances/a%20b", "", 400, "path:service"),
        ("POST", suspicions, "{", 400, "body"),
        ("POST", suspicions, r#"{"service":"a","id":"x","reason":"tired"}"#, 400, "reason"),
        ("POST", suspicions, r#"{"service":"a b","id":"x","reason":"reset"}"#, 400, "service"),
        ("POST", suspicions, &long, 400, "by"),
        ("POST", "/tradewind/v1/peers/sync", r#"{"after":1}"#, 400, "after"),
        ("GET", "/tradewind/v1/nothing", "", 404, ""),
        ("DELETE", "/tradewind/v1/status", "", 405, ""),
    ] {
        let got = json.send(method, path, body.to_owned()).await;
        assert_eq!(got.status, status, "{method} {path} {body}");
        assert_eq!(got.header("content-type"), "application/problem+json", "{method} {path}");
        if !field.is_empty() {
            let named = got.json()["errors"][0]["field"].as_str().unwrap().to_owned();
            assert_eq!(named, field, "{method} {path} {body}");
        }
    }
    let odd = http.with("x-tradewind-instance", "no-slash").get("/tradewind/v1/watch").await;
    assert_eq!(odd.json()["errors"][0]["field"], "header:x-tradewind-instance");
    node.stop().await;
}

/// R1.2, R1.7: the native client and this node together. A process that is killed (its sockets
/// close, nothing is cancelled) is gone from the other's list without anybody calling it.
#[tokio::test]
async fn native_clients_find_and_lose_each_other() {
    use std::sync::Arc;
    use tradewind_base::{SystemClock, Tasks};
    use tradewind_discovery::{
        Discovery, Instance, InstanceId, Registration, RegistryClientConfig, ServiceName, Status,
    };
    use tradewind_http::{Client, Target};

    let (node, http) = node(|_| {}).await;
    let config = || {
        let url = Target::parse(&format!("http://{}", node.local_addr())).unwrap();
        RegistryClientConfig::new(vec![url])
    };
    let service = ServiceName::parse("inventory").unwrap();
    let (caller, callee) = (Tasks::new(), Tasks::new());
    let clock = Arc::new(SystemClock::new());
    let discovery =
        Discovery::registry(config(), Client::standard(&caller), clock.clone(), &caller);
    let view = discovery.view(&service);
    discovery.ready(LIMIT).await.unwrap();
    let instance = Instance {
        id: InstanceId::parse("127.0.0.1:inventory:1").unwrap(),
        service: service.clone(),
        host: "127.0.0.1".into(),
        port: closed_port().await,
        secure: false,
        status: Status::Up,
        metadata: std::collections::BTreeMap::new(),
    };
    let client = Client::standard(&callee);
    let registration = Registration::register(config(), client, instance, clock, &callee).await;
    eventually("found", || async { view.load().instances.len() == 1 }).await;
    eventually("its own stream is open", || async {
        http.get("/tradewind/v1/status").await.json()["watchers"] == 2
    })
    .await;
    // It dies: its tasks end without a good-bye.
    callee.shutdown(LIMIT).await.unwrap();
    let start = Instant::now();
    eventually("lost", || async { view.load().instances.is_empty() }).await;
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    drop(registration);
    caller.shutdown(LIMIT).await.unwrap();
    node.stop().await;
}
