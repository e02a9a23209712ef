//! How many connections there are, and for how long.

use std::time::Duration;

use http::Method;
use tokio::time::{Instant, timeout};

use super::server::*;
use crate::{ErrorKind, Limits, Phase, PoolConfig};

#[tokio::test]
async fn one_connection_carries_one_request_after_the_other() {
    let (server, (client, _tasks)) = (Server::start().await, standard());
    let serve = async {
        let mut peer = server.accept().await;
        for _ in 0..20 {
            peer.answer(OK).await;
        }
        peer
    };
    let send = async {
        for _ in 0..20 {
            let answer = client.send(&server.target, get(), &LIMITS).await.unwrap();
            assert_eq!(text(answer).await.unwrap(), "ok");
        }
    };
    let _ = tokio::join!(serve, send);
    assert_eq!(client.idle(&server.target), 1);
    assert!(!server.has_more().await);
}

#[tokio::test]
async fn answers_without_a_body_give_the_connection_back_at_once() {
    let (server, (client, _tasks)) = (Server::start().await, standard());
    let serve = async {
        let mut peer = server.accept().await;
        peer.answer("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await;
        peer.answer("HTTP/1.1 204 No Content\r\n\r\n").await;
        peer.answer("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n").await;
        peer
    };
    let send = async {
        for method in [Method::HEAD, Method::DELETE, Method::GET] {
            let answer = client.send(&server.target, request(method, ""), &LIMITS).await.unwrap();
            // The body is neither read nor dropped yet.
            assert_eq!(client.idle(&server.target), 1);
            drop(answer);
        }
    };
    let _ = tokio::join!(serve, send);
}

#[tokio::test]
async fn connections_to_one_target_are_bounded_and_waiters_served_in_order() {
    let config = PoolConfig { connections_per_target: 2, ..PoolConfig::default() };
    let (server, (client, _tasks)) = (Server::start().await, client(config));
    let send = || client.send(&server.target, get(), &LIMITS);
    let (one, two, peers) = tokio::join!(send(), send(), async {
        let (mut a, mut b) = (server.accept().await, server.accept().await);
        tokio::join!(a.answer(OK), b.answer(OK));
        (a, b)
    });
    let (one, _two) = (one.unwrap(), two.unwrap());
    let limits = Limits { connect: Duration::from_millis(50), ..LIMITS };
    let error = client.send(&server.target, get(), &limits).await.unwrap_err();
    assert_eq!((error.kind(), error.phase()), (ErrorKind::PoolFull, Phase::Connect));
    assert!(error.is_local() && error.nothing_sent() && !error.timed_out());

    // Who waits gets the connection that comes back.
    let (mut a, mut b) = peers;
    let (waiter, read, _) = tokio::join!(send(), text(one), async {
        tokio::select! { it = a.answer(OK) => it, it = b.answer(OK) => it }
    });
    assert_eq!(read.unwrap(), "ok");
    text(waiter.unwrap()).await.unwrap();
    assert!(!server.has_more().await, "never a third connection");
}

#[tokio::test]
async fn many_at_once_share_the_bound_and_none_fails() {
    let config = PoolConfig { connections_per_target: 3, ..PoolConfig::default() };
    let (server, (client, tasks)) = (Server::start().await, client(config));
    let target = server.target.clone();
    let opened = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&opened);
    let serving = tasks.clone();
    tasks.spawn("server", |cancel| async move {
        while let Some(mut peer) = cancel.run_until_cancelled(server.accept()).await {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            serving.spawn("peer", |cancel| async move {
                let serve = async {
                    loop {
                        peer.answer(OK).await;
                    }
                };
                cancel.run_until_cancelled(serve).await;
            });
        }
    });
    let calls = (0..60).map(|_| async {
        let answer = client.send(&target, request(Method::POST, "x"), &LIMITS).await.unwrap();
        text(answer).await.unwrap()
    });
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(|it| it == "ok"));
    assert!(opened.load(std::sync::atomic::Ordering::SeqCst) <= 3);
    tasks.shutdown(LIMIT).await.unwrap();
}

/// R2.3: the connection is ready before the first call.
#[tokio::test]
async fn a_warm_connection_serves_the_first_request() {
    let (server, (client, _tasks)) = (Server::start().await, standard());
    client.warm(&server.target, &LIMITS).await.unwrap();
    client.warm(&server.target, &LIMITS).await.unwrap();
    assert_eq!(client.idle(&server.target), 1);
    let mut peer = server.accept().await;
    let (answer, _) = tokio::join!(client.send(&server.target, get(), &LIMITS), peer.answer(OK));
    text(answer.unwrap()).await.unwrap();
    assert!(!server.has_more().await);
    client.forget(&server.target);
    assert_eq!(client.idle(&server.target), 0);
    peer.closed().await;
}

