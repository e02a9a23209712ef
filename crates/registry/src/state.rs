//! The table of a running node, and who has to hear of its changes.
//!
//! The table sits behind one `std` mutex. Its sections are microseconds long, never wait and never
//! panic, and a heartbeat is answered in the task that read it; an owner task would cost two
//! switches of task and a place in a queue for each of them, and the queue would need a policy for
//! when it is full. Readers of much (documents, snapshots) take pointers out under the lock and
//! write them out outside.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, watch};
use tradewind_base::{Clock, Rng};

use crate::config::Config;
use crate::machine::{Key, Now, Reason, Removed, Table};
use crate::peers::Peer;

/// One registry node; clones of the `Arc` are handles.
pub(crate) struct Registry {
    table: Mutex<Table>,
    clock: Arc<dyn Clock>,
    revision: watch::Sender<u64>,
    /// Told when a probe may be due.
    pub(crate) suspicion: Notify,
    pub(crate) peers: Vec<Arc<Peer>>,
    /// What peers know this node by.
    pub(crate) node: String,
    /// This life of the node.
    pub(crate) epoch: String,
    pub(crate) config: Config,
    pub(crate) watchers: AtomicUsize,
}

impl Registry {
    pub(crate) fn new(config: Config, clock: Arc<dyn Clock>) -> Self {
        let mut rng = Rng::from_entropy();
        let epoch = format!("{:016x}{:016x}", clock.now().millis(), rng.u64());
        let now = Now { wall: clock.now(), mono: clock.monotonic() };
        let table = Table::new(config.limits.clone(), config.protection.clone(), now);
        let capacity = config.limits.instances_max;
        let peer = |url: &crate::peers::PeerUrl| Arc::new(Peer::new(url.clone(), capacity));
        Self {
            table: Mutex::new(table),
            clock,
            revision: watch::Sender::new(0),
            suspicion: Notify::new(),
            peers: config.peers.iter().map(peer).collect(),
            node: config.node_id.clone().unwrap_or_else(|| format!("node-{:016x}", rng.u64())),
            epoch,
            watchers: AtomicUsize::new(0),
            config,
        }
    }

    pub(crate) fn now(&self) -> Now {
        Now { wall: self.clock.now(), mono: self.clock.monotonic() }
    }

    /// Reads from the table.
    pub(crate) fn read<T>(&self, work: impl FnOnce(&mut Table, Now) -> T) -> T {
        let now = self.now();
        // A panic within left at worst one instance out; the others need the registry to go on.
        work(&mut self.table.lock().unwrap_or_else(PoisonError::into_inner), now)
    }

    /// Changes the table and tells who has to know.
    pub(crate) fn change<T>(&self, work: impl FnOnce(&mut Table, Now) -> T) -> T {
        let now = self.now();
        let (result, outgoing, revision) = {
            let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
            let result = work(&mut table, now);
            (result, table.take_outgoing(), table.revision())
        };
        if !outgoing.is_empty() {
            for peer in &self.peers {
                peer.tell(&outgoing, now.mono);
            }
        }
        self.revision.send_if_modified(|known| {
            let newer = *known < revision;
            *known = revision.max(*known);
            newer
        });
        result
    }

    /// Follows the revision.
    pub(crate) fn follow(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Notes that somebody takes `key` for dead; whether it is registered.
    pub(crate) fn suspect(&self, key: &Key, reason: Reason, by: &str) -> bool {
        if !self.config.probe.enabled {
            return self.read(|table, now| table.explain(key, now).is_some());
        }
        let known = self.change(|table, now| table.suspect(key, reason, by, now));
        if known {
            tracing::debug!(instance.id = %key, reason = reason.as_str(), by, "suspected");
            self.suspicion.notify_one();
        }
        known
    }

    /// One more watcher; `None` when there are too many.
    pub(crate) fn admit_watcher(self: &Arc<Self>) -> Option<WatcherPlace> {
        let max = self.config.watchers_max;
        let admit = |count| (count < max).then_some(count + 1);
        self.watchers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, admit).ok()?;
        Some(WatcherPlace(Arc::clone(self)))
    }
}

/// A watcher's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct WatcherPlace(Arc<Registry>);

impl Drop for WatcherPlace {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("node", &self.node).finish_non_exhaustive()
    }
}

/// Logs why instances left without having asked to.
pub(crate) fn log_removed(removed: &[Removed]) {
    for Removed { key, why, .. } in removed {
        tracing::info!(app = %key.app, instance.id = %key.id, why = why.as_str(), "instance removed");
    }
}
