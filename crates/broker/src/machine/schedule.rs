//! When the next attempt is due.

use std::time::Duration;

/// A pause that doubles from `first` to `longest`, `times` times at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The first pause.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// How many attempts there are in all.
    pub times: u32,
}

/// The longest pause between two questions about a branch.
const BRANCH_LONGEST: Duration = Duration::from_secs(10);

impl Schedule {
    /// The pause after attempt number `attempts` (from 1), or `None` when that was the last.
    /// `share`, from 0 to 1, spreads it between half and the whole, so that what failed together
    /// does not come back together.
    #[must_use]
    pub fn pause(&self, attempts: u32, share: f64) -> Option<Duration> {
        if self.times <= attempts {
            return None;
        }
        let factor = 2_u32.saturating_pow(attempts.saturating_sub(1).min(31));
        let whole = self.first.saturating_mul(factor).min(self.longest);
        Some(whole.mul_f64(0.5 + share.clamp(0.0, 1.0) / 2.0))
    }

    /// The same for branches of distributed transactions: short pauses, and no end. Nobody but its
    /// initiator can say what became of a transaction, it says so for good once it is there, and the
    /// other participants ask as often.
    #[must_use]
    pub fn for_branches(self) -> Self {
        Self { first: self.first, longest: self.longest.min(BRANCH_LONGEST), times: u32::MAX }
    }

    /// How long all pauses take together at most.
    #[must_use]
    pub fn span(&self) -> Duration {
        let pauses = (1..self.times.min(1000)).filter_map(|it| self.pause(it, 1.0));
        pauses.fold(Duration::ZERO, Duration::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_is_asked_about_soon_and_for_ever() {
        let seconds = Duration::from_secs;
        let checks = Schedule { first: seconds(4), longest: seconds(7200), times: 3 };
        let pauses = |it: Schedule| [1, 2, 3, 1000].map(|attempts| it.pause(attempts, 1.0));
        assert_eq!(pauses(checks), [Some(seconds(4)), Some(seconds(8)), None, None]);
        let ten = Some(seconds(10));
        assert_eq!(pauses(checks.for_branches()), [Some(seconds(4)), Some(seconds(8)), ten, ten]);
    }
}
