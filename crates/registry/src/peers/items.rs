//! What is on its way to a peer, and what its answers mean.

use std::sync::Arc;

use tradewind_base::Monotonic;
use tradewind_eureka::{ReplicationAction, ReplicationInstance, ReplicationResult, Status};

use super::Peer;
use super::wire::{Aside, Beside};
use crate::machine::{Item, Key, Replica, Reply, Respects};

/// One item on its way: what, in what respects, and its two forms.
pub(super) struct Sent {
    pub(super) key: Key,
    pub(super) item: ReplicationInstance,
    pub(super) aside: Aside,
}

/// An item in Eureka's form, what stands beside it, and about how many bytes it takes.
pub(super) fn written(key: &Key, item: &Item) -> (ReplicationInstance, Aside, usize) {
    let mut out = ReplicationInstance {
        app_name: key.app.to_string(),
        id: key.id.to_string(),
        last_dirty_ts: None,
        overridden_status: None,
        status: None,
        instance: None,
        action: ReplicationAction::Heartbeat,
    };
    let stored = |status: Status| (status != Status::Unknown).then_some(status);
    let mut size = 200 + 12 * (key.app.len() + key.id.len());
    let aside = match item {
        Item::Register(replica) => {
            out.action = ReplicationAction::Register;
            out.last_dirty_ts = replica.doc.last_dirty_ts;
            out.status = Some(replica.doc.status);
            out.overridden_status = stored(replica.doc.overridden_status);
            out.instance = Some(Arc::clone(&replica.doc));
            // JSON writes one character as six at worst.
            size += 2000 + 6 * replica.doc.metadata.size_bytes();
            Aside::of(replica)
        }
        Item::Heartbeat { dirty, status, over, renewed } => {
            out.last_dirty_ts = Some(*dirty);
            out.status = Some(*status);
            out.overridden_status = stored(*over);
            Aside::of_age(*renewed)
        }
        Item::Cancel { dirty, age } => {
            out.action = ReplicationAction::Cancel;
            out.last_dirty_ts = Some(*dirty);
            Aside::of_age(*age)
        }
        Item::Override { over, reported, dirty } => {
            out.last_dirty_ts = Some(*dirty);
            (out.action, out.status) = match stored(*over) {
                Some(over) => (ReplicationAction::StatusUpdate, Some(over)),
                None => (ReplicationAction::DeleteStatusOverride, Some(*reported)),
            };
            Aside::default()
        }
    };
    (out, aside, size)
}

/// What an answer means; `None` when nothing follows from it.
pub(super) fn reply(
    action: ReplicationAction,
    result: ReplicationResult,
    beside: Beside,
) -> Option<Reply> {
    match (result.status_code, beside) {
        (_, Beside::Buried { dirty, age }) => Some(Reply::Buried { dirty, age }),
        (_, Beside::Newer(aside)) => Some(Reply::Newer(aside.replica(result.instance?))),
        (404, Beside::Nothing) if action != ReplicationAction::Cancel => Some(Reply::Unknown),
        (code, Beside::Nothing) if 300 <= code && action == ReplicationAction::Heartbeat => {
            Some(Reply::Newer(Replica::stock(result.instance?)))
        }
        (_, Beside::Nothing) => None,
    }
}

/// Notes taken from a peer's queue; what was not delivered goes back to its head.
pub(super) struct Taken<'a> {
    peer: &'a Peer,
    /// Since when the first of them waits.
    since: Monotonic,
    pub(super) notes: Vec<(Key, Respects)>,
}

impl<'a> Taken<'a> {
    pub(super) fn take(peer: &'a Peer, limit: usize) -> Self {
        let (since, notes) =
            peer.with_outbox(|outbox| (outbox.oldest().unwrap_or_default(), outbox.take(limit)));
        Self { peer, since, notes }
    }

    pub(super) fn give_back_from(&mut self, index: usize) {
        let rest = self.notes.split_off(index.min(self.notes.len()));
        self.give_back(&rest);
    }

    pub(super) fn delivered(mut self) {
        self.notes.clear();
    }

    fn give_back(&self, notes: &[(Key, Respects)]) {
        self.peer.with_outbox(|outbox| {
            for (key, respects) in notes.iter().rev() {
                outbox.push_back_to_head(key, *respects, self.since);
            }
        });
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let notes = std::mem::take(&mut self.notes);
        self.give_back(&notes);
    }
}
