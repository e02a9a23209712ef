//! The table itself: its indexes, and what keeps them in step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tradewind_base::Monotonic;
use tradewind_eureka::{Instance, Status};

use super::entry::{Entry, Phase};
use super::history::{History, Window};
use super::protection::Scope;
use super::tombstone::{Orphans, Tombstones};
use super::{Change, DeltaView, Groups, Key, Limits, Now, Respects, Rules, Totals, What, Why};

/// The table counts from a day before its first call, so that an age told by a peer can be taken
/// from the present without falling below zero.
const ORIGIN: Duration = Duration::from_secs(24 * 3600);

/// The shortest time a tombstone is kept, whatever the leases are.
const TOMBSTONE_MIN: Duration = Duration::from_secs(90);

/// All instances at one revision.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The revision.
    pub revision: u64,
    /// `apps__hashcode` of it.
    pub hash_code: String,
    /// The instances by application.
    pub apps: Groups,
}

#[derive(Debug, Default)]
pub(super) struct App {
    pub(super) instances: BTreeMap<Arc<str>, Entry>,
    pub(super) scope: Scope,
}

/// The lease table. See the [module](super) for what it promises.
#[derive(Debug)]
pub struct Table {
    pub(super) limits: Limits,
    pub(super) rules: Rules,
    pub(super) apps: BTreeMap<Arc<str>, App>,
    pub(super) count: usize,
    statuses: [usize; Status::ALL.len()],
    /// When to look at whom next. A renewal does not touch it: the timer that fires early looks at
    /// the lease and is set anew, so a heartbeat costs one look-up.
    pub(super) timers: BTreeSet<(Monotonic, Key)>,
    pub(super) held: BTreeSet<Key>,
    pub(super) overall: Scope,
    /// Applications whose protection has to be judged.
    pub(super) late_apps: BTreeSet<Arc<str>>,
    pub(super) tombstones: Tombstones,
    pub(super) orphans: Orphans,
    pub(super) history: History,
    pub(super) window: Window,
    pub(super) outgoing: Vec<(Key, Respects)>,
    pub(super) probes: BTreeSet<(Monotonic, Key)>,
    pub(super) totals: Totals,
    lease_longest: Duration,
    started: Monotonic,
    last_call: Monotonic,
    paused: Duration,
    synced: bool,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(limits: Limits, rules: Rules, now: Now) -> Self {
        Self {
            history: History::new(limits.history_max),
            window: Window::new(limits.delta_retention, limits.delta_max),
            limits,
            rules,
            apps: BTreeMap::new(),
            count: 0,
            statuses: [0; Status::ALL.len()],
            timers: BTreeSet::new(),
            held: BTreeSet::new(),
            overall: Scope::default(),
            late_apps: BTreeSet::new(),
            tombstones: Tombstones::default(),
            orphans: Orphans::default(),
            outgoing: Vec::new(),
            probes: BTreeSet::new(),
            totals: Totals::default(),
            lease_longest: TOMBSTONE_MIN,
            started: now.mono + ORIGIN,
            last_call: now.mono,
            paused: Duration::ZERO,
            synced: false,
        }
    }

