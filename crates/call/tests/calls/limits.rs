//! Time limits, phase by phase, and the size of answers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tradewind_base::{Context, Deadline, Tasks};
use tradewind_call::{CallError, Channel, Client, Outcome, Policy, PoolConfig, Target, TcpConnect};
use tradewind_discovery::Discovery;
use tradewind_http::{Connect, Io, Phase};

use crate::support::{
    Inventory, InventoryClient, Server, answer, eventually, instance, lamp, service, setup,
};

/// A network in which one host has vanished: packets to it get no answer.
struct Vanished(Target, TcpConnect);

impl Connect for Vanished {
    fn connect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, io::Result<Box<dyn Io>>> {
        if *target == self.0 { std::future::pending().boxed() } else { self.1.connect(target) }
    }
}

async fn deaf() -> Server {
    Server::start(|_| std::future::pending()).await
}

/// R2.4
#[tokio::test]
async fn a_vanished_host_costs_the_time_to_connect_once() {
    let (gone, server) = (Server::lamps().await, Server::lamps().await);
    let tasks = Tasks::new();
    let network = Arc::new(Vanished(gone.instance().target(), TcpConnect::new()));
    let http = Client::new(PoolConfig::default(), network, &tasks);
    let discovery = Discovery::fixed(vec![gone.instance(), server.instance()]);
    let policy = Policy { connect: Duration::from_millis(50), ..Policy::default() };
    let client = InventoryClient::new(Channel::new(&discovery, http, service(), policy, None));
    for _ in 0..20 {
        client.add(&lamp()).await.unwrap();
    }
    let stats = client.channel().stats();
    assert_eq!(server.seen().len(), 20);
    assert!((1..4).contains(&stats.ejections), "{stats:?}");

    discovery.replace(vec![gone.instance()]);
    let error = client.add(&lamp()).await.unwrap_err();
    let CallError::Timeout { sent: false, source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.phase(), Phase::Connect);
    assert!(!error.outcome_unknown());
}

/// R2.4
#[tokio::test]
async fn an_answer_that_does_not_come_is_a_timeout_of_its_phase() {
    let server = deaf().await;
    let policy = Policy { read: Duration::from_millis(50), retries_next: 0, ..Policy::default() };
    let setup = setup(vec![server.instance()], policy);
    let error = setup.client.add(&lamp()).await.unwrap_err();
    let CallError::Timeout { sent: true, source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.phase(), Phase::Head);
    assert!(error.outcome_unknown());
    assert_eq!(setup.client.channel().stats().of(Outcome::Timeout), 1);
    assert_eq!(setup.client.channel().stats().ejections, 0, "slow is not gone");
}

/// R2.4
#[tokio::test]
async fn an_answer_that_stops_halfway_is_not_asked_for_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let halfway = instance(listener.local_addr().unwrap());
    let tasks = Tasks::new();
    tasks.spawn("halfway", |end| async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let half = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{";
        stream.write_all(half).await.unwrap();
        end.cancelled().await;
    });
    let policy = Policy { read: Duration::from_millis(50), ..Policy::default() };
    let setup = setup(vec![halfway], policy);
    let error = setup.client.product("1").await.unwrap_err();
    let CallError::Timeout { sent: true, attempts: 1, source, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(source.phase(), Phase::Body);
    tasks.shutdown(Duration::from_secs(5)).await.unwrap();
}

/// R2.4
#[tokio::test]
async fn the_total_time_ends_a_call_whatever_attempts_are_left() {
    let server = deaf().await;
    let policy = Policy { total: Duration::from_millis(60), retries_next: 9, ..Policy::default() };
    let setup = setup(vec![server.instance()], policy);
    for error in
        [setup.client.product("1").await.unwrap_err(), setup.client.hurry().await.unwrap_err()]
    {
        let CallError::DeadlineExceeded { attempts: 1, sent: true, .. } = &error else {
            panic!("{error:?}")
        };
    }
}

/// R2.4
#[tokio::test]
async fn the_deadline_of_the_request_that_is_served_cuts_the_call() {
    let server = deaf().await;
    let setup = setup(vec![server.instance()], Policy::default());
    let left = |millis| Context {
        deadline: Some(Deadline::after(Duration::from_millis(millis))),
        ..Context::default()
    };
    let error = left(60).scope(setup.client.product("1")).await.unwrap_err();
    assert!(matches!(error, CallError::DeadlineExceeded { attempts: 1, .. }), "{error:?}");
    assert_eq!(server.seen().len(), 1);

    let error = left(1).scope(setup.client.product("1")).await.unwrap_err();
    assert!(matches!(error, CallError::DeadlineExceeded { attempts: 0, sent: false, .. }));
    assert_eq!(server.seen().len(), 1, "nothing is begun without time");
}

#[tokio::test]
async fn an_answer_larger_than_the_policy_allows_is_refused() {
    let server = Server::start(|_| async {
        answer(200, "application/json", &format!("\"{}\"", "x".repeat(5000)))
    })
    .await;
    let setup = setup(vec![server.instance()], Policy { body_max: 4096, ..Policy::default() });
    let error = setup.client.product("1").await.unwrap_err();
    assert!(matches!(error, CallError::TooLarge { limit: 4096, .. }), "{error:?}");
    // Where the body is of no interest, its size is not either.
    setup.client.remove(1).await.unwrap();
    assert_eq!(setup.client.channel().stats().of(Outcome::BadAnswer), 1);
}

#[tokio::test]
async fn a_call_whose_caller_leaves_is_counted_as_cancelled() {
    let server = deaf().await;
    let setup = setup(vec![server.instance()], Policy::default());
    let mut call = Box::pin(setup.client.product("1"));
    tokio::select! {
        result = &mut call => panic!("{result:?}"),
        () = eventually("the request arrives", || !server.seen().is_empty()) => {}
    }
    drop(call);
    assert_eq!(setup.client.channel().stats().of(Outcome::Cancelled), 1);
}
