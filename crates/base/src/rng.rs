//! Randomness as a value that is handed in.

use std::time::Duration;

/// A fast generator for jitter, sampling, choices and ids. Not for secrets: see [`crate::seal`].
#[derive(Clone, Debug)]
pub struct Rng(fastrand::Rng);

impl Rng {
    /// The same seed gives the same sequence, on every machine.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// A generator seeded by the system.
    #[must_use]
    pub fn from_entropy() -> Self {
        Self(fastrand::Rng::new())
    }

    /// A generator of its own, seeded from this one.
    #[must_use]
    pub fn split(&mut self) -> Self {
        Self(self.0.fork())
    }

    /// Any 64 bits.
    pub fn u64(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// Any 128 bits.
    pub fn u128(&mut self) -> u128 {
        self.0.u128(..)
    }

    /// A number below `bound`; zero when `bound` is zero.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { self.0.usize(..bound) }
    }

    /// A number in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        self.0.f64()
    }

    /// `span` scaled by a factor between `1 - share` and `1 + share`; `share` is clamped to 0..=1.
    pub fn jitter(&mut self, span: Duration, share: f64) -> Duration {
        let share = share.clamp(0.0, 1.0);
        span.mul_f64(1.0 + share * (2.0 * self.unit() - 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_one_sequence() {
        let (mut a, mut b) = (Rng::seeded(42), Rng::seeded(42));
        assert_eq!((a.u64(), a.u128(), a.below(9)), (b.u64(), b.u128(), b.below(9)));
        assert_ne!(Rng::seeded(1).u64(), Rng::seeded(2).u64());
    }

    #[test]
    fn jitter_stays_within_its_share() {
        let mut rng = Rng::seeded(3);
        let span = Duration::from_millis(1000);
        for _ in 0..1000 {
            let it = rng.jitter(span, 0.25);
            assert!(Duration::from_millis(750) <= it && it <= Duration::from_millis(1250));
        }
    }
}
