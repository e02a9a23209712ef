//! Each row of the tables fires.

use tradewind::base::{Rng, Timestamp};
use tradewind_order::machine::State;
use tradewind_order::orders::OrderId;

use super::order::{KEPT_MS, missing, unfounded};
use super::transaction::{OVERDUE_MS, UNHEARD_MS, overdue, unfenced};
use crate::facts::{
    Effects, Entry, Fence, FenceStatus, Found, Log, Message, MessageState, Order, Outbound,
    OutboundState, Pending, Phase, Reserved, ReservedState, Topic,
};

const NOW: i64 = 1_000 * KEPT_MS;

/// An order that is placed, received and paid for.
fn placed() -> (Order, Effects) {
    let order = Order {
        id: "ord_1".into(),
        user_id: "usr_1".into(),
        state: State::Placed,
        points: 5,
        xid: "txn_1".into(),
        cancel_xid: None,
        created_ms: NOW - 1000,
        lines: vec![(1, 2), (7, 1)],
        placing: Some(Phase::Committed),
        cancelling: None,
        log_known: true,
    };
    let reserved = |(product, quantity)| Reserved {
        xid: "txn_1".into(),
        product,
        quantity,
        state: ReservedState::Confirmed,
        restock_xid: None,
        restocked: false,
    };
    let message = Message {
        id: "m1".into(),
        topic: Topic::Placed,
        state: MessageState::Done,
        xid: Some("txn_1".into()),
    };
    let lines = Some(vec![(7, 1), (1, 2)]);
    let outbound = Outbound { state: OutboundState::Received, lines, void_xid: None };
    let credit = Entry { revoke: false, user_id: "usr_1".into(), amount: 5, xid: "txn_1".into() };
    let effects = Effects {
        outbound: Some(outbound),
        in_outbox: false,
        messages: vec![message],
        ledger: vec![credit],
        pending: vec![],
        reservations: order.lines.iter().copied().map(reserved).collect(),
    };
    (order, effects)
}

/// The same, cancelled again.
fn cancelled() -> (Order, Effects) {
    let (mut order, mut effects) = placed();
    order.state = State::Cancelled;
    order.cancel_xid = Some("txn_2".into());
    order.cancelling = Some(Phase::Committed);
    let outbound = effects.outbound.as_mut().unwrap();
    outbound.state = OutboundState::Void;
    outbound.void_xid = Some("txn_2".into());
    for it in &mut effects.reservations {
        it.restock_xid = Some("txn_2".into());
        it.restocked = true;
    }
    let revocation =
        Entry { revoke: true, user_id: "usr_1".into(), amount: -5, xid: "txn_2".into() };
    effects.ledger.push(revocation);
    (order, effects)
}

/// An order that failed.
fn failed() -> (Order, Effects) {
    let (mut order, mut effects) = placed();
    order.state = State::Failed;
    order.placing = Some(Phase::Aborted);
    effects.outbound = None;
    effects.ledger.clear();
    effects.messages[0].state = MessageState::Cancelled;
    for it in &mut effects.reservations {
        it.state = ReservedState::Released;
    }
    (order, effects)
}

fn numbers(found: &[Found]) -> Vec<&'static str> {
    found.iter().map(|it| it.invariant.number).collect()
}

type Damage = fn(&mut Order, &mut Effects);

fn outbound(effects: &mut Effects) -> &mut Outbound {
    effects.outbound.as_mut().unwrap()
}

#[test]
fn what_is_right_is_not_reported() {
    for (order, effects) in [placed(), cancelled(), failed()] {
        assert_eq!(unfounded("ord_1", Some(&order), &effects, NOW), []);
        assert_eq!(missing(&order, &effects, NOW), []);
        // Long ago: the log and the message are cleaned away.
        let (mut order, mut effects) = (order, effects);
        (order.placing, order.cancelling) = (None, None);
        effects.messages.clear();
        assert_eq!(unfounded("ord_1", Some(&order), &effects, NOW), []);
        assert_eq!(missing(&order, &effects, NOW + 2 * KEPT_MS), []);
    }
}

