use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Batch, Bounds, Event, Fate, Step, Way};

const BOUNDS: Bounds = Bounds { closures: 4, time: Duration::from_millis(4) };

/// Feeds `events` and lists the steps, the first one included.
fn steps(events: &[Event]) -> Vec<Step> {
    let mut batch = Batch::new(BOUNDS, Way::Bare);
    let mut steps = vec![batch.step()];
    for event in events {
        batch.on(*event);
        steps.push(batch.step());
    }
    steps
}

const fn bare(closure: usize) -> Step {
    Step::Run { closure, way: Way::Bare }
}

const fn guarded(closure: usize) -> Step {
    Step::Run { closure, way: Way::Guarded }
}

const fn alone(closure: usize) -> Step {
    Step::Run { closure, way: Way::Alone }
}

const SOON: Event = Event::Waiting(Duration::ZERO);
const OVER: Step = Step::End { poisoned: false };

#[test]
fn what_waits_is_committed_together() {
    let events =
        [Event::Done, Event::Kept, SOON, Event::Undone, Event::Empty, Event::Done, Event::Done];
    let expected = [
        Step::Begin,
        bare(0),
        Step::Choose,
        bare(1),
        Step::Choose,
        Step::Commit,
        Step::AnswerAll(Fate::Own),
        OVER,
    ];
    assert_eq!(steps(&events), expected);
}

#[test]
fn a_batch_that_is_old_or_full_takes_no_more() {
    let old = [Event::Done, Event::Kept, Event::Waiting(BOUNDS.time)];
    assert_eq!(steps(&old).last(), Some(&Step::Commit));
    let mut full = vec![Event::Done, Event::Kept];
    for _ in 1..BOUNDS.closures {
        full.extend([SOON, Event::Kept]);
    }
    full.push(SOON);
    assert_eq!(steps(&full).last(), Some(&Step::Commit));
}

#[test]
fn a_lost_transaction_is_run_again_one_by_one() {
    let lost = Event::Lost { refused: true };
    let events = [
        Event::Done,
        Event::Kept,
        SOON,
        lost,
        Event::Done, // together, lost, rolled back
        Event::Done,
        Event::Kept,
        Event::Done,
        Event::Done, // 0 alone
        Event::Done,
        lost,
        Event::Done,
        Event::Done, // 1 alone fails for itself
    ];
    let expected = [
        Step::Begin,
        bare(0),
        Step::Choose,
        bare(1),
        Step::RollBack,
        Step::Begin,
        alone(0),
        Step::Commit,
        Step::Answer(0, Fate::Own),
        Step::Begin,
        alone(1),
        Step::RollBack,
        Step::Answer(1, Fate::Own),
        OVER,
    ];
    assert_eq!(steps(&events), expected);
}

#[test]
fn a_refusal_among_the_writes_of_others_is_run_again_guarded() {
    let events = [
        Event::Done,
        Event::Kept,
        SOON,
        Event::Mixed,
        Event::Done, // rolled back
        Event::Done,
        Event::Kept,
        Event::Undone,
        SOON,
        Event::Kept,
        Event::Empty,
        Event::Done,
        Event::Done,
    ];
    let expected = [
        Step::Begin,
        bare(0),
        Step::Choose,
        bare(1),
        Step::RollBack,
        Step::Begin,
        guarded(0),
        guarded(1),
        Step::Choose,
        guarded(2),
        Step::Choose,
        Step::Commit,
        Step::AnswerAll(Fate::Own),
        OVER,
    ];
    assert_eq!(steps(&events), expected);
}

#[test]
fn a_closure_that_hid_the_loss_is_not_taken_for_kept() {
    let events = [Event::Done, Event::Lost { refused: false }, Event::Done];
    assert_eq!(steps(&events).last(), Some(&Step::Answer(0, Fate::Failed)));
}

#[test]
fn an_unknown_commit_poisons_and_nothing_is_begun_after_it() {
    let events = [Event::Done, Event::Kept, Event::Empty, Event::Unknown, Event::Done];
    let got = steps(&events);
    assert_eq!(got[4..], [Step::AnswerAll(Fate::Unknown), Step::End { poisoned: true }]);
}

/// An engine that fails as it is told, and what is on its disk.
#[derive(Default)]
struct Engine {
    open: bool,
    /// Writes in the open transaction.
    inside: BTreeSet<usize>,
    durable: BTreeSet<usize>,
    /// In doubt after an unknown commit.
    doubtful: BTreeSet<usize>,
    unknown: bool,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    Refuse,
    RefuseMixed,
    Lose { refused: bool },
    Fail,
    Unknown,
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let fault = prop_oneof![
        6 => Just(Fault::None),
        2 => Just(Fault::Refuse),
        1 => Just(Fault::RefuseMixed),
        1 => any::<bool>().prop_map(|refused| Fault::Lose { refused }),
        1 => Just(Fault::Fail),
        1 => Just(Fault::Unknown),
    ];
    vec(fault, 0..40)
}

