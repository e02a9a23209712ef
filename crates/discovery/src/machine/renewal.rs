//! When to register, when to renew, and with which peer.
//!
//! | act | accepted | not known (404) | refused (other 4xx) | no answer, 5xx |
//! |---|---|---|---|---|
//! | register | renew, a heartbeat later | next peer | next peer | next peer |
//! | renew | renew, a heartbeat later | register, at once, here | next peer | next peer |
//!
//! "Next peer" is asked at once until every peer has failed; then after half to a whole heartbeat,
//! or, when the last answer was a refusal, after [`REFUSED_PAUSE`]. A renewal moves to the next
//! peer as a renewal: the peers replicate, and one that does not know us says so. A changed status
//! is told by registering, at once.
//!
//! Invariants:
//! - **RENEW-1** While acts are accepted, they are at most 1.1 heartbeats apart.
//! - **RENEW-2** After "not known", the next act is to register.
//! - **RENEW-3** The dirty timestamp never goes back, and goes forward with each change of what
//!   is registered and each "not known".
//! - **RENEW-4** After a whole round of failures there is a pause of at least half a heartbeat.

use std::time::Duration;

use tradewind_base::{Monotonic, Timestamp};

/// The pause after every peer failed and the last one had refused.
pub(crate) const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Send the whole instance.
    Register,
    /// Send a heartbeat.
    Renew,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The registry took it.
    Accepted,
    /// The registry does not know the instance.
    Unknown,
    /// The registry does not want it.
    Refused,
    /// It is not known what became of it.
    Failed,
}

/// The state of one registration.
#[derive(Debug)]
pub(crate) struct Renewal {
    heartbeat: Duration,
    peers: usize,
    at: usize,
    failures: usize,
    act: Act,
    due: Monotonic,
    dirty: i64,
}

impl Renewal {
    /// To be registered now, with the first of `peers`.
    pub(crate) fn new(heartbeat: Duration, peers: usize, now: Monotonic, wall: Timestamp) -> Self {
        let peers = peers.max(1);
        let dirty = wall.millis();
        Self { heartbeat, peers, at: 0, failures: 0, act: Act::Register, due: now, dirty }
    }

    /// What to do at [`Renewal::due`].
    pub(crate) const fn act(&self) -> Act {
        self.act
    }

    /// When.
    pub(crate) const fn due(&self) -> Monotonic {
        self.due
    }

    /// With which peer.
    pub(crate) const fn peer(&self) -> usize {
        self.at
    }

    /// `lastDirtyTimestamp`: the version of what is registered.
    pub(crate) const fn dirty(&self) -> i64 {
        self.dirty
    }

    /// Whether every peer has failed since the last success.
    pub(crate) const fn all_failed(&self) -> bool {
        self.peers <= self.failures
    }

    /// What is registered has changed.
    pub(crate) fn changed(&mut self, now: Monotonic, wall: Timestamp) {
        self.act = Act::Register;
        self.due = now;
        self.touch(wall);
    }

    /// The act ended. `random` is in `0.0..1.0`.
    pub(crate) fn done(&mut self, now: Monotonic, wall: Timestamp, random: f64, outcome: Outcome) {
        let random = random.clamp(0.0, 1.0);
        match (outcome, self.act) {
            (Outcome::Accepted, _) => {
                self.act = Act::Renew;
                self.failures = 0;
                self.due = now + self.heartbeat.mul_f64(0.9 + random / 5.0);
            }
            (Outcome::Unknown, Act::Renew) => {
                self.act = Act::Register;
                self.due = now;
                self.touch(wall);
            }
            (Outcome::Unknown | Outcome::Refused | Outcome::Failed, _) => {
                self.at = (self.at + 1) % self.peers;
                self.failures = self.failures.saturating_add(1);
                let whole_round = self.failures.is_multiple_of(self.peers);
                let pause = match outcome {
                    _ if !whole_round => Duration::ZERO,
                    Outcome::Refused => REFUSED_PAUSE.max(self.heartbeat),
                    Outcome::Accepted | Outcome::Unknown | Outcome::Failed => self.heartbeat,
                };
                self.due = now + pause.mul_f64(0.5 + random / 2.0);
            }
        }
    }

