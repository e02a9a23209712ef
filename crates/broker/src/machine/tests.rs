//! A broker of maps under crashes, loss, repetition, reordering and leases that run out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use tradewind_base::{Monotonic, Timestamp};
use tradewind_message::wire::State;

use super::circuit::{COOL_FIRST, COOL_MAX, Circuit, FAILURES};
use super::delivery::{Cause, Next, Rules, Verdict};
use super::fence::{self, Call, Fence};
use super::message::{Step, Word, decide};
use super::schedule::Schedule;

fn rules(times: u32) -> Rules {
    let retry =
        Schedule { first: Duration::from_millis(100), longest: Duration::from_secs(10), times };
    Rules { retry, soon: Duration::from_millis(500), asked_max: Duration::from_secs(3600) }
}

const LEASE: Duration = Duration::from_secs(15);
const STATES: [State; 6] = [
    State::Prepared,
    State::Committed,
    State::Cancelled,
    State::ParkedUndecided,
    State::ParkedUnrouted,
    State::Done,
];

#[test]
fn commit_and_roll_back_never_both_win() {
    for state in STATES {
        for routed in [false, true] {
            for (word, other) in [(Word::Commit, Word::RollBack), (Word::RollBack, Word::Commit)] {
                let after = match decide(state, word, routed) {
                    Step::Enter(it) => it,
                    Step::Stay => state,
                    Step::Conflict => continue,
                };
                assert_eq!(decide(after, word, routed), Step::Stay, "{state:?} {word:?} repeated");
                assert_eq!(decide(after, other, routed), Step::Conflict, "{state:?} {word:?}");
                assert_eq!(decide(after, Word::GiveUpAsking, routed), Step::Stay);
            }
        }
    }
}

#[test]
fn statuses_mean_what_the_protocol_says() {
    let it = rules(5);
    for status in [200, 202, 204, 299] {
        assert_eq!(it.verdict(status, Some(9)), Verdict::Ack);
    }
    assert_eq!(it.verdict(425, None), Verdict::NotYet(it.soon));
    assert_eq!(it.verdict(425, Some(3)), Verdict::NotYet(Duration::from_secs(3)));
    assert_eq!(it.verdict(409, None), Verdict::Refused);
    assert_eq!(it.verdict(422, None), Verdict::Refused);
    assert_eq!(it.verdict(410, None), Verdict::Gone);
    assert_eq!(it.verdict(503, Some(7)), Verdict::Failed(Some(Duration::from_secs(7))));
    assert_eq!(it.verdict(429, Some(u64::MAX)), Verdict::Failed(Some(it.asked_max)));
    for status in [100, 301, 400, 401, 403, 404, 500, 502, 504, 599] {
        assert_eq!(it.verdict(status, None), Verdict::Failed(None), "{status}");
    }
}

#[test]
fn what_does_not_count_can_go_on_for_ever() {
    let (it, now) = (rules(2), Timestamp::from_millis(0));
    for _ in 0..100 {
        let next = it.settle(1, Verdict::NotYet(it.soon), now, 0.5);
        assert_eq!(next, Next::Again { due: now + it.soon, attempts: 0 });
        let next = it.settle(1, Verdict::Unreachable, now, 0.5);
        assert_eq!(next, Next::Again { due: now + it.soon, attempts: 0 });
    }
    assert_eq!(it.settle(2, Verdict::Failed(None), now, 0.5), Next::Dead(Cause::Exhausted));
    let asked = Verdict::Failed(Some(Duration::from_secs(60)));
    let next = it.settle(1, asked, now, 0.5);
    assert_eq!(next, Next::Again { due: now + Duration::from_secs(60), attempts: 1 });
}

