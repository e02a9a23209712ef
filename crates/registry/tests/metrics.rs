//! In a process of its own, because a recorder of metrics is for a whole process.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking and says why")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tradewind_base::SystemClock;
use tradewind_registry::{Config, Node, PeerUrl};
use tradewind_service::edge::Server;

const LIMIT: Duration = Duration::from_secs(20);
/// Where nobody listens.
const NOBODY: &str = "http://127.0.0.1:1/eureka/";

async fn connected(address: SocketAddr, request: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let text = format!(
        "{request} HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

async fn ask(address: SocketAddr, request: &str, body: &str) -> String {
    let mut answer = String::new();
    connected(address, request, body).await.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Waits until `/metrics` has each of the lines.
async fn shown(address: SocketAddr, lines: &[&str]) {
    let mut text = String::new();
    let all = async {
        loop {
            text = ask(address, "GET /metrics", "").await;
            if lines.iter().all(|line| text.lines().any(|it| it == *line)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(LIMIT, all).await.is_ok();
    assert!(in_time, "{lines:?} in {text}");
}

fn lag(text: &str) -> f64 {
    let name = format!("tradewind_registry_peer_lag_seconds{{peer=\"{NOBODY}\"}} ");
    let line = text.lines().find_map(|it| it.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("no lag in {text}")).parse().unwrap()
}

/// R1, R8.1: how many there are, how they live and leave, who listens, and how far peers are
/// behind.
#[tokio::test]
async fn the_state_of_a_node_is_exported() {
    let mut config = Config::new("127.0.0.1:0".parse().unwrap());
    config.peers = vec![PeerUrl::parse(NOBODY).unwrap()];
    let server = Server::bind(config.edge.clone()).await.unwrap();
    let node = Node::start(server, config, Arc::new(SystemClock::new()), None);
    node.ready().await;
    let address = node.local_addr();
    for id in ["a", "b"] {
        let body = format!(
            r#"{{"instance":{{"instanceId":"{id}","hostName":"h","app":"ORDER","ipAddr":"1.2.3.4",
            "status":"UP","dataCenterInfo":{{"@class":"c","name":"MyOwn"}}}}}}"#
        );
        let answer = ask(address, "POST /eureka/apps/ORDER", &body).await;
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    }
    let watch = connected(address, "GET /tradewind/v1/watch?services=order", "").await;
    for _ in 0..3 {
        let answer = ask(address, "PUT /eureka/apps/ORDER/a", "").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let answer = ask(address, "DELETE /eureka/apps/ORDER/b", "").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    shown(
        address,
        &[
            "tradewind_registry_instances 1",
            "tradewind_registry_renewals_total{from=\"client\"} 3",
            "tradewind_registry_renewals_total{from=\"peer\"} 0",
            "tradewind_registry_removals_total{why=\"cancelled\"} 1",
            "tradewind_registry_removals_total{why=\"expired\"} 0",
            "tradewind_registry_removals_total{why=\"refused\"} 0",
            "tradewind_registry_watchers 1",
            "tradewind_registry_protected_scopes 0",
            &format!("tradewind_registry_peer_up{{peer=\"{NOBODY}\"}} 0"),
            &format!("tradewind_registry_peer_queue{{peer=\"{NOBODY}\"}} 2"),
        ],
    )
    .await;
    assert!(0.0 < lag(&ask(address, "GET /metrics", "").await), "the peer was told nothing");
    drop(watch);
    shown(address, &["tradewind_registry_watchers 0"]).await;
    node.stop().await;
}
