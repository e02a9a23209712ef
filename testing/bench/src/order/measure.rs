//! One measurement: what was offered, what came of it, what it cost.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};
use tradewind_load::{Arrivals, Histogram, Outcome, Plan, Work as _, run};
use tradewind_sql::{Database, DatabaseUrl, Error, Migration, Options, Transaction, params};

use super::buyer::{Buyer, Caller};
use super::estate::{Estate, Used};
use crate::machine_facts::cpu_time;

/// An estate is at rest when it uses less than this share of one core.
const REST: f64 = 0.12;
/// How often that is looked at, and for how long at most.
const REST_LOOK: Duration = Duration::from_millis(500);
const REST_MAX: Duration = Duration::from_secs(12);
/// How long a rate is offered before it is measured: after a rest, connections, prices and caches
/// are cold, which a shop at that rate never is.
const WARM_UP: Duration = Duration::from_secs(1);
/// The pause between two probes.
const PROBE_EVERY: Duration = Duration::from_millis(20);

/// What one measurement came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) placed: u64,
    pub(crate) failed: u64,
    /// Placed each second.
    pub(crate) rate: f64,
    /// Milliseconds from the scheduled instant.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Milliseconds of CPU for an order, in all processes and in the generator, with what an order
    /// causes later.
    pub(crate) cpu: f64,
    /// Durable commits for an order, in all databases.
    pub(crate) commits: f64,
    /// Local transactions for an order.
    pub(crate) transactions: f64,
}

/// So many buyers, each with its next order when the last is answered: the most there is to have.
pub(crate) async fn closed(
    estate: &Estate,
    buyer: &Arc<Buyer>,
    buyers: usize,
    span: Duration,
) -> anyhow::Result<Sample> {
    let (before, own, start) = (estate.used().await?, own_cpu(), Instant::now());
    let (placed, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let end = start + span;
    let one = || async {
        let mut times = Histogram::new();
        while Instant::now() < end {
            let begun = Instant::now();
            match buyer.once(0).await {
                Outcome::Ok => {
                    times.record(begun.elapsed());
                    placed.fetch_add(1, Ordering::Relaxed);
                }
                Outcome::Failed(_) => {
                    failed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        times
    };
    let all = join_all((0..buyers).map(|_| one())).await;
    let took = start.elapsed();
    let mut times = Histogram::new();
    all.iter().for_each(|it| times.add(it));
    let placed = placed.into_inner();
    rest(estate).await?;
    let used = estate.used().await?.since(&before);
    let sample = Sample {
        placed,
        failed: failed.into_inner(),
        rate: count(placed) / took.as_secs_f64(),
        ..Sample::default()
    };
    Ok(sample.with(&times, placed, &used, own_cpu().saturating_sub(own)))
}

/// Orders at a rate, whatever becomes of them. Times are those after the warm-up; what an order
/// costs is reckoned over all of them.
pub(crate) async fn open(
    estate: &Estate,
    buyer: &Arc<Buyer>,
    rate: f64,
    span: Duration,
) -> anyhow::Result<Sample> {
    let (before, own) = (estate.used().await?, own_cpu());
    let arrivals = Arrivals::Poisson { seed: 7 };
    let plan = Plan { arrivals, warm_up: WARM_UP, ..Plan::flat(rate, WARM_UP + span) };
    let report = run(&plan, Arc::clone(buyer), |_| {}).await;
    rest(estate).await?;
    let used = estate.used().await?.since(&before);
    let sample = Sample {
        placed: report.served,
        failed: report.failed_total() + report.dropped + report.unfinished,
        rate: report.rate_served,
        ..Sample::default()
    };
    // Ticks are of the warm-up too.
    let orders = report.ticks.iter().map(|it| it.served).sum();
    Ok(sample.with(&report.response, orders, &used, own_cpu().saturating_sub(own)))
}

impl Sample {
    fn with(self, times: &Histogram, orders: u64, used: &Used, own: Duration) -> Self {
        let orders = count(orders.max(1));
        let at = |share| times.quantile(share).map_or(f64::NAN, |it| it.as_secs_f64() * 1e3);
        Self {
            p50: at(0.5),
            p99: at(0.99),
            cpu: (used.cpu + own).as_secs_f64() * 1e3 / orders,
            commits: count(used.commits) / orders,
            transactions: count(used.transactions) / orders,
            ..self
        }
    }
}

/// Waits until what the orders caused is done.
pub(crate) async fn rest(estate: &Estate) -> anyhow::Result<()> {
    let end = Instant::now() + REST_MAX;
    let mut last = estate.used().await?.cpu;
    loop {
        sleep(REST_LOOK).await;
        let now = estate.used().await?.cpu;
        let share = now.saturating_sub(last).as_secs_f64() / REST_LOOK.as_secs_f64();
        if share < REST || end < Instant::now() {
            return Ok(());
        }
        last = now;
    }
}

fn own_cpu() -> Duration {
    cpu_time("self")
}

/// Numbers of this size are exact.
#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
pub(crate) const fn count(it: u64) -> f64 {
    it as f64
}

/// What one durable step and one exchange cost, felt beside the load.
pub(crate) struct Prober {
    database: Database,
    caller: Caller,
}

/// Milliseconds, medians.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Felt {
    pub(crate) step: f64,
    pub(crate) exchange: f64,
}

const TABLES: &[Migration] = &[Migration {
    version: 1,
    name: "probe",
    sqlite: "CREATE TABLE probe (id INTEGER NOT NULL PRIMARY KEY, at INTEGER NOT NULL) STRICT",
    mysql: "DO 0",
}];

impl Prober {
    pub(crate) fn open(folder: &Path, caller: Caller) -> anyhow::Result<Self> {
        let url = DatabaseUrl::sqlite(&folder.join("probe.db"));
        Ok(Self { database: Database::open(&url, Options::default(), "probe", TABLES)?, caller })
    }

    /// Probes until `over`.
    async fn probe(&mut self, over: &AtomicBool) -> Felt {
        let (mut steps, mut exchanges) = (Histogram::new(), Histogram::new());
        while !over.load(Ordering::Relaxed) {
            let start = Instant::now();
            let work = |tx: &mut Transaction<'_>| {
                tx.execute("INSERT INTO probe (at) VALUES (?)", params![1])
            };
            let done: Result<_, tradewind_sql::TransactionError<Error>> =
                self.database.transaction("probe", work).await;
            if done.is_ok() {
                steps.record(start.elapsed());
            }
            let start = Instant::now();
            if self.caller.call().await.is_ok() {
                exchanges.record(start.elapsed());
            }
            sleep(PROBE_EVERY).await;
        }
        let median =
            |it: &Histogram| it.quantile(0.5).map_or(f64::NAN, |it| it.as_secs_f64() * 1e3);
        Felt { step: median(&steps), exchange: median(&exchanges) }
    }

    /// The same as [`open`], probed.
    pub(crate) async fn beside(
        &mut self,
        estate: &Estate,
        buyer: &Arc<Buyer>,
        rate: f64,
        span: Duration,
    ) -> anyhow::Result<(Sample, Felt)> {
        let over = AtomicBool::new(false);
        let stop = async {
            sleep(WARM_UP + span).await;
            over.store(true, Ordering::Relaxed);
        };
        let probe = async {
            sleep(WARM_UP).await;
            self.probe(&over).await
        };
        let (sample, felt, ()) = tokio::join!(open(estate, buyer, rate, span), probe, stop);
        Ok((sample?, felt))
    }
}
