//! What one peer has still to be told.
//!
//! The queue holds *names*, not messages: which instance, and in what respect it changed. The
//! message is made from the table when it is sent, so what is sent is always the latest state, a
//! repeat after a failure carries the state of then and not of now, and a queue cannot grow beyond
//! the instances that exist. A name that is queued again keeps its place: an instance that renews
//! often cannot push itself, or others, away from the head (REG-9).

use std::collections::{BTreeMap, VecDeque};

use tradewind_base::Monotonic;

use super::Key;

/// In what respects an instance changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Respects(u8);

impl Respects {
    /// It gave a sign of life.
    pub const HEARTBEAT: Self = Self(1);
    /// Its document changed, or it left: whichever is true when the message is made.
    pub const CONTENT: Self = Self(2);
    /// Its status override was set or deleted.
    pub const OVERRIDE: Self = Self(4);
    /// Everything but the heartbeat, which the document implies.
    pub const ALL: Self = Self(6);

    /// Whether all of `other` is in `self`.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The bounded, ordered set of names for one peer.
#[derive(Debug)]
pub struct Outbox {
    order: VecDeque<Key>,
    /// In what respects, and since when.
    notes: BTreeMap<Key, (Respects, Monotonic)>,
    capacity: usize,
    overflowed: bool,
}

impl Outbox {
    /// An empty queue for at most `capacity` instances.
    #[must_use]
    pub const fn new(capacity: usize) -> Self {
        Self { order: VecDeque::new(), notes: BTreeMap::new(), capacity, overflowed: false }
    }

    /// Notes at `at` that `key` changed. When the queue is full the note is dropped and the overflow is
    /// remembered, so that a full exchange can make up for it.
    pub fn push(&mut self, key: &Key, respects: Respects, at: Monotonic) {
        if let Some(known) = self.notes.get_mut(key) {
            known.0 = known.0.with(respects);
        } else if self.capacity <= self.order.len() {
            self.overflowed = true;
        } else {
            self.order.push_back(key.clone());
            self.notes.insert(key.clone(), (respects, at));
        }
    }

    /// Puts a note of `since` that could not be delivered back at the head.
    pub fn push_back_to_head(&mut self, key: &Key, respects: Respects, since: Monotonic) {
        if let Some(known) = self.notes.get_mut(key) {
            *known = (known.0.with(respects), known.1.min(since));
        } else if self.capacity <= self.order.len() {
            self.overflowed = true;
        } else {
            self.order.push_front(key.clone());
            self.notes.insert(key.clone(), (respects, since));
        }
    }

    /// Takes the oldest `limit` notes.
    pub fn take(&mut self, limit: usize) -> Vec<(Key, Respects)> {
        let count = limit.min(self.order.len());
        let keys: Vec<Key> = self.order.drain(..count).collect();
        keys.into_iter()
            .map(|key| {
                let (respects, _) = self.notes.remove(&key).unwrap_or_default();
                (key, respects)
            })
            .collect()
    }

    /// Whether notes were dropped since the last call.
    pub const fn take_overflow(&mut self) -> bool {
        std::mem::replace(&mut self.overflowed, false)
    }

    /// Forgets everything: a full exchange says it all.
    pub fn clear(&mut self) {
        self.order.clear();
        self.notes.clear();
    }

    /// Since when the note at the head waits; `None` when there is none.
    #[must_use]
    pub fn oldest(&self) -> Option<Monotonic> {
        self.notes.get(self.order.front()?).map(|(_, since)| *since)
    }

    /// How many instances are queued.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether nothing is queued.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> Key {
        Key::new("orders", id)
    }

    fn at(millis: u64) -> Monotonic {
        Monotonic::from_millis(millis)
    }

    #[test]
    fn a_name_queued_again_keeps_its_place_and_gathers_respects() {
        let mut outbox = Outbox::new(10);
        outbox.push(&key("a"), Respects::HEARTBEAT, at(1));
        outbox.push(&key("b"), Respects::HEARTBEAT, at(1));
        outbox.push(&key("a"), Respects::CONTENT, at(9));
        assert_eq!(outbox.oldest(), Some(at(1)));
        let taken = outbox.take(1);
        assert_eq!(taken, [(key("a"), Respects::HEARTBEAT.with(Respects::CONTENT))]);
        assert_eq!(outbox.take(9), [(key("b"), Respects::HEARTBEAT)]);
        assert!(outbox.is_empty());
        assert_eq!(outbox.oldest(), None);
    }

    #[test]
    fn a_frequent_renewer_does_not_keep_others_waiting() {
        let mut outbox = Outbox::new(10);
        outbox.push(&key("fast"), Respects::HEARTBEAT, at(1));
        outbox.push(&key("slow"), Respects::CONTENT, at(1));
        for _ in 0..100 {
            outbox.push(&key("fast"), Respects::HEARTBEAT, at(1));
        }
        let order: Vec<_> = outbox.take(2).into_iter().map(|(key, _)| key).collect();
        assert_eq!(order, [key("fast"), key("slow")]);
    }

    #[test]
    fn what_failed_goes_first_next_time() {
        let mut outbox = Outbox::new(10);
        outbox.push(&key("a"), Respects::CONTENT, at(1));
        let taken = outbox.take(1);
        outbox.push(&key("b"), Respects::CONTENT, at(2));
        for (key, respects) in taken.iter().rev() {
            outbox.push_back_to_head(key, *respects, at(1));
        }
        assert_eq!(outbox.oldest(), Some(at(1)), "it waits since it was noted first");
        assert_eq!(outbox.take(2).first().map(|(key, _)| key.clone()), Some(key("a")));
    }

    #[test]
    fn a_full_queue_drops_and_remembers() {
        let mut outbox = Outbox::new(1);
        outbox.push(&key("a"), Respects::CONTENT, at(1));
        outbox.push(&key("b"), Respects::CONTENT, at(1));
        assert_eq!(outbox.len(), 1);
        assert!(outbox.take_overflow());
        assert!(!outbox.take_overflow(), "told once");
    }
}
