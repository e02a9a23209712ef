//! The full exchange between two servers of this kind, page by page.
//!
//! One side sends what it holds as versions and ages ([`Digest`]), the other answers with what is
//! newer or unknown there, the tombstones, and the names it wants to hear all of
//! ([`SyncReply`]). It makes up for everything a queue lost: a partition, an overflow, a restart.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use tradewind_eureka::Status;

use super::entry::Entry;
use super::peer::{Origin, Replica};
use super::{Key, Now, Table};

/// What one node holds of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestEntry {
    /// Which.
    pub key: Key,
    /// Version of the content.
    pub version: i64,
    /// Breaks a tie of versions.
    pub fingerprint: u64,
    /// Version of the override.
    pub override_version: i64,
    /// The override.
    pub over: Status,
    /// Since the last sign of life.
    pub renewed: Duration,
}

/// A tombstone, as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grave {
    /// Which.
    pub key: Key,
    /// It covers copies up to this dirty timestamp.
    pub dirty: i64,
    /// Since the cancel.
    pub age: Duration,
}

/// What a node holds between two names.
#[derive(Clone, Debug, Default)]
pub struct Digest {
    /// The page begins after this name; `None`: at the beginning.
    pub after: Option<Key>,
    /// The page ends with this name; `None`: at the end.
    pub upto: Option<Key>,
    /// The instances.
    pub entries: Vec<DigestEntry>,
    /// The tombstones.
    pub graves: Vec<Grave>,
}

/// The answer to a [`Digest`].
#[derive(Clone, Debug, Default)]
pub struct SyncReply {
    /// How far the answer goes; `None`: to the end of the page.
    pub upto: Option<Key>,
    /// Copies that are newer here, at least in part, or unknown there.
    pub replicas: Vec<Replica>,
    /// The tombstones here.
    pub graves: Vec<Grave>,
    /// What is newer there, at least in part, or unknown here.
    pub want: Vec<Key>,
}

impl Table {
    /// The page that begins after `after` and has at most `limit` names.
    #[must_use]
    pub fn digest(&self, after: Option<Key>, limit: usize, now: Now) -> Digest {
        let at = self.at(now);
        // What only protection holds is not told, and must not count either: a page that looks
        // short is taken for the last.
        let alive = self.entries_after(after.as_ref()).filter(|(_, it)| at < it.expires);
        let entry = |(key, it): (Key, &Entry)| DigestEntry {
            key,
            version: it.version,
            fingerprint: it.fingerprint,
            override_version: it.override_version,
            over: it.override_status(),
            renewed: it.silent_for(at),
        };
        let mut entries: Vec<DigestEntry> = alive.take(limit + 1).map(entry).collect();
        let mut graves = self.graves(after.as_ref(), None, limit + 1, now);
        let mut names: Vec<&Key> =
            entries.iter().map(|it| &it.key).chain(graves.iter().map(|it| &it.key)).collect();
        names.sort();
        let upto =
            if limit < names.len() { names.get(limit - 1).map(|it| (*it).clone()) } else { None };
        if let Some(upto) = &upto {
            entries.retain(|it| it.key <= *upto);
            graves.retain(|it| it.key <= *upto);
        }
        Digest { after, upto, entries, graves }
    }

    /// Compares a page with the own table; gives at most `limit` copies.
    pub fn answer(&mut self, digest: &Digest, limit: usize, now: Now) -> SyncReply {
        self.advance(now);
        for grave in &digest.graves {
            self.merge_cancel(&grave.key, Some(grave.dirty), grave.age, now);
        }
        let mut reply = SyncReply::default();
        let graves = self.graves(digest.after.as_ref(), digest.upto.as_ref(), limit, now);
        if graves.len() == limit {
            reply.upto = graves.last().map(|it| it.key.clone());
        }
        reply.graves = graves;
        let theirs: BTreeMap<&Key, &DigestEntry> =
            digest.entries.iter().map(|it| (&it.key, it)).collect();
        self.give(digest, &theirs, limit, &mut reply, now);
        for entry in &digest.entries {
            if reply.upto.as_ref().is_some_and(|upto| *upto < entry.key) {
                continue;
            }
            if self.wants(entry) {
                reply.want.push(entry.key.clone());
            }
            // Their sign of life counts here too.
            let dirty = Some(entry.version.max(entry.override_version));
            self.merge_heartbeat(
                &entry.key,
                dirty,
                Status::Unknown,
                entry.renewed,
                Origin::Tradewind,
                now,
            );
        }
        reply
    }

