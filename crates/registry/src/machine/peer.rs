//! What peers tell and are told.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use tradewind_base::Monotonic;
use tradewind_eureka::{ActionType, Instance, Status};

use super::client::{DIRTY_MAX, normalise};
use super::entry::{Entry, Phase, Source, fingerprint};
use super::{Key, Now, Refusal, Respects, Table, Why};

/// What kind of server a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A stock Eureka server: it tells dirty timestamps and nothing else.
    Stock,
    /// A server like this one: it also tells versions and ages.
    Tradewind,
}

/// What servers like this one tell of a copy beside the document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    /// Since the last sign of life.
    pub renewed: Duration,
    /// Since the client gave this content to the node it registered at.
    pub written: Duration,
    /// Version of the content.
    pub version: i64,
    /// Version of the override.
    pub override_version: i64,
}

/// A copy on its way between nodes. The document has the status its client reported, not the
/// effective one, so that both nodes derive the same from it.
#[derive(Clone, Debug)]
pub struct Replica {
    /// The document.
    pub doc: Arc<Instance>,
    /// What it does not say.
    pub extra: Extra,
}

impl Replica {
    /// A copy as a stock server tells it.
    #[must_use]
    pub fn stock(doc: Arc<Instance>) -> Self {
        let version = doc.last_dirty_ts.unwrap_or(0);
        Self { extra: Extra { version, ..Extra::default() }, doc }
    }

    fn dirty(&self) -> i64 {
        self.extra.version.max(self.extra.override_version)
    }
}

/// One thing to tell a peer.
#[derive(Clone, Debug)]
pub enum Item {
    /// The whole copy.
    Register(Replica),
    /// A sign of life.
    Heartbeat {
        /// Dirty timestamp.
        dirty: i64,
        /// As shown.
        status: Status,
        /// The override.
        over: Status,
        /// How old the sign is.
        renewed: Duration,
    },
    /// It was cancelled, at most with this dirty timestamp.
    Cancel {
        /// Dirty timestamp.
        dirty: i64,
        /// How long ago.
        age: Duration,
    },
    /// To a stock server: the override, [`Status::Unknown`] for its deletion.
    Override {
        /// The override.
        over: Status,
        /// What the status becomes without it.
        reported: Status,
        /// Dirty timestamp.
        dirty: i64,
    },
}

/// What became of something a peer told.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It is so now, or was already.
    Done,
    /// The instance is not known here: tell all of it.
    Unknown,
    /// What is known here is newer, at least in part.
    Newer(Replica),
    /// It was cancelled here.
    Buried {
        /// The tombstone covers copies up to this dirty timestamp.
        dirty: i64,
        /// How long ago.
        age: Duration,
    },
    /// A limit of this node was reached.
    Refused(Refusal),
}

/// What a peer answered to an [`Item`].
#[derive(Clone, Debug)]
pub enum Reply {
    /// Nothing is left to do.
    Done,
    /// It does not know the instance.
    Unknown,
    /// It knows something newer.
    Newer(Replica),
    /// It was cancelled there.
    Buried {
        /// The tombstone covers copies up to this dirty timestamp.
        dirty: i64,
        /// How long ago.
        age: Duration,
    },
}

impl Table {
    /// Merges a peer's copy into the own one (REG-10). Nothing is passed on: a peer tells all.
    pub fn merge(&mut self, replica: &Replica, origin: Origin, now: Now) -> Verdict {
        let at = self.advance(now);
        let key = Key::new(&replica.doc.app, replica.doc.effective_id());
        let extra = clamped(replica.extra);
        // REG-8.
        if let Some(grave) = self.tombstones.covers(&key, replica.dirty()) {
            return Verdict::Buried { dirty: grave.dirty, age: at.since(grave.at) };
        }
        if let Err(refusal) = self.admit(&key, &replica.doc) {
            return Verdict::Refused(refusal);
        }
        let lease = self.lease_of(&replica.doc);
        if lease <= extra.renewed {
            return Verdict::Done;
        }
        let mut doc = Instance::clone(&replica.doc);
        normalise(&mut doc.lease, lease.as_secs());
        let theirs = Theirs {
            fingerprint: fingerprint(&doc, doc.status),
            doc,
            extra,
            renewed: back(at, extra.renewed),
            written: back(at, extra.written),
            lease,
            origin,
        };
        if self.entry(&key).is_some() {
            self.merge_known(&key, theirs, now)
        } else {
            self.merge_new(&key, theirs, now);
            Verdict::Done
        }
    }

