//! A stock service that answers a batch as it is told, and everything else with success.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use http::StatusCode;
use tokio::sync::watch;
use tradewind_base::id::Xid;
use tradewind_base::{Rng, Tasks, Timestamp};
use tradewind_call::{Client, Identity};
use tradewind_discovery::{Discovery, Instance, ServiceName};
use tradewind_host::testing::Running;
use tradewind_service::Keys;
use tradewind_service::axum::{Router, routing::post};

use crate::peers::{PeerError, Peers};
use crate::wire::{Payload, Try};

const LIMIT: Duration = Duration::from_secs(5);

struct Stock {
    peers: Peers,
    batches: Arc<AtomicU32>,
    _running: Running,
}

impl Stock {
    /// One that refuses batches with this status.
    async fn refusing(status: StatusCode) -> Self {
        let batches = Arc::new(AtomicU32::new(0));
        let (counted, come) = (Arc::clone(&batches), watch::Sender::new(false));
        let came = come.subscribe();
        let on_batch = move || {
            counted.fetch_add(1, Ordering::SeqCst);
            come.send_replace(true);
            std::future::ready(status)
        };
        let on_one = move || {
            let mut came = came.clone();
            async move {
                // The first holds its place until the others have gone together.
                let _come = came.wait_for(|it| *it).await;
                StatusCode::OK
            }
        };
        let router = Router::new()
            .route("/tcc/take/trys", post(on_batch))
            .route("/tcc/take/try", post(on_one));
        let running = Running::start("stock", router).await;
        let (name, at) = (ServiceName::parse("stock").unwrap(), running.address());
        let instance = Instance::plain(&name, &at.ip().to_string(), at.port()).unwrap();
        let keys = Keys::from_secret(&[7; 32]).unwrap();
        let identity = Identity::new(ServiceName::parse("order").unwrap(), keys.seal().clone());
        let client = Client::standard(&Tasks::new());
        let peers = Peers::new(Discovery::fixed(vec![instance]), client, identity);
        Self { peers, batches, _running: running }
    }

    /// Twelve Trys at once.
    async fn twelve(&self) -> Vec<Result<(), PeerError>> {
        let one = async |branch| {
            let xid = Xid::generate(Timestamp::from_millis(1), &mut Rng::from_entropy());
            let (initiator, payload) = ("order".to_owned(), Payload::null());
            let body = Try { xid, branch, initiator, deadline_ms: 0, payload };
            self.peers.reserve(("stock", "take"), &body, LIMIT).await
        };
        join_all((1..=12).map(one)).await
    }
}

#[tokio::test]
async fn each_of_a_batch_that_is_refused_as_a_whole_goes_alone() {
    for status in [400, 403, 413, 415, 422, 500] {
        let stock = Stock::refusing(StatusCode::from_u16(status).unwrap()).await;
        for result in stock.twelve().await {
            assert!(result.is_ok(), "{status}: {result:?}");
        }
        let before = stock.batches.load(Ordering::SeqCst);
        assert!(0 < before, "{status}: there was a batch");
        assert!(stock.peers.lane("stock", "take").unwrap().gathers(), "{status}: not for ever");
    }
}

#[tokio::test]
async fn a_service_without_batches_is_asked_one_by_one_from_then_on() {
    for status in [404, 405] {
        let stock = Stock::refusing(StatusCode::from_u16(status).unwrap()).await;
        for _ in 0..2 {
            for result in stock.twelve().await {
                assert!(result.is_ok(), "{status}: {result:?}");
            }
        }
        assert_eq!(stock.batches.load(Ordering::SeqCst), 1, "{status}: one told");
    }
}

/// What may pass is not sent one by one to a service that has no room.
#[tokio::test]
async fn a_batch_that_may_succeed_later_fails_for_all_of_it() {
    let stock = Stock::refusing(StatusCode::BAD_GATEWAY).await;
    let all = stock.twelve().await;
    let together = |it: &&Result<_, _>| matches!(it, Err(PeerError::Together(_)));
    assert_eq!(all.iter().filter(together).count(), 11, "{all:?}");
    assert!(all[0].is_ok(), "the one that went before");
}
