//! Bodies of answers.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use super::script::{Made, Script, arrives, nowhere};
use super::server::*;
use crate::{ErrorKind, Limits, Phase, collect};

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

#[tokio::test]
async fn a_body_streams_as_it_comes() {
    let (server, (client, _tasks)) = (Server::start().await, standard());
    let mut peer = {
        client.warm(&server.target, &LIMITS).await.unwrap();
        server.accept().await
    };
    let (answer, _) =
        tokio::join!(client.send(&server.target, get(), &LIMITS), peer.answer(CHUNKED));
    let mut body = answer.unwrap().into_body();
    for word in ["one", "two"] {
        peer.send(&format!("3\r\n{word}\r\n")).await;
        assert_eq!(body.chunk().await.unwrap().unwrap(), word);
    }
    assert_eq!(client.idle(&server.target), 0);
    peer.send("0\r\nx-trailer: 1\r\n\r\n").await;
    assert!(body.chunk().await.unwrap().is_none());
    assert!(body.chunk().await.unwrap().is_none(), "and stays at its end");
    assert_eq!(client.idle(&server.target), 1);
}

#[tokio::test]
async fn a_body_that_is_dropped_closes_its_connection() {
    let (server, (client, _tasks)) = (Server::start().await, standard());
    let serve = async {
        let mut peer = server.accept().await;
        peer.answer("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nx").await;
        peer
    };
    let (answer, mut peer) = tokio::join!(client.send(&server.target, get(), &LIMITS), serve);
    drop(answer.unwrap());
    peer.closed().await;
    assert_eq!(client.idle(&server.target), 0);
}

#[tokio::test]
async fn a_pause_within_the_body_ends_it() {
    let (server, (client, _tasks)) = (Server::start().await, standard());
    let limits = Limits { body_idle: Duration::from_millis(50), ..LIMITS };
    let serve = async {
        let mut peer = server.accept().await;
        peer.answer("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await;
        peer.closed().await;
    };
    let read = async {
        let mut body = client.send(&server.target, get(), &limits).await.unwrap().into_body();
        assert_eq!(body.chunk().await.unwrap().unwrap(), "half");
        let error = body.chunk().await.unwrap_err();
        assert!(error.timed_out() && !error.nothing_sent());
        assert_eq!(error.phase(), Phase::Body);
        assert!(body.chunk().await.unwrap().is_none(), "the body has ended");
    };
    tokio::join!(serve, read);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_no_pause_of_the_server() {
    let (ours, mut theirs) = tokio::io::duplex(4096);
    let (client, _tasks) = Script::client([Made::Pipe(ours)]);
    let target = nowhere();
    let limits = Limits { body_idle: Duration::from_secs(1), ..LIMITS };
    let (answer, ()) = tokio::join!(client.send(&target, get(), &limits), async {
        arrives(&mut theirs).await;
        theirs.write_all(OK.as_bytes()).await.unwrap();
    });
    let mut body = answer.unwrap().into_body();
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(body.chunk().await.unwrap().unwrap(), "ok");
}

#[tokio::test(start_paused = true)]
async fn pauses_count_one_by_one() {
    let (ours, mut theirs) = tokio::io::duplex(4096);
    let (client, _tasks) = Script::client([Made::Pipe(ours)]);
    let target = nowhere();
    let limits = Limits { body_idle: Duration::from_secs(10), ..LIMITS };
    let (answer, ()) = tokio::join!(client.send(&target, get(), &limits), async {
        arrives(&mut theirs).await;
        theirs.write_all(CHUNKED.as_bytes()).await.unwrap();
    });
    let mut body = answer.unwrap().into_body();
    for _ in 0..5 {
        let (chunk, ()) = tokio::join!(body.chunk(), async {
            tokio::time::sleep(Duration::from_secs(6)).await;
            theirs.write_all(b"1\r\nx\r\n").await.unwrap();
        });
        assert_eq!(chunk.unwrap().unwrap(), "x");
    }
}

/// The server neither reads the rest of the request nor ends its answer: nothing but the drop of
/// the body can end the connection.
#[tokio::test(start_paused = true)]
async fn a_dropped_body_closes_also_while_the_request_is_being_written() {
    let (ours, mut theirs) = tokio::io::duplex(4096);
    let (client, tasks) = Script::client([Made::Pipe(ours)]);
    let big: &'static str = Box::leak("x".repeat(1 << 20).into_boxed_str());
    let target = nowhere();
    let send = client.send(&target, request(http::Method::POST, big), &LIMITS);
    let (answer, ()) = tokio::join!(send, async {
        arrives(&mut theirs).await;
        theirs.write_all(CHUNKED.as_bytes()).await.unwrap();
    });
    drop(answer.unwrap());
    let closed = async { while theirs.write_all(b"1\r\nx\r\n").await.is_ok() {} };
    tokio::time::timeout(LIMIT, closed).await.expect("the client's end is gone");
    // The pool's own task is all that is left.
    let ended = async {
        while 1 < tasks.len() {
            // Not a yield, which would keep the paused clock from ever reaching the limit.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LIMIT, ended).await.expect("the connection's task ends");
}

#[tokio::test]
async fn a_body_that_is_cut_short_is_an_error() {
    let (server, (client, _tasks)) = (Server::start().await, standard());
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let serve = async { server.accept().await.answer(answer).await };
        let read = async {
            let answer = client.send(&server.target, get(), &LIMITS).await.unwrap();
            text(answer).await.unwrap_err()
        };
        let (error, _) = tokio::join!(read, serve);
        assert_eq!(error.phase(), Phase::Body, "{answer:?}");
    }
}

#[tokio::test]
async fn a_body_is_collected_up_to_its_bound() {
    let (server, (client, _tasks)) = (Server::start().await, standard());
    let chunks = "3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n";
    for (head, body) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n", "abcdef"),
        (CHUNKED, chunks),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", "abcdef"),
    ] {
        for (limit, expected) in [(6, Ok("abcdef")), (5, Err(())), (2, Err(()))] {
            let serve = async {
                let mut peer = server.accept().await;
                peer.answer(&format!("{head}{body}")).await;
            };
            let read = async {
                let answer = client.send(&server.target, get(), &LIMITS).await.unwrap();
                collect(answer.into_body(), limit, &LIMITS).await
            };
            let (result, ()) = tokio::join!(read, serve);
            match (result, expected) {
                (Ok(bytes), Ok(expected)) => assert_eq!(bytes, expected),
                (Err(error), Err(())) => {
                    assert_eq!((error.kind(), error.phase()), (ErrorKind::TooLarge, Phase::Body));
                    assert!(error.is_local() && !error.nothing_sent());
                }
                (result, _) => panic!("{head:?} {limit} {result:?}"),
            }
            client.forget(&server.target);
        }
    }
}

#[tokio::test]
async fn a_declared_length_beyond_the_bound_is_not_waited_for() {
    let (server, (client, _tasks)) = (Server::start().await, standard());
    let serve = async {
        let mut peer = server.accept().await;
        peer.answer("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n").await;
        peer.closed().await;
    };
    let read = async {
        let answer = client.send(&server.target, get(), &LIMITS).await.unwrap();
        collect(answer.into_body(), 1000, &LIMITS).await.unwrap_err()
    };
    let (error, ()) = tokio::join!(read, serve);
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}
