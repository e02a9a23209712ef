//! WebSocket handshakes.

use std::sync::atomic::Ordering;

use super::rig::{Rig, until};

const HANDSHAKE: &str = "GET /order/ws HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat\r\n\r\n";

#[tokio::test]
async fn after_101_bytes_go_both_ways() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    client.send(HANDSHAKE.as_bytes()).await;
    let (status, head) = client.head().await.unwrap();
    assert_eq!(status, 101, "{head}");
    assert!(head.contains("sec-websocket-protocol: chat"), "{head}");
    let seen = rig.backend().recorded.last();
    assert_eq!((seen.one("upgrade"), seen.one("connection")), (Some("websocket"), Some("upgrade")));
    // Not HTTP any more: what looks like a request is data.
    for data in ["hello", "GET /order/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"] {
        client.send(data.as_bytes()).await;
        while client.inbox.len() < data.len() {
            let mut buffer = [0; 1024];
            let bytes =
                tokio::io::AsyncReadExt::read(&mut client.stream, &mut buffer).await.unwrap();
            assert!(0 < bytes);
            client.inbox.extend_from_slice(&buffer[..bytes]);
        }
        assert_eq!(std::mem::take(&mut client.inbox), data.as_bytes());
    }
    assert_eq!(rig.backend().recorded.targets(), ["/ws"]);
    drop(client);
    until("the tunnel to end", || rig.gateway.in_flight() == 0).await;
    until("the service to be let go", || rig.backend().recorded.open.load(Ordering::SeqCst) == 0)
        .await;
    assert_eq!(rig.log(1).await[0]["status"], 101);
    rig.stop().await;
}

/// A refused handshake leaves plain HTTP; what followed it early is a request like any other.
#[tokio::test]
async fn without_101_the_connection_stays_http() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    let refused = HANDSHAKE.replace("/order/ws", "/order/ws?refuse=1");
    client.send(format!("{refused}GET /order/x HTTP/1.1\r\nHost: shop\r\n\r\n").as_bytes()).await;
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, &*answer.text()), (200, "no"));
    assert_eq!(client.answer().await.unwrap().text(), "a");
    assert_eq!(rig.backend().recorded.targets(), ["/ws?refuse=1", "/x"]);
    let answer = rig.ask(&HANDSHAKE.replace("/order/ws", "/nowhere")).await;
    assert_eq!((answer.status, &*answer.problem()), (404, "gateway.no-route"));
    rig.stop().await;
}

#[tokio::test]
async fn a_silent_tunnel_ends() {
    let rig = Rig::with(1, |it| {
        it.client.tunnel_timeout = std::time::Duration::from_millis(200);
    })
    .await;
    let mut client = rig.client().await;
    client.send(HANDSHAKE.as_bytes()).await;
    assert_eq!(client.head().await.unwrap().0, 101);
    assert!(client.ended().await);
    rig.stop().await;
}
