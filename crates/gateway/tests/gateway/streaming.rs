//! Bodies stream, and a side that stops stops the other.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::rig::{LIMIT, Rig, until};

const LARGE: u64 = 60 << 20;
/// Socket buffers on four sides and what hyper holds; far less than the body.
const HELD_MAX: u64 = 24 << 20;

async fn settled(mut read: impl FnMut() -> u64) -> u64 {
    let mut last = read();
    let mut same = 0;
    let waiting = async {
        while same < 40 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let now = read();
            same = if now == last && 0 < now { same + 1 } else { 0 };
            last = now;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.expect("the bytes to stand still");
    last
}

#[tokio::test]
async fn a_download_goes_as_fast_as_its_client_reads() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    let text = format!("GET /order/big?bytes={LARGE} HTTP/1.1\r\nHost: shop\r\n\r\n");
    client.send(text.as_bytes()).await;
    let out = || rig.backend().recorded.bytes_out.load(Ordering::SeqCst);
    let held = settled(out).await;
    assert!(held < HELD_MAX, "{held} bytes went out to a client that reads none");
    let (status, head) = client.head().await.unwrap();
    assert_eq!(status, 200, "{head}");
    let mut left = LARGE - client.inbox.len() as u64;
    let mut buffer = vec![0; 256 * 1024];
    while 0 < left {
        let bytes = client.stream.read(&mut buffer).await.unwrap() as u64;
        assert!(0 < bytes, "{left} bytes are missing");
        left -= bytes;
    }
    assert_eq!(out(), LARGE);
    let log = rig.log(1).await;
    assert_eq!((&log[0]["bytes_out"], &log[0]["complete"]), (&LARGE.into(), &true.into()));
    rig.stop().await;
}

#[tokio::test]
async fn an_upload_goes_as_fast_as_its_service_reads() {
    let rig = Rig::with(1, |it| it.upstream.head_timeout = Duration::from_secs(2)).await;
    let mut client = rig.client().await;
    let text =
        format!("POST /order/unread HTTP/1.1\r\nHost: shop\r\nContent-Length: {LARGE}\r\n\r\n");
    client.send(text.as_bytes()).await;
    let block = vec![b'x'; 256 * 1024];
    let mut sent = 0_u64;
    while sent < LARGE {
        match tokio::time::timeout(Duration::from_millis(500), client.stream.write(&block)).await {
            Ok(bytes) => sent += bytes.unwrap() as u64,
            Err(_) => break,
        }
    }
    assert!(sent < HELD_MAX, "{sent} bytes were taken for a service that reads none");
    drop(client);
    until("the connection to the service to end", || rig.gateway.in_flight() == 0).await;
    rig.stop().await;
}

/// hyper does not ask a body of a known length for more after its last byte; the connection is
/// free all the same.
#[tokio::test]
async fn requests_with_a_body_leave_their_connection_to_the_next() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    for framed in [
        "Content-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "Content-Length: 0\r\n\r\n",
    ]
    .repeat(3)
    {
        client
            .send(format!("POST /order/echo HTTP/1.1\r\nHost: shop\r\n{framed}").as_bytes())
            .await;
        assert_eq!(client.answer().await.unwrap().status, 200);
    }
    drop(client);
    assert_eq!(rig.backend().recorded.connections.load(Ordering::SeqCst), 1);
    rig.stop().await;
}

#[tokio::test]
async fn a_large_upload_arrives_whole() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    let text =
        format!("POST /order/sink HTTP/1.1\r\nHost: shop\r\nContent-Length: {LARGE}\r\n\r\n");
    client.send(text.as_bytes()).await;
    let block = vec![b'x'; 1 << 20];
    for _ in 0..LARGE >> 20 {
        client.send(&block).await;
    }
    assert_eq!(client.answer().await.unwrap().status, 200);
    assert_eq!(rig.backend().recorded.bytes_in.load(Ordering::SeqCst), LARGE);
    let log = rig.log(1).await;
    assert_eq!(log[0]["bytes_in"], LARGE);
    rig.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_along() {
    let rig = Rig::start().await;
    let aborted = || rig.backend().recorded.aborted.load(Ordering::SeqCst);
    // While the service is thinking.
    let mut client = rig.client().await;
    client.send(b"GET /order/hang HTTP/1.1\r\nHost: shop\r\n\r\n").await;
    until("the request to arrive", || !rig.backend().recorded.targets().is_empty()).await;
    drop(client);
    until("the service to notice", || aborted() == 1).await;
    // In the middle of an upload.
    let mut client = rig.client().await;
    client
        .send(b"POST /order/sink HTTP/1.1\r\nHost: shop\r\nContent-Length: 100000\r\n\r\nhello")
        .await;
    until("bytes to arrive", || rig.backend().recorded.bytes_in.load(Ordering::SeqCst) == 5).await;
    drop(client);
    until("the service to notice", || aborted() == 2).await;
    // In the middle of a download.
    let mut client = rig.client().await;
    client.send(b"GET /order/big?bytes=90000000 HTTP/1.1\r\nHost: shop\r\n\r\n").await;
    assert!(client.head().await.is_some());
    drop(client);
    until("the service to notice", || aborted() == 3).await;
    until("all to be gone", || rig.gateway.in_flight() == 0).await;
    let log = rig.log(3).await;
    assert_eq!((&log[0]["status"], &log[0]["complete"]), (&499.into(), &false.into()));
    assert_eq!(log[1]["error_code"], "gateway.body-cut");
    assert_eq!((&log[2]["status"], &log[2]["complete"]), (&200.into(), &false.into()));
    rig.stop().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_passed_on_as_whole() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    client.send(b"GET /order/half HTTP/1.1\r\nHost: shop\r\n\r\n").await;
    let (status, head) = client.head().await.unwrap();
    assert_eq!(status, 200, "{head}");
    let mut rest = Vec::new();
    drop(client.stream.read_to_end(&mut rest).await);
    assert!(client.inbox.len() + rest.len() < 100, "the client must see that it is cut");
    let log = rig.log(1).await;
    assert_eq!(
        (&log[0]["error_code"], &log[0]["complete"]),
        (&"gateway.answer-cut".into(), &false.into())
    );
    rig.stop().await;
}
