//! What a channel counts. Calls and attempts apart: a retry storm shows in their quotient.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::CallError;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// With the declared answer.
    Success,
    /// With a status below 500 that is no success.
    Refused,
    /// With a status of 500 or above.
    ServerError,
    /// The answer was too large or not of the declared type.
    BadAnswer,
    /// No instance was UP.
    NoInstance,
    /// The connection could not be made, or broke.
    Transport,
    /// A phase of the last attempt, or the whole call, took too long.
    Timeout,
    /// A parameter could not be sent.
    Invalid,
    /// The caller stopped waiting: its future was dropped.
    Cancelled,
}

impl Outcome {
    /// Every outcome, in the order of [`Stats::outcomes`].
    pub const ALL: [Self; 9] = [
        Self::Success,
        Self::Refused,
        Self::ServerError,
        Self::BadAnswer,
        Self::NoInstance,
        Self::Transport,
        Self::Timeout,
        Self::Invalid,
        Self::Cancelled,
    ];

    /// A word for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "refused",
            Self::ServerError => "server_error",
            Self::BadAnswer => "bad_answer",
            Self::NoInstance => "no_instance",
            Self::Transport => "transport",
            Self::Timeout => "timeout",
            Self::Invalid => "invalid",
            Self::Cancelled => "cancelled",
        }
    }

    fn of(error: &CallError) -> Self {
        match error {
            CallError::NoInstance { .. } => Self::NoInstance,
            CallError::Transport { .. } => Self::Transport,
            CallError::Timeout { .. } | CallError::DeadlineExceeded { .. } => Self::Timeout,
            CallError::Refused(problem) if problem.status.is_server_error() => Self::ServerError,
            CallError::Status { status, .. } if status.is_server_error() => Self::ServerError,
            CallError::Refused(_) | CallError::Status { .. } => Self::Refused,
            CallError::Decode { .. } | CallError::TooLarge { .. } => Self::BadAnswer,
            CallError::Unsettled { source } => Self::of(source),
            CallError::Invalid { .. } => Self::Invalid,
        }
    }
}

/// The counts of a channel since it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Calls that ended, by outcome.
    pub outcomes: [(Outcome, u64); Outcome::ALL.len()],
    /// Attempts on instances, retries among them.
    pub attempts: u64,
    /// Attempts after the first of their call.
    pub retries: u64,
    /// Retries that the budget did not allow.
    pub retries_denied: u64,
    /// Times an instance was left out because it could not be reached.
    pub ejections: u64,
    /// How long calls took, retries and waits included; cancelled ones are not in it.
    pub latency: Latency,
}

impl Stats {
    /// Calls that ended.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.outcomes.iter().map(|(_, count)| count).sum()
    }

    /// Calls that ended so.
    #[must_use]
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.outcomes.iter().filter(|(it, _)| *it == outcome).map(|(_, count)| count).sum()
    }
}

/// Buckets per power of two: a quantile is at most an eighth too large.
const FINE: u64 = 8;
/// Up to 2^36 µs, 19 hours, in which every deadline ends.
const BUCKETS: usize = 36 * 8;

/// A distribution of durations.
#[derive(Clone, PartialEq, Eq)]
pub struct Latency {
    buckets: Vec<u64>,
    sum_micros: u64,
    max_micros: u64,
}

impl Latency {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The mean; zero if there are none.
    #[must_use]
    pub fn mean(&self) -> Duration {
        Duration::from_micros(self.sum_micros.checked_div(self.count()).unwrap_or(0))
    }

    /// The longest.
    #[must_use]
    pub const fn max(&self) -> Duration {
        Duration::from_micros(self.max_micros)
    }

    /// The duration that `per_mille` of a thousand stay below or equal, at most an eighth too
    /// large; zero if there are none.
    #[must_use]
    pub fn quantile(&self, per_mille: u64) -> Duration {
        let rank = (self.count() * per_mille.min(1000)).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if rank <= seen {
                return Duration::from_micros(upper_bound(bucket).min(self.max_micros));
            }
        }
        Duration::ZERO
    }
}