    fn touch(&mut self, wall: Timestamp) {
        self.dirty = wall.millis().max(self.dirty.saturating_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BEAT: Duration = Duration::from_secs(1);

    fn start(peers: usize) -> Renewal {
        Renewal::new(BEAT, peers, Monotonic::ZERO, Timestamp::from_millis(100))
    }

    fn at(millis: u64) -> Monotonic {
        Monotonic::from_millis(millis)
    }

    fn wall(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn registers_then_renews() {
        let mut renewal = start(1);
        assert_eq!((renewal.act(), renewal.due()), (Act::Register, Monotonic::ZERO));
        renewal.done(at(10), wall(110), 0.5, Outcome::Accepted);
        assert_eq!((renewal.act(), renewal.due()), (Act::Renew, at(1010)));
    }

    #[test]
    fn an_unknown_instance_registers_at_once_with_the_same_peer() {
        let mut renewal = start(2);
        renewal.done(at(0), wall(100), 0.0, Outcome::Accepted);
        renewal.done(at(900), wall(50), 0.0, Outcome::Unknown);
        assert_eq!((renewal.act(), renewal.due(), renewal.peer()), (Act::Register, at(900), 0));
        assert_eq!(renewal.dirty(), 101, "also when the wall clock stepped back");
    }

    #[test]
    fn a_silent_peer_is_left_at_once_and_all_silent_ones_after_a_pause() {
        let mut renewal = start(2);
        renewal.done(at(0), wall(100), 0.0, Outcome::Accepted);
        renewal.done(at(900), wall(0), 0.0, Outcome::Failed);
        assert_eq!((renewal.act(), renewal.due(), renewal.peer()), (Act::Renew, at(900), 1));
        assert!(!renewal.all_failed());
        renewal.done(at(950), wall(0), 0.0, Outcome::Failed);
        assert_eq!((renewal.act(), renewal.due(), renewal.peer()), (Act::Renew, at(1450), 0));
        assert!(renewal.all_failed());
    }

    #[test]
    fn a_refusal_waits_longer() {
        let mut renewal = start(1);
        renewal.done(at(0), wall(100), 1.0, Outcome::Refused);
        assert_eq!((renewal.act(), renewal.due()), (Act::Register, at(5000)));
    }

    #[test]
    fn a_change_is_told_at_once() {
        let mut renewal = start(1);
        renewal.done(at(0), wall(100), 0.0, Outcome::Accepted);
        renewal.changed(at(5), wall(100));
        assert_eq!((renewal.act(), renewal.due(), renewal.dirty()), (Act::Register, at(5), 101));
    }

    proptest! {
        /// RENEW-1 to RENEW-4.
        #[test]
        fn every_history_keeps_the_invariants(
            peers in 1_usize..4,
            steps in proptest::collection::vec((0_u8..5, 0.0..1.0_f64, 0_i64..2000), 1..100),
        ) {
            let mut renewal = start(peers);
            let mut failures = 0;
            for (step, random, wall_ms) in steps {
                let (now, act, dirty) = (renewal.due(), renewal.act(), renewal.dirty());
                let outcome = match step {
                    0 => Outcome::Accepted,
                    1 => Outcome::Unknown,
                    2 => Outcome::Refused,
                    3 => Outcome::Failed,
                    _ => {
                        renewal.changed(now, wall(wall_ms));
                        prop_assert!(dirty < renewal.dirty());
                        prop_assert_eq!(renewal.act(), Act::Register);
                        continue;
                    }
                };
                renewal.done(now, wall(wall_ms), random, outcome);
                let pause = renewal.due() - now;
                prop_assert!(dirty <= renewal.dirty());
                match outcome {
                    Outcome::Accepted => {
                        failures = 0;
                        prop_assert!(pause <= BEAT.mul_f64(1.1 + 1e-9));
                        prop_assert_eq!(renewal.act(), Act::Renew);
                    }
                    Outcome::Unknown if act == Act::Renew => {
                        prop_assert_eq!(renewal.act(), Act::Register);
                        prop_assert!(dirty < renewal.dirty());
                    }
                    Outcome::Unknown | Outcome::Refused | Outcome::Failed => {
                        failures += 1;
                        prop_assert_eq!(renewal.act(), act);
                        if failures % peers == 0 {
                            prop_assert!(BEAT / 2 <= pause);
                        }
                    }
                }
            }
        }
    }
}
