//! Many at once, for a while: no error, and afterwards nothing has grown.

use std::time::Duration;

use http::StatusCode;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tradewind_e2e::{Estate, Process, descriptors, eventually, resident_bytes, wanted};

const CLIENTS: usize = 200;
const WARM_UP: Duration = Duration::from_secs(10);
/// How long the crowd stays, in seconds; `TRADEWIND_CROWD_SECONDS` is for those who want to know.
const RUN_SECONDS: u64 = 30;
/// Allocators keep pages; growth beyond this share and size after equal load is a leak.
const GROWTH_SHARE_MAX: f64 = 1.25;
const GROWTH_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// Idle connections between the servers come and go.
const DESCRIPTORS_SLACK: usize = 16;
/// Kept-alive connections from one server to another, which stay open on purpose.
const POOL: usize = 64;
/// Whom the gateway asks here: order, and inventory twice.
const ASKED: usize = 3;
/// The gateway keeps what is idle for 30 s, one for each of the crowd who asked at once.
const CLOSED_WITHIN: Duration = Duration::from_secs(60);

fn run() -> Duration {
    let seconds = std::env::var("TRADEWIND_CROWD_SECONDS").ok();
    let seconds = seconds.map_or(RUN_SECONDS, |it| it.parse().expect("a number of seconds"));
    Duration::from_secs(seconds)
}

async fn crowd(estate: &Estate, token: &str, span: Duration) -> usize {
    let end = Instant::now() + span;
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let mut client = estate.gateway().bearer(token);
        clients.spawn(async move {
            let basket = serde_json::json!({"items": [{"product_id": 1 + number, "quantity": 1}]});
            let (mut answered, mut failures) = (0, Vec::new());
            while Instant::now() < end {
                for answer in [
                    client.post("/order/quotes", &basket).await,
                    client.get("/inventory/products?size=20").await,
                ] {
                    match answer {
                        Ok(it) if it.status == StatusCode::OK => answered += 1,
                        Ok(it) => failures.push(format!("{} {}", it.status, it.text())),
                        Err(error) => failures.push(format!("{error:#}")),
                    }
                }
            }
            (answered, failures)
        });
    }
    let (mut answered, mut failures) = (0, Vec::new());
    for (count, failed) in clients.join_all().await {
        answered += count;
        failures.extend(failed);
    }
    assert!(failures.is_empty(), "{} failed: {:?}", failures.len(), failures.first());
    answered
}

fn sizes(processes: &[Process]) -> Vec<(String, u64, usize)> {
    let size = |it: &Process| (it.name.clone(), resident_bytes(it.pid), descriptors(it.pid));
    processes.iter().map(size).collect()
}

/// 200 concurrent clients for 30 s through the gateway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_gets_answers_and_leaves_no_trace() {
    let estate = Estate::start().await;
    let token = estate.token().await;
    let idle = sizes(&estate.processes());
    // The first crowd makes pools, caches and arenas as large as they get.
    crowd(&estate, &token, WARM_UP).await;
    let before = sizes(&estate.processes());
    let answered = crowd(&estate, &token, run()).await;
    assert!(CLIENTS * 2 < answered, "only {answered} answers");

    let idle_descriptors = |name: &str| idle.iter().find(|it| it.0 == name).map_or(0, |it| it.2);
    eventually("connections close", CLOSED_WITHIN, || async {
        let now = sizes(&estate.processes());
        let grown: Vec<_> = now
            .into_iter()
            .filter(|(name, _, open)| {
                idle_descriptors(name) + DESCRIPTORS_SLACK + ASKED * POOL < *open
            })
            .collect();
        wanted(grown, Vec::is_empty)
    })
    .await;
    for ((name, old, _), (_, new, _)) in before.iter().zip(sizes(&estate.processes())) {
        let limit = ((*old as f64) * GROWTH_SHARE_MAX) as u64;
        assert!(new <= limit.max(old + GROWTH_BYTES_MIN), "{name} grew from {old} to {new} bytes");
    }
}
