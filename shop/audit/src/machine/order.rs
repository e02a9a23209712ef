//! One order and what all services have of it.

use tradewind::audit::Invariant;
use tradewind::audit::estate::{MSG_1, MSG_2, MSG_3, TX_1, TX_4};
use tradewind_order::machine::State;
use tradewind_order::orders::OrderId;
use tradewind_points::audit::POINTS_2;
use tradewind_warehouse::audit::{SHIP_1, SHIP_2};

use crate::facts::{
    Decision, Effects, Fate, Found, Message, MessageState, Order, Outbound, OutboundState,
    Reserved, ReservedState, Topic,
};
use crate::invariants::{JOIN_1, JOIN_3};
use crate::machine::transaction::UNHEARD_MS;

/// Finished messages and fence rows are kept at least a day: what is younger than this must be
/// there.
pub const KEPT_MS: i64 = 20 * 3600 * 1000;

struct Broken<'a> {
    id: &'a str,
    found: Vec<Found>,
}

impl Broken<'_> {
    fn add(&mut self, invariant: &'static Invariant, what: impl std::fmt::Display) {
        let row = format!("order={} {what}", self.id);
        self.found.push(Found { invariant, row });
    }

    fn add_if(&mut self, broken: bool, invariant: &'static Invariant, what: &str) {
        if broken {
            self.add(invariant, what);
        }
    }
}

/// Effects without their cause. `effects` were read before `order`; `alive_ms` is when the shop was
/// last seen alive.
#[must_use]
pub fn unfounded(id: &str, order: Option<&Order>, effects: &Effects, alive_ms: i64) -> Vec<Found> {
    let mut broken = Broken { id, found: Vec::new() };
    let Some(order) = order else {
        // An id that is none, or of another time, was not given to an order just now.
        let made = id.parse::<OrderId>().map_or(0, |it| it.made().millis());
        orphans(&mut broken, effects, UNHEARD_MS < (alive_ms - made).abs());
        return broken.found;
    };
    let placed = order.placing().decision;
    let cancelled = order.cancelling().map_or(Decision::Aborted, |it| it.decision);
    state(&mut broken, order, placed, cancelled);
    if let Some(outbound) = &effects.outbound {
        shipments(&mut broken, order, outbound, placed, cancelled);
    }
    for entry in &effects.ledger {
        let cause = if entry.revoke { cancelled } else { placed };
        let (name, sign) = if entry.revoke { ("revocation", -1) } else { ("credit", 1) };
        if cause != Decision::Committed {
            broken.add(&POINTS_2, format_args!("{name} xid={} without a decision", entry.xid));
        }
        if entry.user_id != order.user_id || entry.amount != sign * order.points {
            let (user, amount) = (&entry.user_id, entry.amount);
            broken.add(&POINTS_2, format_args!("{name} of {amount} for user {user}"));
        }
    }
    for kind in [false, true] {
        let count = effects.ledger.iter().filter(|it| it.revoke == kind).count();
        broken.add_if(1 < count, &POINTS_2, "credited or revoked more than once");
    }
    reservations(&mut broken, order, effects, placed, cancelled);
    messages(&mut broken, order, effects, placed);
    held(&mut broken, order, effects);
    broken.found
}

/// What is held for a transaction that never began. (What is held for one that did is looked at in
/// [`missing`] and, by transaction, in [`super::transaction`].)
fn held(broken: &mut Broken<'_>, order: &Order, effects: &Effects) {
    for it in effects.pending.iter().filter(|it| !it.revoke && it.xid != order.xid) {
        broken.add(&TX_4, format_args!("a credit is pending for {} as well", it.xid));
    }
    if order.cancel_xid.is_some() {
        return;
    }
    let noted = effects.pending.iter().any(|it| it.revoke);
    broken.add_if(noted, &TX_4, "a revocation is pending and nobody cancels it");
    let marked = effects.reservations.iter().any(|it| it.restock_xid.is_some());
    broken.add_if(marked, &TX_4, "is marked to be restocked and nobody cancels it");
    let back = |it: &Outbound| it.state == OutboundState::Voiding;
    let back = effects.outbound.as_ref().is_some_and(back);
    broken.add_if(back, &TX_4, "is held back in the warehouse and nobody cancels it");
}

