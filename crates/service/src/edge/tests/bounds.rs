//! Everything a client can make large, slow or many.

use super::*;

#[tokio::test]
async fn a_body_that_is_declared_too_large_is_refused_at_once() {
    let it = start(|config| config.body_bytes_max = 1000).await;
    let headers = [("content-type", "application/json"), ("content-length", "1001")];
    // Not one byte of the body is sent, so the refusal cannot have waited for it.
    let reply = ask(it.address, "POST /orders", &headers).await;
    assert_eq!(reply.problem(413).0, "edge.body-too-large");
}

#[tokio::test]
async fn a_body_that_grows_too_large_is_refused_where_it_does() {
    let it = start(|config| config.body_bytes_max = 1000).await;
    let headers = [("content-type", "application/json"), ("transfer-encoding", "chunked")];
    let chunk = format!("{:x}\r\n{}\r\n", 600, " ".repeat(600));
    // The end of the body never comes.
    let request = head("POST /orders", &headers) + &chunk + &chunk;
    assert_eq!(raw(it.address, request).await.problem(413).0, "edge.body-too-large");
}

#[tokio::test]
async fn a_client_that_sends_much_too_much_still_hears_why() {
    let it = start(|config| config.body_bytes_max = 1000).await;
    let length = (8 << 20).to_string();
    let headers = [("content-type", "application/json"), ("content-length", length.as_str())];
    let work = async {
        let mut stream = TcpStream::connect(it.address).await.unwrap();
        stream.write_all(head("POST /orders", &headers).as_bytes()).await.unwrap();
        // A client that reads only when it has sent everything must be able to send it.
        stream.write_all(&vec![b' '; 8 << 20]).await.expect("the connection is not reset");
        read(&mut stream).await
    };
    let reply = tokio::time::timeout(LIMIT, work).await.unwrap();
    assert_eq!(reply.problem(413).0, "edge.body-too-large");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_however_large() {
    let it = start(|config| config.head_bytes_max = 8192).await;
    for size in [8200, 12_000, 40_000, 2_000_000] {
        let reply = ask(it.address, "GET /hello", &[("x-long", &"a".repeat(size))]).await;
        assert_eq!(reply.problem(431).0, "edge.head-too-large", "{size}");
    }
    let many: Vec<_> = (0..150).map(|_| ("x-a", "b")).collect();
    let reply = ask(it.address, "GET /hello", &many).await;
    assert_eq!(reply.problem(431).0, "edge.head-too-large");
    let reply = ask(it.address, &format!("GET /{}", "a".repeat(70_000)), &[]).await;
    assert!([414, 431].contains(&reply.status), "{reply:?}");
    assert_eq!(ask(it.address, "GET /hello", &[]).await.status, 200);
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let it = start(|_| ()).await;
    for bytes in [
        "nonsense\r\n\r\n",
        "GET /hello HTTP/1.1\r\nbad header\r\n\r\n",
        "GET /hello HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "GET /hello HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        "POST /orders HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n",
        "GET /hello HTTP/1.1\r\nconnection: close\r\n\r\n",
        "GET /hello HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n",
    ] {
        let reply = raw(it.address, bytes).await;
        assert_eq!(reply.problem(400).0, "edge.malformed", "{bytes}");
    }
    assert_eq!(ask(it.address, "GET /hello", &[]).await.status, 200);
}

#[tokio::test]
async fn a_request_hidden_in_the_body_of_another_is_not_answered() {
    let it = start(|_| ()).await;
    let hidden = "GET /hello HTTP/1.1\r\nhost: demo\r\n\r\n";
    let request = format!(
        "POST /orders HTTP/1.1\r\nhost: demo\r\ncontent-length: 5\r\n\
         transfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
    );
    let reply = raw(it.address, request).await;
    assert!(reply.status == 415 && !reply.body.contains("hello"), "{reply:?}");
}

#[tokio::test]
async fn a_head_that_does_not_end_closes_the_connection() {
    let it = start(|config| config.head_timeout = Duration::from_millis(200)).await;
    let mut stream = TcpStream::connect(it.address).await.unwrap();
    let work = async {
        // One byte at a time does not buy more time.
        for byte in b"GET /hello HTTP/1.1\r\nx-slow: ".iter().chain(std::iter::repeat(&b'a')) {
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            let mut answer = [0_u8; 1];
            let wait = Duration::from_millis(5);
            if let Ok(read) = tokio::time::timeout(wait, stream.read(&mut answer)).await {
                assert_eq!(read.unwrap_or(0), 0, "closed without an answer");
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, work).await.expect("the server closes the connection");
}

#[tokio::test]
async fn a_connection_without_requests_is_closed() {
    let it = start(|config| config.keep_alive_idle = Duration::from_millis(200)).await;
    // One that never asked, and one that has been answered.
    let mut silent = TcpStream::connect(it.address).await.unwrap();
    assert_eq!(tokio::time::timeout(LIMIT, read(&mut silent)).await.unwrap().status, 0);
    let mut used = TcpStream::connect(it.address).await.unwrap();
    used.write_all(b"GET /hello HTTP/1.1\r\nhost: demo\r\n\r\n").await.unwrap();
    assert_eq!(tokio::time::timeout(LIMIT, read(&mut used)).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_late_answer_is_a_504() {
    let mut it = start(|config| config.request_timeout = Duration::from_millis(100)).await;
    assert_eq!(ask(it.address, "GET /gate", &[]).await.problem(504).0, "edge.deadline");
    assert_eq!(it.steps.recv().await, Some("came"));
    assert_eq!(ask(it.address, "POST /gate", &[]).await.problem(504).0, "edge.deadline");
    assert_eq!(it.steps.recv().await, Some("came"));
    // The handler that may have changed something is still there and gets to its end.
    it.gate.send(true).unwrap();
    let step = tokio::time::timeout(LIMIT, it.steps.recv()).await.unwrap();
    assert_eq!(step, Some("done"));
}

#[tokio::test]
async fn the_callers_deadline_counts_when_it_is_earlier() {
    let it = start(|_| ()).await;
    let headers = [("x-tradewind-deadline-ms", "50")];
    assert_eq!(ask(it.address, "GET /gate", &headers).await.problem(504).0, "edge.deadline");
    let headers = [("x-tradewind-deadline-ms", "0")];
    assert_eq!(ask(it.address, "GET /hello", &headers).await.problem(504).0, "edge.deadline");
}

#[tokio::test]
async fn a_handler_that_never_ends_is_dropped_after_the_overrun() {
    let it = start(|config| {
        config.request_timeout = Duration::from_millis(100);
        config.overrun = Duration::from_millis(100);
        config.requests_in_flight_max = 1;
    })
    .await;
    ask(it.address, "POST /gate", &[]).await.problem(504);
    // Its place becomes free although the gate stays shut.
    let work = async {
        while ask(it.address, "GET /hello", &[]).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, work).await.expect("the place becomes free");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up_at_the_deadline() {
    let it = start(|config| config.request_timeout = Duration::from_millis(200)).await;
    let headers = [("content-type", "application/json"), ("content-length", "100")];
    let reply = ask(it.address, "POST /orders", &headers).await;
    // Both are told at the same moment; which one wins does not matter.
    assert!([408, 504].contains(&reply.status), "{reply:?}");
    reply.problem(reply.status);
    it.until_no("request").await;
}

#[tokio::test]
async fn more_requests_than_it_can_bear_are_told_when_to_come_back() {
    let mut it = start(|config| config.requests_in_flight_max = 2).await;
    let address = it.address;
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            it.tasks.spawn("client", move |_| async move {
                let _unheard = sender.send(ask(address, "GET /gate", &[]).await.status);
            });
            receiver
        })
        .collect();
    assert_eq!(it.steps.recv().await, Some("came"));
    assert_eq!(it.steps.recv().await, Some("came"));
    let reply = ask(it.address, "GET /hello", &[]).await;
    assert_eq!(reply.problem(503).0, "edge.overloaded");
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(ask(it.address, "GET /health/live", &[]).await.status, 200, "probes are let in");
    it.gate.send(true).unwrap();
    for answer in waiting {
        assert_eq!(answer.await.unwrap(), 200);
    }
    assert_eq!(ask(it.address, "GET /hello", &[]).await.status, 200);
}

#[tokio::test]
async fn a_flood_of_connections_is_bounded_and_passes() {
    let it = start(|config| config.connections_max = 8).await;
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(TcpStream::connect(it.address).await.unwrap());
    }
    let mut flood = Vec::new();
    for _ in 0..200 {
        flood.push(TcpStream::connect(it.address).await.unwrap());
    }
    // Those beyond the bound are closed, most without a word, none is served.
    for mut stream in flood {
        let _closed_already = stream.write_all(head("GET /hello", &[]).as_bytes()).await;
        let mut text = Vec::new();
        let read = tokio::time::timeout(LIMIT, stream.read_to_end(&mut text)).await.unwrap();
        let reply = Reply::parse(&String::from_utf8_lossy(&text));
        assert!(read.is_err() || [0, 503].contains(&reply.status), "{reply:?}");
    }
    it.until_no("refusal").await;
    let reply = ask(it.address, "GET /hello", &[]).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    drop(held);
    let work = async {
        while ask(it.address, "GET /hello", &[]).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, work).await.expect("served again when the others have gone");
}

#[tokio::test]
async fn http2_is_spoken_to_those_who_begin_with_it() {
    let it = start(|_| ()).await;
    let stream = TcpStream::connect(it.address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = super::super::connection::Owned(it.tasks.clone());
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    it.tasks.spawn("client", |_| async move {
        let _ended = connection.await;
    });
    let request = http::Request::get("http://demo/hello").body(axum::body::Body::empty()).unwrap();
    let response = client.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let request =
        http::Request::get("http://demo/nowhere").body(axum::body::Body::empty()).unwrap();
    let response = client.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
}
