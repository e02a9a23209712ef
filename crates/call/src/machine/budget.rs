//! How many retries a channel may add to its calls.
//!
//! A retry helps when one instance fails and harms when all are overloaded: it multiplies the very
//! load that broke them. A count per call cannot tell the two apart; a share of all calls can.

use std::time::Duration;

use tradewind_base::Monotonic;

const SLOTS: usize = 10;
const SLOTS_U32: u32 = 10;

/// The bounds of a [`Budget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetConfig {
    /// How long a call counts.
    pub ttl: Duration,
    /// Retries per second that are allowed whatever the number of calls, so that a quiet channel
    /// can retry at all.
    pub min_per_second: u32,
    /// Retries per hundred calls beyond that.
    pub percent: u32,
}

impl Default for BudgetConfig {
    /// Ten seconds, ten retries per second, twenty for a hundred calls.
    fn default() -> Self {
        Self { ttl: Duration::from_secs(10), min_per_second: 10, percent: 20 }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    calls: u64,
    retries: u64,
}

/// A window over the last calls and retries.
#[derive(Clone, Debug)]
pub struct Budget {
    config: BudgetConfig,
    slots: [Slot; SLOTS],
    /// The number of the newest slot since the clock's zero.
    newest: u128,
}

impl Budget {
    /// A budget with its whole reserve.
    #[must_use]
    pub const fn new(config: BudgetConfig) -> Self {
        Self { config, slots: [Slot { calls: 0, retries: 0 }; SLOTS], newest: 0 }
    }

    /// A call begins.
    pub fn deposit(&mut self, now: Monotonic) {
        let current = self.roll(now);
        self.slots[current].calls += 1;
    }

    /// Takes one retry out; `false` if there is none.
    pub fn withdraw(&mut self, now: Monotonic) -> bool {
        let current = self.roll(now);
        let (calls, retries) = self
            .slots
            .iter()
            .fold((0_u64, 0_u64), |sum, it| (sum.0 + it.calls, sum.1 + it.retries));
        // In hundredths of a retry, so that small shares of few calls are not rounded away.
        let reserve =
            u128::from(self.config.min_per_second) * self.config.ttl.as_millis() / (1000 / 100);
        let earned = u128::from(calls) * u128::from(self.config.percent);
        let allowed = (u128::from(retries) + 1) * 100 <= reserve + earned;
        self.slots[current].retries += u64::from(allowed);
        allowed
    }

    /// Moves the window to `now`: slots that have left it start again from nothing. Gives the
    /// place of the newest slot, which is below [`SLOTS`].
    fn roll(&mut self, now: Monotonic) -> usize {
        let width = (self.config.ttl / SLOTS_U32).as_nanos().max(1);
        let number = (now.since_zero().as_nanos() / width).max(self.newest);
        let passed = number - self.newest;
        for step in 1..=passed.min(SLOTS as u128) {
            self.slots[place(self.newest + step)] = Slot::default();
        }
        self.newest = number;
        place(number)
    }
}

fn place(number: u128) -> usize {
    usize::try_from(number % SLOTS as u128).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic::from_millis(millis)
    }

    fn drain(budget: &mut Budget, now: Monotonic) -> usize {
        std::iter::repeat_with(|| budget.withdraw(now)).take_while(|it| *it).count()
    }

    #[test]
    fn the_reserve_and_a_share_of_the_calls_are_there() {
        let mut budget = Budget::new(BudgetConfig::default());
        assert_eq!(drain(&mut budget, at(0)), 100);
        for _ in 0..50 {
            budget.deposit(at(0));
        }
        assert_eq!(drain(&mut budget, at(0)), 10);
    }

    /// BUD-2.
    #[test]
    fn a_window_later_the_reserve_is_whole_again() {
        let mut budget = Budget::new(BudgetConfig::default());
        assert_eq!(drain(&mut budget, at(5000)), 100);
        assert_eq!(drain(&mut budget, at(14_999)), 0);
        assert_eq!(drain(&mut budget, at(15_000)), 100);
        assert_eq!(drain(&mut budget, at(u64::MAX / 2)), 100);
    }

    #[test]
    fn nothing_allowed_is_nothing() {
        let config = BudgetConfig { min_per_second: 0, percent: 0, ttl: Duration::ZERO };
        let mut budget = Budget::new(config);
        budget.deposit(at(1));
        assert!(!budget.withdraw(at(1)));
    }

    proptest! {
        /// BUD-1, whenever a retry is taken.
        #[test]
        fn retries_stay_within_reserve_and_share(
            steps in vec((0_u64..900, any::<bool>()), 1..400),
            min_per_second in 0_u32..3,
            percent in 0_u32..150,
        ) {
            let config = BudgetConfig { ttl: Duration::from_secs(10), min_per_second, percent };
            let mut budget = Budget::new(config);
            let (mut now, mut calls, mut retries) = (0, Vec::new(), Vec::new());
            for (wait, retry) in steps {
                now += wait;
                if !retry {
                    budget.deposit(at(now));
                    calls.push(now);
                    continue;
                }
                if !budget.withdraw(at(now)) {
                    continue;
                }
                retries.push(now);
                let first = (now / 1000).saturating_sub(9) * 1000;
                let within = |it: &[u64]| it.iter().filter(|it| first <= **it).count() as u64;
                let allowed = u64::from(min_per_second) * 1000 + within(&calls) * u64::from(percent);
                prop_assert!(within(&retries) * 100 <= allowed);
            }
        }
    }
}