/// An order of which the order service knows nothing. What only holds something for it may have been
/// faster than the order; if the order never comes, that is given back once it is `old`. Whether
/// what was given back should have been is looked at by transaction.
fn orphans(broken: &mut Broken<'_>, effects: &Effects, old: bool) {
    let shipping = effects.outbound.as_ref().is_some_and(|it| it.lines.is_some());
    broken.add_if(shipping, &SHIP_2, "is outbound and does not exist");
    broken.add_if(effects.outbound.is_some() && !shipping, &TX_1, "is void and does not exist");
    broken.add_if(!effects.ledger.is_empty(), &POINTS_2, "has points and does not exist");
    let pending = old && !effects.pending.is_empty();
    broken.add_if(pending, &TX_4, "has pending points and does not exist");
    let took = |it: &Reserved| match it.state {
        ReservedState::Confirmed => true,
        ReservedState::Frozen => old,
        ReservedState::Released => false,
    };
    let took = effects.reservations.iter().any(took);
    broken.add_if(took, &JOIN_1, "took stock and does not exist");
    let told = |it: &&Message| it.topic == Topic::Placed;
    let told = effects.messages.iter().filter(told).any(|it| match it.state {
        MessageState::Cancelled => false,
        MessageState::Prepared | MessageState::ParkedUndecided => old,
        MessageState::Committed | MessageState::ParkedUnrouted | MessageState::Done => true,
    });
    broken.add_if(told, &MSG_3, "has a message and does not exist");
}

/// Where the log is in another database than the order, the order's state is an effect too.
fn state(broken: &mut Broken<'_>, order: &Order, placed: Decision, cancelled: Decision) {
    let wanted = match order.state {
        State::Placing => None,
        State::Failed => Some(Decision::Aborted),
        State::Placed | State::Cancelling | State::Cancelled | State::Shipped => {
            Some(Decision::Committed)
        }
    };
    let state = order.state.as_str();
    if wanted.is_some_and(|it| it != placed) {
        broken.add(&TX_1, format_args!("is {state}; its transaction {} is {placed:?}", order.xid));
    }
    if order.state == State::Cancelled && cancelled != Decision::Committed {
        broken.add(&TX_1, format_args!("is {state}; its cancellation is {cancelled:?}"));
    }
}

fn shipments(
    broken: &mut Broken<'_>,
    order: &Order,
    it: &Outbound,
    placed: Decision,
    cancelled: Decision,
) {
    if it.lines.is_some() && placed != Decision::Committed {
        broken.add(&SHIP_2, format_args!("is outbound ({:?}) and was not placed", it.state));
    }
    let state = it.state;
    if state == OutboundState::Shipped && cancelled == Decision::Committed {
        broken.add(&SHIP_2, "shipped and is cancelled");
    }
    let by = it.void_xid == order.cancel_xid;
    if state == OutboundState::Void && (cancelled != Decision::Committed || !by) {
        broken.add(&TX_1, "is void in the warehouse and not cancelled by that transaction");
    }
    if let Some(lines) = &it.lines
        && sorted(lines) != sorted(&order.lines)
    {
        let (has, wants) = (sorted(lines), sorted(&order.lines));
        broken.add(&JOIN_1, format_args!("outbound lines {has:?}, ordered {wants:?}"));
    }
}

