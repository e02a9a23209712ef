//! Who may be sent to now: subscriptions, places and circuits. In memory; rebuilt at a start.

use std::collections::BTreeMap;

use tradewind_base::Monotonic;

use crate::machine::circuit::Circuit;
use crate::machine::company::APART;
use crate::store::{Lane, SubscriptionRow};

/// All lanes.
#[derive(Debug)]
pub(super) struct Lanes {
    per_lane: usize,
    total: usize,
    running: usize,
    lanes: BTreeMap<Lane, State>,
}

#[derive(Debug)]
struct State {
    subscription: SubscriptionRow,
    running: usize,
    circuit: Circuit,
    /// Until when each delivery has a request of its own, whatever is declared.
    apart: Option<Monotonic>,
    /// More was there than places: look again when one becomes free.
    backlog: bool,
    /// What tells one set of the subscriber's instances from another.
    instances: u64,
}

/// How an attempt showed the subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Showed {
    /// Alive.
    Alive,
    /// Silent, or with a fault of its own.
    Faulty,
    /// Nothing: the attempt was given up by this side.
    Nothing,
}

impl Lanes {
    pub(super) const fn new(per_lane: usize, total: usize) -> Self {
        Self { per_lane, total, running: 0, lanes: BTreeMap::new() }
    }

    /// Takes over the subscriptions of the database. What runs goes on.
    ///
    /// `instances` tells one set of a service's instances from another: where it changed, a closed
    /// way may have opened.
    pub(super) fn update(
        &mut self,
        rows: Vec<SubscriptionRow>,
        now: Monotonic,
        instances: impl Fn(&str) -> u64,
    ) {
        let mut old = std::mem::take(&mut self.lanes);
        for row in rows {
            let before = old.remove(&row.lane());
            let moved = before.as_ref().is_some_and(|it| it.subscription != row);
            let mut state = before.unwrap_or_else(|| State::new(row.clone()));
            let set = instances(&row.service);
            if state.instances != set {
                state.instances = set;
                state.circuit.hope(now);
            }
            if moved {
                // Another address: what the old one did says nothing of it.
                state.circuit = Circuit::default();
                state.apart = None;
                state.subscription = row;
            }
            self.lanes.insert(state.subscription.lane(), state);
        }
        // Subscriptions are never removed, but what runs must find its place to give back.
        self.lanes.extend(old.into_iter().filter(|(_, it)| 0 < it.running));
    }

    /// How many deliveries may begin on a lane now.
    pub(super) fn room(&self, lane: &Lane, now: Monotonic) -> usize {
        let Some(it) = self.lanes.get(lane) else { return 0 };
        if !it.subscription.active {
            return 0;
        }
        let places = self.per_lane.saturating_sub(it.running);
        it.circuit.allows(places.min(self.total.saturating_sub(self.running)), now)
    }

    /// How many deliveries of a lane one request may have now.
    pub(super) fn together(&self, lane: &Lane, now: Monotonic) -> usize {
        let Some(it) = self.lanes.get(lane) else { return 1 };
        if it.apart.is_some_and(|until| now < until) {
            return 1;
        }
        usize::try_from(it.subscription.together).unwrap_or(1).max(1)
    }

    /// The subscriber did not take several deliveries in one request.
    pub(super) fn apart(&mut self, lane: &Lane, now: Monotonic) {
        if let Some(it) = self.lanes.get_mut(lane) {
            it.apart = Some(now + APART);
        }
    }

    /// Takes places for `count` deliveries, which [`Lanes::room`] has shown to be there.
    pub(super) fn begin(&mut self, lane: &Lane, count: usize) -> Option<&SubscriptionRow> {
        let it = self.lanes.get_mut(lane)?;
        it.running += count;
        self.running += count;
        if 0 < count {
            it.circuit.begun();
        }
        Some(&it.subscription)
    }

    /// Remembers that more is waiting.
    pub(super) fn waiting(&mut self, lane: &Lane) {
        if let Some(it) = self.lanes.get_mut(lane) {
            it.backlog = true;
        }
    }

    /// Gives a place back. `true` when more is waiting for it.
    pub(super) fn end(&mut self, lane: &Lane, showed: Showed, now: Monotonic) -> bool {
        self.running = self.running.saturating_sub(1);
        let Some(it) = self.lanes.get_mut(lane) else { return false };
        it.running = it.running.saturating_sub(1);
        let (subscriber, topic) = (&lane.subscriber, &lane.topic);
        match showed {
            Showed::Alive if it.circuit.answered() => {
                tracing::info!(subscriber, topic, "subscriber answers again");
                it.backlog = true;
            }
            Showed::Faulty if it.circuit.failed(now) => {
                tracing::warn!(subscriber, topic, "subscriber does not answer; one try at a time");
            }
            Showed::Nothing => it.circuit.dropped(),
            Showed::Alive | Showed::Faulty => {}
        }
        std::mem::take(&mut it.backlog)
    }

    /// The active lanes with room.
    pub(super) fn open(&self, now: Monotonic) -> Vec<(Lane, usize)> {
        let rooms = self.lanes.keys().map(|it| (it.clone(), self.room(it, now)));
        rooms.filter(|(_, room)| 0 < *room).collect()
    }
}

impl State {
    fn new(subscription: SubscriptionRow) -> Self {
        let circuit = Circuit::default();
        Self { subscription, running: 0, circuit, apart: None, backlog: true, instances: 0 }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_lane_goes_apart_for_a_while_or_until_it_is_declared_anew() {
        let mut row = SubscriptionRow {
            subscriber: "warehouse".into(),
            topic: "order.placed".into(),
            service: "warehouse".into(),
            path: "/in".into(),
            together: 0,
            active: true,
        };
        let (lane, now) = (row.lane(), Monotonic::from_millis(0));
        let mut lanes = Lanes::new(32, 256);
        assert_eq!(lanes.together(&lane, now), 1, "nobody has declared it");
        lanes.update(vec![row.clone()], now, |_| 0);
        assert_eq!(lanes.together(&lane, now), 1);
        row.together = 20;
        lanes.update(vec![row.clone()], now, |_| 0);
        assert_eq!(lanes.together(&lane, now), 20);
        lanes.apart(&lane, now);
        lanes.update(vec![row.clone()], now, |_| 0);
        assert_eq!(lanes.together(&lane, now), 1, "the same declaration");
        assert_eq!(lanes.together(&lane, now + APART), 20);
        lanes.apart(&lane, now);
        row.path = "/other".into();
        lanes.update(vec![row], now + Duration::from_millis(1), |_| 0);
        assert_eq!(lanes.together(&lane, now), 20);
    }
}
