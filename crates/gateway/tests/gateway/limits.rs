//! Everything a client or a service can make large, slow or many.

use std::time::Duration;

use super::rig::{Rig, until};

const QUICK: Duration = Duration::from_millis(200);

#[tokio::test]
async fn large_heads_and_bodies_are_refused() {
    let rig = Rig::with(1, |it| {
        it.client.framing.head_bytes = 2048;
        it.client.framing.target_bytes = 512;
        it.client.framing.headers = 20;
        it.client.body_bytes = 1000;
    })
    .await;
    let large = "x".repeat(3000);
    let many = "a: b\r\n".repeat(30);
    let table = [
        (
            format!("GET /order/x HTTP/1.1\r\nHost: shop\r\nX: {large}\r\n\r\n"),
            431,
            "gateway.head-too-large",
        ),
        (
            format!("GET /order/x HTTP/1.1\r\nHost: shop\r\n{many}\r\n"),
            431,
            "gateway.head-too-large",
        ),
        (
            format!("GET /order/{} HTTP/1.1\r\nHost: shop\r\n\r\n", "x".repeat(600)),
            414,
            "gateway.target-too-long",
        ),
        (
            format!(
                "POST /order/echo HTTP/1.1\r\nHost: shop\r\nContent-Length: 1001\r\n\r\n{large}"
            ),
            413,
            "gateway.body-too-large",
        ),
        (
            format!(
                "POST /order/echo HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\nbb8\r\n{large}\r\n0\r\n\r\n"
            ),
            413,
            "gateway.body-too-large",
        ),
    ];
    for (text, status, code) in table {
        let mut client = rig.client().await;
        client.send(text.as_bytes()).await;
        let answer = client.answer().await.unwrap();
        assert_eq!((answer.status, &*answer.problem()), (status, code));
        assert!(client.ended().await);
    }
    assert!(rig.backend().recorded.targets().is_empty(), "nothing whole reached the service");
    let fits = format!(
        "POST /order/echo HTTP/1.1\r\nHost: shop\r\nContent-Length: 1000\r\n\r\n{}",
        "x".repeat(1000)
    );
    assert_eq!(rig.ask(&fits).await.status, 200);
    rig.stop().await;
}

/// The refusal of a declared length comes before the body, and without 100 Continue.
#[tokio::test]
async fn expect_continue_is_answered_only_when_the_body_is_wanted() {
    let rig = Rig::with(1, |it| it.client.body_bytes = 10).await;
    let head = |length: usize| {
        format!(
            "POST /order/echo HTTP/1.1\r\nHost: shop\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let mut client = rig.client().await;
    client.send(head(11).as_bytes()).await;
    assert_eq!(client.head().await.unwrap().0, 413);
    let mut client = rig.client().await;
    client.send(head(5).as_bytes()).await;
    assert_eq!(client.head().await.unwrap().0, 100);
    client.send(b"hello").await;
    assert_eq!(client.answer().await.unwrap().text(), "hello");
    assert_eq!(rig.backend().recorded.last().one("expect"), None);
    rig.stop().await;
}

#[tokio::test]
async fn slow_clients_are_told_and_cut_off() {
    let rig = Rig::with(1, |it| {
        it.client.head_timeout = QUICK;
        it.client.body_timeout = QUICK;
        it.client.idle_timeout = QUICK;
    })
    .await;
    let mut client = rig.client().await;
    client.send(b"GET /order/x HTTP/1.1\r\nHost").await;
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, &*answer.problem()), (408, "gateway.head-timeout"));
    assert!(client.ended().await);

    let mut client = rig.client().await;
    client.send(b"POST /order/echo HTTP/1.1\r\nHost: shop\r\nContent-Length: 10\r\n\r\nhel").await;
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, &*answer.problem()), (408, "gateway.body-timeout"));
    assert!(client.ended().await);

    let mut silent = rig.client().await;
    assert!(silent.ended().await, "a connection without a byte");
    let mut client = rig.client().await;
    client.send(b"GET /order/x HTTP/1.1\r\nHost: shop\r\n\r\n").await;
    assert_eq!(client.answer().await.unwrap().status, 200);
    assert!(client.ended().await, "a connection without a second request");
    until("all connections to be gone", || rig.gateway.connections() == 0).await;
    rig.stop().await;
}

/// The pause between a request and its late answer is not the client's.
#[tokio::test]
async fn a_slow_service_does_not_make_its_client_idle() {
    let rig = Rig::with(1, |it| {
        it.client.idle_timeout = QUICK;
        it.client.head_timeout = QUICK;
        it.client.body_timeout = QUICK;
    })
    .await;
    let text = "POST /order/late?ms=700 HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n\r\nhi";
    let answer = rig.ask(text).await;
    assert_eq!((answer.status, &*answer.text()), (200, "late"));
    rig.stop().await;
}