fn reservations(
    broken: &mut Broken<'_>,
    order: &Order,
    effects: &Effects,
    placed: Decision,
    cancelled: Decision,
) {
    for it in &effects.reservations {
        if it.xid != order.xid {
            broken.add(&JOIN_1, format_args!("took stock under {} as well", it.xid));
            continue;
        }
        let (wanted, name) = match it.state {
            ReservedState::Frozen => continue,
            ReservedState::Confirmed => (Decision::Committed, "sold"),
            ReservedState::Released => (Decision::Aborted, "released"),
        };
        if placed != wanted {
            let product = it.product;
            broken.add(&TX_1, format_args!("product {product} is {name}; decided: {placed:?}"));
        }
        let by = it.restock_xid == order.cancel_xid;
        if it.restocked && (cancelled != Decision::Committed || !by) {
            broken
                .add(&TX_1, format_args!("product {} is restocked and not cancelled", it.product));
        }
    }
    let own = effects.reservations.iter().filter(|it| it.xid == order.xid);
    let has: Vec<_> = own.map(|it| (it.product, it.quantity)).collect();
    if !has.is_empty() && sorted(&has) != sorted(&order.lines) {
        let (has, wants) = (sorted(&has), sorted(&order.lines));
        broken.add(&JOIN_1, format_args!("reserved lines {has:?}, ordered {wants:?}"));
    }
}

fn messages(broken: &mut Broken<'_>, order: &Order, effects: &Effects, placed: Decision) {
    let mut committed = 0;
    for it in effects.messages.iter().filter(|it| it.topic == Topic::Placed) {
        committed += usize::from(it.state.is_committed());
        let id = &it.id;
        if it.state.is_committed() && placed != Decision::Committed {
            broken.add(&MSG_3, format_args!("message {id} is committed; decided: {placed:?}"));
        }
        if it.state == MessageState::Cancelled && placed != Decision::Aborted {
            broken.add(&TX_1, format_args!("message {id} is cancelled; decided: {placed:?}"));
        }
        if it.xid.as_ref() != Some(&order.xid) {
            broken.add(&JOIN_3, format_args!("message {id} is of another transaction"));
        }
    }
    broken.add_if(1 < committed, &JOIN_3, "has more than one committed message");
    let told = effects.messages.iter().filter(|it| it.topic == Topic::Shipped).count();
    broken.add_if(1 < told, &MSG_2, "was told to have shipped more than once");
    shipped(broken, order, effects);
}

/// What the warehouse tells the order service. The message is an effect of the shipment and the
/// order's state an effect of the message, and they were read in this order: outbound order and
/// outbox, message, order. So what left one place must have come to the next.
fn shipped(broken: &mut Broken<'_>, order: &Order, effects: &Effects) {
    let Some(outbound) = &effects.outbound else { return };
    if outbound.state != OutboundState::Shipped
        || order.state == State::Shipped
        || effects.in_outbox
    {
        return;
    }
    match effects.messages.iter().find(|it| it.topic == Topic::Shipped) {
        Some(Message { state: MessageState::Done, id, .. }) => {
            broken.add(&MSG_2, format_args!("shipped, message {id} is delivered, state is not"));
        }
        Some(_) => {}
        // It would have been cleaned only after the order service had it.
        None => broken.add(&MSG_1, "shipped, and the message of it is nowhere"),
    }
}