    /// Notes a sign of life that a peer passes on.
    pub fn merge_heartbeat(
        &mut self,
        key: &Key,
        dirty: Option<i64>,
        over: Status,
        renewed: Duration,
        origin: Origin,
        now: Now,
    ) -> Verdict {
        let at = self.advance(now);
        let Some(entry) = self.entry(key) else {
            let grave = dirty.and_then(|it| self.tombstones.covers(key, it));
            return grave.map_or(Verdict::Unknown, |it| Verdict::Buried {
                dirty: it.dirty,
                age: at.since(it.at),
            });
        };
        if entry.doc.status == Status::Unknown {
            return Verdict::Unknown;
        }
        let (ours, expires) = (entry.dirty(), back(at, renewed) + entry.lease);
        let entry_expires = entry.expires;
        let bare = entry.override_status() == Status::Unknown;
        let reported = entry.reported;
        self.totals.renewals_peer += u64::from(entry_expires < expires);
        self.refresh(key, expires);
        match dirty.map_or(Ordering::Equal, |it| it.cmp(&ours)) {
            Ordering::Equal => Verdict::Done,
            Ordering::Less => self.replica(key, at).map_or(Verdict::Unknown, Verdict::Newer),
            Ordering::Greater => {
                if origin == Origin::Stock && bare && over != Status::Unknown {
                    self.change_override(key, over, reported, ours, now);
                }
                Verdict::Unknown
            }
        }
    }

    /// Takes a cancel from a peer: of any copy when `dirty` is `None`, as stock servers mean it,
    /// else of one that is not newer and whose client has not spoken with this node since.
    pub fn merge_cancel(
        &mut self,
        key: &Key,
        dirty: Option<i64>,
        age: Duration,
        now: Now,
    ) -> Verdict {
        let at = self.advance(now);
        let cancelled = back(at, age);
        let capacity = self.limits.instances_max;
        let Some(entry) = self.entry(key) else {
            if let Some(dirty) = dirty {
                let dirty = dirty.min(DIRTY_MAX);
                self.tombstones.put(key, dirty, cancelled, at, capacity);
            }
            return Verdict::Unknown;
        };
        let ours = entry.dirty();
        if dirty.is_some_and(|it| it < ours) {
            return self.replica(key, at).map_or(Verdict::Done, Verdict::Newer);
        }
        if let Some(dirty) = dirty
            && entry.direct.is_some_and(|spoke| cancelled < spoke)
        {
            self.raise(key, dirty, now);
            return self.replica(key, at).map_or(Verdict::Done, Verdict::Newer);
        }
        if self.remove(key, Why::Cancelled, at).is_some() {
            let dirty = dirty.unwrap_or(ours).min(DIRTY_MAX);
            self.tombstones.put(key, dirty, cancelled, at, capacity);
        }
        Verdict::Done
    }

    /// Takes an override, or its deletion ([`Status::Unknown`]), from a stock peer.
    pub fn merge_override(
        &mut self,
        key: &Key,
        over: Status,
        value: Option<Status>,
        dirty: Option<i64>,
        now: Now,
    ) -> Verdict {
        self.advance(now);
        let Some(entry) = self.entry_mut(key) else { return Verdict::Unknown };
        if entry.override_status() == over {
            return Verdict::Done;
        }
        let version = dirty.unwrap_or(0).clamp(0, DIRTY_MAX).max(entry.dirty());
        let mut reported = entry.reported;
        if over == Status::Unknown {
            reported = value.unwrap_or(Status::Unknown);
            entry.version = version;
        }
        self.change_override(key, over, reported, version, now);
        Verdict::Done
    }