    /// The revision: one more for each visible change.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.history.revision()
    }

    /// How many instances there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many tombstones are kept.
    #[must_use]
    pub fn tombstones(&self) -> usize {
        self.tombstones.len()
    }

    /// Whether an instance that is not here can be taken for gone: the table has been up for the
    /// warm-up, or was filled by a peer.
    #[must_use]
    pub fn warm(&self, now: Now) -> bool {
        self.synced || self.limits.warm_up <= self.at(now).since(self.started)
    }

    /// Notes that a peer's whole table was merged in.
    pub const fn set_synced(&mut self) {
        self.synced = true;
    }

    /// What peers must be told since the last call.
    pub fn take_outgoing(&mut self) -> Vec<(Key, Respects)> {
        std::mem::take(&mut self.outgoing)
    }

    /// `apps__hashcode` of now (REG-4).
    #[must_use]
    pub fn hash_code(&self) -> String {
        let occurring = Status::ALL.into_iter().zip(self.statuses).filter(|(_, count)| 0 < *count);
        occurring.map(|(status, count)| format!("{status}_{count}_")).collect()
    }

    /// Everything, at one revision.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let docs = |app: &App| app.instances.values().map(|it| Arc::clone(&it.doc)).collect();
        let apps = self.apps.iter().map(|(name, app)| (Arc::clone(name), docs(app))).collect();
        Snapshot { revision: self.revision(), hash_code: self.hash_code(), apps }
    }

    /// The changes of the delta window, each instance once; `None` when more changed within the
    /// window than it holds, so that a client has to fetch everything.
    pub fn delta(&mut self, now: Now) -> Option<DeltaView> {
        let at = self.advance(now);
        self.window.purge(at);
        let live = |key: &Key| Some(&self.apps.get(&*key.app)?.instances.get(&*key.id)?.doc);
        Some(DeltaView {
            revision: self.revision(),
            generation: self.window.generation(),
            hash_code: self.hash_code(),
            apps: self.window.view(live)?,
        })
    }

    /// What names the content of the delta document of now.
    pub fn delta_version(&mut self, now: Now) -> (u64, u64) {
        let at = self.advance(now);
        self.window.purge(at);
        (self.revision(), self.window.generation())
    }

    /// The changes after `revision`; `None` when they are no longer all known (REG-3).
    #[must_use]
    pub fn changes_since(&self, revision: u64) -> Option<impl Iterator<Item = &Change>> {
        self.history.since(revision)
    }

    /// The instances of one application, in upper case; `None` when it has none.
    #[must_use]
    pub fn app(&self, app: &str) -> Option<Vec<Arc<Instance>>> {
        let app = self.apps.get(app)?;
        Some(app.instances.values().map(|it| Arc::clone(&it.doc)).collect())
    }

    /// One instance as of now, with the time of its last renewal.
    #[must_use]
    pub fn instance(&self, key: &Key, now: Now) -> Option<Instance> {
        let entry = self.entry(key)?;
        let mut doc = Instance::clone(&entry.doc);
        let silent = i64::try_from(entry.silent_for(self.at(now)).as_millis()).unwrap_or(0);
        doc.lease.last_renewal_ts = now.wall.millis().saturating_sub(silent);
        Some(doc)
    }

    /// The first instance with this id, whatever its application.
    #[must_use]
    pub fn by_id(&self, id: &str) -> Option<Key> {
        self.apps.iter().find_map(|(name, app)| {
            let (id, _) = app.instances.get_key_value(id)?;
            Some(Key { app: Arc::clone(name), id: Arc::clone(id) })
        })
    }

    // === within the machine ===

    /// The table's time of `now`, without pauses.
    pub(super) fn at(&self, now: Now) -> Monotonic {
        let running = (now.mono + ORIGIN).since_zero();
        Monotonic::from_duration(running.saturating_sub(self.paused))
    }

    /// As [`Table::at`]; every call that changes something begins with it, because only calls
    /// show that the process runs.
    pub(super) fn advance(&mut self, now: Now) -> Monotonic {
        let gap = now.mono.since(self.last_call);
        if self.limits.pause_min <= gap {
            self.paused += gap;
        }
        self.last_call = self.last_call.max(now.mono);
        self.at(now)
    }

    pub(super) fn entry(&self, key: &Key) -> Option<&Entry> {
        self.apps.get(&*key.app)?.instances.get(&*key.id)
    }

    pub(super) fn entry_mut(&mut self, key: &Key) -> Option<&mut Entry> {
        self.apps.get_mut(&*key.app)?.instances.get_mut(&*key.id)
    }

    /// The lease an instance gets: what it advertises, at least a second.
    pub(super) fn lease_of(&self, doc: &Instance) -> Duration {
        let secs = u64::try_from(doc.lease.duration_secs).ok().filter(|it| *it != 0);
        Duration::from_secs(secs.unwrap_or(90)).min(self.limits.lease_max)
    }

    pub(super) const fn tombstone_keep(&self) -> Duration {
        self.lease_longest
    }

    /// Takes an instance out of every index.
    pub(super) fn detach(&mut self, key: &Key) -> Option<Entry> {
        let app = self.apps.get_mut(&*key.app)?;
        let entry = app.instances.remove(&*key.id)?;
        self.count -= 1;
        if let Some(count) = self.statuses.get_mut(entry.doc.status as usize) {
            *count -= 1;
        }
        if let Some(timer) = entry.timer {
            self.timers.remove(&(timer, key.clone()));
        }
        if entry.phase != Phase::Live {
            app.scope.sub(entry.host());
            self.overall.sub(entry.host());
        }
        if entry.phase == Phase::Held {
            self.held.remove(key);
        }
        // An application that is being judged stays until it was judged calm.
        if app.instances.is_empty() && !self.late_apps.contains(&key.app) {
            self.apps.remove(&*key.app);
        }
        Some(entry)
    }

    /// Puts an instance into every index, in the phase it has.
    pub(super) fn attach(&mut self, key: &Key, mut entry: Entry) {
        self.count += 1;
        self.lease_longest = self.lease_longest.max(entry.lease);
        if let Some(count) = self.statuses.get_mut(entry.doc.status as usize) {
            *count += 1;
        }
        let app = self.apps.entry(Arc::clone(&key.app)).or_default();
        entry.timer = match entry.phase {
            Phase::Live => Some(entry.late_at()),
            Phase::Late => Some(entry.expires),
            Phase::Held => None,
        };
        if let Some(timer) = entry.timer {
            self.timers.insert((timer, key.clone()));
        } else {
            self.held.insert(key.clone());
        }
        if entry.phase != Phase::Live {
            let host = Arc::from(entry.host());
            app.scope.add(&host);
            self.overall.add(&host);
            self.late_apps.insert(Arc::clone(&key.app));
        }
        app.instances.insert(Arc::clone(&key.id), entry);
    }

    /// A sign of life: the lease ends at `expires` at the earliest.
    pub(super) fn refresh(&mut self, key: &Key, expires: Monotonic) {
        let Some(entry) = self.entry_mut(key) else { return };
        if expires <= entry.expires {
            return;
        }
        entry.expires = expires;
        if entry.phase != Phase::Live
            && let Some(mut entry) = self.detach(key)
        {
            entry.phase = Phase::Live;
            self.attach(key, entry);
        }
    }

    /// Shows the present document of `key` as a change.
    pub(super) fn publish(&mut self, key: &Key, at: Monotonic) {
        let Some(entry) = self.entry(key) else { return };
        let doc = Arc::clone(&entry.doc);
        self.window.upsert(key.clone(), at);
        self.history.push(key.clone(), What::Upsert(doc));
    }

    /// Takes an instance out and shows that; what it was.
    pub(super) fn remove(&mut self, key: &Key, why: Why, at: Monotonic) -> Option<Entry> {
        let entry = self.detach(key)?;
        self.totals.removed(why);
        self.window.remove(key.clone(), &entry.doc, at);
        self.history.push(key.clone(), What::Remove(why));
        let over = entry.override_status();
        if why != Why::Cancelled && over != Status::Unknown {
            let capacity = self.limits.instances_max;
            self.orphans.put(key, over, entry.override_version, at, capacity);
        }
        Some(entry)
    }
}
