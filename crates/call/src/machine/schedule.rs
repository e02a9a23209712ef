//! Whether a failed attempt is followed by another, where, and after which wait.

use std::time::Duration;

use tradewind_base::Rng;

/// The bounds of the attempts of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Further attempts on the same instance, anew after each counted move.
    pub retries_same: u32,
    /// Moves to another instance after an attempt that may have reached one.
    pub retries_next: u32,
    /// Most attempts of any kind.
    pub attempts_max: u32,
    /// The least time that must be left for an attempt to make sense.
    pub floor: Duration,
    /// The wait before the first attempt on an instance that has just failed; it doubles.
    pub backoff: Duration,
    /// What such a wait grows to; it is then jittered by half.
    pub backoff_max: Duration,
}

impl Default for Rules {
    /// Ribbon's counts: none on the same instance, one on the next. Sixteen attempts at most, each
    /// with at least 5 ms left; waits from 20 ms to one second.
    fn default() -> Self {
        Self {
            retries_same: 0,
            retries_next: 1,
            attempts_max: 16,
            floor: Duration::from_millis(5),
            backoff: Duration::from_millis(20),
            backoff_max: Duration::from_secs(1),
        }
    }
}

/// How an attempt failed, as far as a repeat is concerned. Answers are not among them, but for
/// one: an answer ends the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server cannot know of the request.
    NothingSent,
    /// The server may have acted on the request; nobody knows.
    NoAnswer,
    /// The server answered 503 and that a repeat may succeed soon.
    Unavailable,
}

/// What the machine must know of the outside at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Situation {
    /// What is left of the total time.
    pub left: Duration,
    /// Whether there is an instance that this call has not tried.
    pub untried: bool,
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Wait that long, then try the same instance.
    Same(Duration),
    /// Wait that long, then try another instance if there is one.
    Next(Duration),
    /// Give up.
    Stop(Stop),
}

/// Why no attempt follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It may have been carried out, and doing it twice is not the same as doing it once.
    NotIdempotent,
    /// All allowed attempts were made.
    Exhausted,
    /// The retry budget is empty.
    Budget,
    /// Too little time is left.
    Deadline,
}

impl Stop {
    /// A word for logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotIdempotent => "not_idempotent",
            Self::Exhausted => "exhausted",
            Self::Budget => "budget",
            Self::Deadline => "deadline",
        }
    }
}

/// The attempts of one call.
#[derive(Clone, Debug)]
pub struct Schedule {
    rules: Rules,
    idempotent: bool,
    attempts: u32,
    same_left: u32,
    next_left: u32,
    waits: u32,
}

impl Schedule {
    /// The first attempt is about to be made.
    #[must_use]
    pub const fn new(rules: Rules, idempotent: bool) -> Self {
        let (same_left, next_left) = (rules.retries_same, rules.retries_next);
        Self { rules, idempotent, attempts: 1, same_left, next_left, waits: 0 }
    }

    /// How many attempts were made, with the one under way.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The attempt failed: what now? `withdraw` takes one retry out of the budget, and is asked
    /// only when everything else allows the attempt.
    pub fn after(
        &mut self,
        failure: Failure,
        situation: Situation,
        rng: &mut Rng,
        withdraw: impl FnOnce() -> bool,
    ) -> Step {
        if failure != Failure::NothingSent && !self.idempotent {
            return Step::Stop(Stop::NotIdempotent);
        }
        if self.rules.attempts_max <= self.attempts {
            return Step::Stop(Stop::Exhausted);
        }
        let Some(step) = self.wanted(failure, situation, rng) else {
            return Step::Stop(Stop::Exhausted);
        };
        let (Step::Same(wait) | Step::Next(wait)) = step else { return step };
        if situation.left < self.rules.floor.saturating_add(wait) {
            return Step::Stop(Stop::Deadline);
        }
        let free = failure == Failure::NothingSent;
        if !free && !withdraw() {
            return Step::Stop(Stop::Budget);
        }
        self.take(step, free);
        step
    }

    /// The next step by the counts alone.
    fn wanted(&self, failure: Failure, situation: Situation, rng: &mut Rng) -> Option<Step> {
        match failure {
            Failure::NothingSent if situation.untried => Some(Step::Next(Duration::ZERO)),
            Failure::NothingSent => (0 < self.same_left).then(|| Step::Same(self.wait(rng))),
            Failure::NoAnswer if 0 < self.same_left => Some(Step::Same(self.wait(rng))),
            Failure::NoAnswer if self.next_left == 0 => None,
            Failure::NoAnswer if situation.untried => Some(Step::Next(Duration::ZERO)),
            Failure::NoAnswer => Some(Step::Next(self.wait(rng))),
            // Not on the instance that has just said that it has no room.
            Failure::Unavailable if situation.untried && 0 < self.next_left => {
                Some(Step::Next(Duration::ZERO))
            }
            Failure::Unavailable => None,
        }
    }