    /// What to tell a peer of `key` as of now. Empty when there is nothing left to say: a lease
    /// that ended here ends there by itself.
    #[must_use]
    pub fn items(&self, key: &Key, respects: Respects, to: Origin, now: Now) -> Vec<Item> {
        let at = self.at(now);
        let Some(entry) = self.entry(key) else {
            let grave = self.tombstones.get(key).filter(|_| respects.has(Respects::CONTENT));
            let cancel = |it: &super::tombstone::Tombstone| Item::Cancel {
                dirty: it.dirty,
                age: at.since(it.at),
            };
            return grave.map(cancel).into_iter().collect();
        };
        if entry.expires <= at {
            return Vec::new();
        }
        let override_too = respects.has(Respects::OVERRIDE) && entry.override_version != 0;
        let mut items = Vec::new();
        if respects.has(Respects::CONTENT) || (override_too && to == Origin::Tradewind) {
            items.extend(self.replica(key, at).map(Item::Register));
        }
        if override_too && to == Origin::Stock {
            let (over, reported) = (entry.override_status(), entry.reported);
            items.push(Item::Override { over, reported, dirty: entry.dirty() });
        }
        if items.is_empty() {
            items.push(Item::Heartbeat {
                dirty: entry.dirty(),
                status: entry.doc.status,
                over: entry.override_status(),
                renewed: entry.silent_for(at),
            });
        }
        items
    }

    /// Acts on a peer's answer; what that peer must still be told of `key`.
    pub fn on_reply(
        &mut self,
        key: &Key,
        reply: Reply,
        from: Origin,
        now: Now,
    ) -> Option<Respects> {
        match reply {
            Reply::Done => None,
            Reply::Unknown => self.entry(key).is_some().then_some(Respects::ALL),
            Reply::Newer(replica) => match self.merge(&replica, from, now) {
                Verdict::Newer(_) if from == Origin::Tradewind => Some(Respects::ALL),
                _ => None,
            },
            Reply::Buried { dirty, age } => {
                self.merge_cancel(key, Some(dirty), age, now);
                None
            }
        }
    }

    /// The copy of `key` as it is told.
    pub(super) fn replica(&self, key: &Key, at: Monotonic) -> Option<Replica> {
        let entry = self.entry(key)?;
        let mut doc = Arc::clone(&entry.doc);
        if doc.status != entry.reported {
            Arc::make_mut(&mut doc).status = entry.reported;
        }
        let extra = Extra {
            renewed: entry.silent_for(at),
            written: at.since(entry.written),
            version: entry.version,
            override_version: entry.override_version,
        };
        Some(Replica { doc, extra })
    }

    // === merging ===

    fn merge_new(&mut self, key: &Key, theirs: Theirs, now: Now) {
        let mut over = theirs.doc.overridden_status;
        let mut override_version = match theirs.origin {
            Origin::Stock if over == Status::Unknown => 0,
            Origin::Stock => theirs.extra.version,
            Origin::Tradewind => theirs.extra.override_version,
        };
        if let Some(orphan) = self.orphans.take(key)
            && (theirs.origin == Origin::Stock || override_version < orphan.version)
        {
            (over, override_version) = (orphan.status, orphan.version);
        }
        let entry = Entry {
            reported: theirs.doc.status,
            version: theirs.extra.version,
            override_version,
            fingerprint: 0,
            source: Source::Peer,
            lease: theirs.lease,
            expires: theirs.renewed + theirs.lease,
            written: theirs.written,
            direct: None,
            phase: Phase::Live,
            timer: None,
            suspicion: None,
            probed: None,
            doc: Arc::new(theirs.doc),
        };
        self.finish(key, entry, over, ActionType::Added, now);
    }