#[tokio::test]
async fn an_unused_connection_is_closed_after_its_time() {
    let idle_timeout = Duration::from_millis(50);
    let config = PoolConfig { idle_timeout, ..PoolConfig::default() };
    let (server, (client, _tasks)) = (Server::start().await, client(config));
    client.warm(&server.target, &LIMITS).await.unwrap();
    server.accept().await.closed().await;
    assert_eq!(client.idle(&server.target), 0);
}

#[tokio::test]
async fn an_old_connection_is_not_kept() {
    let config = PoolConfig { age_max: Duration::ZERO, ..PoolConfig::default() };
    let (server, (client, _tasks)) = (Server::start().await, client(config));
    let serve = async {
        let mut peer = server.accept().await;
        peer.answer(OK).await;
        peer.closed().await;
    };
    let send = async {
        let answer = client.send(&server.target, get(), &LIMITS).await.unwrap();
        text(answer).await.unwrap();
    };
    tokio::join!(serve, send);
}

#[tokio::test]
async fn idle_connections_and_targets_are_bounded() {
    let config = PoolConfig { idle_per_target: 0, ..PoolConfig::default() };
    let (server, (unkeeping, _tasks)) = (Server::start().await, client(config));
    unkeeping.warm(&server.target, &LIMITS).await.unwrap();
    server.accept().await.closed().await;

    let config = PoolConfig { targets_max: 1, ..PoolConfig::default() };
    let (other, (client, _tasks)) = (Server::start().await, client(config));
    client.warm(&server.target, &LIMITS).await.unwrap();
    let mut first = server.accept().await;
    client.warm(&other.target, &LIMITS).await.unwrap();
    first.closed().await;
    // Now the other one is in use.
    let serve = async {
        let mut peer = other.accept().await;
        peer.answer("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n").await;
        peer
    };
    let (answer, _peer) = tokio::join!(client.send(&other.target, get(), &LIMITS), serve);
    let error = client.send(&server.target, get(), &LIMITS).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooManyTargets);
    assert!(error.is_local() && error.nothing_sent());
    drop(answer);
    client.warm(&server.target, &LIMITS).await.unwrap();
}

#[tokio::test]
async fn a_server_that_says_close_is_believed() {
    let (server, (client, _tasks)) = (Server::start().await, standard());
    let serve = async {
        for _ in 0..3 {
            let close = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
            let mut peer = server.accept().await;
            peer.answer(close).await;
            peer.closed().await;
        }
    };
    let send = async {
        for _ in 0..3 {
            let answer = client.send(&server.target, get(), &LIMITS).await.unwrap();
            assert_eq!(text(answer).await.unwrap(), "ok");
        }
    };
    tokio::join!(serve, send);
}

#[tokio::test]
async fn an_answer_before_the_whole_request_was_read_spoils_the_connection() {
    let (server, (client, _tasks)) = (Server::start().await, standard());
    let big: &'static str = Box::leak("x".repeat(16 << 20).into_boxed_str());
    let serve = async {
        let mut peer = server.accept().await;
        peer.begins().await;
        peer.send("HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n").await;
        let mut second = server.accept().await;
        second.answer(OK).await;
        (peer, second)
    };
    let send = async {
        let answer = client.send(&server.target, request(Method::POST, big), &LIMITS).await;
        assert_eq!(answer.unwrap().status(), 413);
        let before = Instant::now();
        let answer = client.send(&server.target, get(), &LIMITS).await.unwrap();
        assert_eq!(text(answer).await.unwrap(), "ok");
        assert!(before.elapsed() < Duration::from_secs(5));
    };
    let _ = timeout(LIMIT, async { tokio::join!(serve, send) }).await.unwrap();
}

#[tokio::test]
async fn at_the_end_idle_connections_close_and_the_others_finish() {
    let (server, (client, tasks)) = (Server::start().await, standard());
    client.warm(&server.target, &LIMITS).await.unwrap();
    let mut idle = server.accept().await;
    let (answer, _) = tokio::join!(
        client.send(&server.target, get(), &LIMITS),
        idle.answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n")
    );
    let mut busy = idle;
    client.warm(&server.target, &LIMITS).await.unwrap();
    let mut idle = server.accept().await;
    let finish = async {
        idle.closed().await;
        busy.send("ok").await;
        assert_eq!(text(answer.unwrap()).await.unwrap(), "ok");
        busy.closed().await;
        // One more is possible, on a connection of its own.
        let serve = async {
            let mut peer = server.accept().await;
            peer.answer(OK).await;
            peer.closed().await;
        };
        let last = async {
            let answer = client.send(&server.target, get(), &LIMITS).await.unwrap();
            text(answer).await.unwrap()
        };
        let (last, ()) = tokio::join!(last, serve);
        assert_eq!(last, "ok");
    };
    let (ended, ()) = tokio::join!(tasks.shutdown(LIMIT), finish);
    ended.unwrap();
    assert!(tasks.is_empty());
}