#[test]
fn an_open_circuit_lets_one_attempt_pass_at_a_time() {
    let mut circuit = Circuit::default();
    let mut now = Monotonic::from_millis(0);
    for _ in 1..FAILURES {
        assert!(!circuit.failed(now));
    }
    assert_eq!(circuit.allows(32, now), 32);
    assert!(circuit.failed(now));
    assert_eq!(circuit.allows(32, now), 0);
    now = now + COOL_FIRST;
    assert_eq!(circuit.allows(32, now), 1);
    circuit.begun();
    assert_eq!(circuit.allows(32, now), 0, "while the probe is on its way");
    assert!(!circuit.failed(now));
    assert_eq!(circuit.allows(32, now + COOL_FIRST), 0, "the pause doubled");
    assert_eq!(circuit.allows(32, now + COOL_FIRST * 2), 1);
    for _ in 0..20 {
        circuit.failed(now);
    }
    assert_eq!(circuit.allows(32, now + COOL_FIRST * 2), 1, "stragglers change nothing");
    for _ in 0..20 {
        circuit.begun();
        circuit.failed(now);
    }
    assert_eq!(circuit.allows(1, now), 0);
    assert_eq!(circuit.allows(1, now + COOL_MAX), 1, "and it is bounded");
    circuit.hope(now);
    assert_eq!(circuit.allows(32, now), 1, "a new instance is tried at once");
    circuit.begun();
    circuit.dropped();
    assert_eq!(circuit.allows(1, now + COOL_MAX), 1, "a dropped probe leaves room for another");
    assert!(circuit.answered());
    assert_eq!(circuit.allows(32, now), 32);
}

#[test]
fn every_cell_of_the_fence_table() {
    use fence::Step::{Conflict, Enter, NoTry, Stay, Suspended};
    let table = [
        (None, [Enter(Fence::Tried), NoTry, Enter(Fence::Suspended), Enter(Fence::Suspended)]),
        (Some(Fence::Tried), [Stay, Enter(Fence::Confirmed), Enter(Fence::Cancelled), Stay]),
        (Some(Fence::Confirmed), [Stay, Stay, Conflict, Stay]),
        (Some(Fence::Cancelled), [Suspended, Conflict, Stay, Suspended]),
        (Some(Fence::Suspended), [Suspended, Conflict, Stay, Suspended]),
    ];
    for (row, expected) in table {
        let calls = [Call::Try, Call::Confirm, Call::Cancel, Call::Close];
        assert_eq!(calls.map(|it| fence::decide(row, it)), expected, "{row:?}");
    }
}

#[derive(Clone, Debug)]
enum Op {
    Say(Word),
    Subscribe,
    /// The broker claims what is due.
    Claim,
    /// Attempt `.0` reaches the subscriber, which takes it; its answer comes later.
    Arrive(usize),
    /// The answer of attempt `.0` reaches the broker (again, perhaps).
    Answer(usize, u8),
    /// Time passes: leases run out, pauses end.
    Pass(u16),
    Replay,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => Just(Op::Say(Word::Commit)),
        1 => Just(Op::Say(Word::RollBack)),
        1 => Just(Op::Say(Word::GiveUpAsking)),
        1 => Just(Op::Subscribe),
        6 => Just(Op::Claim),
        5 => (0_usize..20).prop_map(Op::Arrive),
        5 => ((0_usize..20), 0_u8..6).prop_map(|(at, how)| Op::Answer(at, how)),
        4 => (0_u16..20_000).prop_map(Op::Pass),
        1 => Just(Op::Replay),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Open { due: Timestamp, attempts: u32, token: u32 },
    Dead { token: u32 },
    Done,
}

#[derive(Debug)]
struct Model {
    now: Timestamp,
    state: State,
    subscribers: BTreeSet<u8>,
    deliveries: BTreeMap<u8, Place>,
    attempts: Vec<(u8, u32, u32)>,
    effects: BTreeMap<u8, u32>,
    remembered: BTreeSet<u8>,
    words: BTreeSet<&'static str>,
}

impl Model {
    fn route(&mut self) {
        let place = Place::Open { due: self.now, attempts: 0, token: 0 };
        self.deliveries = self.subscribers.iter().map(|it| (*it, place)).collect();
    }

    fn say(&mut self, word: Word) {
        match decide(self.state, word, !self.subscribers.is_empty()) {
            Step::Enter(state) => {
                self.state = state;
                if state == State::Committed {
                    self.route();
                }
                if word != Word::GiveUpAsking {
                    self.words.insert(if word == Word::Commit { "commit" } else { "roll back" });
                }
            }
            Step::Stay | Step::Conflict => {}
        }
    }

