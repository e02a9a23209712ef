//! What goes wrong, and what is then said of it.

use std::time::Duration;

use http::Method;
use tokio::time::Instant;

use super::script::{Made, Script, arrives, nowhere};
use super::server::*;
use crate::{ErrorKind, Limits, Phase};

const METHODS: [Method; 6] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// A connection that the server closed while it was idle costs no error, whatever the
/// method. Many rounds, because the close races with the next request.
#[tokio::test]
async fn an_idle_connection_that_was_closed_is_not_noticed_by_the_caller() {
    let (server, (client, _tasks)) = (Server::start().await, standard());
    for round in 0..60 {
        let method = METHODS[round % METHODS.len()].clone();
        let no_content = "HTTP/1.1 204 No Content\r\n\r\n";
        let serve = async {
            let mut peer = server.accept().await;
            peer.answer(no_content).await
            // Closed here, with the answer.
        };
        let send = client.send(&server.target, request(method, "x"), &LIMITS);
        let (answer, _) = tokio::join!(send, serve);
        assert_eq!(answer.unwrap().status(), 204, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn also_when_the_client_runs_on_several_threads() {
    let (server, (client, _tasks)) = (Server::start().await, standard());
    for _ in 0..60 {
        let serve = async { server.accept().await.answer(OK).await };
        let send = client.send(&server.target, request(Method::POST, "x"), &LIMITS);
        let (answer, _) = tokio::join!(send, serve);
        assert_eq!(text(answer.unwrap()).await.unwrap(), "ok");
    }
}

#[tokio::test]
async fn a_request_that_may_have_arrived_is_not_repeated() {
    let (server, (client, _tasks)) = (Server::start().await, standard());
    let serve = async {
        let mut peer = server.accept().await;
        peer.answer(OK).await;
        // The second request is read and the connection closed without an answer.
        peer.request().await
    };
    let twice = async {
        let first = client.send(&server.target, get(), &LIMITS).await.unwrap();
        assert_eq!(text(first).await.unwrap(), "ok");
        client.send(&server.target, request(Method::POST, "pay"), &LIMITS).await
    };
    let (answer, _) = tokio::join!(twice, serve);
    let error = answer.unwrap_err();
    assert_eq!((error.phase(), error.kind()), (Phase::Head, ErrorKind::Broken));
    assert!(!error.nothing_sent() && !error.refused() && !error.is_local());
    assert!(!server.has_more().await, "nothing was repeated");
}

#[tokio::test]
async fn a_refused_connection_is_told_from_others() {
    let (client, _tasks) = standard();
    let target = Server::start().await.target;
    let error = client.send(&target, get(), &LIMITS).await.unwrap_err();
    assert!(error.refused() && error.nothing_sent() && !error.timed_out());
    assert_eq!(error.phase(), Phase::Connect);
    assert_eq!(error.to_string(), format!("the connection was refused (connect, {target})"));
    assert!(std::error::Error::source(&error).is_some());
}

#[tokio::test]
async fn a_reset_within_the_answer_is_an_error_of_its_phase() {
    let (server, (client, _tasks)) = (Server::start().await, standard());
    let serve = async {
        let mut peer = server.accept().await;
        peer.answer("HTTP/1.1 200 OK\r\ncontent-len").await;
        peer.reset();
        let mut peer = server.accept().await;
        peer.answer("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await;
        peer.reset();
    };
    let twice = async {
        let head = client.send(&server.target, get(), &LIMITS).await.unwrap_err();
        assert_eq!((head.phase(), head.kind()), (Phase::Head, ErrorKind::Broken));
        assert!(!head.nothing_sent());
        // The reset may overtake the head as well.
        match client.send(&server.target, get(), &LIMITS).await {
            Ok(answer) => text(answer).await.unwrap_err(),
            Err(error) => error,
        }
    };
    let (error, ()) = tokio::join!(twice, serve);
    assert_eq!(error.kind(), ErrorKind::Broken);
    assert!(!error.nothing_sent());
    assert_eq!(client.idle(&server.target), 0);
}

#[tokio::test]
async fn a_slow_head_ends_the_attempt_and_the_connection() {
    let (server, (client, _tasks)) = (Server::start().await, standard());
    let limits = Limits { head: Duration::from_millis(50), ..LIMITS };
    let serve = async {
        let mut peer = server.accept().await;
        peer.request().await;
        peer.closed().await;
    };
    let (answer, ()) = tokio::join!(client.send(&server.target, get(), &limits), serve);
    let error = answer.unwrap_err();
    assert!(error.timed_out() && !error.nothing_sent());
    assert_eq!(error.phase(), Phase::Head);
}

#[tokio::test]
async fn a_head_beyond_its_bound_or_no_http_at_all_is_a_protocol_error() {
    let (server, (client, _tasks)) = (Server::start().await, standard());
    let huge = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(70 * 1024));
    for answer in [huge.as_str(), "SSH-2.0-OpenSSH_9.2\r\n\r\n"] {
        let serve = async {
            let mut peer = server.accept().await;
            peer.answer(answer).await;
            peer.closed().await;
        };
        let (answer, ()) = tokio::join!(client.send(&server.target, get(), &LIMITS), serve);
        let error = answer.unwrap_err();
        assert_eq!((error.phase(), error.kind()), (Phase::Head, ErrorKind::Protocol));
    }
}

#[tokio::test]
async fn dropping_the_attempt_closes_its_connection() {
    let (server, (client, _tasks)) = (Server::start().await, standard());
    let mut peer = tokio::select! {
        _ = client.send(&server.target, get(), &LIMITS) => panic!("there is no answer"),
        peer = async {
            let mut peer = server.accept().await;
            peer.request().await;
            peer
        } => peer,
    };
    peer.closed().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_does_not_answer_ends_with_the_limit() {
    let (client, _tasks) = Script::client([Made::Never]);
    let limits = Limits { connect: Duration::from_secs(1), ..LIMITS };
    let before = Instant::now();
    let error = client.send(&nowhere(), get(), &limits).await.unwrap_err();
    assert_eq!(before.elapsed(), limits.connect);
    assert!(error.timed_out() && error.nothing_sent() && !error.is_local());
    assert_eq!(error.phase(), Phase::Connect);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_took_no_byte_sent_nothing() {
    let (client, _tasks) = Script::client([Made::Unwritable]);
    let error = client.send(&nowhere(), request(Method::POST, "x"), &LIMITS).await.unwrap_err();
    assert!(error.nothing_sent());
    assert_eq!((error.phase(), error.kind()), (Phase::Send, ErrorKind::Broken));
}

/// A transport that cannot be asked whether it ended: the request is taken back from it.
#[tokio::test(start_paused = true)]
async fn an_unwritten_request_moves_to_a_new_connection() {
    use tokio::io::AsyncWriteExt as _;
    let ((first, mut first_server), (second, mut second_server)) =
        (tokio::io::duplex(4096), tokio::io::duplex(4096));
    let (client, _tasks) = Script::client([Made::Pipe(first), Made::Pipe(second)]);
    let target = nowhere();
    let (answer, ()) = tokio::join!(client.send(&target, get(), &LIMITS), async {
        arrives(&mut first_server).await;
        first_server.write_all(OK.as_bytes()).await.unwrap();
    });
    text(answer.unwrap()).await.unwrap();
    drop(first_server);
    // The driver has not run since: the pool still takes the connection for a good one.
    assert_eq!(client.idle(&target), 1);
    let send = client.send(&target, request(Method::POST, "pay"), &LIMITS);
    let (answer, ()) = tokio::join!(send, async {
        arrives(&mut second_server).await;
        second_server.write_all(OK.as_bytes()).await.unwrap();
    });
    assert_eq!(text(answer.unwrap()).await.unwrap(), "ok");
}
