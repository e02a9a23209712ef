//! One transaction on MySQL: when to run it again.
//!
//! | how the attempt ended | next |
//! |---|---|
//! | the closure was done and COMMIT was answered | its result stands |
//! | the closure refused, nothing else went wrong | its result stands |
//! | a deadlock, a lock time-out or a lost connection, before COMMIT was sent | run again after a pause; when the attempts are used up, it failed |
//! | COMMIT was answered with a deadlock or lock time-out | the same: the server has rolled back |
//! | COMMIT was sent and its answer is missing or unclear | unknown |
//!
//! Invariants, kept by the tests below:
//! 1. A closure runs at most [`Attempts::max`] times.
//! 2. Once COMMIT may have been applied, the closure is never run again.
//! 3. Pauses grow and stay within [`PAUSE_MAX`].

use std::time::Duration;

/// The pause after the first failed attempt, before jitter: two transactions that deadlocked need
/// about one transaction's time to get out of each other's way.
pub const PAUSE_MIN: Duration = Duration::from_millis(2);
/// The longest pause, before jitter.
pub const PAUSE_MAX: Duration = Duration::from_millis(200);

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// COMMIT was answered.
    Committed,
    /// The closure refused and was rolled back.
    Refused,
    /// A conflict or a lost connection ended it; surely nothing was committed.
    Undone,
    /// The answer to COMMIT is missing or unclear.
    Unclear,
}

/// What becomes of the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Answer with the closure's own result.
    Own,
    /// Pause for about this long, then run the closure again.
    Again(Duration),
    /// Answer that it did not happen.
    Failed,
    /// Answer that the outcome is unknown.
    Unknown,
}

/// The attempts of one transaction.
#[derive(Clone, Copy, Debug)]
pub struct Attempts {
    max: u32,
    made: u32,
}

impl Attempts {
    /// No attempt was made yet; at most `max` will be (at least one).
    #[must_use]
    pub const fn new(max: u32) -> Self {
        Self { max: if max == 0 { 1 } else { max }, made: 0 }
    }

    /// How many attempts there may be.
    #[must_use]
    pub const fn max(&self) -> u32 {
        self.max
    }

    /// Notes the end of an attempt and decides.
    pub fn ended(&mut self, how: Ended) -> Next {
        self.made = self.made.saturating_add(1);
        match how {
            Ended::Committed | Ended::Refused => Next::Own,
            Ended::Unclear => Next::Unknown,
            Ended::Undone if self.max <= self.made => Next::Failed,
            Ended::Undone => {
                let doubled = PAUSE_MIN.saturating_mul(1 << (self.made - 1).min(16));
                Next::Again(doubled.min(PAUSE_MAX))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflicts_run_again_until_the_attempts_are_used_up() {
        let mut attempts = Attempts::new(10);
        let mut pauses = Vec::new();
        let last = loop {
            match attempts.ended(Ended::Undone) {
                Next::Again(pause) => pauses.push(pause),
                other => break other,
            }
        };
        assert_eq!(last, Next::Failed);
        assert_eq!(pauses.len(), 9, "ten runs, nine pauses");
        assert!(pauses.is_sorted() && pauses[0] == PAUSE_MIN && pauses[8] == PAUSE_MAX);
    }

    #[test]
    fn every_other_end_is_final_at_once() {
        for (ended, next) in [
            (Ended::Committed, Next::Own),
            (Ended::Refused, Next::Own),
            (Ended::Unclear, Next::Unknown),
        ] {
            assert_eq!(Attempts::new(10).ended(ended), next);
        }
    }

    #[test]
    fn one_attempt_is_always_made_and_counts_do_not_overflow() {
        assert_eq!(Attempts::new(0).ended(Ended::Undone), Next::Failed);
        let mut attempts = Attempts::new(u32::MAX);
        for _ in 0..100 {
            assert!(matches!(attempts.ended(Ended::Undone), Next::Again(it) if it <= PAUSE_MAX));
        }
    }
}
