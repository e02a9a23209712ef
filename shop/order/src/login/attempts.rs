//! How often somebody may fail: a budget per key that refills with time, in bounded memory.
//!
//! Each key has a budget of `burst` failures; one comes back every `interval`. An attempt takes
//! one from the budget when it begins and gives it back when it succeeds, so attempts that run at
//! once cannot fail more often than the budget allows. Of a key is kept the time at which its
//! budget is whole again (the "theoretical arrival time" of the generic cell rate algorithm) and
//! how many of its attempts are under way. A key whose budget is whole is forgotten.
//!
//! | budget | under way | the next attempt |
//! |---|---|---|
//! | something is left | any | goes on |
//! | nothing is left | some that would make room by succeeding | comes later, when they have ended |
//! | nothing is left | not enough for that | has to wait until something comes back |
//!
//! 1. No more attempts fail in a stretch of time than the budget and what came back in it.
//! 2. At most `keys_max` keys are kept. When a new one needs room, the key that is nearest to a
//!    whole budget goes: a flood of invented names pushes out its own, not the one that is under
//!    attack.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

use tradewind::base::Monotonic;

/// A budget of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// How many failures in a row are allowed; at least 1.
    pub(crate) burst: u32,
    /// How long until one of them is forgotten.
    pub(crate) interval: Duration,
    /// How many keys are kept at most; at least 1.
    pub(crate) keys_max: usize,
}

/// Whether an attempt may go on. Later answers win when there are several keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Go,
    /// When attempts that are under way have ended.
    Later,
    /// After this time.
    Wait(Duration),
}

/// The budgets.
#[derive(Debug)]
pub(crate) struct Attempts<K> {
    limit: Limit,
    kept: HashMap<K, Kept>,
    /// The keys in the order in which they can be forgotten.
    order: BTreeSet<(Monotonic, K)>,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    whole_at: Monotonic,
    under_way: u32,
}

impl<K: Hash + Ord + Clone> Attempts<K> {
    pub(crate) fn new(limit: Limit) -> Self {
        Self { limit, kept: HashMap::new(), order: BTreeSet::new() }
    }