    fn take(&mut self, step: Step, free: bool) {
        self.attempts += 1;
        match step {
            Step::Same(_) => {
                self.same_left = self.same_left.saturating_sub(1);
                self.waits += 1;
            }
            Step::Next(_) => {
                // A move after a refused connection has cost no server anything, so it neither
                // takes nor gives.
                if !free {
                    self.next_left = self.next_left.saturating_sub(1);
                    self.same_left = self.rules.retries_same;
                }
            }
            Step::Stop(_) => {}
        }
    }

    fn wait(&self, rng: &mut Rng) -> Duration {
        let doubled = self.rules.backoff.saturating_mul(2_u32.saturating_pow(self.waits.min(20)));
        rng.jitter(doubled.min(self.rules.backoff_max), 0.5)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use tradewind_base::Rng;

    use super::*;

    const PLENTY: Situation = Situation { left: Duration::from_secs(60), untried: true };
    const ALONE: Situation = Situation { untried: false, ..PLENTY };
    const NOW: Duration = Duration::ZERO;

    fn schedule(idempotent: bool, same: u32, next: u32) -> Schedule {
        let rules = Rules { retries_same: same, retries_next: next, ..Rules::default() };
        Schedule::new(rules, idempotent)
    }

    fn after(schedule: &mut Schedule, failure: Failure, situation: Situation) -> Step {
        schedule.after(failure, situation, &mut Rng::seeded(1), || true)
    }

    #[test]
    fn what_was_never_sent_moves_on_whatever_the_method_and_for_free() {
        for idempotent in [true, false] {
            let mut it = schedule(idempotent, 0, 0);
            let step = it.after(Failure::NothingSent, PLENTY, &mut Rng::seeded(1), || {
                unreachable!("the budget is not asked")
            });
            assert_eq!(step, Step::Next(NOW));
            let step = after(&mut it, Failure::NothingSent, ALONE);
            assert_eq!(step, Step::Stop(Stop::Exhausted));
        }
    }

    /// SCH-1.
    #[test]
    fn what_may_have_been_carried_out_is_not_done_twice() {
        for failure in [Failure::NoAnswer, Failure::Unavailable] {
            let mut it = schedule(false, 5, 5);
            assert_eq!(after(&mut it, failure, PLENTY), Step::Stop(Stop::NotIdempotent));
        }
    }

    #[test]
    fn the_same_instance_comes_first_and_anew_for_each_instance() {
        let mut it = schedule(true, 1, 1);
        let steps: Vec<_> = std::iter::repeat_with(|| after(&mut it, Failure::NoAnswer, PLENTY))
            .take(4)
            .map(|it| match it {
                Step::Same(_) => "same",
                Step::Next(_) => "next",
                Step::Stop(it) => it.as_str(),
            })
            .collect();
        assert_eq!(steps, ["same", "next", "same", "exhausted"]);
        assert_eq!(it.attempts(), 4);
    }

    #[test]
    fn an_instance_without_room_is_not_asked_again() {
        let mut it = schedule(true, 3, 1);
        assert_eq!(after(&mut it, Failure::Unavailable, ALONE), Step::Stop(Stop::Exhausted));
        assert_eq!(after(&mut it, Failure::Unavailable, PLENTY), Step::Next(NOW));
        assert_eq!(after(&mut it, Failure::Unavailable, PLENTY), Step::Stop(Stop::Exhausted));
    }

    #[test]
    fn an_empty_budget_and_a_near_deadline_stop_it() {
        let mut it = schedule(true, 0, 1);
        let step = it.after(Failure::NoAnswer, PLENTY, &mut Rng::seeded(1), || false);
        assert_eq!(step, Step::Stop(Stop::Budget));
        let late = Situation { left: Duration::from_millis(4), ..PLENTY };
        assert_eq!(after(&mut it, Failure::NoAnswer, late), Step::Stop(Stop::Deadline));
    }

    fn failure() -> impl Strategy<Value = Failure> {
        prop_oneof![Just(Failure::NothingSent), Just(Failure::NoAnswer), Just(Failure::Unavailable)]
    }

    proptest! {
        /// SCH-1 to SCH-4, over every history.
        #[test]
        fn every_history_keeps_the_invariants(
            history in vec((failure(), 0_u64..3000, any::<bool>(), any::<bool>()), 1..60),
            idempotent: bool,
            same in 0_u32..4,
            next in 0_u32..4,
            seed: u64,
        ) {
            let mut it = schedule(idempotent, same, next);
            let mut rng = Rng::seeded(seed);
            let mut reached = 0;
            for (failure, left, untried, budget) in history {
                let left = Duration::from_millis(left);
                reached += u32::from(failure != Failure::NothingSent);
                prop_assert!(reached <= (same + 1) * (next + 1));
                let mut withdrawn = 0;
                let step = it.after(failure, Situation { left, untried }, &mut rng, || {
                    withdrawn += 1;
                    budget
                });
                prop_assert!(it.attempts() <= 16);
                let (Step::Same(wait) | Step::Next(wait)) = step else { break };
                prop_assert!(failure == Failure::NothingSent || idempotent);
                prop_assert!(wait + Duration::from_millis(5) <= left);
                prop_assert!(wait <= Duration::from_millis(1500));
                prop_assert_eq!(withdrawn, i32::from(failure != Failure::NothingSent));
            }
        }
    }
}