/// Causes without their effect. `effects` were read after `order`; `now_ms` is the time.
#[must_use]
pub fn missing(order: &Order, effects: &Effects, now_ms: i64) -> Vec<Found> {
    let mut broken = Broken { id: &order.id, found: Vec::new() };
    match order.placing() {
        Fate { decision: Decision::Committed, over: true } => {
            placed(&mut broken, order, effects, now_ms);
        }
        Fate { decision: Decision::Aborted, over: true } => {
            let frozen = |it: ReservedState| it == ReservedState::Frozen;
            let frozen = effects.reservations.iter().any(|it| frozen(it.state));
            broken.add_if(frozen, &TX_4, "failed and has stock frozen");
            broken.add_if(!effects.pending.is_empty(), &TX_4, "failed and has pending points");
            let open = effects.messages.iter().any(undecided);
            broken.add_if(open, &TX_4, "failed and its message is undecided");
        }
        Fate { .. } => {}
    }
    let shipped = effects.outbound.as_ref().is_some_and(|it| it.state == OutboundState::Shipped);
    let wrong = order.state == State::Shipped && !shipped;
    broken.add_if(wrong, &SHIP_2, "is shipped and the warehouse did not ship it");
    match order.cancelling() {
        Some(Fate { decision: Decision::Committed, over: true }) => {
            cancelled(&mut broken, order, effects);
        }
        Some(Fate { decision: Decision::Aborted, over: true }) => {
            let by = |xid: &Option<String>| *xid == order.cancel_xid;
            let held = effects.outbound.as_ref();
            let held =
                held.is_some_and(|it| it.state == OutboundState::Voiding && by(&it.void_xid));
            broken.add_if(held, &TX_4, "is not cancelled and held back in the warehouse");
            let marked = effects.reservations.iter();
            let marked = marked.filter(|it| !it.restocked && it.restock_xid.is_some());
            let marked = marked.filter(|it| by(&it.restock_xid)).count();
            broken.add_if(0 < marked, &TX_4, "is not cancelled and marked to be restocked");
            let noted = |it: &crate::facts::Pending| Some(&it.xid) == order.cancel_xid.as_ref();
            let noted = effects.pending.iter().any(noted);
            broken.add_if(noted, &TX_4, "is not cancelled and its revocation is pending");
        }
        _ => {}
    }
    broken.found
}

fn undecided(it: &Message) -> bool {
    let open = matches!(it.state, MessageState::Prepared | MessageState::ParkedUndecided);
    open && it.topic == Topic::Placed
}

fn placed(broken: &mut Broken<'_>, order: &Order, effects: &Effects, now_ms: i64) {
    let own = || effects.reservations.iter().filter(|it| it.xid == order.xid);
    broken.add_if(own().next().is_none(), &JOIN_1, "is placed and took no stock");
    let frozen = own().any(|it| it.state == ReservedState::Frozen);
    broken.add_if(frozen, &TX_1, "is placed and its stock is not confirmed");
    let credited = effects.ledger.iter().any(|it| !it.revoke);
    broken.add_if(0 < order.points && !credited, &POINTS_2, "is placed and was not credited");
    let open = effects.pending.iter().any(|it| it.xid == order.xid);
    broken.add_if(open, &TX_4, "is placed and its credit is pending");

    let told = || effects.messages.iter().filter(|it| it.topic == Topic::Placed);
    broken.add_if(told().any(undecided), &TX_1, "is placed and its message is undecided");
    let committed = told().find(|it| it.state.is_committed());
    let recent = now_ms - KEPT_MS < order.created_ms;
    let lost = committed.is_none() && recent && !told().any(undecided);
    broken.add_if(lost, &JOIN_3, "is placed and has no message");
    let outbound = effects.outbound.as_ref();
    let arrived = match committed.map(|it| it.state) {
        Some(MessageState::Done) => Some("its message is delivered"),
        // Only what everybody has is cleaned away.
        None if !recent => Some("its message was delivered"),
        _ => None,
    };
    if let Some(how) = arrived
        && outbound.is_none_or(|it| it.lines.is_none())
    {
        broken.add(&SHIP_1, format_args!("is placed, {how}, and it is not outbound"));
    }
}

fn cancelled(broken: &mut Broken<'_>, order: &Order, effects: &Effects) {
    let own = effects.reservations.iter().filter(|it| it.xid == order.xid);
    let kept = own.filter(|it| it.state == ReservedState::Confirmed && !it.restocked).count();
    broken.add_if(0 < kept, &TX_1, "is cancelled and its stock is not back");
    let revoked = effects.ledger.iter().any(|it| it.revoke);
    broken.add_if(0 < order.points && !revoked, &POINTS_2, "is cancelled and keeps its points");
    let void = effects.outbound.as_ref().is_some_and(|it| it.state == OutboundState::Void);
    broken.add_if(!void, &SHIP_2, "is cancelled and not void in the warehouse");
}

fn sorted(lines: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let mut lines = lines.to_vec();
    lines.sort_unstable();
    lines
}