    /// Takes the answer in; the names that the other side wants to hear all of.
    pub fn take_answer(&mut self, reply: &SyncReply, now: Now) -> Vec<Key> {
        for grave in &reply.graves {
            self.merge_cancel(&grave.key, Some(grave.dirty), grave.age, now);
        }
        for replica in &reply.replicas {
            self.merge(replica, Origin::Tradewind, now);
        }
        reply.want.clone()
    }

    fn give(
        &self,
        digest: &Digest,
        theirs: &BTreeMap<&Key, &DigestEntry>,
        limit: usize,
        reply: &mut SyncReply,
        now: Now,
    ) {
        let at = self.at(now);
        for (key, entry) in self.entries_after(digest.after.as_ref()) {
            let past = |end: &Option<Key>| end.as_ref().is_some_and(|end| *end < key);
            if past(&digest.upto) || past(&reply.upto) {
                break;
            }
            let newer = theirs.get(&key).is_none_or(|it| {
                (it.version, it.fingerprint) < (entry.version, entry.fingerprint)
                    || (it.override_version, it.over)
                        < (entry.override_version, entry.override_status())
            });
            if !newer || entry.expires <= at {
                continue;
            }
            reply.replicas.extend(self.replica(&key, at));
            if limit <= reply.replicas.len() {
                reply.upto = Some(key);
                break;
            }
        }
    }

    fn wants(&self, theirs: &DigestEntry) -> bool {
        let dirty = theirs.version.max(theirs.override_version);
        match self.entry(&theirs.key) {
            None => self.tombstones.covers(&theirs.key, dirty).is_none(),
            Some(ours) => {
                (ours.version, ours.fingerprint) < (theirs.version, theirs.fingerprint)
                    || (ours.override_version, ours.override_status())
                        < (theirs.override_version, theirs.over)
            }
        }
    }

    fn entries_after(&self, after: Option<&Key>) -> impl Iterator<Item = (Key, &Entry)> {
        let from = after.map_or(Bound::Unbounded, |it| Bound::Included(Arc::clone(&it.app)));
        let after = after.cloned();
        let all = self.apps.range((from, Bound::Unbounded)).flat_map(|(name, app)| {
            let key = |id: &Arc<str>| Key { app: Arc::clone(name), id: Arc::clone(id) };
            app.instances.iter().map(move |(id, entry)| (key(id), entry))
        });
        all.skip_while(move |(key, _)| after.as_ref().is_some_and(|after| key <= after))
    }

    fn graves(
        &self,
        after: Option<&Key>,
        upto: Option<&Key>,
        limit: usize,
        now: Now,
    ) -> Vec<Grave> {
        let at = self.at(now);
        let from = after.map_or(Bound::Unbounded, |it| Bound::Excluded(it.clone()));
        let to = upto.map_or(Bound::Unbounded, |it| Bound::Included(it.clone()));
        // A range whose end comes before its beginning would panic; a peer chooses both.
        if let (Some(after), Some(upto)) = (after, upto)
            && upto <= after
        {
            return Vec::new();
        }
        let graves = self.tombstones.range((from, to)).take(limit);
        graves
            .map(|(key, it)| Grave { key: key.clone(), dirty: it.dirty, age: at.since(it.at) })
            .collect()
    }
}
