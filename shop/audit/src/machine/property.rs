//! Whatever a right shop does, and whenever each of its databases is read: nothing is reported.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use tradewind::base::{Rng, Timestamp};
use tradewind_order::machine::State;
use tradewind_order::orders::OrderId;

use super::{order, transaction};
use crate::facts::{
    Effects, Entry, Fence, FenceStatus, Log, Message, MessageState, Order, Outbound, OutboundState,
    Pending, Phase, Reserved, ReservedState, Topic,
};

const PLACE: &str = "txn_1";
const BRANCHES: [&str; 3] = ["inventory", "points", "third"];
/// The third branch of placing is the broker's, that of cancelling the warehouse's.
const NOW: i64 = 1_000_000;

/// Whether a transaction is in its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begun {
    /// The begin is on its way, and Trys may be faster.
    NotYet,
    Yes,
    /// The begin was lost, and nobody has asked about it.
    Lost,
    /// It was lost, and the log says so since somebody asked.
    Never,
}

/// One transaction: its log and its three branches.
#[derive(Clone, Debug)]
struct Tcc {
    xid: String,
    begun: Begun,
    phase: Phase,
    branches: [Option<FenceStatus>; 3],
    answered: [bool; 3],
}

impl Tcc {
    fn begin(xid: &str) -> Self {
        let branches = [None; 3];
        let begun = Begun::NotYet;
        Self { xid: xid.to_owned(), begun, phase: Phase::Trying, branches, answered: [false; 3] }
    }

    fn log(&self) -> Option<Log> {
        let name = match self.begun {
            Begun::NotYet | Begun::Lost => return None,
            Begun::Yes => "order",
            Begun::Never => "",
        };
        Some(Log {
            implied: false,
            service: "order",
            name: name.into(),
            phase: self.phase,
            deadline_ms: NOW,
            begun_ms: NOW,
            due_ms: Some(NOW),
            stuck: false,
            version: 0,
            answered: (0..3).filter(|it| self.answered[usize::from(*it)]).collect(),
        })
    }

    fn open(&self) -> bool {
        !self.phase.fate().over
    }

    /// The next thing that can be done for branch `at`: what its service does, or its answer.
    fn branch(&mut self, at: usize) -> Option<FenceStatus> {
        use FenceStatus::{Committed, RolledBack, Suspended, Tried};
        if self.begun == Begun::Lost && self.branches[at] == Some(Tried) {
            // It asks.
            (self.begun, self.phase) = (Begun::Never, Phase::Aborted);
            return None;
        }
        let after = match (self.phase, self.branches[at]) {
            (Phase::Aborted, None) if self.begun == Begun::Never => Some(Tried),
            (Phase::Aborted, Some(Tried)) if self.begun == Begun::Never => Some(RolledBack),
            (Phase::Trying, None) => Some(Tried),
            (Phase::Committing, Some(Tried)) => Some(Committed),
            (Phase::Aborting, Some(Tried)) => Some(RolledBack),
            (Phase::Aborting, None) => Some(Suspended),
            _ => None,
        };
        if after.is_some() {
            self.branches[at] = after;
            return after;
        }
        if matches!(self.phase, Phase::Committing | Phase::Aborting) {
            self.answered[at] = true;
            if self.answered.iter().all(|it| *it) {
                let committed = self.phase == Phase::Committing;
                self.phase = if committed { Phase::Committed } else { Phase::Aborted };
            }
        }
        None
    }
}

/// Everything, at one moment.
#[derive(Clone, Debug)]
struct World {
    order: Order,
    place: Tcc,
    cancels: Vec<Tcc>,
    effects: Effects,
}

/// Something that may happen next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Begin,
    LoseBegin,
    Place(usize),
    Decide(bool),
    Cancel,
    CancelBranch(usize, usize),
    DecideCancel(bool),
    Receive,
    Acknowledge,
    Ship,
    Publish,
    Hear,
    AcknowledgeShipped,
}

