//! What a broker or its subscribers that stand still do to orders, and how a backlog drains.
//!
//! The message about an order is a branch of the order's transaction: while the broker is away no
//! order is placed, each fails cleanly, and no backlog can grow. A backlog grows while the
//! warehouses are away: orders go on, and the broker keeps what it cannot deliver.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{Instant, sleep};
use tradewind_load::{Arrivals, Plan, Report, run};

use super::buyer::Buyer;
use super::estate::{Estate, Process};
use super::measure::{count, rest};
use super::{Bench, HIGHER, LOWER};

/// How long the broker stands still: as long as it takes to see that orders fail and come back.
const BROKER: Duration = Duration::from_secs(5);
/// Load before and after.
const AROUND: Duration = Duration::from_secs(5);
/// How long the backlog may take to drain.
const DRAIN_MAX: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(250);

/// The broker stopped and went on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stopped {
    /// Orders placed in the time it stood still, and those that failed, in all.
    pub(crate) failed: u64,
    /// Seconds from its return until no order failed any more.
    pub(crate) back: f64,
    /// Milliseconds, median of a second: before it stopped, and after orders were back.
    pub(crate) before: f64,
    pub(crate) after: f64,
}

/// The warehouses stopped and went on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backlog {
    /// Deliveries that waited when the warehouses went on.
    pub(crate) waiting: f64,
    /// Orders placed per second meanwhile, and of those offered the failed ones.
    pub(crate) placed: f64,
    pub(crate) failed: u64,
    /// Deliveries per second from then until (almost) nothing waited, under the same load.
    pub(crate) drained: f64,
    /// Seconds that took.
    pub(crate) took: f64,
}

impl Bench<'_> {
    pub(super) async fn outages(
        &mut self,
        shop: &Estate,
        buyer: &Arc<Buyer>,
        rate: f64,
    ) -> anyhow::Result<()> {
        let it = broker(shop, buyer, rate).await?;
        let failed = count(it.failed);
        self.note("broker frozen for 5 s: orders that failed", ("", LOWER), &[failed]);
        self.note("broker back: until no order fails", ("s", LOWER), &[it.back]);
        let before = [it.before];
        let metric = "broker back: p50 of orders".to_owned();
        self.report.add((metric, "ms", LOWER), &[it.after], Some(("before", &before)), None);

        let away = self.settings.outage;
        let it = warehouses(shop, buyer, rate, away).await?;
        let what = format!("warehouses frozen for {} s: orders placed", away.as_secs());
        let offered = [rate];
        self.report.add(
            (what, "1/s", HIGHER),
            &[it.placed],
            Some(("offered", &offered)),
            Some(0.95),
        );
        let failed = count(it.failed);
        self.note("warehouses frozen: orders that failed", ("", LOWER), &[failed]);
        self.note("warehouses back: deliveries that waited", ("", HIGHER), &[it.waiting]);
        self.note("warehouses back: until they were made", ("s", LOWER), &[it.took]);
        let metric = "warehouses back: deliveries under the same load".to_owned();
        self.report.add(
            (metric, "1/s", HIGHER),
            &[it.drained],
            Some(("arrivals", &offered)),
            Some(2.0),
        );
        Ok(())
    }
}

fn tell(processes: &[&Process], signal: &str) -> anyhow::Result<()> {
    for it in processes {
        let told = Command::new("kill").args([signal, &it.pid.to_string()]).status()?;
        anyhow::ensure!(told.success(), "cannot signal {}", it.name);
    }
    Ok(())
}

fn steady(rate: f64, span: Duration) -> Plan {
    Plan { arrivals: Arrivals::Poisson { seed: 11 }, ..Plan::flat(rate, span) }
}

/// The median of the second that ends last within `from..to`.
fn median(report: &Report, from: Duration, to: Duration) -> f64 {
    let ticks = report.ticks.iter().filter(|it| from < it.at && it.at <= to);
    let last = ticks.filter_map(|it| it.p50).next_back();
    last.map_or(f64::NAN, |it| it.as_secs_f64() * 1e3)
}

pub(crate) async fn broker(
    estate: &Estate,
    buyer: &Arc<Buyer>,
    rate: f64,
) -> anyhow::Result<Stopped> {
    let broker = [estate.process("broker")?];
    let plan = steady(rate, AROUND + BROKER + 2 * AROUND);
    let script = async {
        sleep(AROUND).await;
        tell(&broker, "-STOP")?;
        sleep(BROKER).await;
        tell(&broker, "-CONT")
    };
    let (report, told) = tokio::join!(run(&plan, Arc::clone(buyer), |_| {}), script);
    told?;
    rest(estate).await?;
    let back = AROUND + BROKER;
    let last = report.ticks.iter().filter(|it| 0 < it.failed + it.dropped).map(|it| it.at).max();
    Ok(Stopped {
        failed: report.failed_total() + report.dropped + report.unfinished,
        back: last.unwrap_or_default().saturating_sub(back).as_secs_f64(),
        before: median(&report, Duration::ZERO, AROUND),
        after: median(&report, back + AROUND, back + 2 * AROUND),
    })
}

pub(crate) async fn warehouses(
    estate: &Estate,
    buyer: &Arc<Buyer>,
    rate: f64,
    away: Duration,
) -> anyhow::Result<Backlog> {
    let warehouses = [estate.process("warehouse-a")?, estate.process("warehouse-b")?];
    let plan = steady(rate, away);
    tell(&warehouses, "-STOP")?;
    let report = run(&plan, Arc::clone(buyer), |_| {}).await;
    let waiting = count(waiting(&estate.data)?);
    tell(&warehouses, "-CONT")?;
    let start = Instant::now();
    // The same load goes on until the backlog is gone.
    let stop = tokio_util::sync::CancellationToken::new();
    let plan = steady(rate, DRAIN_MAX);
    let look = async {
        loop {
            sleep(LOOK).await;
            let left = count(self::waiting(&estate.data)?);
            // What arrives within half a second always waits for a moment.
            if left <= rate / 2.0 || DRAIN_MAX <= start.elapsed() {
                stop.cancel();
                return anyhow::Ok((left, start.elapsed().as_secs_f64()));
            }
        }
    };
    let load = tradewind_load::run_until(&plan, Arc::clone(buyer), |_| {}, stop.clone());
    let (more, looked) = tokio::join!(load, look);
    let (left, took) = looked?;
    rest(estate).await?;
    Ok(Backlog {
        waiting,
        placed: report.rate_served,
        failed: report.failed_total() + report.dropped + report.unfinished,
        drained: (waiting - left + count(more.served)) / took,
        took,
    })
}

/// Deliveries of placed orders that the broker still has to make.
fn waiting(data: &Path) -> anyhow::Result<u64> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = rusqlite::Connection::open_with_flags(data.join("broker.db"), flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    let sql = "SELECT COUNT(*) FROM delivery WHERE subscriber = 'warehouse'";
    let count: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    u64::try_from(count).context("a negative count")
}
