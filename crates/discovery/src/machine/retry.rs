//! Which peer to ask next, and when.
//!
//! | failures in a row | pause before the next attempt |
//! |---|---|
//! | fewer than there are peers | up to 20 ms: another peer is asked at once |
//! | every peer failed once more | 100 ms, doubled for each round, at most 5 s; half of it random |
//!
//! Invariants:
//! - **RETRY-1** No pause is longer than 5 s, and after a whole round none is shorter than 50 ms.
//! - **RETRY-2** In a round every peer is asked once.

use std::time::Duration;

const SPREAD: Duration = Duration::from_millis(20);
const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(5);

/// The position among the peers; sticks to one for as long as it works.
#[derive(Clone, Debug)]
pub(crate) struct Retry {
    peers: usize,
    at: usize,
    failures: u32,
}

impl Retry {
    /// Starts with the first of `peers`.
    pub(crate) const fn new(peers: usize) -> Self {
        Self { peers, at: 0, failures: 0 }
    }

    /// The peer to ask.
    pub(crate) const fn peer(&self) -> usize {
        self.at
    }

    /// It answered.
    pub(crate) const fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// It did not: the pause before [`Retry::peer`], another one now, is asked. `random` is in
    /// `0.0..1.0`.
    pub(crate) fn failed(&mut self, random: f64) -> Duration {
        let peers = u32::try_from(self.peers.max(1)).unwrap_or(u32::MAX);
        self.at = (self.at + 1) % self.peers.max(1);
        self.failures = self.failures.saturating_add(1);
        let random = random.clamp(0.0, 1.0);
        if !self.failures.is_multiple_of(peers) {
            return SPREAD.mul_f64(random);
        }
        let round = (self.failures / peers - 1).min(16);
        let whole = FIRST.saturating_mul(1 << round).min(LAST);
        whole.mul_f64(0.5 + random / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pauses_double_to_their_bound_and_start_anew_after_a_success() {
        let mut retry = Retry::new(1);
        let pauses: Vec<_> = (0..8).map(|_| retry.failed(1.0).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        retry.succeeded();
        assert_eq!(retry.failed(0.0), Duration::from_millis(50));
    }

    #[test]
    fn the_other_peers_are_asked_at_once() {
        let mut retry = Retry::new(3);
        let pauses: Vec<_> = (0..6).map(|_| retry.failed(1.0).as_millis()).collect();
        assert_eq!(pauses, [20, 20, 100, 20, 20, 200]);
    }

    proptest! {
        /// RETRY-1, RETRY-2.
        #[test]
        fn every_round_asks_everybody_and_pauses_within_bounds(
            peers in 1_usize..6,
            randoms in proptest::collection::vec(0.0..1.0_f64, 1..200),
        ) {
            let mut retry = Retry::new(peers);
            let mut asked = vec![retry.peer()];
            for random in randoms {
                let pause = retry.failed(random);
                prop_assert!(pause <= LAST);
                if asked.len() == peers {
                    prop_assert!(FIRST / 2 <= pause);
                    asked.sort_unstable();
                    prop_assert_eq!(&asked, &(0..peers).collect::<Vec<_>>());
                    asked.clear();
                }
                asked.push(retry.peer());
            }
        }
    }
}
