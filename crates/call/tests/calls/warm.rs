//! Lists and connections that are ready before the first call.

use std::error::Error as _;
use std::time::Duration;

use tradewind_call::{Policy, WarmError};

use crate::support::{Inventory, Server, eventually, json, lamp, nobody, setup};

const LIMIT: Duration = Duration::from_secs(5);

/// R2.3
#[tokio::test]
async fn the_first_call_finds_its_connection_ready() {
    let servers = [Server::lamps().await, Server::lamps().await];
    let setup = setup(servers.iter().map(Server::instance).collect(), Policy::default());
    setup.client.channel().warm(LIMIT, &setup.tasks).await.unwrap();
    let accepted = || servers.iter().map(Server::accepted).collect::<Vec<_>>();
    eventually("both are connected", || accepted() == [1, 1]).await;
    for _ in 0..8 {
        setup.client.product("1").await.unwrap();
    }
    assert_eq!(accepted(), [1, 1], "no call had to connect");
}

/// R2.3
#[tokio::test]
async fn an_instance_that_comes_later_is_connected_to_before_it_is_called() {
    let first = Server::lamps().await;
    let setup = setup(vec![first.instance()], Policy::default());
    setup.client.channel().warm(LIMIT, &setup.tasks).await.unwrap();
    let second = Server::lamps().await;
    setup.discovery.replace(vec![first.instance(), second.instance()]);
    eventually("the second is connected", || second.accepted() == 1).await;
    assert!(second.seen().is_empty());
}

/// R2.3
#[tokio::test]
async fn an_empty_list_is_named_and_not_for_ever() {
    let setup = setup(vec![], Policy::default());
    let channel = setup.client.channel();
    let error = channel.warm(Duration::from_millis(20), &setup.tasks).await.unwrap_err();
    assert!(matches!(&error, WarmError::NoInstance { .. }), "{error:?}");
    assert!(error.to_string().starts_with("no instance of inventory is up"), "{error}");

    let server = Server::lamps().await;
    setup.discovery.replace(vec![server.instance()]);
    channel.warm(LIMIT, &setup.tasks).await.unwrap();
    assert_eq!(server.accepted(), 1);
}

/// R2.3
#[tokio::test]
async fn instances_that_cannot_be_reached_are_told_with_the_cause() {
    let setup = setup(vec![nobody().await], Policy::default());
    let channel = setup.client.channel();
    let error = channel.warm(Duration::from_millis(200), &setup.tasks).await.unwrap_err();
    assert_eq!(error.to_string(), "none of 1 instances of inventory can be reached");
    assert!(error.source().unwrap().to_string().contains("refused"), "{error:?}");
}

/// R2.3
#[tokio::test]
async fn an_instance_that_comes_back_is_called_again_without_a_call_that_finds_out() {
    let (steady, restarted) = (Server::lamps().await, Server::lamps().await);
    let policy = Policy::default();
    let setup = setup(vec![steady.instance(), restarted.instance()], policy);
    setup.client.channel().warm(LIMIT, &setup.tasks).await.unwrap();
    restarted.kill().await;
    for _ in 0..6 {
        setup.client.product("1").await.unwrap();
    }
    let again = Server::start_at(restarted.addr, |_| async { json(&lamp()) }).await;
    eventually("it is connected to", || 0 < again.accepted()).await;
    let before = setup.client.channel().stats();
    let limit = tokio::time::timeout(LIMIT, async {
        while again.seen().is_empty() {
            setup.client.product("1").await.unwrap();
        }
    });
    limit.await.unwrap();
    let after = setup.client.channel().stats();
    assert_eq!(before.retries, after.retries, "no call had to find out");
}

#[tokio::test]
async fn the_task_ends_with_its_owner() {
    let server = Server::lamps().await;
    let setup = setup(vec![server.instance()], Policy::default());
    setup.client.channel().warm(LIMIT, &setup.tasks).await.unwrap();
    setup.client.channel().clone().warm(LIMIT, &setup.tasks).await.unwrap();
    setup.tasks.shutdown(LIMIT).await.unwrap();
}
