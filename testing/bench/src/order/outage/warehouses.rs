//! Both warehouses frozen: orders go on, and the broker keeps what it cannot deliver.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tradewind_load::{run, run_until};

use super::books::Books;
use super::{DRAIN_MAX, Frozen, LOOK, steady};
use crate::order::buyer::Buyer;
use crate::order::estate::Estate;
use crate::order::measure::{count, rest};
use crate::order::{Bench, HIGHER, LOWER};

/// The warehouses stopped and went on.
#[derive(Clone, Copy, Debug, Default)]
struct Outage {
    /// Deliveries that waited when the warehouses went on.
    waiting: f64,
    /// Orders placed per second meanwhile, and of those offered the failed ones.
    placed: f64,
    failed: u64,
    /// Deliveries per second from then until (almost) nothing waited, under the same load.
    drained: f64,
    /// Seconds that took.
    took: f64,
}

impl Bench<'_> {
    pub(in crate::order) async fn warehouse_outage(
        &mut self,
        shop: &Estate,
        buyer: &Arc<Buyer>,
        rate: f64,
    ) -> anyhow::Result<()> {
        let away = self.settings.outage;
        let it = measure(shop, buyer, rate, away).await?;
        let offered = ("offered", rate);
        let what = format!("warehouses frozen for {} s: orders placed", away.as_secs());
        self.beside(&what, ("1/s", HIGHER), it.placed, offered, Some(0.95));
        let failed = count(it.failed);
        self.note("warehouses frozen: orders that failed", ("", LOWER), &[failed]);
        self.note("warehouses back: deliveries that waited", ("", HIGHER), &[it.waiting]);
        self.note("warehouses back: until they were made", ("s", LOWER), &[it.took]);
        let what = "warehouses back: deliveries under the same load";
        self.beside(what, ("1/s", HIGHER), it.drained, ("arrivals", rate), Some(2.0));
        Ok(())
    }
}

async fn measure(
    estate: &Estate,
    buyer: &Arc<Buyer>,
    rate: f64,
    away: Duration,
) -> anyhow::Result<Outage> {
    let books = Books::open(&estate.data)?;
    let warehouses = [estate.process("warehouse-a")?, estate.process("warehouse-b")?];
    let plan = steady(rate, away);
    let frozen = Frozen::freeze(&warehouses)?;
    let report = run(&plan, Arc::clone(buyer), |_| {}).await;
    let waiting = count(books.deliveries("warehouse")?);
    frozen.thaw()?;
    let start = Instant::now();
    // The same load goes on until the backlog is gone.
    let stop = CancellationToken::new();
    let plan = steady(rate, DRAIN_MAX);
    let look = async {
        let _end = stop.clone().drop_guard();
        loop {
            sleep(LOOK).await;
            let left = count(books.deliveries("warehouse")?);
            // What arrives within half a second always waits for a moment.
            if left <= rate / 2.0 || DRAIN_MAX <= start.elapsed() {
                return anyhow::Ok((left, start.elapsed().as_secs_f64()));
            }
        }
    };
    let load = run_until(&plan, Arc::clone(buyer), |_| {}, stop.clone());
    let (more, looked) = tokio::join!(load, look);
    let (left, took) = looked?;
    rest(estate).await?;
    Ok(Outage {
        waiting,
        placed: report.rate_served,
        failed: report.failed_total() + report.dropped + report.unfinished,
        drained: (waiting - left + count(more.served)) / took,
        took,
    })
}
