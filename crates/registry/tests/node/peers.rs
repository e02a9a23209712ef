//! Several nodes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tradewind_base::{SecretString, Tasks};
use tradewind_registry::{Config, Node, PeerUrl};
use tradewind_service::axum::{Json, Router, routing};

use crate::support::{Http, Relay, bound, eventually, instance, local, started};

struct Member {
    node: Node,
    http: Http,
}

/// Nodes that all have the same list, each with itself in it.
async fn estate(count: usize, change: impl Fn(&mut Config)) -> Vec<Member> {
    let mut bound_servers = Vec::new();
    for _ in 0..count {
        let mut config = Config::new(local());
        change(&mut config);
        bound_servers.push((bound(&config).await, config));
    }
    let url = |addr| PeerUrl::parse(&format!("http://{addr}/eureka/")).unwrap();
    let peers: Vec<_> = bound_servers.iter().map(|(it, _)| url(it.local_addr())).collect();
    let mut members = Vec::new();
    for (server, mut config) in bound_servers {
        config.peers.clone_from(&peers);
        let http = Http::new(server.local_addr());
        members.push(Member { node: started(server, config), http });
    }
    for member in &members {
        member.node.ready().await;
    }
    members
}

async fn stop(members: Vec<Member>) {
    for member in members {
        member.node.stop().await;
    }
}

/// R1.1: register and discover at any node.
#[tokio::test]
async fn what_one_node_is_told_all_nodes_know() {
    let members = estate(3, |_| {}).await;
    let (a, b, c) = (&members[0].http, &members[1].http, &members[2].http);
    let itself = a.get("/tradewind/v1/status").await.json();
    let states: Vec<_> =
        itself["peers"].as_array().unwrap().iter().map(|it| &it["state"]).collect();
    assert_eq!(states, ["self", "up", "up"], "{itself}");
    a.registered(&instance("orders", "x", 80, 90)).await;
    b.registered(&instance("orders", "y", 80, 90)).await;
    for http in [a, b, c] {
        eventually("all are everywhere", || async { http.instances("orders").await.len() == 2 })
            .await;
    }
    // A client may go on at another node.
    assert_eq!(b.put("/eureka/apps/ORDERS/x?lastDirtyTimestamp=1700000000000").await, 200);
    b.put("/eureka/apps/ORDERS/x/status?value=OUT_OF_SERVICE").await;
    let out = ("x".to_owned(), "OUT_OF_SERVICE".to_owned());
    for http in [a, b, c] {
        eventually("the override is everywhere", || async {
            http.instances("orders").await.contains(&out)
        })
        .await;
    }
    c.delete("/eureka/apps/ORDERS/x").await;
    for http in [a, b, c] {
        eventually("the cancel is everywhere", || async { !http.has("orders", "x").await }).await;
    }
    let why = a.get("/tradewind/v1/instances/orders").await.json();
    assert_eq!(why["instances"][0]["why"]["source"], "replicated");
    stop(members).await;
}

