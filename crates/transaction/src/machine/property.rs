//! Initiator, participants and a bad network, through any history: the invariants hold at every
//! step, and once the network works again everything is settled.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use tradewind_base::id::Xid;
use tradewind_base::{Clock as _, ManualClock, Timestamp};

use super::backoff::Backoff;
use super::fence::{Call, Refusal, Status, Verdict, decide, timely};
use super::global::{Answer, Global, Order, Phase};

const BRANCHES: u16 = 3;
const LIMIT: Duration = Duration::from_secs(5);
const SKEW: Duration = Duration::from_secs(1);
const BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(500), longest: Duration::from_secs(8) };

#[derive(Clone, Debug)]
struct Message {
    to: u16,
    call: Call,
    deadline: Timestamp,
}

#[derive(Clone, Debug)]
struct Reply {
    from: u16,
    call: Call,
    result: Result<(), Refusal>,
}

/// A participant: what is durable, and how often each effect happened.
#[derive(Default)]
struct Member {
    fence: Option<Status>,
    refuses: bool,
    ahead: i64,
    reserved: u32,
    confirmed: u32,
    cancelled: u32,
}

impl Member {
    /// One local transaction. A refusal of the business undoes the row too.
    fn take(&mut self, message: &Message, now: Timestamp) -> Result<(), Option<Refusal>> {
        let now = Timestamp::from_millis(now.millis() + self.ahead);
        if message.call == Call::Try && self.fence.is_none() {
            timely(message.deadline, now, SKEW).map_err(Some)?;
        }
        match decide(self.fence, message.call) {
            Verdict::Insert(Status::Tried) if self.refuses => Err(None),
            Verdict::Insert(status) => {
                self.fence = Some(status);
                self.reserved += u32::from(status == Status::Tried);
                if message.call == Call::Close { Err(Some(Refusal::Suspended)) } else { Ok(()) }
            }
            Verdict::Move(status) => {
                self.fence = Some(status);
                self.confirmed += u32::from(status == Status::Committed);
                self.cancelled += u32::from(status == Status::RolledBack);
                Ok(())
            }
            Verdict::Done => Ok(()),
            Verdict::Refuse(refusal) => Err(Some(refusal)),
        }
    }
}

struct World {
    clock: ManualClock,
    /// The initiator's log.
    log: Option<Global>,
    /// The deadline of what is to begin: Trys may be sent before that is durable.
    declared: Option<Timestamp>,
    /// It died before that was durable.
    lost: bool,
    /// What the initiator remembers until it dies.
    reserved: BTreeSet<u16>,
    refused: bool,
    members: Vec<Member>,
    messages: Vec<Message>,
    replies: Vec<Reply>,
    decided: Option<Order>,
    /// Whether it is committed once it has begun and is tried.
    implied: bool,
    /// Who began it has said that it is committed.
    answered: bool,
    /// Who goes on with it has not begun it: somebody else may have answered.
    resumed: bool,
}