    fn merge_known(&mut self, key: &Key, theirs: Theirs, now: Now) -> Verdict {
        let at = self.at(now);
        let Some(entry) = self.entry(key) else { return Verdict::Unknown };
        let content = theirs.content_against(entry);
        let over = theirs.override_against(entry);
        let spoke_later = entry.source == Source::Own && theirs.written < entry.written;
        let ours_newer = content == Ordering::Less || over == Ordering::Less;
        let expires = theirs.renewed.max(entry.renewed()) + entry.lease;
        self.refresh(key, expires);
        if content == Ordering::Greater && spoke_later && theirs.origin == Origin::Tradewind {
            self.raise(key, theirs.extra.version.max(theirs.extra.override_version), now);
            return self.replica(key, at).map_or(Verdict::Done, Verdict::Newer);
        }
        if (content == Ordering::Greater || over == Ordering::Greater)
            && let Some(mut entry) = self.detach(key)
        {
            let mut status = entry.override_status();
            if over == Ordering::Greater {
                status = theirs.doc.overridden_status;
                entry.override_version = theirs.extra.override_version.max(match theirs.origin {
                    Origin::Stock => theirs.extra.version,
                    Origin::Tradewind => 0,
                });
            }
            if content == Ordering::Greater {
                entry.take_content(theirs);
            }
            self.finish(key, entry, status, ActionType::Modified, now);
        }
        if !ours_newer {
            return Verdict::Done;
        }
        self.replica(key, at).map_or(Verdict::Done, Verdict::Newer)
    }

    /// Puts the own copy above a peer's, because the client spoke with this node since, and tells
    /// all peers.
    fn raise(&mut self, key: &Key, above: i64, now: Now) {
        let Some(mut entry) = self.detach(key) else { return };
        entry.version = above.min(DIRTY_MAX).max(entry.dirty()) + 1;
        let over = entry.override_status();
        self.finish(key, entry, over, ActionType::Modified, now);
        self.outgoing.push((key.clone(), Respects::ALL));
    }
}

/// A peer's copy in the own time.
struct Theirs {
    doc: Instance,
    extra: Extra,
    fingerprint: u64,
    renewed: Monotonic,
    written: Monotonic,
    lease: Duration,
    origin: Origin,
}

impl Theirs {
    fn content_against(&self, ours: &Entry) -> Ordering {
        match self.origin {
            // A stock server lets the incoming one win a tie, and expects that of others.
            Origin::Stock if self.fingerprint == ours.fingerprint => {
                self.extra.version.cmp(&ours.dirty())
            }
            Origin::Stock => self.extra.version.cmp(&ours.dirty()).then(Ordering::Greater),
            Origin::Tradewind => {
                let by_version = self.extra.version.cmp(&ours.version);
                by_version.then(self.fingerprint.cmp(&ours.fingerprint))
            }
        }
    }

    fn override_against(&self, ours: &Entry) -> Ordering {
        let (over, known) = (self.doc.overridden_status, ours.override_status());
        match self.origin {
            Origin::Stock if known == Status::Unknown && over != Status::Unknown => {
                Ordering::Greater
            }
            Origin::Stock => Ordering::Equal,
            Origin::Tradewind => {
                let by_version = self.extra.override_version.cmp(&ours.override_version);
                by_version.then(over.cmp(&known))
            }
        }
    }
}

impl Entry {
    fn take_content(&mut self, theirs: Theirs) {
        let renewed = theirs.renewed.max(self.renewed());
        self.reported = theirs.doc.status;
        self.version = theirs.extra.version;
        self.source = Source::Peer;
        self.lease = theirs.lease;
        self.expires = renewed + theirs.lease;
        self.written = theirs.written;
        self.suspicion = None;
        self.doc = Arc::new(theirs.doc);
    }
}

fn back(at: Monotonic, age: Duration) -> Monotonic {
    Monotonic::from_duration(at.since_zero().saturating_sub(age))
}

fn clamped(extra: Extra) -> Extra {
    Extra {
        version: extra.version.clamp(0, DIRTY_MAX),
        override_version: extra.override_version.clamp(0, DIRTY_MAX),
        ..extra
    }
}