    /// Whether the next attempt of `key` may begin.
    pub(crate) fn verdict<Q>(&self, key: &Q, now: Monotonic) -> Verdict
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let Some(kept) = self.kept.get(key) else { return Verdict::Go };
        let spent = kept.whole_at.since(now);
        let most = self.limit.interval.saturating_mul(self.limit.burst.max(1) - 1);
        let under_way = self.limit.interval.saturating_mul(kept.under_way);
        if spent <= most {
            Verdict::Go
        } else if spent.saturating_sub(under_way) <= most {
            Verdict::Later
        } else {
            Verdict::Wait(spent - most)
        }
    }

    /// An attempt begins: takes one from the budget of `key`.
    pub(crate) fn begin(&mut self, key: K, now: Monotonic) {
        self.forget_whole(now);
        let before = self.kept.get(&key).copied();
        if before.is_none() && self.limit.keys_max.max(1) <= self.kept.len() {
            self.forget_first();
        }
        let before = before.unwrap_or(Kept { whole_at: now, under_way: 0 });
        let whole_at = before.whole_at.max(now) + self.limit.interval;
        self.set(key, Kept { whole_at, under_way: before.under_way.saturating_add(1) });
    }

    /// An attempt ended; a success gives back what it took.
    pub(crate) fn end<Q>(&mut self, key: &Q, success: bool)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let Some((key, before)) = self.kept.remove_entry(key) else { return };
        self.order.remove(&(before.whole_at, key.clone()));
        let back = if success { self.limit.interval } else { Duration::ZERO };
        let whole_at = Monotonic::from_duration(before.whole_at.since_zero().saturating_sub(back));
        self.set(key, Kept { whole_at, under_way: before.under_way.saturating_sub(1) });
    }

    fn set(&mut self, key: K, kept: Kept) {
        if let Some(before) = self.kept.insert(key.clone(), kept) {
            self.order.remove(&(before.whole_at, key.clone()));
        }
        self.order.insert((kept.whole_at, key));
    }

    fn forget_whole(&mut self, now: Monotonic) {
        while self.order.first().is_some_and(|it| it.0 <= now) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, key)) = self.order.pop_first() {
            self.kept.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn attempts(burst: u32, keys_max: usize) -> Attempts<String> {
        Attempts::new(Limit { burst, interval: SECOND, keys_max })
    }

    fn fail(it: &mut Attempts<String>, key: &str, now: Monotonic) {
        it.begin(key.into(), now);
        it.end(key, false);
    }

    const fn at(millis: u64) -> Monotonic {
        Monotonic::from_millis(millis)
    }

    #[test]
    fn the_budget_runs_out_and_comes_back_one_by_one() {
        let mut it = attempts(3, 10);
        for _ in 0..3 {
            assert_eq!(it.verdict("a", at(0)), Verdict::Go);
            fail(&mut it, "a", at(0));
        }
        assert_eq!(it.verdict("a", at(0)), Verdict::Wait(SECOND));
        assert_eq!(it.verdict("b", at(0)), Verdict::Go);
        assert_eq!(it.verdict("a", at(400)), Verdict::Wait(Duration::from_millis(600)));
        assert_eq!(it.verdict("a", at(1000)), Verdict::Go);
        fail(&mut it, "a", at(1000));
        assert_eq!(it.verdict("a", at(1000)), Verdict::Wait(SECOND));
    }

    #[test]
    fn a_success_costs_nothing() {
        let mut it = attempts(1, 10);
        for _ in 0..10 {
            assert_eq!(it.verdict("a", at(0)), Verdict::Go);
            it.begin("a".into(), at(0));
            it.end("a", true);
        }
        it.end("never seen", true);
    }

    #[test]
    fn attempts_at_once_wait_for_each_other_instead_of_being_refused() {
        let mut it = attempts(2, 10);
        it.begin("a".into(), at(0));
        it.begin("a".into(), at(0));
        assert_eq!(it.verdict("a", at(0)), Verdict::Later);
        it.end("a", false);
        assert_eq!(it.verdict("a", at(0)), Verdict::Later, "the other one may still succeed");
        it.end("a", true);
        assert_eq!(it.verdict("a", at(0)), Verdict::Go);
        it.begin("a".into(), at(0));
        it.end("a", false);
        assert_eq!(it.verdict("a", at(0)), Verdict::Wait(SECOND));
    }

    #[test]
    fn a_flood_of_names_does_not_free_the_name_under_attack() {
        let mut it = attempts(3, 8);
        for _ in 0..3 {
            fail(&mut it, "victim", at(0));
        }
        for flood in 0..1000 {
            fail(&mut it, &format!("name-{flood}"), at(0));
        }
        assert_eq!(it.verdict("victim", at(0)), Verdict::Wait(SECOND));
        assert!(it.kept.len() <= 8);
    }

    proptest! {
        /// Whatever is under way at once, in no stretch of time do more fail than the budget and
        /// what came back.
        #[test]
        fn no_more_fail_than_the_budget(
            steps in prop::collection::vec((0_u64..900, 0_u8..5), 1..300)
        ) {
            let mut it = attempts(4, 2);
            let (mut now, mut failed, mut under_way) = (0, 0_u64, 0);
            for (step, what) in steps {
                now += step;
                match what {
                    0 | 1 if it.verdict("victim", at(now)) == Verdict::Go => {
                        it.begin("victim".into(), at(now));
                        under_way += 1;
                    }
                    2 | 3 if 0 < under_way => {
                        it.end("victim", what == 3);
                        under_way -= 1;
                        failed += u64::from(what == 2);
                    }
                    _ => fail(&mut it, "other", at(now)),
                }
                prop_assert!(failed <= 4 + now / 1000);
                prop_assert_eq!(it.kept.len(), it.order.len());
                prop_assert!(it.kept.len() <= 2);
            }
        }
    }
}
