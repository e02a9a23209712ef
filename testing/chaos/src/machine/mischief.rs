//! What the network does to a request.

use std::time::Duration;

use super::{Seed, chance, within};

/// What becomes of one request on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives and its answer comes back.
    Pass,
    /// It waits this long on its way.
    Hold(Duration),
    /// It never arrives; the connection is cut.
    LoseRequest,
    /// It arrives and is answered; the answer is lost, the connection cut.
    LoseAnswer,
    /// It arrives twice at the same moment; the answer to the first comes back.
    DoubleAtOnce,
    /// It arrives, its answer comes back, and after a while it arrives again.
    DoubleLater(Duration),
}

/// How rough a link is, in requests of a thousand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roughness {
    /// Requests that are lost.
    pub lost: usize,
    /// Answers that are lost.
    pub unanswered: usize,
    /// Requests that arrive twice at once.
    pub at_once: usize,
    /// Requests that arrive again later.
    pub later: usize,
    /// Requests that are held back.
    pub held: usize,
}

impl Roughness {
    /// Of every link: about one request in eleven has a fate of its own.
    pub const ROUGH: Self = Self { lost: 15, unanswered: 20, at_once: 15, later: 15, held: 25 };
    /// A link that does nothing: how the time of settling is told from that of the storm.
    pub const CALM: Self = Self { lost: 0, unanswered: 0, at_once: 0, later: 0, held: 0 };
}

/// The shortest and longest time a request is held back, in milliseconds.
const HELD_MS: (u64, u64) = (20, 400);
/// How long after the first a second one arrives, in milliseconds: also after the Cancel.
const LATER_MS: (u64, u64) = (5, 3000);

/// What becomes of request `number` on the link `link`.
#[must_use]
pub fn fate(seed: Seed, link: &str, number: u64, rough: Roughness) -> Fate {
    let mut rng = seed.stream(link, number);
    let mut draw = rng.below(1000);
    let mut hit = |share: usize| {
        let hit = draw < share;
        draw = draw.wrapping_sub(share);
        hit
    };
    if hit(rough.lost) {
        Fate::LoseRequest
    } else if hit(rough.unanswered) {
        Fate::LoseAnswer
    } else if hit(rough.at_once) {
        Fate::DoubleAtOnce
    } else if hit(rough.later) {
        // Half of them soon: a duplicate that comes within the same exchange.
        let soon = chance(&mut rng, 50);
        let longest = if soon { 50 } else { LATER_MS.1 };
        Fate::DoubleLater(Duration::from_millis(within(&mut rng, LATER_MS.0, longest)))
    } else if hit(rough.held) {
        Fate::Hold(Duration::from_millis(within(&mut rng, HELD_MS.0, HELD_MS.1)))
    } else {
        Fate::Pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(seed: u64, rough: Roughness) -> Vec<Fate> {
        (0..20_000).map(|it| fate(Seed(seed), "points", it, rough)).collect()
    }

    /// CHAOS-1.
    #[test]
    fn the_same_seed_gives_the_same_fates() {
        assert_eq!(fates(7, Roughness::ROUGH), fates(7, Roughness::ROUGH));
        assert_ne!(fates(7, Roughness::ROUGH), fates(8, Roughness::ROUGH));
    }

    /// CHAOS-3.
    #[test]
    fn every_fate_comes_about_as_often_as_wanted_and_within_its_bounds() {
        let all = fates(1, Roughness::ROUGH);
        let share = |wanted: fn(&Fate) -> bool| all.iter().filter(|it| wanted(it)).count() / 20;
        assert!((10..20).contains(&share(|it| *it == Fate::LoseRequest)));
        assert!((15..25).contains(&share(|it| *it == Fate::LoseAnswer)));
        assert!((10..20).contains(&share(|it| *it == Fate::DoubleAtOnce)));
        assert!((10..20).contains(&share(|it| matches!(it, Fate::DoubleLater(_)))));
        assert!((20..30).contains(&share(|it| matches!(it, Fate::Hold(_)))));
        for it in all {
            let (least, longest, span) = match it {
                Fate::Hold(span) => (HELD_MS.0, HELD_MS.1, span),
                Fate::DoubleLater(span) => (LATER_MS.0, LATER_MS.1, span),
                Fate::Pass | Fate::LoseRequest | Fate::LoseAnswer | Fate::DoubleAtOnce => continue,
            };
            let span = u64::try_from(span.as_millis()).unwrap();
            assert!((least..=longest).contains(&span), "{span}");
        }
        assert!(fates(1, Roughness::CALM).iter().all(|it| *it == Fate::Pass));
    }
}