    fn apply(&mut self, op: &Op, rules: &Rules) {
        match *op {
            Op::Say(word) => self.say(word),
            Op::Subscribe => {
                let next = u8::try_from(self.subscribers.len()).unwrap();
                if next < 3 {
                    self.subscribers.insert(next);
                }
                if self.state == State::ParkedUnrouted {
                    self.state = State::Committed;
                    self.route();
                }
            }
            Op::Claim => {
                for (subscriber, place) in &mut self.deliveries {
                    let Place::Open { due, attempts, token } = place else { continue };
                    if *due <= self.now {
                        *due = self.now + LEASE;
                        (*attempts, *token) = (*attempts + 1, *token + 1);
                        self.attempts.push((*subscriber, *token, *attempts));
                    }
                }
            }
            Op::Arrive(at) => {
                let Some((subscriber, ..)) = self.attempts.get(at) else { return };
                if self.remembered.insert(*subscriber) {
                    *self.effects.entry(*subscriber).or_default() += 1;
                }
            }
            Op::Answer(at, how) => self.answer(at, how, rules),
            Op::Pass(millis) => self.now = self.now + Duration::from_millis(millis.into()),
            Op::Replay => {
                for place in self.deliveries.values_mut() {
                    if let Place::Dead { token } = *place {
                        *place = Place::Open { due: self.now, attempts: 0, token: token + 1 };
                    }
                }
            }
        }
    }

    fn answer(&mut self, at: usize, how: u8, rules: &Rules) {
        let Some(&(subscriber, token, attempt)) = self.attempts.get(at) else { return };
        let verdict = match how {
            // An acknowledgement is only ever sent after the effect.
            0 if self.remembered.contains(&subscriber) => Verdict::Ack,
            1 => Verdict::NotYet(rules.soon),
            2 => Verdict::Unreachable,
            3 => Verdict::Refused,
            _ => Verdict::Failed(None),
        };
        let place = self.deliveries.get_mut(&subscriber).unwrap();
        match (rules.settle(attempt, verdict, self.now, 0.5), *place) {
            (Next::Done, _) => *place = Place::Done,
            (Next::Again { due, attempts }, Place::Open { token: latest, .. })
                if latest == token =>
            {
                *place = Place::Open { due, attempts, token };
            }
            (Next::Dead(_), Place::Open { token: latest, .. }) if latest == token => {
                *place = Place::Dead { token };
            }
            _ => {}
        }
    }

    fn check(&self) {
        // MSG-1, as far as one moment shows it.
        if self.words.contains("commit") {
            match self.state {
                State::ParkedUnrouted => assert!(self.subscribers.is_empty()),
                State::Committed => assert!(!self.deliveries.is_empty()),
                other => panic!("a committed message is {other:?}"),
            }
        }
        // MSG-2.
        assert!(self.effects.values().all(|it| *it == 1));
        for (subscriber, place) in &self.deliveries {
            assert!(*place != Place::Done || self.effects.contains_key(subscriber));
        }
        // MSG-3.
        assert!(!self.words.contains("roll back") || self.attempts.is_empty());
        assert!(self.words.len() < 2, "both decided");
    }
}

proptest! {
    /// At least once under crashes (a claim whose answer never comes), lost, repeated and
    /// reordered answers and leases that run out.
    #[test]
    fn no_message_is_lost_or_acted_on_twice(ops in prop::collection::vec(op(), 1..120)) {
        let rules = rules(4);
        let mut model = Model {
            now: Timestamp::from_millis(0),
            state: State::Prepared,
            subscribers: BTreeSet::new(),
            deliveries: BTreeMap::new(),
            attempts: Vec::new(),
            effects: BTreeMap::new(),
            remembered: BTreeSet::new(),
            words: BTreeSet::new(),
        };
        for op in &ops {
            model.apply(op, &rules);
            model.check();
        }
        // Whatever happened, once things work again a committed message arrives everywhere.
        if model.words.contains("commit") {
            model.apply(&Op::Subscribe, &rules);
            model.apply(&Op::Replay, &rules);
            model.apply(&Op::Pass(20_000), &rules);
            let before = model.attempts.len();
            model.apply(&Op::Claim, &rules);
            for at in before..model.attempts.len() {
                model.apply(&Op::Arrive(at), &rules);
                model.apply(&Op::Answer(at, 0), &rules);
            }
            prop_assert!(model.deliveries.values().all(|it| *it == Place::Done), "{model:?}");
        }
        model.check();
    }

    #[test]
    fn pauses_grow_stay_bounded_and_end(times in 1_u32..60, share in 0.0_f64..=1.0) {
        let it = Schedule {
            first: Duration::from_millis(500),
            longest: Duration::from_secs(1800),
            times,
        };
        let pauses: Vec<_> = (1..).map_while(|at| it.pause(at, share)).collect();
        prop_assert_eq!(pauses.len(), times as usize - 1);
        prop_assert!(pauses.windows(2).all(|it| it[0] <= it[1]));
        prop_assert!(pauses.iter().all(|p| *p <= it.longest && Duration::from_millis(250) <= *p));
    }
}
