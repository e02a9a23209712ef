//! Driving the machine: a clock, a timer and requests.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::machine::Machine;
use crate::pace::Pacer;
use crate::{Plan, Report, Tick};

/// How one request went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Ok,
    /// It failed; a short class such as `503` or `timeout`.
    Failed(Cow<'static, str>),
}

/// What is done for each arrival.
pub trait Work: Send + Sync + 'static {
    /// Does it once. It must end by itself: give it a time limit. `sequence` is its number, from
    /// zero, the warm-up included.
    fn once(&self, sequence: u64) -> impl Future<Output = Outcome> + Send;
}

/// Runs the plan to its end; `watch` is called about once a second.
///
/// # Cancel safety
/// Dropping the future gives up everything that is in flight.
pub async fn run<W: Work>(plan: &Plan, work: Arc<W>, watch: impl FnMut(&Tick) + Send) -> Report {
    run_until(plan, work, watch, CancellationToken::new()).await
}

/// Runs the plan until its end or until `stop` is cancelled. Then nothing new is started, what is
/// in flight may end within [`Plan::drain`], and the report is of what was offered until then.
///
/// # Cancel safety
/// Dropping the future gives up everything that is in flight.
pub async fn run_until<W: Work>(
    plan: &Plan,
    work: Arc<W>,
    mut watch: impl FnMut(&Tick) + Send,
    stop: CancellationToken,
) -> Report {
    let start = Instant::now();
    let mut machine = Machine::new(plan);
    let mut pacer = Pacer::new();
    let mut flights = FuturesUnordered::new();
    let mut stopped = false;
    loop {
        let now = start.elapsed();
        machine.advance(now);
        while let Some(arrival) = machine.take() {
            let work = Arc::clone(&work);
            flights.push(async move {
                let sent = start.elapsed();
                let outcome = work.once(arrival.sequence).await;
                (arrival, sent, start.elapsed(), outcome)
            });
        }
        if let Some(tick) = machine.tick(now) {
            watch(&tick);
        }
        if machine.is_over(now) {
            break;
        }
        tokio::select! {
            biased;
            () = stop.cancelled(), if !stopped => {
                stopped = true;
                machine.stop(start.elapsed());
            }
            Some((arrival, sent, ended, outcome)) = flights.next() => {
                machine.finish(arrival, sent, ended, outcome);
            }
            () = pacer.until(start + machine.wake(now)) => {}
        }
    }
    let (report, last) = machine.end(start.elapsed());
    if let Some(tick) = last {
        watch(&tick);
    }
    report
}