/// R0.1: an effect that nothing caused is reported at once.
#[test]
fn every_effect_without_its_cause_is_reported() {
    let placed_ones: &[(&str, Damage)] = &[
        ("SHIP-2", |order, _| order.placing = Some(Phase::Trying)),
        ("MSG-3", |order, _| order.placing = Some(Phase::Trying)),
        ("POINTS-2", |order, _| order.placing = Some(Phase::Aborting)),
        ("TX-1", |order, _| order.placing = Some(Phase::Aborted)),
        ("POINTS-2", |_, effects| effects.ledger[0].amount = 4),
        ("POINTS-2", |_, effects| effects.ledger[0].user_id = "usr_2".into()),
        ("POINTS-2", |_, effects| {
            let again = effects.ledger[0].clone();
            effects.ledger.push(again);
        }),
        ("TX-1", |_, effects| effects.reservations[0].state = ReservedState::Released),
        ("JOIN-1", |_, effects| effects.reservations[0].quantity = 3),
        ("JOIN-1", |_, effects| drop(effects.reservations.pop())),
        ("JOIN-1", |_, effects| effects.reservations[0].xid = "txn_9".into()),
        ("JOIN-1", |_, effects| outbound(effects).lines = Some(vec![(1, 2)])),
        ("JOIN-3", |_, effects| {
            let again = effects.messages[0].clone();
            effects.messages.push(Message { id: "m2".into(), ..again });
        }),
        ("JOIN-3", |_, effects| effects.messages[0].xid = None),
        ("TX-1", |_, effects| effects.messages[0].state = MessageState::Cancelled),
        ("TX-1", |_, effects| {
            outbound(effects).state = OutboundState::Void;
            outbound(effects).void_xid = Some("txn_2".into());
        }),
        ("TX-4", |_, effects| {
            outbound(effects).state = OutboundState::Voiding;
            outbound(effects).void_xid = Some("txn_2".into());
        }),
        ("TX-4", |_, effects| effects.reservations[0].restock_xid = Some("txn_2".into())),
        ("TX-4", |_, effects| {
            effects.pending.push(Pending { revoke: true, xid: "txn_2".into() });
        }),
        ("TX-4", |_, effects| {
            effects.pending.push(Pending { revoke: false, xid: "txn_2".into() });
        }),
        ("MSG-1", |_, effects| outbound(effects).state = OutboundState::Shipped),
        ("MSG-2", |_, effects| {
            outbound(effects).state = OutboundState::Shipped;
            let told = Message { topic: Topic::Shipped, xid: None, ..effects.messages[0].clone() };
            effects.messages.push(told);
        }),
    ];
    let cancelled_ones: &[(&str, Damage)] = &[
        ("SHIP-2", |_, effects| outbound(effects).state = OutboundState::Shipped),
        ("POINTS-2", |order, _| order.cancelling = Some(Phase::Trying)),
        ("TX-1", |order, _| order.cancelling = Some(Phase::Aborted)),
        ("TX-1", |_, effects| outbound(effects).void_xid = Some("txn_3".into())),
        ("TX-1", |_, effects| effects.reservations[0].restock_xid = Some("txn_3".into())),
    ];
    for (all, whole) in [(placed_ones, placed as fn() -> _), (cancelled_ones, cancelled)] {
        for (index, (number, damage)) in all.iter().enumerate() {
            let (mut order, mut effects) = whole();
            damage(&mut order, &mut effects);
            let found = unfounded("ord_1", Some(&order), &effects, NOW);
            assert!(numbers(&found).contains(number), "{index}: {number}: {found:?}");
        }
    }
    let (_, effects) = placed();
    let found = unfounded("ord_1", None, &effects, NOW);
    assert_eq!(numbers(&found), ["SHIP-2", "POINTS-2", "JOIN-1", "MSG-3"]);
}

/// A Try may be faster than the order it is for: then it is explained for as long as it can be, and
/// for good once it is undone.
#[test]
fn what_is_held_for_an_order_that_is_not_there_is_reported_when_it_is_old() {
    let (_, undone) = failed();
    let mut held = undone.clone();
    held.reservations[0].state = ReservedState::Frozen;
    held.messages[0].state = MessageState::Prepared;
    held.pending.push(Pending { revoke: false, xid: "txn_1".into() });
    let id = OrderId::generate(Timestamp::from_millis(NOW), &mut Rng::seeded(1)).to_string();
    let found = |effects: &Effects, now| numbers(&unfounded(&id, None, effects, now));
    let late = NOW + UNHEARD_MS + 1;
    assert_eq!(found(&held, NOW), [""; 0]);
    assert_eq!(found(&held, late), ["TX-4", "JOIN-1", "MSG-3"]);
    assert_eq!(found(&undone, late), [""; 0]);
    let (_, placed) = placed();
    assert_eq!(found(&placed, NOW), ["SHIP-2", "POINTS-2", "JOIN-1", "MSG-3"], "it is not held");
}