impl World {
    fn new() -> Self {
        let order = Order {
            id: OrderId::generate(Timestamp::from_millis(NOW), &mut Rng::seeded(1)).to_string(),
            user_id: "usr_1".into(),
            state: State::Placing,
            points: 3,
            xid: PLACE.into(),
            cancel_xid: None,
            created_ms: NOW,
            lines: vec![(1, 2)],
            placing: Some(Phase::Trying),
            cancelling: None,
            log_known: true,
        };
        let place = Tcc::begin(PLACE);
        Self { order, place, cancels: Vec::new(), effects: Effects::default() }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Begin | Step::LoseBegin => {
                if self.place.begun == Begun::NotYet {
                    let lost = matches!(step, Step::LoseBegin);
                    self.place.begun = if lost { Begun::Lost } else { Begun::Yes };
                }
            }
            Step::Place(at) => {
                if let Some(status) = self.place.branch(at) {
                    self.placing(at, status);
                }
            }
            Step::Decide(yes) => self.decide(yes),
            Step::Cancel => {
                if self.order.state == State::Placed && self.cancels.len() < 3 {
                    let xid = format!("txn_{}", 2 + self.cancels.len());
                    self.cancels.push(Tcc { begun: Begun::Yes, ..Tcc::begin(&xid) });
                    self.order.state = State::Cancelling;
                    self.order.cancel_xid = Some(xid);
                }
            }
            Step::CancelBranch(which, at) => self.cancelling(which, at),
            Step::DecideCancel(yes) => self.decide_cancel(yes),
            Step::Receive => self.receive(),
            Step::Acknowledge => {
                if self.effects.outbound.as_ref().is_some_and(|it| it.lines.is_some()) {
                    self.message(Topic::Placed, MessageState::Committed, MessageState::Done);
                }
            }
            Step::Ship => {
                if let Some(it) = &mut self.effects.outbound
                    && it.state == OutboundState::Received
                {
                    it.state = OutboundState::Shipped;
                    self.effects.in_outbox = true;
                }
            }
            Step::Publish => {
                if self.effects.in_outbox {
                    self.effects.in_outbox = false;
                    let (id, state) = ("m2".into(), MessageState::Committed);
                    let it = Message { id, topic: Topic::Shipped, state, xid: None };
                    self.effects.messages.push(it);
                }
            }
            Step::Hear => {
                let told = self.effects.messages.iter().any(|it| it.topic == Topic::Shipped);
                if told && self.order.state == State::Placed {
                    self.order.state = State::Shipped;
                }
            }
            Step::AcknowledgeShipped => {
                if self.order.state == State::Shipped {
                    self.message(Topic::Shipped, MessageState::Committed, MessageState::Done);
                }
            }
        }
        self.order.placing = Some(self.place.phase);
        self.order.cancelling = self.cancels.last().map(|it| it.phase);
    }

    fn decide(&mut self, yes: bool) {
        let tried = self.place.branches.iter().all(|it| *it == Some(FenceStatus::Tried));
        let begun = self.place.begun == Begun::Yes;
        if !begun || self.place.phase != Phase::Trying || yes && !tried {
            return;
        }
        self.place.phase = if yes { Phase::Committing } else { Phase::Aborting };
        self.order.state = if yes { State::Placed } else { State::Failed };
    }

    fn placing(&mut self, at: usize, status: FenceStatus) {
        use FenceStatus::{Committed, RolledBack, Suspended, Tried};
        let xid = || PLACE.to_owned();
        match (at, status) {
            (_, Suspended) => {}
            (0, Tried) => self.effects.reservations.push(Reserved {
                xid: xid(),
                product: 1,
                quantity: 2,
                state: ReservedState::Frozen,
                restock_xid: None,
                restocked: false,
            }),
            (0, it) => {
                let committed = it == Committed;
                let to = if committed { ReservedState::Confirmed } else { ReservedState::Released };
                self.effects.reservations[0].state = to;
            }
            (1, Tried) => self.effects.pending.push(Pending { revoke: false, xid: xid() }),
            (1, it) => {
                self.effects.pending.clear();
                if it == Committed {
                    self.effects.ledger.push(entry(false, PLACE));
                }
            }
            (_, Tried) => self.effects.messages.push(Message {
                id: "m1".into(),
                topic: Topic::Placed,
                state: MessageState::Prepared,
                xid: Some(xid()),
            }),
            (_, RolledBack) => {
                self.message(Topic::Placed, MessageState::Prepared, MessageState::Cancelled);
            }
            (_, Committed) => {
                self.message(Topic::Placed, MessageState::Prepared, MessageState::Committed);
            }
        }
    }

    fn message(&mut self, topic: Topic, from: MessageState, to: MessageState) {
        for it in &mut self.effects.messages {
            if it.topic == topic && it.state == from {
                it.state = to;
            }
        }
    }

    /// A Try that its service would refuse does not happen.
    fn refused(&self, at: usize) -> bool {
        match at {
            0 => {
                let ready = |it: &Reserved| {
                    it.state == ReservedState::Confirmed && it.restock_xid.is_none()
                };
                !self.effects.reservations.iter().all(ready)
            }
            1 => self.effects.ledger.len() != 1 || !self.effects.pending.is_empty(),
            _ => {
                let free = |it: &Outbound| it.state == OutboundState::Received;
                !self.effects.outbound.as_ref().is_none_or(free)
            }
        }
    }

    fn cancelling(&mut self, which: usize, at: usize) {
        use FenceStatus::{Committed, Tried};
        let refused = self.refused(at);
        let Some(tcc) = self.cancels.get_mut(which) else { return };
        if tcc.phase == Phase::Trying && refused {
            return;
        }
        let Some(status) = tcc.branch(at) else { return };
        let xid = tcc.xid.clone();
        match (at, status) {
            (_, FenceStatus::Suspended) => {}
            (0, Tried) => self.effects.reservations[0].restock_xid = Some(xid),
            (0, Committed) => self.effects.reservations[0].restocked = true,
            (0, _) => self.effects.reservations[0].restock_xid = None,
            (1, Tried) => self.effects.pending.push(Pending { revoke: true, xid }),
            (1, it) => {
                self.effects.pending.clear();
                if it == Committed {
                    self.effects.ledger.push(entry(true, &xid));
                }
            }
            (_, Tried) => {
                let lines = self.effects.outbound.take().and_then(|it| it.lines);
                let state = OutboundState::Voiding;
                self.effects.outbound = Some(Outbound { state, lines, void_xid: Some(xid) });
            }
            (_, Committed) => {
                if let Some(it) = &mut self.effects.outbound {
                    it.state = OutboundState::Void;
                }
            }
            (_, _) => {
                let lines = self.effects.outbound.take().and_then(|it| it.lines);
                let state = OutboundState::Received;
                let back = |lines| Outbound { state, lines: Some(lines), void_xid: None };
                self.effects.outbound = lines.map(back);
            }
        }
    }

    fn decide_cancel(&mut self, yes: bool) {
        let Some(tcc) = self.cancels.last_mut() else { return };
        let tried = tcc.branches.iter().all(|it| *it == Some(FenceStatus::Tried));
        if tcc.phase != Phase::Trying || yes && !tried {
            return;
        }
        tcc.phase = if yes { Phase::Committing } else { Phase::Aborting };
        self.order.state = if yes { State::Cancelled } else { State::Placed };
    }

    fn receive(&mut self) {
        let on_its_way = |it: &Message| {
            it.topic == Topic::Placed
                && matches!(it.state, MessageState::Committed | MessageState::Done)
        };
        if !self.effects.messages.iter().any(on_its_way) {
            return;
        }
        let lines = Some(vec![(1, 2)]);
        match &mut self.effects.outbound {
            None => {
                let state = OutboundState::Received;
                self.effects.outbound = Some(Outbound { state, lines, void_xid: None });
            }
            Some(it) if it.lines.is_none() => it.lines = lines,
            Some(_) => {}
        }
    }
}

