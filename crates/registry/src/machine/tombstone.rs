//! What is remembered of leases that are gone: cancels, and overrides that outlive their lease.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use tradewind_base::Monotonic;
use tradewind_eureka::Status;

use super::Key;

/// A cancelled lease.
#[derive(Clone, Debug)]
pub(super) struct Tombstone {
    /// Copies up to this dirty timestamp are covered.
    pub(super) dirty: i64,
    /// When it was cancelled.
    pub(super) at: Monotonic,
    /// When it was put in: its place in the order of forgetting.
    stored: Monotonic,
}

#[derive(Debug, Default)]
pub(super) struct Tombstones {
    map: BTreeMap<Key, Tombstone>,
    order: VecDeque<(Monotonic, Key)>,
}

impl Tombstones {
    pub(super) fn get(&self, key: &Key) -> Option<&Tombstone> {
        self.map.get(key)
    }

    /// The tombstone, if it covers a copy with this dirty timestamp.
    pub(super) fn covers(&self, key: &Key, dirty: i64) -> Option<&Tombstone> {
        self.map.get(key).filter(|it| dirty <= it.dirty)
    }

    /// Remembers a cancel; of two, the one that covers more stays.
    pub(super) fn put(
        &mut self,
        key: &Key,
        dirty: i64,
        at: Monotonic,
        now: Monotonic,
        capacity: usize,
    ) {
        if self.map.get(key).is_some_and(|it| dirty <= it.dirty) {
            return;
        }
        if capacity <= self.order.len() {
            self.forget_oldest();
        }
        self.map.insert(key.clone(), Tombstone { dirty, at, stored: now });
        self.order.push_back((now, key.clone()));
    }

    pub(super) fn remove(&mut self, key: &Key) {
        self.map.remove(key);
    }

    pub(super) fn purge(&mut self, keep: Duration, now: Monotonic) {
        while self.order.front().is_some_and(|(stored, _)| keep < now.since(*stored)) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((stored, key)) = self.order.pop_front()
            && self.map.get(&key).is_some_and(|it| it.stored == stored)
        {
            self.map.remove(&key);
        }
    }

    pub(super) fn range(
        &self,
        range: (Bound<Key>, Bound<Key>),
    ) -> impl Iterator<Item = (&Key, &Tombstone)> {
        self.map.range(range)
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }
}

/// An override whose lease ended without a cancel; it waits for the instance to come back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Orphan {
    pub(super) status: Status,
    pub(super) version: i64,
    stored: Monotonic,
}

#[derive(Debug, Default)]
pub(super) struct Orphans {
    map: BTreeMap<Key, Orphan>,
    order: VecDeque<(Monotonic, Key)>,
}

impl Orphans {
    pub(super) fn put(
        &mut self,
        key: &Key,
        status: Status,
        version: i64,
        now: Monotonic,
        capacity: usize,
    ) {
        if capacity <= self.order.len() {
            self.forget_oldest();
        }
        self.map.insert(key.clone(), Orphan { status, version, stored: now });
        self.order.push_back((now, key.clone()));
    }

    pub(super) fn take(&mut self, key: &Key) -> Option<Orphan> {
        self.map.remove(key)
    }

    pub(super) fn purge(&mut self, keep: Duration, now: Monotonic) {
        while self.order.front().is_some_and(|(stored, _)| keep < now.since(*stored)) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((stored, key)) = self.order.pop_front()
            && self.map.get(&key).is_some_and(|it| it.stored == stored)
        {
            self.map.remove(&key);
        }
    }
}