/// R1.2: what falls silent goes from every node at its time, not the later the further away.
#[tokio::test]
async fn a_lease_ends_everywhere() {
    let members = estate(2, |_| {}).await;
    let (a, b) = (&members[0].http, &members[1].http);
    a.registered(&instance("orders", "x", 80, 2)).await;
    eventually("replicated", || async { b.has("orders", "x").await }).await;
    // Heartbeats at one node keep it at the other, longer than a lease; the lease is long beside
    // the pauses that a busy machine makes.
    let end = tokio::time::Instant::now() + Duration::from_secs(3);
    while tokio::time::Instant::now() < end {
        assert_eq!(a.put("/eureka/apps/ORDERS/x").await, 200);
        assert!(b.has("orders", "x").await, "it heartbeats");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for http in [a, b] {
        eventually("gone", || async { !http.has("orders", "x").await }).await;
    }
    stop(members).await;
}

/// R1.1: while cut off each side serves what it knows and takes registrations; afterwards both
/// know everything, cancels included.
#[tokio::test]
async fn a_healed_partition_converges() {
    let tasks = Tasks::new();
    let (config_a, config_b) = (Config::new(local()), Config::new(local()));
    let (server_a, server_b) = (bound(&config_a).await, bound(&config_b).await);
    let to_a = Relay::to(server_a.local_addr(), &tasks).await;
    let to_b = Relay::to(server_b.local_addr(), &tasks).await;
    let with = |mut config: Config, relay: &Relay| {
        config.peers = vec![PeerUrl::parse(&format!("http://{}", relay.addr)).unwrap()];
        config
    };
    let (a, b) = (Http::new(server_a.local_addr()), Http::new(server_b.local_addr()));
    let node_a = started(server_a, with(config_a, &to_b));
    let node_b = started(server_b, with(config_b, &to_a));
    node_a.ready().await;
    node_b.ready().await;
    for id in ["stays", "leaves", "moves"] {
        a.registered(&instance("orders", id, 80, 90)).await;
    }
    eventually("replicated", || async { b.instances("orders").await.len() == 3 }).await;

    to_a.set(false);
    to_b.set(false);
    a.delete("/eureka/apps/ORDERS/leaves").await;
    a.registered(&instance("orders", "new-at-a", 80, 90)).await;
    b.registered(&instance("orders", "new-at-b", 80, 90)).await;
    // Same timestamp, other address: the client speaks with b now.
    b.registered(&instance("orders", "moves", 81, 90)).await;
    eventually("both notice", || async {
        let down = |it: Value| it["peers"][0]["state"] == "down";
        down(a.get("/tradewind/v1/status").await.json())
            && down(b.get("/tradewind/v1/status").await.json())
    })
    .await;
    assert!(!b.has("orders", "new-at-a").await, "they are apart");
    assert!(b.has("orders", "leaves").await, "each side serves what it knows");

    to_a.set(true);
    to_b.set(true);
    let expected = ["moves", "new-at-a", "new-at-b", "stays"];
    for http in [&a, &b] {
        eventually("both know everything", || async {
            let got = http.instances("orders").await;
            got.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>() == expected
        })
        .await;
        eventually("both know the new address", || async {
            let got = http.get("/eureka/apps/ORDERS/moves").await.json();
            got["instance"]["port"]["$"] == 81
        })
        .await;
    }
    node_a.stop().await;
    node_b.stop().await;
    tasks.shutdown(Duration::from_secs(5)).await.unwrap();
}

/// R1.1: what a node loses by a restart, its peer gives back before it is ready.
#[tokio::test]
async fn a_node_that_starts_is_filled_by_its_peer() {
    let (old, http) = crate::support::node(|config| config.limits.warm_up = Duration::ZERO).await;
    for n in 0..450 {
        http.registered(&instance("orders", &format!("i{n}"), 80, 90)).await;
    }
    let mut config = Config::new(local());
    config.peers = vec![PeerUrl::parse(&format!("http://{}", old.local_addr())).unwrap()];
    let server = bound(&config).await;
    let new = Http::new(server.local_addr());
    let node = started(server, config);
    assert_eq!(new.get("/health/ready").await.status, 503);
    node.ready().await;
    assert_eq!(new.get("/health/ready").await.status, 200);
    assert_eq!(new.instances("orders").await.len(), 450);
    assert_eq!(new.get("/tradewind/v1/status").await.json()["warm"], true);
    node.stop().await;
    old.stop().await;
}

/// Two nodes that start together know nothing; an empty list of theirs must not wipe a client's.
#[tokio::test]
async fn nodes_that_start_together_are_not_warm_by_each_other() {
    let members = estate(2, |config| config.limits.warm_up = Duration::from_secs(3600)).await;
    for member in &members {
        let status = member.http.get("/tradewind/v1/status").await.json();
        assert_eq!(status["warm"], false, "{status}");
        assert_eq!(member.http.get("/health/ready").await.status, 200);
    }
    stop(members).await;
}

/// R1.7: the probe of one node takes a dead instance out of all of them.
#[tokio::test]
async fn a_refused_probe_counts_for_all_nodes() {
    let members = estate(2, |_| {}).await;
    let (a, b) = (&members[0].http, &members[1].http);
    let dead = TcpListener::bind(local()).await.unwrap().local_addr().unwrap().port();
    a.registered(&instance("orders", "x", dead, 90)).await;
    eventually("replicated", || async { b.has("orders", "x").await }).await;
    let report = json!({"service": "orders", "id": "x", "reason": "refused"}).to_string();
    let json = b.with("content-type", "application/json");
    assert_eq!(json.send("POST", "/tradewind/v1/suspicions", report).await.status, 202);
    for http in [a, b] {
        eventually("gone", || async { !http.has("orders", "x").await }).await;
    }
    // It lives after all, and says so: it is back, on both.
    assert_eq!(a.put("/eureka/apps/ORDERS/x").await, 404);
    a.registered(&instance("orders", "x", dead, 90)).await;
    for http in [a, b] {
        eventually("back", || async { http.has("orders", "x").await }).await;
    }
    stop(members).await;
}

#[tokio::test]
async fn a_node_whose_peer_is_absent_starts_alone() {
    let mut config = Config::new(local());
    let nobody = TcpListener::bind(local()).await.unwrap().local_addr().unwrap();
    config.peers = vec![PeerUrl::parse(&format!("http://{nobody}")).unwrap()];
    let server = bound(&config).await;
    let http = Http::new(server.local_addr());
    let node = started(server, config);
    node.ready().await;
    assert_eq!(http.get("/health/ready").await.status, 200);
    let status = http.get("/tradewind/v1/status").await.json();
    assert_eq!((&status["warm"], &status["peers"][0]["state"]), (&false.into(), &"down".into()));
    node.stop().await;
}

#[tokio::test]
async fn peers_give_the_user_they_ask_for() {
    let user = || Some(("eureka".to_owned(), SecretString::from("s3cret")));
    let members = estate(2, |config| config.user = user()).await;
    let with = |it: &Http| it.with("authorization", "Basic ZXVyZWthOnMzY3JldA==");
    let (a, b) = (with(&members[0].http), with(&members[1].http));
    a.registered(&instance("orders", "x", 80, 90)).await;
    eventually("replicated", || async { b.has("orders", "x").await }).await;
    stop(members).await;
}

/// A stock server: knows nothing of the native paths, and asks for a registration when it sees a
/// heartbeat of an instance it does not know.
#[tokio::test]
async fn a_stock_peer_is_kept_up_to_date() {
    let seen = Arc::new(Mutex::new(Vec::<Value>::new()));
    let notes = Arc::clone(&seen);
    let batch = move |Json(list): Json<Value>| {
        let notes = Arc::clone(&notes);
        async move {
            let mut notes = notes.lock().unwrap();
            let items = list["replicationList"].as_array().unwrap();
            let mut results = Vec::new();
            for item in items {
                let known = notes.iter().filter(|it| it["action"] == "Register").count();
                // It forgets the first registration.
                let code = if item["action"] == "Heartbeat" && known < 2 { 404 } else { 200 };
                results.push(json!({"statusCode": code}));
                notes.push(item.clone());
            }
            Json(json!({"responseList": results}))
        }
    };
    let there = json!({"applications": {"versions__delta": "1", "apps__hashcode": "UP_1_",
        "application": [{"name": "PAY", "instance": [instance("pay", "p", 80, 90)["instance"]]}]}});
    let router = Router::new()
        .route("/eureka/apps/", routing::get(move || async move { Json(there) }))
        .route("/eureka/peerreplication/batch/", routing::post(batch));
    let stock =
        tradewind_service::edge::Server::bind(tradewind_service::edge::EdgeConfig::new(local()))
            .await
            .unwrap();
    let (tasks, clock) = (Tasks::new(), Arc::new(tradewind_base::SystemClock::new()));
    let addr = stock.local_addr();
    let serving =
        stock.serve("stock", router, tradewind_service::Health::new(), None, clock, &tasks);

    let mut config = Config::new(local());
    config.peers = vec![PeerUrl::parse(&format!("http://{addr}/eureka")).unwrap()];
    let server = bound(&config).await;
    let http = Http::new(server.local_addr());
    let node = started(server, config);
    node.ready().await;
    assert!(http.has("pay", "p").await, "what it holds is taken over");
    http.registered(&instance("orders", "x", 80, 90)).await;
    http.put("/eureka/apps/ORDERS/x/status?value=OUT_OF_SERVICE").await;
    eventually("told again after a 404", || async {
        http.put("/eureka/apps/ORDERS/x").await;
        let seen = seen.lock().unwrap();
        2 <= seen.iter().filter(|it| it["action"] == "Register").count()
    })
    .await;
    http.delete("/eureka/apps/ORDERS/x").await;
    eventually("cancelled there too", || async {
        seen.lock().unwrap().iter().any(|it| it["action"] == "Cancel")
    })
    .await;
    let seen = seen.lock().unwrap().clone();
    let register = seen.iter().find(|it| it["action"] == "Register").unwrap();
    assert_eq!(register["instanceInfo"]["instanceId"], "x");
    assert!(
        seen.iter().any(|it| it["action"] == "StatusUpdate" && it["status"] == "OUT_OF_SERVICE")
    );
    node.stop().await;
    serving.drain(Duration::from_secs(1)).await;
}
