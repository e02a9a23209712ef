//! One of two instances dies under load.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Barrier;
use tradewind_call::{CallError, Policy};

use crate::support::{Inventory, Product, Seen, Server, json, lamp, setup};

const WORKERS: usize = 24;
const CALLS: usize = 60;

/// A server that takes a little time, so that requests are under way when it dies.
async fn slow() -> Server {
    Server::start(|_| async {
        tokio::time::sleep(Duration::from_millis(3)).await;
        json(&lamp())
    })
    .await
}

/// R2.4, R0.3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_idempotent_call_fails() {
    let (killed, other) = (slow().await, slow().await);
    let setup = setup(vec![killed.instance(), other.instance()], Policy::default());
    let halfway = Barrier::new(WORKERS + 1);
    let workers = (0..WORKERS).map(|_| async {
        for round in 0..CALLS {
            if round == CALLS / 2 {
                halfway.wait().await;
            }
            setup.client.product("1").await?;
        }
        Ok::<_, CallError>(())
    });
    let kill = async {
        halfway.wait().await;
        tokio::time::sleep(Duration::from_millis(2)).await;
        killed.kill().await;
    };
    let (results, ()) = tokio::join!(join_all(workers), kill);
    for result in results {
        result.unwrap();
    }
    assert!(CALLS < killed.seen().len(), "it took its share before");
    let stats = setup.client.channel().stats();
    assert!(0 < stats.retries && stats.retries < 200, "{stats:?}");
}

/// R2.4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_other_call_is_carried_out_twice_and_none_fails_that_was_not_sent() {
    let (killed, other) = (slow().await, slow().await);
    let setup = Arc::new(setup(vec![killed.instance(), other.instance()], Policy::default()));
    let halfway = Arc::new(Barrier::new(WORKERS + 1));
    let workers = (0..WORKERS).map(|worker| {
        let (setup, halfway) = (Arc::clone(&setup), Arc::clone(&halfway));
        async move {
            let mut results = Vec::new();
            for round in 0..CALLS {
                if round == CALLS / 2 {
                    halfway.wait().await;
                }
                let id = i64::try_from(worker * CALLS + round).unwrap();
                let product = Product { id, name: "lamp".into() };
                results.push((id, setup.client.add(&product).await));
            }
            results
        }
    });
    let kill = async {
        halfway.wait().await;
        tokio::time::sleep(Duration::from_millis(2)).await;
        killed.kill().await;
    };
    let (results, ()) = tokio::join!(join_all(workers), kill);

    let mut times: BTreeMap<i64, usize> = BTreeMap::new();
    for Seen { body, .. } in killed.seen().into_iter().chain(other.seen()) {
        let product: Product = serde_json::from_slice(&body).unwrap();
        *times.entry(product.id).or_default() += 1;
    }
    let mut unknown = 0;
    for (id, result) in results.into_iter().flatten() {
        let count = times.get(&id).copied().unwrap_or(0);
        match result {
            Ok(_) => assert_eq!(count, 1, "{id} succeeded"),
            Err(error) => {
                assert!(error.outcome_unknown(), "{id}: {error:?}");
                assert!(count <= 1, "{id} was carried out {count} times");
                unknown += 1;
            }
        }
    }
    assert!(unknown <= WORKERS, "only what was under way may fail: {unknown}");
}
