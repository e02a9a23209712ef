//! Counting: the run without its warm-up, and the second that is running.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use super::{Arrival, Machine};
use crate::{Histogram, Outcome, Report, Tick};

/// Most classes of failures; further ones count as `other`.
const CLASSES_MAX: usize = 64;

/// Since the last tick.
#[derive(Debug, Default)]
struct Current {
    since: Duration,
    offered: u64,
    served: u64,
    failed: u64,
    dropped: u64,
    response: Histogram,
}

#[derive(Debug)]
pub(super) struct Tally {
    warm_up: Duration,
    offered: u64,
    served: u64,
    served_within: u64,
    failed: BTreeMap<Cow<'static, str>, u64>,
    dropped: u64,
    backlog_max: usize,
    response: Histogram,
    service: Histogram,
    failures: Histogram,
    lag: Histogram,
    current: Current,
    ticks: Vec<Tick>,
}

impl Tally {
    pub(super) fn new(warm_up: Duration) -> Self {
        Self {
            warm_up,
            offered: 0,
            served: 0,
            served_within: 0,
            failed: BTreeMap::new(),
            dropped: 0,
            backlog_max: 0,
            response: Histogram::new(),
            service: Histogram::new(),
            failures: Histogram::new(),
            lag: Histogram::new(),
            current: Current::default(),
            ticks: Vec::new(),
        }
    }

    pub(super) fn offered(&mut self, arrival: Arrival, now: Duration, accepted: bool) {
        self.current.offered += 1;
        self.current.dropped += u64::from(!accepted);
        if self.warm_up <= arrival.due {
            self.offered += 1;
            self.dropped += u64::from(!accepted);
            self.lag.record(now.saturating_sub(arrival.due));
        }
    }

    pub(super) fn backlog(&mut self, backlog: usize) {
        self.backlog_max = self.backlog_max.max(backlog);
    }

    /// `within` says whether it ended before the last stage did.
    pub(super) fn ended(
        &mut self,
        arrival: Arrival,
        sent: Duration,
        now: Duration,
        outcome: Outcome,
        within: bool,
    ) {
        let measured = self.warm_up <= arrival.due;
        let response = now.saturating_sub(arrival.due);
        match outcome {
            Outcome::Ok => {
                self.current.served += 1;
                self.current.response.record(response);
                // Also what came due during the warm-up: the server carried it in this stretch.
                self.served_within += u64::from(within && self.warm_up <= now);
                if measured {
                    self.served += 1;
                    self.response.record(response);
                    self.service.record(now.saturating_sub(sent.max(arrival.due)));
                }
            }
            Outcome::Failed(class) => {
                self.current.failed += 1;
                if measured {
                    self.failures.record(response);
                    let room = self.failed.len() < CLASSES_MAX || self.failed.contains_key(&class);
                    let class = if room { class } else { Cow::Borrowed("other") };
                    *self.failed.entry(class).or_default() += 1;
                }
            }
        }
    }

    /// When the next tick is due: on whole seconds.
    pub(super) fn next_tick(&self) -> Duration {
        let ticks = self.current.since.as_secs() + 1;
        Machine::TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX))
    }

    /// Whether anything happened, or a noticeable time passed, since the last tick.
    pub(super) fn open(&self, now: Duration) -> bool {
        let it = &self.current;
        0 < it.offered + it.served + it.failed && it.since < now
    }

    pub(super) fn tick(&mut self, now: Duration, waiting: usize, in_flight: usize) -> Tick {
        let it = &mut self.current;
        let tick = Tick {
            at: now,
            span: now.saturating_sub(it.since),
            offered: it.offered,
            served: it.served,
            failed: it.failed,
            dropped: it.dropped,
            waiting,
            in_flight,
            p50: it.response.quantile(0.5),
            p99: it.response.quantile(0.99),
            max: it.response.max(),
            warm_up: it.since < self.warm_up,
        };
        (it.offered, it.served, it.failed, it.dropped) = (0, 0, 0, 0);
        it.response.clear();
        it.since = now;
        if self.ticks.len() < Report::TICKS_MAX {
            self.ticks.push(tick.clone());
        }
        tick
    }

    /// The run's report; the measured stretch ended at `ends`.
    pub(super) fn report(self, ends: Duration, stopped: bool) -> Report {
        let lasted = ends.saturating_sub(self.warm_up);
        #[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^52")]
        let rate = |count: u64| {
            if lasted.is_zero() { 0.0 } else { count as f64 / lasted.as_secs_f64() }
        };
        let ended = self.served + self.failed.values().sum::<u64>() + self.dropped;
        Report {
            offered: self.offered,
            served: self.served,
            dropped: self.dropped,
            unfinished: self.offered.saturating_sub(ended),
            lasted,
            rate_offered: rate(self.offered),
            rate_served: rate(self.served_within),
            backlog_max: self.backlog_max,
            response: self.response,
            service: self.service,
            failures: self.failures,
            lag: self.lag,
            failed: self.failed,
            ticks: self.ticks,
            stopped,
        }
    }
}