/// R0.1: a cause that nothing came of is reported when it is over.
#[test]
fn every_cause_without_its_effect_is_reported() {
    let placed_ones: &[(&str, Damage)] = &[
        ("JOIN-1", |_, effects| effects.reservations.clear()),
        ("TX-1", |_, effects| effects.reservations[0].state = ReservedState::Frozen),
        ("POINTS-2", |_, effects| effects.ledger.clear()),
        ("TX-4", |_, effects| {
            effects.pending.push(Pending { revoke: false, xid: "txn_1".into() });
        }),
        ("TX-1", |_, effects| effects.messages[0].state = MessageState::Prepared),
        ("JOIN-3", |_, effects| effects.messages.clear()),
        ("SHIP-1", |_, effects| effects.outbound = None),
        ("SHIP-1", |_, effects| outbound(effects).lines = None),
        ("SHIP-1", |order, effects| {
            order.created_ms = 0;
            effects.messages.clear();
            effects.outbound = None;
        }),
        ("SHIP-2", |order, _| order.state = State::Shipped),
    ];
    let cancelled_ones: &[(&str, Damage)] = &[
        ("TX-1", |_, effects| effects.reservations[0].restocked = false),
        ("POINTS-2", |_, effects| drop(effects.ledger.pop())),
        ("SHIP-2", |_, effects| outbound(effects).state = OutboundState::Voiding),
    ];
    let undone: Damage = |order, effects| {
        order.state = State::Placed;
        order.cancelling = Some(Phase::Aborted);
        outbound(effects).state = OutboundState::Voiding;
    };
    let failed_ones: &[(&str, Damage)] = &[
        ("TX-4", |_, effects| effects.reservations[0].state = ReservedState::Frozen),
        ("TX-4", |_, effects| effects.messages[0].state = MessageState::Prepared),
        ("TX-4", |_, effects| {
            effects.pending.push(Pending { revoke: false, xid: "txn_1".into() });
        }),
    ];
    for (all, whole) in [
        (placed_ones, placed as fn() -> _),
        (cancelled_ones, cancelled),
        (&[("TX-4", undone)], cancelled),
        (failed_ones, failed),
    ] {
        for (index, (number, damage)) in all.iter().enumerate() {
            let (mut order, mut effects) = whole();
            damage(&mut order, &mut effects);
            let found = missing(&order, &effects, NOW);
            assert!(numbers(&found).contains(number), "{index}: {number}: {found:?}");
        }
    }
}

#[test]
fn what_is_on_its_way_explains_what_is_not_there() {
    let (mut order, _) = placed();
    order.placing = Some(Phase::Committing);
    assert_eq!(missing(&order, &Effects::default(), NOW), [], "confirms are on their way");
    let (order, mut effects) = placed();
    effects.outbound = None;
    for state in [MessageState::Committed, MessageState::ParkedUnrouted] {
        effects.messages[0].state = state;
        assert_eq!(missing(&order, &effects, NOW), [], "{state:?}: the message is on its way");
    }
    let (order, mut effects) = placed();
    outbound(&mut effects).state = OutboundState::Shipped;
    effects.in_outbox = true;
    assert_eq!(unfounded("ord_1", Some(&order), &effects, NOW), [], "in the outbox");
}

fn fence(status: FenceStatus) -> Fence {
    let initiator = "order".to_owned();
    Fence { service: "points", branch: 2, initiator, status, changed_ms: NOW - 1000 }
}

fn log(phase: Phase, answered: &[u16]) -> Log {
    Log {
        service: "order",
        name: "order.place".into(),
        phase,
        deadline_ms: NOW - 1,
        begun_ms: NOW - 1000,
        due_ms: Some(NOW),
        stuck: false,
        version: 1,
        implied: false,
        answered: answered.to_vec(),
    }
}

