//! How often somebody may fail: a budget per key that refills with time, in bounded memory.
//!
//! Each key has a budget of `burst` failures; one comes back every `interval`. Only one number is
//! kept per key, the time at which its budget is whole again (the "theoretical arrival time" of
//! the generic cell rate algorithm). A key whose budget is whole is forgotten.
//!
//! 1. A key that has failed `burst` times within less than `interval` is refused.
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

/// The budgets.
#[derive(Debug)]
pub(crate) struct Attempts<K> {
    limit: Limit,
    whole_at: HashMap<K, Monotonic>,
    /// The same, in the order in which keys can be forgotten.
    order: BTreeSet<(Monotonic, K)>,
}

impl<K: Hash + Ord + Clone> Attempts<K> {
    pub(crate) fn new(limit: Limit) -> Self {
        Self { limit, whole_at: HashMap::new(), order: BTreeSet::new() }
    }

    /// How long the next attempt of `key` has to wait; zero when it may go on.
    pub(crate) fn wait<Q>(&self, key: &Q, now: Monotonic) -> Duration
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let spent = self.whole_at.get(key).map_or(Duration::ZERO, |it| it.since(now));
        let most = self.limit.interval.saturating_mul(self.limit.burst.max(1) - 1);
        spent.saturating_sub(most)
    }

    /// Takes one failure from the budget of `key`.
    pub(crate) fn charge(&mut self, key: K, now: Monotonic) {
        self.forget_whole(now);
        let from = self.whole_at.get(&key).map_or(now, |it| now.max(*it));
        if !self.whole_at.contains_key(&key) && self.limit.keys_max.max(1) <= self.whole_at.len() {
            self.forget_first();
        }
        self.set(key, from + self.limit.interval);
    }

    /// Gives one failure back.
    pub(crate) fn refund<Q>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let Some((key, whole_at)) = self.whole_at.remove_entry(key) else { return };
        self.order.remove(&(whole_at, key.clone()));
        let earlier = whole_at.since_zero().saturating_sub(self.limit.interval);
        self.set(key, Monotonic::from_duration(earlier));
    }

    fn set(&mut self, key: K, whole_at: Monotonic) {
        if let Some(before) = self.whole_at.insert(key.clone(), whole_at) {
            self.order.remove(&(before, key.clone()));
        }
        self.order.insert((whole_at, key));
    }

    fn forget_whole(&mut self, now: Monotonic) {
        while self.order.first().is_some_and(|it| it.0 <= now) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, key)) = self.order.pop_first() {
            self.whole_at.remove(&key);
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

    const fn at(millis: u64) -> Monotonic {
        Monotonic::from_millis(millis)
    }

    #[test]
    fn the_budget_runs_out_and_comes_back_one_by_one() {
        let mut it = attempts(3, 10);
        for _ in 0..3 {
            assert_eq!(it.wait("a", at(0)), Duration::ZERO);
            it.charge("a".into(), at(0));
        }
        assert_eq!(it.wait("a", at(0)), SECOND);
        assert_eq!(it.wait("b", at(0)), Duration::ZERO);
        assert_eq!(it.wait("a", at(400)), Duration::from_millis(600));
        assert_eq!(it.wait("a", at(1000)), Duration::ZERO);
        it.charge("a".into(), at(1000));
        assert_eq!(it.wait("a", at(1000)), SECOND);
    }

    #[test]
    fn a_refund_makes_room_for_one_more() {
        let mut it = attempts(1, 10);
        it.charge("a".into(), at(0));
        assert_ne!(it.wait("a", at(0)), Duration::ZERO);
        it.refund("a");
        assert_eq!(it.wait("a", at(0)), Duration::ZERO);
        it.refund("never seen");
    }

    #[test]
    fn a_flood_of_names_does_not_free_the_name_under_attack() {
        let mut it = attempts(3, 8);
        for _ in 0..3 {
            it.charge("victim".into(), at(0));
        }
        for flood in 0..1000 {
            it.charge(format!("name-{flood}"), at(0));
        }
        assert_eq!(it.wait("victim", at(0)), SECOND);
        assert!(it.whole_at.len() <= 8);
    }

    proptest! {
        /// In no stretch of time do more attempts pass than the budget and what came back.
        #[test]
        fn no_more_pass_than_the_budget(steps in prop::collection::vec((0_u64..900, 0_u8..3), 1..200)) {
            let mut it = attempts(4, 2);
            let (mut now, mut passed) = (0, 0_u64);
            for (step, key) in steps {
                now += step;
                let key = if key == 0 { "victim" } else { "other" };
                if it.wait(key, at(now)).is_zero() {
                    it.charge(key.into(), at(now));
                    passed += u64::from(key == "victim");
                }
                prop_assert!(passed <= 4 + now / 1000);
                prop_assert_eq!(it.whole_at.len(), it.order.len());
                prop_assert!(it.whole_at.len() <= 2);
            }
        }
    }
}
