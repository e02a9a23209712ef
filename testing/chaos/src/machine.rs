//! The plan: what happens when, as pure functions of a seed. No IO, no clock, no randomness of its
//! own.
//!
//! | question | asked by | answer |
//! |---|---|---|
//! | what comes next for the processes | the storm | [`storm::Storm`]: pause, process, kill, freeze or end |
//! | what does buyer *n* do next | each buyer | [`shopping::Shopping`]: basket, clicks, what follows |
//! | what becomes of request *n* on link *l* | each link | [`mischief::fate`]: passed, lost, answer lost, doubled, held back |
//!
//! Every answer depends on the seed, on whose it is and on its number alone, and not on what
//! anybody else asked before: a buyer that is slower than last time still buys the same things in
//! the same order, and the third request to points is still the one that is lost.
//!
//! What a seed does *not* give again is the race: which order is being placed at the moment in
//! which a process dies, which request is the third one to arrive, which of two buyers gets the
//! last piece. Those depend on the scheduler. A seed therefore gives a run of the same shape, not
//! the same run; a failure needs its logs, which are kept.
//!
//! Invariants:
//!
//! - CHAOS-1: the same seed gives the same plan.
//! - CHAOS-2: each round of the storm kills every process once.
//! - CHAOS-3: every pause and every freeze is within its bounds.
//! - CHAOS-4: a body that is sent with a key again is the same, except where another is wanted.

pub mod mischief;
pub mod shopping;
pub mod storm;

use tradewind_base::Rng;

/// What a run is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// The generator of one stream: `name` says what for, `number` which one of them.
    #[must_use]
    pub fn stream(self, name: &str, number: u64) -> Rng {
        // FNV-1a over the name, then two rounds of a mixer, so that neighbours have nothing in
        // common.
        let named = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, it| {
            (hash ^ u64::from(it)).wrapping_mul(0x0100_0000_01b3)
        });
        Rng::seeded(mix(mix(self.0 ^ named).wrapping_add(number)))
    }
}

const fn mix(it: u64) -> u64 {
    let it = it.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    it ^ (it >> 31)
}

/// A number from `first` to `last`.
fn within(rng: &mut Rng, first: u64, last: u64) -> u64 {
    let span = usize::try_from(last - first + 1).unwrap_or(usize::MAX);
    first + rng.below(span) as u64
}

/// Whether something happens that happens `percent` times in a hundred.
fn chance(rng: &mut Rng, percent: usize) -> bool {
    rng.below(100) < percent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_their_own() {
        let first = |seed, name, number| Seed(seed).stream(name, number).u64();
        assert_eq!(first(1, "buyer", 0), first(1, "buyer", 0));
        let all =
            [first(1, "buyer", 0), first(2, "buyer", 0), first(1, "link", 0), first(1, "buyer", 1)];
        assert!(all.iter().all(|it| all.iter().filter(|other| it == *other).count() == 1));
    }
}
