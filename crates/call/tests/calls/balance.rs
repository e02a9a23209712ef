use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tradewind_call::{Balance, CallError, Outcome, Policy};
use tradewind_discovery::Status;

use crate::support::{Inventory, Server, json, lamp, nobody, service, setup};

/// R2.2
#[tokio::test]
async fn instances_take_turns() {
    let servers = join_all((0..3).map(|_| Server::lamps())).await;
    let setup = setup(servers.iter().map(Server::instance).collect(), Policy::default());
    for _ in 0..90 {
        setup.client.product("1").await.unwrap();
    }
    assert_eq!(servers.iter().map(|it| it.seen().len()).collect::<Vec<_>>(), [30, 30, 30]);
}

/// R2.2
#[tokio::test]
async fn the_instance_with_the_least_to_do_is_called_and_of_several_the_one_that_was_last() {
    let free = Arc::new(Semaphore::new(0));
    let servers = join_all((0..3).map(|_| {
        let free = Arc::clone(&free);
        Server::start(move |seen| {
            let free = Arc::clone(&free);
            async move {
                if seen.address == "/products/held" {
                    free.acquire().await.unwrap().forget();
                }
                json(&lamp())
            }
        })
    }))
    .await;
    let policy = Policy { balance: Balance::LeastOutstanding, ..Policy::default() };
    let setup = setup(servers.iter().map(Server::instance).collect(), policy);
    let seen = || servers.iter().map(|it| it.seen().len()).collect::<Vec<_>>();
    let call = async |id| setup.client.product(id).await.map(drop);
    for _ in 0..5 {
        call("1").await.unwrap();
    }
    let first = seen().iter().position(|it| *it == 5).expect("one has them all");

    // With a call under way at the first, and then at two, the next goes elsewhere and stays there.
    let (mut held, mut taken) = (Vec::new(), vec![first]);
    for _ in 0..2 {
        let before = seen();
        held.push(Box::pin(call("held")));
        let held = held.last_mut().unwrap();
        let arrived = async { until(|| seen() != before).await };
        tokio::select! { _ = held => unreachable!("nothing lets it go"), () = arrived => {} }
        let before = seen();
        for _ in 0..5 {
            call("1").await.unwrap();
        }
        let five = (0..3).find(|it| seen()[*it] == before[*it] + 5).expect("one has them all");
        assert!(!taken.contains(&five), "{five} has something to do, as {taken:?}");
        taken.push(five);
    }
    // What has ended, or was given up, is under way no longer.
    let last = taken[2];
    free.add_permits(1);
    held.remove(0).await.unwrap();
    drop(held);
    let before = seen();
    call("1").await.unwrap();
    assert_eq!(seen()[last], before[last] + 1);
}

/// Waits until it is so.
async fn until(is: impl Fn() -> bool) {
    let look = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), look).await.expect("it comes to that");
}

/// R2.2
#[tokio::test]
async fn only_instances_that_are_up_are_called_and_none_is_an_error_of_its_own() {
    let (up, down) = (Server::lamps().await, Server::lamps().await);
    let mut instance = down.instance();
    instance.status = Status::OutOfService;
    let setup = setup(vec![up.instance(), instance.clone()], Policy::default());
    for _ in 0..4 {
        setup.client.product("1").await.unwrap();
    }
    assert_eq!((up.seen().len(), down.seen().len()), (4, 0));

    setup.discovery.replace(vec![instance]);
    let error = setup.client.product("1").await.unwrap_err();
    assert!(matches!(&error, CallError::NoInstance { .. }), "{error:?}");
    assert_eq!(error.to_string(), "no instance of inventory is up");
    assert!(!error.outcome_unknown());
    assert_eq!(setup.client.channel().stats().of(Outcome::NoInstance), 1);
}

/// R2.4
#[tokio::test]
async fn a_refused_instance_costs_one_attempt_and_is_then_left_out() {
    let server = Server::lamps().await;
    let dead = nobody().await;
    let setup = setup(vec![server.instance(), dead.clone()], Policy::default());
    for _ in 0..40 {
        // Nothing was sent to the dead one, so that a POST moves on as well.
        setup.client.add(&lamp()).await.unwrap();
    }
    let stats = setup.client.channel().stats();
    assert_eq!((stats.calls(), stats.of(Outcome::Success), server.seen().len()), (40, 40, 40));
    // One, unless the machine is so slow that the second of the ejection passes meanwhile.
    assert!((41..45).contains(&stats.attempts), "{stats:?}");
    assert_eq!(stats.attempts - 40, stats.ejections);
    assert!(setup.discovery.view(&service()).suspected(&dead.id), "it was reported");
}

/// R2.4
#[tokio::test]
async fn the_last_instance_is_called_though_it_failed_a_moment_ago() {
    let instance = nobody().await;
    let setup = setup(vec![instance.clone()], Policy::default());
    for _ in 0..2 {
        let error = setup.client.add(&lamp()).await.unwrap_err();
        assert!(
            matches!(&error, CallError::Transport { sent: false, attempts: 1, .. }),
            "{error:?}"
        );
        assert!(!error.outcome_unknown());
    }
    let addr = (&*instance.host, instance.port);
    let addr = tokio::net::lookup_host(addr).await.unwrap().next().unwrap();
    let server = Server::start_at(addr, |_| async { crate::support::json(&lamp()) }).await;
    setup.client.add(&lamp()).await.unwrap();
    assert_eq!(server.seen().len(), 1);
}

/// R2.4
#[tokio::test]
async fn several_dead_instances_are_passed_by_one_call() {
    let server = Server::lamps().await;
    let mut instances = vec![server.instance()];
    for _ in 0..4 {
        instances.push(nobody().await);
    }
    let setup = setup(instances, Policy { retries_next: 0, ..Policy::default() });
    let calls = (0..20).map(|_| async { setup.client.add(&lamp()).await });
    let limit = Duration::from_secs(5);
    for result in tokio::time::timeout(limit, join_all(calls)).await.unwrap() {
        result.unwrap();
    }
    assert_eq!(server.seen().len(), 20);
}
