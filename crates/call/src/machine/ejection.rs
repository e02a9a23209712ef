//! Leaves out instances that cannot be reached, for a while, without asking anybody.
//!
//! The registry learns of a dead instance in half a second at best; until then every caller would
//! run into it. Only failures to *connect* count: a slow or failing handler is no reason to give
//! its load to the others.

use std::collections::BTreeMap;
use std::time::Duration;

use tradewind_base::Monotonic;

/// The bounds of [`Ejections`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EjectionConfig {
    /// How long an instance is left out after its first failure.
    pub first: Duration,
    /// The longest time it is left out; the time doubles with each failed trial.
    pub longest: Duration,
    /// How long one trial may take before another call may try as well.
    pub trial: Duration,
    /// Most instances that are remembered.
    pub entries_max: usize,
}

impl Default for EjectionConfig {
    /// One second, doubling to thirty; trials of two seconds; 4096 instances.
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(30),
            trial: Duration::from_secs(2),
            entries_max: 4096,
        }
    }
}

#[derive(Clone, Debug)]
struct Entry<S> {
    /// The registration that failed: a new one starts with a clean slate.
    stamp: S,
    /// How long the present stay out lasts.
    span: Duration,
    until: Monotonic,
    on_trial: bool,
}

/// Who is left out, by instance id. `S` tells one registration of an instance from the next.
#[derive(Clone, Debug)]
pub struct Ejections<S> {
    config: EjectionConfig,
    entries: BTreeMap<Box<str>, Entry<S>>,
}

impl<S: Clone + PartialEq> Ejections<S> {
    /// Nobody is left out.
    #[must_use]
    pub const fn new(config: EjectionConfig) -> Self {
        Self { config, entries: BTreeMap::new() }
    }

    /// Whether the instance is to be left out at `now`.
    #[must_use]
    pub fn is_out(&self, id: &str, now: Monotonic) -> bool {
        self.entries.get(id).is_some_and(|it| now < it.until)
    }

    /// How many instances are remembered as failed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no failure is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A call goes to the instance. If its time out is over, this call is the trial, and others
    /// go on leaving it out until the trial has ended.
    pub fn chosen(&mut self, id: &str, now: Monotonic) {
        if let Some(entry) = self.entries.get_mut(id).filter(|it| it.until <= now) {
            entry.on_trial = true;
            entry.until = now + self.config.trial;
        }
    }

    /// It could not be reached. `true` if that is news: it is out from now on, or again.
    pub fn failed(&mut self, id: &str, stamp: &S, now: Monotonic) -> bool {
        let first = self.config.first.min(self.config.longest);
        let Some(entry) = self.entries.get_mut(id).filter(|it| it.stamp == *stamp) else {
            if self.entries.contains_key(id) || self.entries.len() < self.config.entries_max {
                let until = now + first;
                let entry = Entry { stamp: stamp.clone(), span: first, until, on_trial: false };
                self.entries.insert(id.into(), entry);
            }
            return true;
        };
        if now < entry.until && !entry.on_trial {
            return false;
        }
        entry.span = entry.span.saturating_mul(2).clamp(first, self.config.longest);
        entry.until = now + entry.span;
        entry.on_trial = false;
        true
    }

    /// It answered.
    pub fn succeeded(&mut self, id: &str) {
        self.entries.remove(id);
    }

    /// The list of instances is now this one: who is not on it, or is on it by a new registration,
    /// is no longer remembered as failed.
    pub fn listed<'a>(&mut self, list: impl Fn(&str) -> Option<&'a S>)
    where
        S: 'a,
    {
        self.entries.retain(|id, entry| list(id) == Some(&entry.stamp));
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic::from_millis(millis)
    }

    fn ejections() -> Ejections<u32> {
        Ejections::new(EjectionConfig::default())
    }

    #[test]
    fn each_failed_trial_doubles_the_time_up_to_the_longest() {
        let mut ejections = ejections();
        assert!(ejections.failed("a", &1, at(0)));
        let mut now = 0;
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            assert!(ejections.is_out("a", at(now + seconds * 1000 - 1)));
            now += seconds * 1000;
            assert!(!ejections.is_out("a", at(now)), "{seconds}");
            ejections.chosen("a", at(now));
            assert!(ejections.is_out("a", at(now)), "one trial at a time");
            assert!(ejections.failed("a", &1, at(now)));
        }
    }

    /// EJE-3.
    #[test]
    fn a_burst_of_failures_is_one() {
        let mut ejections = ejections();
        assert!(ejections.failed("a", &1, at(0)));
        for millis in 0..100 {
            assert!(!ejections.failed("a", &1, at(millis)));
        }
        assert!(!ejections.is_out("a", at(1000)));
    }

    #[test]
    fn a_trial_that_never_ends_makes_room_for_another() {
        let mut ejections = ejections();
        ejections.failed("a", &1, at(0));
        ejections.chosen("a", at(1000));
        assert!(ejections.is_out("a", at(2999)));
        assert!(!ejections.is_out("a", at(3000)));
    }

    #[test]
    fn success_a_new_registration_and_leaving_the_list_forgive() {
        let mut ejections = ejections();
        for id in ["a", "b", "c", "d"] {
            ejections.failed(id, &1, at(0));
        }
        ejections.succeeded("a");
        ejections.listed(|id| match id {
            "b" => Some(&2),
            "d" => Some(&1),
            _ => None,
        });
        let out = |id| ejections.is_out(id, at(1));
        assert_eq!([out("a"), out("b"), out("c"), out("d")], [false, false, false, true]);
        assert_eq!(ejections.len(), 1);
    }

    /// EJE-4.
    #[test]
    fn no_more_are_remembered_than_allowed() {
        let config = EjectionConfig { entries_max: 2, ..EjectionConfig::default() };
        let mut ejections = Ejections::new(config);
        for id in ["a", "b", "c"] {
            assert!(ejections.failed(id, &1, at(0)), "it is news all the same");
        }
        assert_eq!(ejections.len(), 2);
        assert!(!ejections.is_out("c", at(0)));
    }

    #[derive(Clone, Debug)]
    enum Event {
        Chosen,
        Failed(u32),
        Succeeded,
        Listed(Option<u32>),
    }

    proptest! {
        /// EJE-1 and EJE-2.
        #[test]
        fn nobody_is_out_without_cause_or_for_ever(
            events in vec(
                (0_u64..5000, prop_oneof![
                    Just(Event::Chosen),
                    (0_u32..2).prop_map(Event::Failed),
                    Just(Event::Succeeded),
                    prop::option::of(0_u32..2).prop_map(Event::Listed),
                ]),
                0..60,
            )
        ) {
            let mut ejections = ejections();
            let (mut now, mut last_failure) = (0, None);
            for (wait, event) in events {
                now += wait;
                match event {
                    Event::Chosen => ejections.chosen("a", at(now)),
                    Event::Failed(stamp) => {
                        ejections.failed("a", &stamp, at(now));
                        last_failure = Some(now);
                    }
                    Event::Succeeded => {
                        ejections.succeeded("a");
                        last_failure = None;
                    }
                    Event::Listed(stamp) => ejections.listed(|_| stamp.as_ref()),
                }
                prop_assert!(last_failure.is_some() || !ejections.is_out("a", at(now)));
                prop_assert!(!ejections.is_out("a", at(now + 30_000)));
            }
        }
    }
}