#[test]
fn fences_that_contradict_the_log_are_reported() {
    use FenceStatus::{Committed, RolledBack, Suspended, Tried};
    let unfounded = |log: Option<&Log>, fences: &[Fence]| {
        numbers(&super::transaction::unfounded("txn_1", log, fences, NOW))
    };
    let missing = |log: Option<&Log>, status| {
        numbers(&super::transaction::missing("txn_1", log, &[fence(status)]))
    };
    let phases =
        [Phase::Trying, Phase::Committing, Phase::Aborting, Phase::Committed, Phase::Aborted];
    for phase in phases {
        let log = log(phase, &[]);
        let said = |status| unfounded(Some(&log), &[fence(status)]);
        let yes = matches!(phase, Phase::Committing | Phase::Committed);
        let no = matches!(phase, Phase::Aborting | Phase::Aborted);
        assert_eq!(said(Committed).is_empty(), yes, "{phase:?}");
        assert_eq!(said(RolledBack).is_empty(), no, "{phase:?}");
        assert_eq!(said(Suspended).is_empty(), no, "{phase:?}");
        // While it is open a branch may be closed, from which an abort follows.
        let closing = Log { implied: true, ..log.clone() };
        let said_closing = |status| unfounded(Some(&closing), &[fence(status)]);
        assert_eq!(said_closing(Suspended).is_empty(), no || phase == Phase::Trying, "{phase:?}");
        assert_eq!(said_closing(RolledBack).is_empty(), no, "{phase:?}");
        assert!(said(Tried).is_empty());
        let over = matches!(phase, Phase::Committed | Phase::Aborted);
        assert_eq!(!missing(Some(&log), Tried).is_empty(), over, "{phase:?}");
    }
    assert_eq!(unfounded(None, &[fence(Committed)]), ["TX-1"]);
    let old = Fence { changed_ms: 0, ..fence(Committed) };
    assert!(unfounded(None, &[old]).is_empty(), "the log's row is cleaned");
    let committed = log(Phase::Committed, &[2]);
    let both = [fence(Committed), fence(RolledBack)];
    assert_eq!(unfounded(Some(&committed), &both), ["TX-1", "TX-3"]);
    assert!(missing(None, Tried).is_empty(), "its begin may be on its way");
    let unheard = |log: Option<&Log>, now| {
        numbers(&super::transaction::unheard("txn_1", log, &[fence(Tried)], now))
    };
    let late = NOW + UNHEARD_MS;
    assert_eq!((unheard(None, NOW), unheard(None, late)), (vec![], vec!["TX-4"]));
    assert!(unheard(Some(&log(Phase::Trying, &[])), late).is_empty());
    let answer = Log { name: String::new(), ..log(Phase::Aborted, &[]) };
    assert_eq!((unheard(Some(&answer), NOW), unheard(Some(&answer), late)), (vec![], vec!["TX-4"]));
    assert_eq!(missing(Some(&log(Phase::Committing, &[2])), Tried), ["TX-4"]);
    let tombstone = Log { name: String::new(), ..log(Phase::Aborted, &[]) };
    assert!(missing(Some(&tombstone), Tried).is_empty(), "it asks, and is told");
    assert_eq!(unfenced(&committed, &[], NOW), [2]);
    assert!(unfenced(&committed, &[], NOW + 2 * KEPT_MS).is_empty(), "the fence is cleaned");
    assert!(unfenced(&committed, &[fence(Committed)], NOW).is_empty());
}

#[test]
fn a_transaction_that_nobody_moves_is_reported_unless_a_human_is_asked() {
    let late = NOW + OVERDUE_MS + 1;
    for (phase, known) in [(Phase::Trying, true), (Phase::Aborting, true), (Phase::Aborted, false)]
    {
        let it = log(phase, &[]);
        assert_eq!(overdue("txn_1", &it, NOW, NOW), None, "{phase:?}");
        assert_eq!(overdue("txn_1", &it, late, late).is_some(), known, "{phase:?}");
        // A shop that stands still owes no attempt; a decision it owes.
        let undecided = phase == Phase::Trying;
        assert_eq!(overdue("txn_1", &it, late, NOW).is_some(), undecided, "{phase:?}");
        assert_eq!(overdue("txn_1", &Log { stuck: true, ..it }, late, late), None, "{phase:?}");
    }
    // What is closed at its deadline is asked about again and again, if need be.
    let closing = Log { implied: true, due_ms: Some(late), ..log(Phase::Trying, &[]) };
    assert_eq!(overdue("txn_1", &closing, late + OVERDUE_MS, late + OVERDUE_MS), None);
    let (now, then) = (late + OVERDUE_MS + 1, late);
    assert!(overdue("txn_1", &closing, now, now).is_some());
    assert_eq!(overdue("txn_1", &closing, now, then), None, "the shop stands still");
    let forgotten = Log { due_ms: None, ..log(Phase::Committing, &[]) };
    assert!(overdue("txn_1", &forgotten, NOW, NOW).is_some());
}

#[test]
fn the_own_branch_of_a_coordinated_transaction_is_there_before_its_coordinator_knows() {
    use super::transaction::{missing, unfounded, unheard};
    use FenceStatus::{Committed, RolledBack, Suspended, Tried};
    let own = |status, changed_ms| Fence {
        service: "order",
        branch: tradewind::transaction::wire::coordinator::OWN_BRANCH,
        initiator: "coordinator".into(),
        status,
        changed_ms,
    };
    for status in [RolledBack, Suspended] {
        assert_eq!(unfounded("txn_1", None, &[own(status, NOW)], NOW), []);
        let committed = log(Phase::Committed, &[]);
        let found = unfounded("txn_1", Some(&committed), &[own(status, NOW)], NOW);
        assert_eq!(numbers(&found), ["TX-1"]);
    }
    assert_eq!(numbers(&unfounded("txn_1", None, &[own(Committed, NOW)], NOW)), ["TX-1"]);
    assert_eq!(missing("txn_1", None, &[own(Tried, NOW)]), []);
    assert_eq!(unheard("txn_1", None, &[own(Tried, NOW)], NOW), []);
    let found = unheard("txn_1", None, &[own(Tried, NOW - 200_000)], NOW);
    assert_eq!(numbers(&found), ["TX-4"]);
    let trying = log(Phase::Trying, &[]);
    assert_eq!(unheard("txn_1", Some(&trying), &[own(Tried, NOW - 200_000)], NOW), []);
}
