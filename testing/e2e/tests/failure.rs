//! An instance dies under load.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use tokio::task::JoinSet;
use tradewind_e2e::{Client, Estate, eventually, wanted};

/// Buyers that ask for quotes, one after the other, until told to end.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    buyers: JoinSet<Vec<String>>,
}

impl Load {
    fn start(buyers: Vec<Client>) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut set = JoinSet::new();
        for mut buyer in buyers {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            set.spawn(async move {
                let basket = serde_json::json!({"items": [{"product_id": 1, "quantity": 1}]});
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    // One through order to inventory, one straight to inventory.
                    for answer in [
                        buyer.post("/order/quotes", &basket).await,
                        buyer.get("/inventory/products/1").await,
                    ] {
                        match answer {
                            Ok(it) if it.status == StatusCode::OK => {
                                answered.fetch_add(1, Ordering::Relaxed);
                            }
                            Ok(it) => failures.push(format!("{} {}", it.status, it.text())),
                            Err(error) => failures.push(format!("{error:#}")),
                        }
                    }
                }
                failures
            });
        }
        Self { stop, answered, buyers: set }
    }

    /// Waits until this many more requests were answered.
    async fn go_on_for(&self, requests: usize) {
        let goal = self.answered.load(Ordering::Relaxed) + requests;
        eventually("quotes go on", Duration::from_secs(30), || async {
            wanted(self.answered.load(Ordering::Relaxed), |it| goal <= *it)
        })
        .await;
    }

    /// Ends the load; every failure of it.
    async fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.buyers.join_all().await.into_iter().flatten().collect()
    }
}

/// Where `inventory` is, as the registry's clients in any language see it.
async fn listed(estate: &Estate) -> BTreeSet<String> {
    let mut registry = estate.registry().with("accept", "application/json");
    let answer = registry.get("/eureka/apps/INVENTORY").await.expect("the registry answers");
    let instances = answer.json()["application"]["instance"].as_array().cloned();
    let port = |it: &serde_json::Value| format!("{}:{}", it["ipAddr"], it["port"]["$"]);
    instances.unwrap_or_default().iter().map(port).map(|it| it.replace('"', "")).collect()
}

/// Where `inventory` is in the local copy of one of our servers.
async fn known(client: &mut Client) -> BTreeSet<String> {
    let answer = client.get("/discovery").await.expect("the server answers");
    let instances = answer.json()["services"]["inventory"]["instances"].as_array().cloned();
    let address = |it: &serde_json::Value| it["address"].as_str().unwrap_or_default().to_owned();
    instances.unwrap_or_default().iter().map(address).collect()
}

/// R1.2: a killed instance is gone from every list within seconds, and no request fails.
#[tokio::test]
async fn a_killed_instance_fails_no_request_and_leaves_every_list() {
    let estate = Estate::start().await;
    // A third one that nobody starts again.
    let address = format!("127.0.0.1:{}", estate.ports.spare);
    let settings = vec![("inventory.bind", address.clone())];
    let mut third = estate.start_beside(&["shop", "inventory"], &settings);
    let order = format!("127.0.0.1:{}", estate.ports.order);
    let everywhere = async |there: bool| {
        let mut admin = estate.admin();
        let mut order = Client::new(order.clone());
        eventually(
            "every list follows",
            Duration::from_secs(if there { 30 } else { 4 }),
            async || {
                let lists =
                    [listed(&estate).await, known(&mut order).await, known(&mut admin).await];
                wanted(lists, |lists| lists.iter().all(|it| it.contains(&address) == there))
            },
        )
        .await;
    };
    everywhere(true).await;

    let mut buyers = Vec::new();
    let token = estate.token().await;
    for _ in 0..8 {
        buyers.push(estate.gateway().bearer(&token));
    }
    let load = Load::start(buyers);
    load.go_on_for(200).await;
    third.start_kill().unwrap();
    everywhere(false).await;
    load.go_on_for(200).await;
    let failures = load.end().await;
    assert!(failures.is_empty(), "{} failed: {:?}", failures.len(), failures.first());
}

/// One of the two supervised instances is killed under load: nothing fails, and it comes back.
#[tokio::test]
async fn a_killed_child_is_started_again_and_nobody_notices() {
    let estate = Estate::start().await;
    let token = estate.token().await;
    let load = Load::start((0..8).map(|_| estate.gateway().bearer(&token)).collect());
    load.go_on_for(200).await;
    let old = estate.process("inventory-b");
    old.kill();
    let new = eventually("it runs again", Duration::from_secs(20), || async {
        let found = estate.processes().into_iter().find(|it| it.name == "inventory-b");
        found.filter(|it| it.pid != old.pid).ok_or_else(|| "the old process".to_owned())
    })
    .await;
    assert_eq!(new.address, old.address);
    eventually("it is listed again", Duration::from_secs(20), || async {
        wanted(listed(&estate).await, |it| it.contains(&new.address))
    })
    .await;
    load.go_on_for(200).await;
    let failures = load.end().await;
    assert!(failures.is_empty(), "{} failed: {:?}", failures.len(), failures.first());
}

/// The registry dies: calls go on from the local copies, and when it is back, empty, nobody
/// forgets anybody.
#[tokio::test]
async fn calls_go_on_without_the_registry_and_through_its_return() {
    let estate = Estate::start().await;
    let token = estate.token().await;
    let load = Load::start((0..4).map(|_| estate.gateway().bearer(&token)).collect());
    load.go_on_for(50).await;
    estate.process("registry").kill();
    load.go_on_for(200).await;
    let both: BTreeSet<_> =
        estate.ports.inventory.iter().map(|it| format!("127.0.0.1:{it}")).collect();
    eventually("both have registered again", Duration::from_secs(30), || async {
        let answer = estate.registry().get("/health/ready").await.map_err(|it| it.to_string())?;
        wanted(answer.status, |it| *it == StatusCode::OK)?;
        wanted(listed(&estate).await, |it| *it == both)
    })
    .await;
    load.go_on_for(100).await;
    let failures = load.end().await;
    assert!(failures.is_empty(), "{} failed: {:?}", failures.len(), failures.first());
}
