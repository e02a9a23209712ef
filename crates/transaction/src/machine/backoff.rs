//! When a branch is asked again.
//!
//! | failed attempts | pause before the next, without jitter |
//! |---|---|
//! | 1 | `first` |
//! | n | `first` × 2^(n−1), at most `longest` |
//!
//! Jitter takes up to half of the pause away, so that what failed together does not come back
//! together.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The bounds of the pauses between attempts on one branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// No pause is longer.
    pub longest: Duration,
}

impl Default for Backoff {
    /// From a fifth of a second to a minute.
    fn default() -> Self {
        Self { first: Duration::from_millis(200), longest: Duration::from_secs(60) }
    }
}

impl Backoff {
    /// The pause after the `attempts`-th failure; `jitter` in `0.0..1.0` is how much of its random
    /// half is taken away.
    #[must_use]
    pub fn pause(&self, attempts: u32, jitter: f64) -> Duration {
        let doublings = attempts.saturating_sub(1).min(30);
        let whole = self.first.saturating_mul(1 << doublings).min(self.longest);
        whole.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_jitter_takes_at_most_half() {
        let backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(10) };
        for (attempts, seconds) in [(0, 1), (1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (999, 10)] {
            let whole = Duration::from_secs(seconds);
            assert_eq!(backoff.pause(attempts, 0.0), whole);
            assert_eq!(backoff.pause(attempts, 1.0), whole / 2);
            assert_eq!(backoff.pause(attempts, 77.0), whole / 2);
        }
    }
}