#[tokio::test]
async fn a_client_that_stops_reading_is_cut_off() {
    let rig = Rig::with(1, |it| it.client.write_timeout = QUICK).await;
    let mut client = rig.client().await;
    client.send(b"GET /order/big?bytes=50000000 HTTP/1.1\r\nHost: shop\r\n\r\n").await;
    until("the request to arrive", || !rig.backend().recorded.targets().is_empty()).await;
    until("the connection to end", || rig.gateway.connections() == 0).await;
    until("the service to notice", || {
        rig.backend().recorded.aborted.load(std::sync::atomic::Ordering::SeqCst) == 1
    })
    .await;
    let log = rig.log(1).await;
    assert_eq!(log[0]["complete"], false);
    rig.stop().await;
}

#[tokio::test]
async fn a_silent_service_is_a_504_that_names_the_phase() {
    let rig = Rig::with(1, |it| it.upstream.head_timeout = QUICK).await;
    let answer = rig.get("/order/hang").await;
    assert_eq!((answer.status, &*answer.problem()), (504, "gateway.timeout"));
    until("the service to be let go", || {
        rig.backend().recorded.aborted.load(std::sync::atomic::Ordering::SeqCst) == 1
    })
    .await;
    let log = rig.log(1).await;
    assert_eq!((&log[0]["error_phase"], &log[0]["retries"]), (&"head".into(), &0.into()));
    rig.stop().await;
}

#[tokio::test]
async fn what_is_no_answer_is_a_502() {
    let rig = Rig::start().await;
    let answer = rig.get("/order/garbage").await;
    assert_eq!((answer.status, &*answer.problem()), (502, "gateway.bad-answer"));
    let post = "POST /order/drop HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\n\r\n";
    let answer = rig.ask(post).await;
    assert_eq!((answer.status, &*answer.problem()), (502, "gateway.connection-lost"));
    assert_eq!(rig.backend().recorded.targets().iter().filter(|it| *it == "/drop").count(), 1);
    let answer = rig.get("/order/switch").await;
    assert_eq!((answer.status, &*answer.problem()), (502, "gateway.bad-answer"));
    rig.stop().await;
}

#[tokio::test]
async fn too_many_connections_and_requests_are_turned_away() {
    let rig = Rig::with(1, |it| {
        it.client.connections = 3;
        it.client.requests = 2;
    })
    .await;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut client = rig.client().await;
        client.send(b"GET /order/hang HTTP/1.1\r\nHost: shop\r\n\r\n").await;
        waiting.push(client);
    }
    until("both to be in work", || rig.gateway.in_flight() == 2).await;
    let mut third = rig.client().await;
    third.send(b"GET /order/x HTTP/1.1\r\nHost: shop\r\n\r\n").await;
    let answer = third.answer().await.unwrap();
    assert_eq!((answer.status, &*answer.problem()), (503, "gateway.overloaded"));
    assert_eq!(answer.one("retry-after"), Some("1"));
    let mut fourth = rig.client().await;
    let answer = fourth.answer().await.unwrap();
    assert_eq!(answer.status, 503);
    assert!(fourth.ended().await);
    drop((waiting, third));
    until("the places to be free", || rig.gateway.connections() == 0).await;
    assert_eq!(rig.get("/order/x").await.status, 200);
    rig.stop().await;
}

#[tokio::test]
async fn a_panic_costs_one_request_only() {
    let rig = Rig::with(1, |it| it.workers = 1).await;
    let url = format!("http://{}:1", super::rig::PANIC_HOST);
    let row = serde_json::json!({"id": "p", "path": "/p/**", "url": url});
    assert_eq!(rig.admin("POST", "/routes", Some(row)).await.status, 201);
    let mut other = rig.client().await;
    other.send(b"GET /order/late?ms=100 HTTP/1.1\r\nHost: shop\r\n\r\n").await;
    until("it to be in work", || rig.gateway.in_flight() == 1).await;
    for _ in 0..3 {
        let answer = rig.get("/p/x").await;
        assert_eq!((answer.status, &*answer.problem()), (500, "internal"));
    }
    assert_eq!(other.answer().await.unwrap().text(), "late");
    assert_eq!(rig.get("/order/x").await.status, 200);
    let log = rig.log(5).await;
    let failed: Vec<_> = log.iter().filter(|it| it["status"] == 500).collect();
    assert_eq!(failed.len(), 3, "one line each: {log:?}");
    until("all to be gone", || rig.gateway.in_flight() == 0).await;
    rig.stop().await;
}

/// Thousands of requests leave no connection, no place and no request behind.
#[tokio::test]
async fn nothing_is_left_behind() {
    let rig = Rig::with(2, |_| ()).await;
    for _ in 0..20 {
        let asks = (0..50).map(|_| rig.get("/order/x"));
        let answers = futures_util::future::join_all(asks).await;
        assert!(answers.iter().all(|it| it.status == 200));
    }
    until("all to be gone", || rig.gateway.connections() == 0 && rig.gateway.in_flight() == 0)
        .await;
    let status = rig.admin("GET", "/routes/status", None).await.json();
    assert_eq!((&status["in_flight"], &status["pools"]["active"]), (&0.into(), &0.into()));
    assert!(status["pools"]["idle"].as_u64().unwrap() <= 200, "{status}");
    rig.stop().await;
}
