//! In a process of its own, because a recorder of metrics is for a whole process: a gateway that
//! nobody prepared one for has every metric from its first request on.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking and says why")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tradewind_base::{SystemClock, Tasks};
use tradewind_discovery::Discovery;
use tradewind_gateway::machine::route::RouteRow;
use tradewind_gateway::{Config, Gateway};
use tradewind_http::{Client, TcpConnect};
use tradewind_service::edge::EdgeConfig;
use tradewind_service::{Keys, Shared};

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let text = format!("GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// R3.5, R8.1
#[tokio::test]
async fn nothing_is_counted_into_the_void() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = Tasks::new();
    let keys = Keys::from_secret(&[1; 32]).unwrap();
    let clock = Arc::new(SystemClock::new());
    let shared = Shared::new(folder.path().to_owned(), keys, clock, Vec::new());
    let mut config = Config::new();
    // Most tests have no issuer; those that do wait for its keys themselves.
    config.jwks_wait = Duration::ZERO;
    config.bind = "127.0.0.1:0".parse().unwrap();
    config.admin = EdgeConfig::new(config.bind);
    config.seed_routes = vec![RouteRow::service("order", "/order/**", "order")];
    let (discovery, client) = (Discovery::fixed(Vec::new()), Client::standard(&tasks));
    let connector = Arc::new(TcpConnect::new());
    let gateway = Gateway::start(config, &shared, discovery, client, connector).await.unwrap();
    assert!(get(gateway.local_addr(), "/order/x").await.starts_with("HTTP/1.1 503"));
    let text = get(gateway.admin_addr(), "/metrics").await;
    for line in [
        "gw_config_revision 1",
        "gw_http_requests_total{route=\"order\",service=\"order\",method=\"GET\",code=\"503\"} 1",
        "gw_http_request_duration_seconds",
        "phase=\"gateway\"",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    gateway.stop(std::future::pending()).await;
    tasks.shutdown(std::time::Duration::from_secs(5)).await.unwrap();
}