fn entry(revoke: bool, xid: &str) -> Entry {
    let amount = if revoke { -3 } else { 3 };
    Entry { revoke, user_id: "usr_1".into(), amount, xid: xid.into() }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => prop::bool::weighted(0.9).prop_map(|it| if it { Step::Begin } else { Step::LoseBegin }),
        6 => (0_usize..3).prop_map(Step::Place),
        2 => prop::bool::weighted(0.8).prop_map(Step::Decide),
        2 => Just(Step::Cancel),
        8 => (prop_oneof![4 => Just(0_usize), 1 => 1_usize..3], 0_usize..3).prop_map(|(which, at)| Step::CancelBranch(which, at)),
        2 => prop::bool::weighted(0.95).prop_map(Step::DecideCancel),
        2 => Just(Step::Receive),
        2 => Just(Step::Acknowledge),
        1 => Just(Step::Ship),
        2 => Just(Step::Publish),
        2 => Just(Step::Hear),
        2 => Just(Step::AcknowledgeShipped),
    ];
    prop::collection::vec(step, 1..200)
}

/// What is read when warehouse, broker, points and inventory are read at these moments.
fn read(history: &[World], at: [usize; 4]) -> Effects {
    let [warehouse, broker, points, inventory] = at;
    Effects {
        outbound: history[warehouse].effects.outbound.clone(),
        in_outbox: history[warehouse].effects.in_outbox,
        messages: history[broker].effects.messages.clone(),
        ledger: history[points].effects.ledger.clone(),
        pending: history[points].effects.pending.clone(),
        reservations: history[inventory].effects.reservations.clone(),
    }
}

