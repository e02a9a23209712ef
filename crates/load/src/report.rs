//! What was measured.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Times with three significant digits, from a microsecond to an hour; longer ones count as an
/// hour.
#[derive(Clone)]
pub struct Histogram(hdrhistogram::Histogram<u64>);

impl Histogram {
    const MICROS_MAX: u64 = 3_600_000_000;

    /// A histogram without times.
    #[must_use]
    #[expect(clippy::missing_panics_doc, clippy::expect_used, reason = "constant arguments")]
    pub fn new() -> Self {
        let empty = hdrhistogram::Histogram::new_with_bounds(1, Self::MICROS_MAX, 3);
        Self(empty.expect("a range that starts at one and three digits are valid"))
    }

    /// Adds one time.
    pub fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// Adds all times of another.
    pub fn add(&mut self, other: &Self) {
        let fits = self.0.add(&other.0).is_ok();
        debug_assert!(fits, "both have the same bounds");
    }

    /// Forgets all times.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// How many times were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that the given share (0 to 1) does not exceed; `None` without times.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        (!self.0.is_empty()).then(|| Duration::from_micros(self.0.value_at_quantile(share)))
    }

    /// The longest time; `None` without times.
    #[must_use]
    pub fn max(&self) -> Option<Duration> {
        (!self.0.is_empty()).then(|| Duration::from_micros(self.0.max()))
    }

    /// The mean; `None` without times.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        (!self.0.is_empty()).then(|| Duration::from_secs_f64(self.0.mean() / 1e6))
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.max())
            .finish()
    }
}

/// About one second of a run: what happened since the tick before.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    /// Its end, since the start of the run.
    pub at: Duration,
    /// How long it was.
    pub span: Duration,
    /// Requests that came due.
    pub offered: u64,
    /// Requests that were answered well.
    pub served: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Requests that found no place to wait.
    pub dropped: u64,
    /// Requests that are due and not sent, at its end.
    pub waiting: usize,
    /// Requests that are sent and not answered, at its end.
    pub in_flight: usize,
    /// Median response time of what was served; `None` when nothing was.
    pub p50: Option<Duration>,
    /// 99th percentile of the response time of what was served.
    pub p99: Option<Duration>,
    /// Longest response time of what was served.
    pub max: Option<Duration>,
    /// Whether it began within the warm-up.
    pub warm_up: bool,
}

/// A whole run, without its warm-up: `offered = served + failures + dropped + unfinished`.
#[derive(Clone, Debug)]
pub struct Report {
    /// Requests that came due.
    pub offered: u64,
    /// Requests that were answered well.
    pub served: u64,
    /// Requests that failed, by class.
    pub failed: BTreeMap<Cow<'static, str>, u64>,
    /// Requests that found no place to wait.
    pub dropped: u64,
    /// Requests that were still waiting or in flight when the run ended.
    pub unfinished: u64,
    /// The measured stretch: from the end of the warm-up to the last arrival's stage's end, or to
    /// when the run was stopped.
    pub lasted: Duration,
    /// Requests that came due per second of that stretch.
    pub rate_offered: f64,
    /// Requests that were answered well *within* that stretch, per second of it: what the server
    /// really carries. What it works off afterwards is in `served` only.
    pub rate_served: f64,
    /// Most requests that were waiting or in flight at one time.
    pub backlog_max: usize,
    /// Time from the scheduled instant to the answer, of what was served.
    pub response: Histogram,
    /// Time from sending to the answer, of what was served.
    pub service: Histogram,
    /// Time from the scheduled instant to the failure, of what failed.
    pub failures: Histogram,
    /// How late this generator noticed that a request was due.
    pub lag: Histogram,
    /// Second by second, the warm-up and the draining included; at most [`Report::TICKS_MAX`].
    pub ticks: Vec<Tick>,
    /// Whether it was stopped before its end.
    pub stopped: bool,
}

impl Report {
    /// Most ticks that are kept: a day, and the draining.
    pub const TICKS_MAX: usize = 100_000;

    /// Requests that failed, of all classes.
    #[must_use]
    pub fn failed_total(&self) -> u64 {
        self.failed.values().sum()
    }
}
