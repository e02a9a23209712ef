//! What `up` does with children that die, hang or cannot be started.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use http::StatusCode;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tradewind_e2e::{Estate, Settings, alive, eventually, wanted};

/// An estate whose gateway and order service are in the middle of a request that does not end,
/// and whose gateway is ready to wait for that.
async fn busy_estate() -> (Estate, TcpStream) {
    let settings: Settings = vec![("gateway.drain_limit", "60s".to_owned())];
    let estate = Estate::start_with(settings).await;
    let mut client = TcpStream::connect(("127.0.0.1", estate.ports.gateway)).await.unwrap();
    let begun = "POST /order/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                 content-length: 100\r\n\r\n{";
    client.write_all(begun.as_bytes()).await.unwrap();
    eventually("the request is in work", Duration::from_secs(10), || async {
        let mut order = tradewind_e2e::Client::new(format!("127.0.0.1:{}", estate.ports.order));
        let text = order.get("/metrics").await.map_err(|it| it.to_string())?.text();
        let line = "tradewind_http_requests_in_flight{service=\"order\"} 1";
        wanted(text, |it| it.contains(line)).map_err(|_| "none in flight".to_owned())
    })
    .await;
    (estate, client)
}

/// A child that cannot be started again does not take the others along: it is tried until it can.
#[tokio::test]
async fn a_restart_that_fails_ends_nothing_and_is_tried_again() {
    let estate = Estate::start().await;
    let old = estate.process("inventory-b");
    // Its log cannot be opened: a folder of that name is in the way.
    let log = estate.data().join("logs/inventory-b.log");
    std::fs::remove_file(&log).unwrap();
    std::fs::create_dir(&log).unwrap();
    old.kill();
    let output = estate.data().with_file_name("up.err");
    eventually("the restart fails", Duration::from_secs(20), || async {
        let text = std::fs::read_to_string(&output).unwrap_or_default();
        wanted(text, |it| 2 <= it.matches("cannot open the log of inventory-b").count())
    })
    .await;
    let products = estate.gateway().get("/inventory/products").await.unwrap();
    assert_eq!(products.status, StatusCode::OK, "{}", products.text());
    std::fs::remove_dir(&log).unwrap();
    eventually("it runs again", Duration::from_secs(30), || async {
        let found = estate.processes().into_iter().find(|it| it.name == "inventory-b");
        wanted(found, |it| it.as_ref().is_some_and(|it| it.pid != old.pid && alive(it.pid)))
    })
    .await;
}

/// A gateway that waits for a client who never ends his request does not use up the time of the
/// others: they end in order, and nothing is left.
#[tokio::test]
async fn a_child_that_takes_its_time_leaves_some_for_the_others() {
    let (mut estate, client) = busy_estate().await;
    let children = estate.processes();
    let (code, took) = estate.interrupt().await;
    assert_eq!(code, Some(0), "{}", estate.logs());
    assert!(took < Duration::from_secs(10), "took {took:?}");
    let left: Vec<_> = children.iter().filter(|it| alive(it.pid)).collect();
    assert!(left.is_empty(), "{left:?}");
    for name in ["inventory-a", "inventory-b", "order"] {
        let log = std::fs::read_to_string(estate.data().join(format!("logs/{name}.log"))).unwrap();
        let closed = log.lines().any(|it| it.contains("step done") && it.contains("database"));
        assert!(closed, "{name} was killed: {log}");
    }
    drop(client);
}

/// Who presses Ctrl-C twice does not want to wait.
#[tokio::test]
async fn a_second_ctrl_c_ends_everything_at_once() {
    let (mut estate, client) = busy_estate().await;
    let children = estate.processes();
    let (code, took) = estate.interrupt_twice().await;
    assert_eq!(code, Some(0), "{}", estate.logs());
    assert!(took < Duration::from_secs(2), "took {took:?}");
    let left: Vec<_> = children.iter().filter(|it| alive(it.pid)).collect();
    assert!(left.is_empty(), "{left:?}");
    drop(client);
}

/// Databases, keys and logs are nobody else's to read.
#[tokio::test]
async fn the_data_folder_is_for_its_owner_alone() {
    let estate = Estate::start().await;
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&estate.data()), 0o700);
    for name in ["secret", "admin.token", "order.db", "inventory.db", "logs/order.log"] {
        assert_eq!(mode(&estate.data().join(name)), 0o600, "{name}");
    }
}
