//! What goes out and what comes back.

use http::{Method, StatusCode};

use super::server::*;
use crate::{ErrorKind, Phase};

#[tokio::test]
async fn a_request_is_sent_in_origin_form_with_its_own_framing() {
    let (server, (client, _tasks)) = (Server::start().await, standard());
    let mut request = request(Method::POST, "hello");
    *request.uri_mut() = "http://elsewhere.example/a%20b?c=d".parse().unwrap();
    for (name, value) in [
        ("connection", "close, x-secret"),
        ("content-length", "999"),
        ("transfer-encoding", "chunked"),
        ("te", "gzip"),
        ("upgrade", "websocket"),
        ("keep-alive", "timeout=1"),
        ("x-kept", "yes"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let serve = async { server.accept().await.answer(OK).await };
    let (answer, sent) = tokio::join!(client.send(&server.target, request, &LIMITS), serve);
    assert_eq!(text(answer.unwrap()).await.unwrap(), "ok");
    let (head, body) = sent.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> = head.lines().collect();
    lines.sort_unstable();
    let host = format!("host: {}", server.target.authority());
    assert_eq!(
        lines,
        ["POST /a%20b?c=d HTTP/1.1", "content-length: 5", host.as_str(), "x-kept: yes"]
    );
    assert_eq!(body, "hello");
}

#[tokio::test]
async fn a_given_host_is_kept_and_an_empty_path_is_the_root() {
    let (server, (client, _tasks)) = (Server::start().await, standard());
    let mut request = get();
    *request.uri_mut() = "http://h.example".parse().unwrap();
    request.headers_mut().insert("host", "shop.example".parse().unwrap());
    let serve = async { server.accept().await.answer(OK).await };
    let (answer, sent) = tokio::join!(client.send(&server.target, request, &LIMITS), serve);
    answer.unwrap();
    assert_eq!(sent, "GET / HTTP/1.1\r\nhost: shop.example\r\n\r\n");
}

#[tokio::test]
async fn what_is_no_request_for_a_server_is_refused_before_any_connection() {
    let (server, (client, _tasks)) = (Server::start().await, standard());
    let mut star = request(Method::OPTIONS, "");
    *star.uri_mut() = "*".parse().unwrap();
    for request in [star, request(Method::CONNECT, "")] {
        let error = client.send(&server.target, request, &LIMITS).await.unwrap_err();
        assert_eq!((error.kind(), error.phase()), (ErrorKind::Request, Phase::Send));
        assert!(error.is_local() && error.nothing_sent());
    }
    assert!(!server.has_more().await);
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let (server, (client, _tasks)) = (Server::start().await, standard());
    let found = "HTTP/1.1 302 Found\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n";
    let serve = async { server.accept().await.answer(found).await };
    let (answer, _) = tokio::join!(client.send(&server.target, get(), &LIMITS), serve);
    let answer = answer.unwrap();
    assert_eq!(answer.status(), StatusCode::FOUND);
    assert_eq!(answer.headers()["location"], "/other");
}

#[tokio::test]
async fn an_early_hint_is_not_the_answer() {
    let (server, (client, _tasks)) = (Server::start().await, standard());
    let serve = async {
        let mut peer = server.accept().await;
        peer.answer("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n").await;
        peer.send(OK).await;
        peer
    };
    let (answer, _peer) = tokio::join!(client.send(&server.target, get(), &LIMITS), serve);
    assert_eq!(answer.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn switching_protocols_is_not_asked_for() {
    let (server, (client, _tasks)) = (Server::start().await, standard());
    let serve = async {
        let mut peer = server.accept().await;
        let switch = "HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
        peer.answer(switch).await;
        peer.closed().await;
    };
    let (answer, ()) = tokio::join!(client.send(&server.target, get(), &LIMITS), serve);
    let error = answer.unwrap_err();
    assert_eq!((error.kind(), error.phase()), (ErrorKind::Protocol, Phase::Head));
    assert_eq!(client.idle(&server.target), 0);
}
