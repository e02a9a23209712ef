//! How long to wait before the store is asked again about a name that another process holds.

use std::time::Duration;

/// The pause after the `attempt`-th refusal (from 0): from `min`, doubling up to `max`, and never
/// longer than until the holder's lease ends. `chance` (0 to 1) spreads it over its upper half, so
/// that contenders who were refused together do not come back together.
#[must_use]
pub fn pause(
    attempt: u32,
    remaining: Duration,
    (min, max): (Duration, Duration),
    chance: f64,
) -> Duration {
    let grown = min.saturating_mul(2_u32.saturating_pow(attempt.min(20))).min(max);
    let spread = grown.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0));
    // A lease that has just ended is asked for at once, but never in a hot loop.
    spread.min(remaining).max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUNDS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

    #[test]
    fn pauses_double_up_to_the_longest() {
        let long = Duration::from_secs(9);
        let pauses: Vec<_> = (0..8).map(|it| pause(it, long, BOUNDS, 1.0).as_millis()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 200, 200]);
    }

    proptest! {
        #[test]
        fn a_pause_is_never_hot_and_never_outlasts_the_lease(
            attempt in any::<u32>(), remaining in 0_u64..20_000, chance in -1.0..2.0_f64,
        ) {
            let remaining = Duration::from_millis(remaining);
            let it = pause(attempt, remaining, BOUNDS, chance);
            prop_assert!(Duration::from_millis(1) <= it);
            prop_assert!(it <= remaining.max(Duration::from_millis(1)) && it <= BOUNDS.1);
        }
    }
}