impl World {
    fn new(refuses: u8, implied: bool) -> Self {
        let member = |at: u16| Member { refuses: refuses >> at & 1 == 1, ..Member::default() };
        Self {
            clock: ManualClock::new(),
            log: None,
            declared: None,
            lost: false,
            reserved: BTreeSet::new(),
            refused: false,
            members: (0..BRANCHES).map(member).collect(),
            messages: Vec::new(),
            replies: Vec::new(),
            decided: None,
            implied,
            answered: false,
            resumed: false,
        }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn step(&mut self, op: u8, arg: u8) {
        match op {
            0 if self.log.is_none() && !self.lost => {
                let deadline = self.declare();
                if self.now() <= deadline {
                    let begun = Global::begin(Xid::from_u128(1), deadline, 1..=BRANCHES);
                    self.log = Some(Global { implied: self.implied, ..begun });
                }
            }
            1 => self.send_tries(),
            // Beside the begin, which is not durable.
            15 if self.log.is_none() && !self.lost => {
                let deadline = self.declare();
                self.send_tries_until(deadline);
            }
            // It came to something else: what was tried is given back.
            18 if self.log.is_none() && self.declared.is_some() && !self.lost => {
                let deadline = self.declare();
                let mut it = Global::begin(Xid::from_u128(1), deadline, 1..=BRANCHES);
                it.abort().expect("it is undecided");
                (self.log, self.lost) = (Some(it), true);
            }
            2 => self.deliver(arg, false),
            3 => self.deliver(arg, true),
            4 => drop(pick(&mut self.messages, arg, false)),
            5 => self.hear(arg, false),
            6 => self.hear(arg, true),
            7 => drop(pick(&mut self.replies, arg, false)),
            8 => self.decide(),
            9 => self.drive(),
            10 => self.clock.advance(Duration::from_millis(u64::from(arg) * 20)),
            // The initiator dies and another takes over its log. What had not begun never will, and
            // this world's xid is used up: whoever tries again takes another.
            11 => {
                self.reserved.clear();
                self.refused = false;
                self.resumed = true;
                if self.declared.is_some() && self.log.is_none() {
                    self.lost = true;
                }
            }
            12 => self.ask(arg),
            // Who began it answers before that is written down.
            16 => {
                let begun = self.log.as_ref().is_some_and(|it| it.implied);
                let tried = self.reserved.len() == usize::from(BRANCHES);
                self.answered |= begun && tried && !self.resumed && !self.refused;
            }
            // Another attempt gives up, whatever the hour, and while the first may still be at it.
            17 if self.log.as_ref().is_some_and(|it| it.asks() == Some(Order::Close)) => {
                self.send_all(Call::Close);
            }
            13 => {
                let members = self.members.len();
                self.members[usize::from(arg) % members].ahead = (i64::from(arg) - 128) * 40;
            }
            // The initiator's wall clock steps back.
            14 => {
                let back = self.now().millis() - i64::from(arg) * 100;
                self.clock.step_wall(Timestamp::from_millis(back));
            }
            _ => {}
        }
    }

    fn declare(&mut self) -> Timestamp {
        let deadline = self.now() + LIMIT;
        *self.declared.get_or_insert(deadline)
    }

    fn send_tries(&mut self) {
        let Some(log) = &self.log else { return };
        if log.phase == Phase::Trying {
            self.send_tries_until(log.deadline);
        }
    }

    fn send_tries_until(&mut self, deadline: Timestamp) {
        let message = |to| Message { to, call: Call::Try, deadline };
        self.messages.extend((1..=BRANCHES).map(message));
    }

    fn send_all(&mut self, call: Call) {
        let deadline = self.now();
        self.messages.extend((1..=BRANCHES).map(|to| Message { to, call, deadline }));
    }

    fn deliver(&mut self, arg: u8, twice: bool) {
        let Some(message) = pick(&mut self.messages, arg, twice) else { return };
        let now = self.now();
        let member = &mut self.members[usize::from(message.to) - 1];
        let result = member.take(&message, now);
        let Message { to: from, call, .. } = message;
        match result {
            Ok(()) => self.replies.push(Reply { from, call, result: Ok(()) }),
            Err(Some(why)) => self.replies.push(Reply { from, call, result: Err(why) }),
            // The business refuses.
            Err(None) => {
                self.replies.push(Reply { from, call, result: Err(Refusal::Ended) });
            }
        }
    }

    fn hear(&mut self, arg: u8, twice: bool) {
        let Some(reply) = pick(&mut self.replies, arg, twice) else { return };
        let now = self.now();
        let order = match reply.call {
            Call::Try => {
                match reply.result {
                    Ok(()) => drop(self.reserved.insert(reply.from)),
                    Err(_) => self.refused = true,
                }
                return;
            }
            Call::Confirm => Order::Confirm,
            Call::Cancel => Order::Cancel,
            Call::Close => Order::Close,
        };
        let Some(log) = &mut self.log else { return };
        if order == Order::Close && reply.result.is_err() {
            // It is not tried and never will be.
            let _decided_before = log.abort();
            return;
        }
        let answer = match reply.result {
            Ok(()) => Answer::Done,
            Err(why) => Answer::Alarm(format!("{why:?}")),
        };
        log.answered(reply.from, order, answer, now, &BACKOFF, f64::from(arg) / 256.0);
    }

    /// What the initiator does with what it has heard, or the driver at the deadline.
    fn decide(&mut self) {
        let now = self.now();
        let Some(log) = &mut self.log else { return };
        let may_abort = !log.implied || !self.resumed && !self.answered;
        if self.refused && may_abort || log.expired(now) {
            let _committed = log.abort();
        } else if self.reserved.len() == usize::from(BRANCHES) || log.closed() {
            let _late = log.commit(now);
        }
    }

    fn drive(&mut self) {
        let now = self.now();
        let Some(log) = &self.log else { return };
        let Some((order, due)) = log.due(now, &BACKOFF) else { return };
        let call = match order {
            Order::Confirm => Call::Confirm,
            Order::Cancel => Call::Cancel,
            Order::Close => Call::Close,
        };
        let deadline = log.deadline;
        self.messages.extend(due.into_iter().map(|to| Message { to, call, deadline }));
    }

    /// A participant asks for the outcome of what it holds. Of what is unknown the log says from
    /// then on that it is aborted.
    fn ask(&mut self, arg: u8) {
        let now = self.now();
        let at = usize::from(arg) % self.members.len();
        let member = &mut self.members[at];
        if member.fence != Some(Status::Tried) {
            return;
        }
        if self.log.is_none() {
            assert!(!self.answered, "what is answered is in the log");
            let mut tombstone = Global::begin(Xid::from_u128(1), now, []);
            tombstone.abort().unwrap();
            self.log = Some(tombstone);
        }
        let decision = self.log.as_ref().and_then(|it| it.phase.decision());
        let call = match decision {
            Some(Order::Confirm) => Call::Confirm,
            Some(Order::Cancel) => Call::Cancel,
            Some(Order::Close) | None => return,
        };
        let to = u16::try_from(at + 1).unwrap();
        member.take(&Message { to, call, deadline: now }, now).unwrap();
    }

    fn ask_all(&mut self) {
        for at in 0..BRANCHES {
            self.ask(u8::try_from(at).unwrap());
        }
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        let decision = self.log.as_ref().and_then(|it| it.phase.decision());
        if self.decided.is_some() {
            prop_assert_eq!(decision, self.decided, "a decision never changes");
        }
        self.decided = decision;
        if self.answered {
            prop_assert_ne!(decision, Some(Order::Cancel), "TX-5");
        }
        for member in &self.members {
            prop_assert!(member.confirmed + member.cancelled <= member.reserved, "TX-3");
            prop_assert!(member.reserved <= 1, "an effect happens once");
            match member.fence {
                Some(Status::Committed) => prop_assert_eq!(decision, Some(Order::Confirm), "TX-1"),
                Some(Status::RolledBack) => {
                    prop_assert_eq!(decision, Some(Order::Cancel), "TX-1");
                }
                // Closed, where it is undecided.
                Some(Status::Suspended) => {
                    prop_assert!(
                        decision == Some(Order::Cancel) || decision.is_none() && self.implied
                    );
                }
                Some(Status::Tried) | None => {}
            }
        }
        Ok(())
    }

    /// The network works, somebody drives, participants ask: everything ends.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        self.ask_all();
        self.check()?;
        for _ in 0..200 {
            if self.log.as_ref().is_none_or(|it| it.next().is_none()) {
                break;
            }
            self.clock.advance(Duration::from_secs(1));
            self.decide();
            self.drive();
            while !self.messages.is_empty() {
                self.deliver(0, false);
            }
            while !self.replies.is_empty() {
                self.hear(0, false);
            }
            self.check()?;
        }
        let Some(log) = &self.log else { return Ok(()) };
        prop_assert!(matches!(log.phase, Phase::Committed | Phase::Aborted), "TX-2: {log:?}");
        prop_assert!(!log.stuck());
        for member in &self.members {
            let end = match log.phase {
                Phase::Committed => vec![Some(Status::Committed)],
                // Whoever holds something asks; nobody tells the others.
                _ if log.branches.is_empty() => vec![Some(Status::RolledBack), None],
                _ => vec![Some(Status::RolledBack), Some(Status::Suspended)],
            };
            prop_assert!(end.contains(&member.fence), "TX-1, TX-4: {:?}", member.fence);
            prop_assert_eq!(member.reserved, member.confirmed + member.cancelled, "TX-4");
        }
        Ok(())
    }
}

