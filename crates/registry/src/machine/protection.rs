//! When not to believe that instances are dead: too many fell silent at once.
//!
//! A registry that loses sight of many instances together has more likely lost its own network
//! than seen them all die, and removing them would turn a small fault into an outage. So expiry is
//! held back while a *scope* (one application, or all of them together) looks like that:
//!
//! | condition | default | because |
//! |---|---|---|
//! | the scope has at least `instances_min` | 10 | of four instances two do die together |
//! | at least `missing_min` are late | 3 | one or two are ordinary deaths |
//! | they are on at least `hosts_min` hosts | 2 | one dead host is an ordinary death too |
//! | they are more than `share_percent` of the scope | 15 | Eureka's renewal threshold of 85 % |
//! | for at most `hold_max` | 5 min | it must end by itself; Eureka's often never does |
//!
//! *Late* is an instance that has used up two thirds of its lease: with three heartbeats to a
//! lease it missed one and the next is overdue. Counting late instances, not expired ones, sees
//! the whole of a partition before the first lease in it ends. Each lease counts by its own
//! interval, so clients with other intervals do not skew it.
//!
//! What a probe found refused is dead, not unseen, and goes regardless.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tradewind_base::Monotonic;

/// When expiry is held back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Whether it is held back at all.
    pub enabled: bool,
    /// The smallest scope, in instances.
    pub instances_min: usize,
    /// The smallest number of late instances.
    pub missing_min: usize,
    /// The smallest number of hosts they are on.
    pub hosts_min: usize,
    /// They must be more than this share of the scope, in percent.
    pub share_percent: u32,
    /// The longest time a scope is protected without a pause.
    pub hold_max: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            enabled: true,
            instances_min: 10,
            missing_min: 3,
            hosts_min: 2,
            share_percent: 15,
            hold_max: Duration::from_secs(300),
        }
    }
}

/// The late instances of one scope and whether it is protected.
#[derive(Debug, Default)]
pub(super) struct Scope {
    late: usize,
    hosts: BTreeMap<Arc<str>, usize>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Calm,
    Protecting {
        since: Monotonic,
    },
    /// Protected for the longest time; not again before the condition has been false once.
    Exhausted,
}

impl Scope {
    pub(super) fn add(&mut self, host: &Arc<str>) {
        self.late += 1;
        *self.hosts.entry(Arc::clone(host)).or_default() += 1;
    }

    pub(super) fn sub(&mut self, host: &str) {
        self.late = self.late.saturating_sub(1);
        if let Some(count) = self.hosts.get_mut(host) {
            *count -= 1;
            if *count == 0 {
                self.hosts.remove(host);
            }
        }
    }

    pub(super) const fn late(&self) -> usize {
        self.late
    }

    /// Looks at the scope of `instances` at `now`; whether expiry is held back in it.
    pub(super) fn judge(&mut self, rules: &Rules, instances: usize, now: Monotonic) -> bool {
        if !self.suspicious(rules, instances) {
            self.state = State::Calm;
            return false;
        }
        match self.state {
            State::Calm => self.state = State::Protecting { since: now },
            State::Protecting { since } if rules.hold_max <= now.since(since) => {
                self.state = State::Exhausted;
            }
            State::Protecting { .. } | State::Exhausted => {}
        }
        self.protecting()
    }

    pub(super) const fn protecting(&self) -> bool {
        matches!(self.state, State::Protecting { .. })
    }

    fn suspicious(&self, rules: &Rules, instances: usize) -> bool {
        rules.enabled
            && rules.instances_min <= instances
            && rules.missing_min <= self.late
            && rules.hosts_min <= self.hosts.len()
            && rules.share_percent as usize * instances < self.late * 100
    }

    /// The state in words and numbers; `None` while nothing is held back.
    pub(super) fn explain(
        &self,
        rules: &Rules,
        name: &str,
        instances: usize,
        now: Monotonic,
    ) -> Option<Protection> {
        let State::Protecting { since } = self.state else { return None };
        let held_for = now.since(since);
        let (late, hosts, share) = (self.late, self.hosts.len(), rules.share_percent);
        let left = rules.hold_max.saturating_sub(held_for).as_secs();
        let text = format!(
            "{name}: {late} of {instances} instances on {hosts} hosts miss heartbeats at once, \
             more than {share} %: none is removed for silence until they return or {left} s pass"
        );
        Some(Protection { scope: name.to_owned(), late, instances, hosts, held_for, text })
    }
}

/// A scope that is protected, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    /// The application, or `all applications`.
    pub scope: String,
    /// Late instances.
    pub late: usize,
    /// All instances of the scope.
    pub instances: usize,
    /// Hosts of the late ones.
    pub hosts: usize,
    /// For how long expiry has been held back.
    pub held_for: Duration,
    /// All of it in a sentence, and when it ends.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(hosts: &[&str]) -> Scope {
        let mut scope = Scope::default();
        for host in hosts {
            scope.add(&Arc::from(*host));
        }
        scope
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic::from_millis(seconds * 1000)
    }

    #[test]
    fn each_condition_is_needed() {
        let rules = Rules::default();
        assert!(scope(&["a", "a", "b"]).judge(&rules, 10, at(0)));
        assert!(!scope(&["a", "a", "b"]).judge(&rules, 9, at(0)), "too small a scope");
        assert!(!scope(&["a", "b"]).judge(&rules, 10, at(0)), "too few");
        assert!(!scope(&["a", "a", "a"]).judge(&rules, 10, at(0)), "one host");
        assert!(!scope(&["a", "a", "b"]).judge(&rules, 20, at(0)), "15 % is not more than 15 %");
        let off = Rules { enabled: false, ..rules };
        assert!(!scope(&["a", "a", "b"]).judge(&off, 10, at(0)), "switched off");
    }

    #[test]
    fn it_ends_when_they_return_and_begins_anew() {
        let rules = Rules::default();
        let mut scope = scope(&["a", "b", "c"]);
        assert!(scope.judge(&rules, 10, at(0)));
        scope.sub("a");
        assert!(!scope.judge(&rules, 10, at(1)));
        assert_eq!(scope.explain(&rules, "X", 10, at(1)), None);
        scope.add(&Arc::from("a"));
        assert!(scope.judge(&rules, 10, at(2)));
    }

    #[test]
    fn it_ends_by_itself_and_stays_ended_until_calm() {
        let rules = Rules::default();
        let mut scope = scope(&["a", "b", "c"]);
        assert!(scope.judge(&rules, 10, at(0)));
        assert!(scope.judge(&rules, 10, at(299)));
        assert!(!scope.judge(&rules, 10, at(300)));
        assert!(!scope.judge(&rules, 10, at(301)));
    }

    #[test]
    fn it_says_what_it_sees_and_when_it_ends() {
        let rules = Rules::default();
        let mut scope = scope(&["a", "b", "b"]);
        scope.judge(&rules, 12, at(0));
        let told = scope.explain(&rules, "ORDERS", 12, at(10)).unwrap();
        assert_eq!((told.late, told.instances, told.hosts), (3, 12, 2));
        assert!(told.text.contains("3 of 12 instances on 2 hosts"), "{}", told.text);
        assert!(told.text.contains("290 s"), "{}", told.text);
    }
}