#[derive(Default)]
struct History {
    runs: BTreeMap<usize, Vec<Way>>,
    kept: BTreeSet<usize>,
    answers: BTreeMap<usize, Vec<Fate>>,
    poisoned: bool,
}

impl Engine {
    fn run(&mut self, closure: usize, way: Way, fault: Fault, history: &mut History) -> Event {
        assert!(self.open, "ran outside a transaction");
        history.runs.entry(closure).or_default().push(way);
        history.kept.remove(&closure);
        match fault {
            Fault::None | Fault::Fail | Fault::Unknown => {
                self.inside.insert(closure);
                history.kept.insert(closure);
                Event::Kept
            }
            Fault::RefuseMixed if way == Way::Bare => {
                self.inside.insert(closure);
                Event::Mixed
            }
            Fault::Refuse | Fault::RefuseMixed => Event::Undone,
            Fault::Lose { refused } => {
                self.open = false;
                self.inside.clear();
                if !refused {
                    history.kept.insert(closure);
                }
                Event::Lost { refused }
            }
        }
    }

    fn commit(&mut self, fault: Fault) -> Event {
        assert!(self.open, "committed nothing");
        match fault {
            Fault::Fail => Event::Failed,
            Fault::Unknown => {
                self.unknown = true;
                self.open = false;
                self.doubtful.append(&mut self.inside);
                Event::Unknown
            }
            Fault::None | Fault::Refuse | Fault::RefuseMixed | Fault::Lose { .. } => {
                self.open = false;
                self.durable.append(&mut self.inside);
                Event::Done
            }
        }
    }

    fn step(
        &mut self,
        step: Step,
        taken: usize,
        fault: Fault,
        more: &mut usize,
        history: &mut History,
    ) -> Event {
        match step {
            Step::Begin => {
                assert!(!self.open && !self.unknown, "began inside, or after an unknown commit");
                if matches!(fault, Fault::Fail) {
                    return Event::Failed;
                }
                self.open = true;
                Event::Done
            }
            Step::Choose if *more == 0 => Event::Empty,
            Step::Choose => {
                *more -= 1;
                SOON
            }
            Step::Run { closure, way } => self.run(closure, way, fault, history),
            Step::Commit => self.commit(fault),
            Step::RollBack => {
                self.open = false;
                self.inside.clear();
                if matches!(fault, Fault::Unknown) { Event::Failed } else { Event::Done }
            }
            Step::Answer(closure, fate) => {
                history.answers.entry(closure).or_default().push(fate);
                Event::Done
            }
            Step::AnswerAll(fate) => {
                for closure in 0..taken {
                    history.answers.entry(closure).or_default().push(fate);
                }
                Event::Done
            }
            Step::End { poisoned } => {
                history.poisoned = poisoned;
                Event::Done
            }
        }
    }
}

proptest! {
    #[test]
    fn the_invariants_hold_over_every_history(
        faults in faults(),
        mut more in 0_usize..8,
        careful in any::<bool>(),
    ) {
        let way = if careful { Way::Guarded } else { Way::Bare };
        let mut batch = Batch::new(BOUNDS, way);
        let (mut engine, mut history) = (Engine::default(), History::default());
        let mut faults = faults.into_iter();
        let mut count = 0;
        while !matches!(batch.step(), Step::End { .. }) {
            let fault = faults.next().unwrap_or(Fault::None);
            let event = engine.step(batch.step(), batch.taken(), fault, &mut more, &mut history);
            batch.on(event);
            count += 1;
            prop_assert!(count < 15 * (BOUNDS.closures + 1), "does not end");
        }
        engine.step(batch.step(), batch.taken(), Fault::None, &mut more, &mut history);
        prop_assert!(batch.taken() <= BOUNDS.closures);
        prop_assert!(!engine.unknown || history.poisoned);
        prop_assert!(!engine.open, "a transaction is left open");
        for closure in 0..batch.taken() {
            let answers = history.answers.get(&closure).map_or(&[][..], Vec::as_slice);
            prop_assert_eq!(answers.len(), 1, "closure {} answered {:?}", closure, answers);
            let runs = history.runs.get(&closure).map_or(&[][..], Vec::as_slice);
            for way in [Way::Bare, Way::Guarded, Way::Alone] {
                prop_assert!(runs.iter().filter(|it| **it == way).count() <= 1, "{:?}", runs);
            }
            let durable = engine.durable.contains(&closure);
            let doubtful = engine.doubtful.contains(&closure);
            match answers[0] {
                Fate::Own => prop_assert_eq!(history.kept.contains(&closure), durable),
                Fate::Failed | Fate::Closed => prop_assert!(!durable && !doubtful),
                Fate::Unknown => prop_assert!(engine.unknown && !durable),
            }
        }
    }
}