/// Takes any of the waiting, or a copy of it.
fn pick<T: Clone>(waiting: &mut Vec<T>, arg: u8, copy: bool) -> Option<T> {
    if waiting.is_empty() {
        return None;
    }
    let at = usize::from(arg) % waiting.len();
    if copy { waiting.get(at).cloned() } else { Some(waiting.swap_remove(at)) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// R5.3: late, repeated and missing calls, in any order.
    #[test]
    fn any_history_keeps_the_invariants_and_ends(
        refuses in prop_oneof![4 => Just(0_u8), 1 => 0..8_u8],
        calm in 0..40_usize,
        history in prop::collection::vec((0..19_u8, any::<u8>()), 0..120),
        ahead in any::<bool>(),
        implied in any::<bool>(),
    ) {
        let mut world = World::new(refuses, implied);
        // Most histories start as they should, or commits would be rare.
        let start = [0, 1, 2, 2, 2, 5, 5, 5, 8, 9, 2, 2, 2, 5, 5, 5];
        if ahead {
            world.step(15, 0);
        }
        for op in start.into_iter().take(calm) {
            world.step(op, 0);
            world.check()?;
        }
        let late = world.messages.clone();
        for (op, arg) in history {
            world.step(op, arg);
            world.check()?;
        }
        let waiting = world.messages.clone();
        world.settle()?;
        // What was on its way all the time comes in at last, and changes nothing. (What nobody was
        // told of may be reserved again by a clock that is behind; it is asked about again.)
        let before: Vec<_> = world.members.iter().map(|it| it.fence).collect();
        world.messages.extend(late.into_iter().chain(waiting));
        while !world.messages.is_empty() {
            world.deliver(0, false);
            world.check()?;
        }
        let told = world.log.as_ref().is_some_and(|it| !it.branches.is_empty());
        if told {
            prop_assert_eq!(before, world.members.iter().map(|it| it.fence).collect::<Vec<_>>());
        } else {
            world.ask_all();
            world.check()?;
            let held = world.members.iter().filter(|it| it.fence == Some(Status::Tried)).count();
            prop_assert_eq!(held, 0, "TX-4");
        }
    }

    /// R5.3: who began it may answer while another attempt, or the deadline, closes its branches.
    #[test]
    fn an_answer_stands_whatever_else_decides(
        start in Just(vec![0_u8, 1, 17]).prop_shuffle(),
        history in prop::collection::vec(
            (prop::sample::select(vec![2_u8, 2, 2, 3, 5, 5, 5, 6, 8, 9, 10, 16, 16, 17]), any::<u8>()),
            10..60,
        ),
    ) {
        let mut world = World::new(0, true);
        for op in [vec![0], start].concat() {
            world.step(op, 0);
        }
        for (op, arg) in history {
            world.step(op, arg);
            world.check()?;
        }
        let answered = world.answered;
        world.settle()?;
        let decision = world.log.as_ref().and_then(|it| it.phase.decision());
        prop_assert!(!answered || decision == Some(Order::Confirm), "TX-5");
    }
}
