//! Ending in order.

use super::rig::{Rig, until};

#[tokio::test]
async fn requests_in_work_finish_and_new_ones_find_nobody() {
    let rig = Rig::start().await;
    let address = rig.gateway.local_addr();
    let mut idle = rig.client().await;
    idle.send(b"GET /order/x HTTP/1.1\r\nHost: shop\r\n\r\n").await;
    assert_eq!(idle.answer().await.unwrap().status, 200);
    let mut busy = rig.client().await;
    busy.send(b"GET /order/late?ms=300 HTTP/1.1\r\nHost: shop\r\n\r\n").await;
    until("it to be in work", || rig.gateway.in_flight() == 1).await;
    let watch = async {
        assert!(idle.ended().await, "an idle connection is closed");
        let answer = busy.answer().await.unwrap();
        assert_eq!((answer.status, &*answer.text()), (200, "late"));
        assert_eq!(answer.one("connection"), Some("close"));
    };
    let (drained, ()) = tokio::join!(rig.stop(), watch);
    assert_eq!((drained.finished, drained.cut), (1, 0));
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn what_does_not_finish_is_cut_and_counted() {
    let rig = Rig::with(1, |it| it.drain_limit = std::time::Duration::from_millis(200)).await;
    let mut client = rig.client().await;
    client.send(b"GET /order/hang HTTP/1.1\r\nHost: shop\r\n\r\n").await;
    until("it to be in work", || rig.gateway.in_flight() == 1).await;
    let (drained, ended) = tokio::join!(rig.stop(), client.ended());
    assert_eq!(drained.cut, 1);
    assert!(ended);
}

#[tokio::test]
async fn a_second_gateway_on_the_port_is_refused() {
    let rig = Rig::start().await;
    let address = rig.gateway.local_addr();
    let folder = tempfile::tempdir().unwrap();
    let mut config = super::rig::config();
    config.bind = address;
    let client = tradewind_http::Client::standard(&rig.tasks);
    let shared = super::rig::shared(folder.path());
    let connector = std::sync::Arc::new(tradewind_http::TcpConnect::new());
    let discovery = rig.discovery.clone();
    let second =
        tradewind_gateway::Gateway::start(config, &shared, discovery, client, connector).await;
    let error = second.expect_err("the port is taken").to_string();
    assert!(error.contains("gateway.bind"), "{error}");
    rig.stop().await;
}