impl fmt::Debug for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latency")
            .field("count", &self.count())
            .field("mean", &self.mean())
            .field("p99", &self.quantile(990))
            .field("max", &self.max())
            .finish()
    }
}

/// The bucket of a duration: exact below [`FINE`] µs, then [`FINE`] to each power of two.
fn bucket(micros: u64) -> usize {
    let octave = u64::from(micros.checked_ilog2().unwrap_or(0)).saturating_sub(2);
    let index = if octave == 0 { micros } else { octave * FINE + (micros >> (octave - 1)) - FINE };
    usize::try_from(index).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The largest duration of a bucket, in µs.
fn upper_bound(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let octave = bucket / FINE;
    if octave == 0 { bucket } else { ((bucket % FINE + FINE + 1) << (octave - 1)) - 1 }
}

/// Counts without a lock.
pub(crate) struct Counters {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    pub(crate) attempts: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) retries_denied: AtomicU64,
    pub(crate) ejections: AtomicU64,
    buckets: Box<[AtomicU64]>,
    sum_micros: AtomicU64,
    max_micros: AtomicU64,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            outcomes: Default::default(),
            attempts: AtomicU64::default(),
            retries: AtomicU64::default(),
            retries_denied: AtomicU64::default(),
            ejections: AtomicU64::default(),
            buckets: std::iter::repeat_with(AtomicU64::default).take(BUCKETS).collect(),
            sum_micros: AtomicU64::default(),
            max_micros: AtomicU64::default(),
        }
    }

    pub(crate) fn ended<T>(&self, result: &Result<T, CallError>, took: Duration) {
        self.count(result.as_ref().map_or_else(Outcome::of, |_| Outcome::Success));
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get(bucket(micros)) {
            add(bucket, 1);
        }
        add(&self.sum_micros, micros);
        self.max_micros.fetch_max(micros, Ordering::Relaxed);
    }

    pub(crate) fn cancelled(&self) {
        self.count(Outcome::Cancelled);
    }

    fn count(&self, outcome: Outcome) {
        for (it, counter) in Outcome::ALL.iter().zip(&self.outcomes) {
            if *it == outcome {
                add(counter, 1);
            }
        }
    }

    pub(crate) fn snapshot(&self) -> Stats {
        let mut outcomes = Outcome::ALL.map(|it| (it, 0));
        for (slot, counter) in outcomes.iter_mut().zip(&self.outcomes) {
            slot.1 = read(counter);
        }
        Stats {
            outcomes,
            attempts: read(&self.attempts),
            retries: read(&self.retries),
            retries_denied: read(&self.retries_denied),
            ejections: read(&self.ejections),
            latency: Latency {
                buckets: self.buckets.iter().map(read).collect(),
                sum_micros: read(&self.sum_micros),
                max_micros: read(&self.max_micros),
            },
        }
    }
}

/// Counts need no order among each other.
pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_mean_and_maximum_are_those_of_what_was_counted() {
        let counters = Counters::new();
        assert_eq!(counters.snapshot().latency.quantile(500), Duration::ZERO);
        for millis in 1..=1000 {
            counters.ended(&Ok(()), Duration::from_millis(millis));
        }
        counters.cancelled();
        let stats = counters.snapshot();
        assert_eq!((stats.calls(), stats.of(Outcome::Cancelled)), (1001, 1));
        assert_eq!(stats.latency.count(), 1000);
        assert_eq!(stats.latency.mean(), Duration::from_micros(500_500));
        assert_eq!(stats.latency.quantile(1000), Duration::from_millis(1000));
        let median = stats.latency.quantile(500).as_millis();
        assert!((500..=563).contains(&median), "{median}");
    }

    proptest! {
        #[test]
        fn a_bucket_holds_its_durations_within_an_eighth(micros in 0_u64..1 << 35) {
            let upper = upper_bound(bucket(micros));
            prop_assert!(micros <= upper && upper <= micros + micros / 8, "{upper}");
            prop_assert!(bucket(micros) == 0 || upper_bound(bucket(micros) - 1) < micros);
        }

        #[test]
        fn no_duration_is_too_long_to_count(micros: u64) {
            prop_assert!(bucket(micros) < BUCKETS);
        }
    }
}
