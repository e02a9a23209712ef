//! When a dead child is started again: a machine without processes and without a clock.
//!
//! | state | event | next state | what to do |
//! |---|---|---|---|
//! | any but `Stopped` | stop | `Stopped` | end the process |
//! | `Running` | exited, it never was ready and is misconfigured | `Failed` | report, end everything |
//! | `Running` | exited, it never was ready and has failed as often as allowed | `Failed` | report, end everything |
//! | `Running` | exited | `Waiting` until now + backoff | report |
//! | `Waiting` | its time has come | `Running` | start the process |
//! | `Running` | ready | `Running`, seen ready | — |
//!
//! Invariants:
//! - SUP-1: the backoff doubles from [`BACKOFF_MIN`] to [`BACKOFF_MAX`] and starts anew after a
//!   run that lasted [`STABLE`].
//! - SUP-2: a child that was ready once is never given up: a mistake that is made in the
//!   configuration later must not end the others.
//! - SUP-3: nothing is started after a stop.

use std::time::Duration;

use tradewind_base::Monotonic;

/// The first pause before a dead child is started again.
pub(super) const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// The longest pause.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A run this long counts as a success: the next pause is the shortest again. As long as the longest
/// pause, so that whoever dies now and then is away for moments, and whoever dies at once is not
/// started all the time.
pub(super) const STABLE: Duration = BACKOFF_MAX;
/// How often a child may die before it was ready once.
pub(super) const FAILURES_BEFORE_READY_MAX: u32 = 3;

/// How long the end of one stage is waited for before the next is told, of what is left for all: an
/// equal part, so that a child that hangs does not take the time of those that still have to end.
pub(super) fn patience(left: Duration, stages_after: usize) -> Duration {
    let stages = u32::try_from(stages_after).unwrap_or(u32::MAX).saturating_add(1);
    left / stages
}

/// What the supervisor is to do with the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Start it again at this time.
    RestartAt(Monotonic),
    /// It will not come up: end everything.
    GiveUp,
    /// It ended because it was told to.
    Expected,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running { since: Monotonic },
    Waiting { until: Monotonic },
    Failed,
    Stopped,
}

/// The life of one child.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    state: State,
    was_ready: bool,
    failures: u32,
    backoff: Duration,
}

impl Life {
    /// A child that is started now.
    pub(super) const fn start(now: Monotonic) -> Self {
        let state = State::Running { since: now };
        Self { state, was_ready: false, failures: 0, backoff: BACKOFF_MIN }
    }

    /// It reported ready.
    pub(super) const fn ready(&mut self) {
        self.was_ready = true;
    }

    /// Its process is gone. `misconfigured`: it said that starting it again cannot help.
    pub(super) fn exited(&mut self, now: Monotonic, misconfigured: bool) -> Verdict {
        let since = match self.state {
            State::Running { since } => since,
            State::Stopped => return Verdict::Expected,
            State::Failed => return Verdict::GiveUp,
            State::Waiting { until } => return Verdict::RestartAt(until),
        };
        self.failures = self.failures.saturating_add(1);
        let enough = misconfigured || FAILURES_BEFORE_READY_MAX <= self.failures;
        if !self.was_ready && enough {
            self.state = State::Failed;
            return Verdict::GiveUp;
        }
        if STABLE <= now.since(since) {
            self.backoff = BACKOFF_MIN;
        }
        let until = now + self.backoff;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        self.state = State::Waiting { until };
        Verdict::RestartAt(until)
    }

    /// Whether it is to be started now; if so it counts as running from here.
    pub(super) fn due(&mut self, now: Monotonic) -> bool {
        match self.state {
            State::Waiting { until } if until <= now => {
                self.state = State::Running { since: now };
                true
            }
            State::Waiting { .. } | State::Running { .. } | State::Failed | State::Stopped => false,
        }
    }

    /// When [`Life::due`] will say yes.
    pub(super) const fn due_at(&self) -> Option<Monotonic> {
        match self.state {
            State::Waiting { until } => Some(until),
            State::Running { .. } | State::Failed | State::Stopped => None,
        }
    }

    /// It is to end and stay ended.
    pub(super) const fn stop(&mut self) {
        self.state = State::Stopped;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic::from_millis(millis)
    }

    #[test]
    fn the_pause_doubles_and_a_stable_run_resets_it() {
        let mut life = Life::start(at(0));
        life.ready();
        assert_eq!(life.exited(at(10), false), Verdict::RestartAt(at(210)));
        assert!(!life.due(at(209)));
        assert!(life.due(at(210)));
        assert_eq!(life.exited(at(220), false), Verdict::RestartAt(at(620)));
        assert!(life.due(at(620)));
        assert_eq!(life.exited(at(40_000), false), Verdict::RestartAt(at(40_200)));
    }

    #[test]
    fn a_wrong_configuration_is_not_tried_again() {
        let mut life = Life::start(at(0));
        assert_eq!(life.exited(at(10), true), Verdict::GiveUp);
        assert!(!life.due(at(1_000_000)));
    }

    #[test]
    fn a_mistake_that_comes_later_is_waited_for() {
        let mut life = Life::start(at(0));
        life.ready();
        assert_eq!(life.exited(at(10), true), Verdict::RestartAt(at(210)));
    }

    #[test]
    fn every_stage_gets_an_equal_part_of_the_time_and_what_others_leave() {
        let second = Duration::from_secs(1);
        assert_eq!(patience(9 * second, 2), 3 * second);
        assert_eq!(patience(6 * second, 1), 3 * second);
        assert_eq!(patience(5 * second, 0), 5 * second);
        assert_eq!(patience(second, usize::MAX), second / u32::MAX);
    }

    #[test]
    fn what_never_came_up_is_given_up() {
        let mut life = Life::start(at(0));
        for now in [10, 10_000] {
            let Verdict::RestartAt(until) = life.exited(at(now), false) else { panic!("early") };
            assert!(life.due(until));
        }
        assert_eq!(life.exited(at(20_000), false), Verdict::GiveUp);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Ready,
        Exited { misconfigured: bool },
        Pass(u64),
        Stop,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            1 => Just(Step::Ready),
            5 => prop::bool::weighted(0.2).prop_map(|misconfigured| Step::Exited { misconfigured }),
            5 => (0_u64..40_000).prop_map(Step::Pass),
            1 => Just(Step::Stop),
        ]
    }

    proptest! {
        #[test]
        fn invariants_hold_in_any_history(steps in proptest::collection::vec(step(), 1..60)) {
            let (mut now, mut life) = (at(0), Life::start(at(0)));
            let (mut ready, mut stopped, mut running) = (false, false, true);
            for step in steps {
                match step {
                    Step::Ready if running => { life.ready(); ready = true; }
                    Step::Ready => {}
                    Step::Pass(millis) => {
                        now = now + Duration::from_millis(millis);
                        if life.due(now) {
                            prop_assert!(!stopped, "SUP-3");
                            running = true;
                        }
                    }
                    Step::Stop => { life.stop(); stopped = true; }
                    Step::Exited { misconfigured } if running => {
                        running = false;
                        match life.exited(now, misconfigured) {
                            Verdict::RestartAt(until) => {
                                let pause = until.since(now);
                                prop_assert!(BACKOFF_MIN <= pause && pause <= BACKOFF_MAX, "SUP-1");
                                prop_assert_eq!(life.due_at(), Some(until));
                            }
                            Verdict::GiveUp => prop_assert!(!ready, "SUP-2"),
                            Verdict::Expected => prop_assert!(stopped),
                        }
                    }
                    Step::Exited { .. } => {}
                }
            }
        }
    }
}