fn fences(history: &[World], at: &[usize], of: impl Fn(&World) -> Option<&Tcc>) -> Vec<Fence> {
    let fence = |branch: usize| {
        let status = of(&history[at[branch]])?.branches[branch]?;
        let (service, initiator) = (BRANCHES[branch], "order".to_owned());
        let branch = u16::try_from(branch).unwrap();
        Some(Fence { service, branch, initiator, status, changed_ms: NOW })
    };
    (0..3).filter_map(fence).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// R0.1: the audit never cries wolf, whatever happens between its reads.
    #[test]
    fn nothing_is_reported_of_a_shop_that_is_right(
        steps in steps(),
        moments in prop::collection::vec(0_usize..=1000, 9),
    ) {
        let mut history = vec![World::new()];
        for step in steps {
            let mut next = history.last().unwrap().clone();
            next.take(step);
            history.push(next);
        }
        // Four effects, the cause, the four effects again.
        let mut at: Vec<_> = moments.iter().map(|it| it * (history.len() - 1) / 1000).collect();
        at.sort_unstable();
        let cause = &history[at[4]];
        let order = (cause.place.begun == Begun::Yes).then_some(&cause.order);
        let before = read(&history, [at[0], at[1], at[2], at[3]]);
        let after = read(&history, [at[6], at[5], at[7], at[8]]);
        prop_assert_eq!(order::unfounded(&cause.order.id, order, &before, NOW), []);
        if let Some(order) = order {
            prop_assert_eq!(order::missing(order, &after, NOW), []);
        }

        let all: [fn(&World) -> Option<&Tcc>; 4] = [
            |it| Some(&it.place),
            |it| it.cancels.first(),
            |it| it.cancels.get(1),
            |it| it.cancels.get(2),
        ];
        for of in all {
            let (before, after) = (fences(&history, &at, of), fences(&history, &at[5..], of));
            let log = of(&history[at[4]]).and_then(Tcc::log);
            prop_assert_eq!(transaction::unfounded("txn", log.as_ref(), &before, NOW), []);
            prop_assert_eq!(transaction::unheard("txn", log.as_ref(), &before, NOW), []);
            let Some(log) = log else { continue };
            prop_assert_eq!(transaction::missing("txn", Some(&log), &after), []);
            prop_assert_eq!(transaction::unfenced(&log, &after, NOW), Vec::<u16>::new());
            prop_assert_eq!(transaction::overdue("txn", &log, NOW, NOW), None);
        }
    }
}

/// The model reaches what it should: cancelled orders, shipped ones, undone cancellations.
#[test]
fn the_model_moves() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let worlds: Vec<_> = std::iter::repeat_with(|| {
        let mut world = World::new();
        let steps = steps().new_tree(&mut runner).unwrap().current();
        steps.into_iter().for_each(|it| world.take(it));
        world
    })
    .take(1000)
    .collect();
    let some = |what: fn(&World) -> bool| worlds.iter().any(what);
    assert!(some(|it| it.order.state == State::Cancelled));
    assert!(some(|it| it.order.state == State::Shipped));
    assert!(some(|it| it.order.state == State::Failed));
    assert!(some(|it| it.cancels.iter().any(|it| it.phase == Phase::Aborted)));
    assert!(some(|it| it.cancels.iter().any(|it| it.phase == Phase::Committed)));
    assert!(some(|it| !it.place.open()));
    let holds = |it: &World| it.place.branches.contains(&Some(FenceStatus::Tried));
    assert!(worlds.iter().any(|it| it.place.begun == Begun::NotYet && holds(it)));
    let gave_back = |it: &World| it.place.branches.contains(&Some(FenceStatus::RolledBack));
    assert!(worlds.iter().any(|it| it.place.begun == Begun::Never && gave_back(it)));
}
