//! What clients do at their own node.

use std::sync::Arc;

use tradewind_base::Monotonic;
use tradewind_eureka::{ActionType, DataCenter, Instance, LeaseInfo, Metadata, Status};

use super::entry::{Entry, Phase, Source, content, effective, fingerprint};
use super::{Key, Now, Refusal, Respects, Table, Why};

/// Dirty timestamps are kept below this, so that there is always a larger one. It is a point
/// 146 million years from now.
pub(super) const DIRTY_MAX: i64 = i64::MAX / 2;

/// What became of a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The lease runs anew.
    Renewed,
    /// The client has to register: it is not known, its status is not known, or it knows of a
    /// change of itself that the registry does not.
    Register,
}

impl Table {
    /// Registers an instance whose client chose this node. Its application must be in upper case.
    ///
    /// # Errors
    /// When a limit is reached; nothing changes then.
    pub fn register(&mut self, incoming: Instance, now: Now) -> Result<Key, Refusal> {
        let at = self.advance(now);
        let key = Key::new(&incoming.app, incoming.effective_id());
        self.admit(&key, &incoming)?;
        if self.repeats(&key, &incoming) {
            self.take_repeat(&key, at);
            return Ok(key);
        }
        let before = self.detach(&key);
        let action = if before.is_some() { ActionType::Modified } else { ActionType::Added };
        let known = before.as_ref().map(Entry::dirty);
        let buried = self.tombstones.get(&key).map(|it| it.dirty);
        let given = incoming.last_dirty_ts.unwrap_or_else(|| now.wall.millis());
        // REG-6, and "registration at its own node wins".
        let version = match known.max(buried) {
            Some(known) => given.clamp(0, DIRTY_MAX).max(known + 1),
            None => given.clamp(0, DIRTY_MAX),
        };
        let (over, override_version) = self.override_of(&key, &incoming, before.as_ref(), version);
        let service_up = before.as_ref().map_or(0, |it| it.doc.lease.service_up_ts);
        let lease = self.lease_of(&incoming);
        let mut doc = incoming;
        let reported = doc.status;
        doc.lease.registration_ts = now.wall.millis();
        doc.lease.last_renewal_ts = now.wall.millis();
        doc.lease.service_up_ts = service_up;
        let entry = Entry {
            fingerprint: 0,
            reported,
            version,
            override_version,
            source: Source::Own,
            lease,
            expires: at + lease,
            written: at,
            direct: Some(at),
            phase: Phase::Live,
            timer: None,
            suspicion: None,
            probed: before.and_then(|it| it.probed),
            doc: Arc::new(doc),
        };
        self.finish(&key, entry, over, action, now);
        self.tombstones.remove(&key);
        self.outgoing.push((key.clone(), Respects::ALL));
        Ok(key)
    }

    /// Renews a lease on behalf of its client, who may say which of its changes it sent last.
    pub fn renew(&mut self, key: &Key, dirty: Option<i64>, now: Now) -> Renewal {
        let at = self.advance(now);
        let Some(entry) = self.entry_mut(key) else { return Renewal::Register };
        if entry.doc.status == Status::Unknown {
            return Renewal::Register;
        }
        entry.direct = Some(at);
        let expires = at + entry.lease;
        let newer = dirty.is_some_and(|it| entry.dirty() < it.min(DIRTY_MAX));
        self.refresh(key, expires);
        self.totals.renewals_own += 1;
        self.outgoing.push((key.clone(), Respects::HEARTBEAT));
        if newer { Renewal::Register } else { Renewal::Renewed }
    }

    /// Ends a lease at its client's wish; whether there was one.
    pub fn cancel(&mut self, key: &Key, now: Now) -> bool {
        let at = self.advance(now);
        self.bury(key, Why::Cancelled, at)
    }

    /// Sets the status that is shown in place of the client's; whether the instance is known.
    /// A status that is shown already only counts as a sign of life.
    pub fn set_override(
        &mut self,
        key: &Key,
        status: Status,
        dirty: Option<i64>,
        now: Now,
    ) -> bool {
        let at = self.advance(now);
        let Some(lease) = self.entry(key).map(|it| it.lease) else { return false };
        self.refresh(key, at + lease);
        let Some(entry) = self.entry(key).filter(|it| it.doc.status != status) else {
            return true;
        };
        let version = dirty.unwrap_or(0).clamp(0, DIRTY_MAX).max(entry.dirty() + 1);
        let reported = entry.reported;
        self.change_override(key, status, reported, version, now);
        self.outgoing.push((key.clone(), Respects::OVERRIDE));
        true
    }

    /// Takes the override away; whether the instance is known. What the client reported may be
    /// long past, so the status becomes `value`, or unknown, and its next heartbeat is told to
    /// register.
    pub fn delete_override(
        &mut self,
        key: &Key,
        value: Option<Status>,
        dirty: Option<i64>,
        now: Now,
    ) -> bool {
        let at = self.advance(now);
        let Some(lease) = self.entry(key).map(|it| it.lease) else { return false };
        self.refresh(key, at + lease);
        let Some(entry) = self.entry(key).filter(|it| it.override_status() != Status::Unknown)
        else {
            return true;
        };
        let version = dirty.unwrap_or(0).clamp(0, DIRTY_MAX).max(entry.dirty() + 1);
        let reported = value.unwrap_or(Status::Unknown);
        if let Some(entry) = self.entry_mut(key) {
            // What it reports is content, and changed too.
            entry.version = version;
        }
        self.change_override(key, Status::Unknown, reported, version, now);
        self.outgoing.push((key.clone(), Respects::OVERRIDE));
        true
    }

    /// Adds to the metadata; `None` when the instance is not known.
    ///
    /// # Errors
    /// When the metadata became too large; nothing changes then.
    pub fn add_metadata(
        &mut self,
        key: &Key,
        pairs: &Metadata,
        now: Now,
    ) -> Result<Option<()>, Refusal> {
        self.advance(now);
        let Some(entry) = self.entry(key) else { return Ok(None) };
        let mut doc = Instance::clone(&entry.doc);
        doc.metadata = doc.metadata.iter().chain(pairs.iter()).collect();
        self.admit(key, &doc)?;
        if doc.metadata == entry.doc.metadata {
            return Ok(Some(()));
        }
        let Some(mut entry) = self.detach(key) else { return Ok(None) };
        entry.version = entry.dirty() + 1;
        entry.doc = Arc::new(doc);
        let over = entry.override_status();
        self.finish(key, entry, over, ActionType::Modified, now);
        self.outgoing.push((key.clone(), Respects::CONTENT));
        Ok(Some(()))
    }

    // === within the machine ===

    /// Puts `entry` in with everything that follows from its parts, and shows it.
    pub(super) fn finish(
        &mut self,
        key: &Key,
        mut entry: Entry,
        over: Status,
        action: ActionType,
        now: Now,
    ) {
        let at = self.at(now);
        let dirty = entry.dirty();
        let reported = entry.reported;
        let doc = Arc::make_mut(&mut entry.doc);
        doc.app = key.app.to_string();
        // Written like this, so peers would read it back like this.
        doc.data_center.get_or_insert(DataCenter::MyOwn);
        doc.status = effective(reported, over);
        doc.overridden_status = over;
        doc.last_dirty_ts = Some(dirty);
        doc.last_updated_ts = Some(now.wall.millis());
        doc.action_type = Some(action);
        normalise(&mut doc.lease, entry.lease.as_secs());
        if doc.status == Status::Up && doc.lease.service_up_ts <= 0 {
            doc.lease.service_up_ts = now.wall.millis();
        }
        entry.fingerprint = fingerprint(&entry.doc, reported);
        self.attach(key, entry);
        self.publish(key, at);
    }

    pub(super) fn change_override(
        &mut self,
        key: &Key,
        over: Status,
        reported: Status,
        version: i64,
        now: Now,
    ) {
        let Some(mut entry) = self.detach(key) else { return };
        entry.override_version = version;
        entry.reported = reported;
        self.finish(key, entry, over, ActionType::Modified, now);
    }

    /// Removes a lease and remembers that, for this node and its peers.
    pub(super) fn bury(&mut self, key: &Key, why: Why, at: Monotonic) -> bool {
        let Some(entry) = self.remove(key, why, at) else { return false };
        let capacity = self.limits.instances_max;
        let dirty = entry.dirty();
        self.tombstones.put(key, dirty, at, at, capacity);
        self.outgoing.push((key.clone(), Respects::CONTENT));
        true
    }

    /// Whether a registration says nothing that the table does not hold.
    fn repeats(&self, key: &Key, incoming: &Instance) -> bool {
        let Some(entry) = self.entry(key) else { return false };
        // A larger timestamp has to be kept even so, or the next heartbeat would name it as one
        // that is not known here.
        let newer = incoming.last_dirty_ts.is_some_and(|it| entry.dirty() < it);
        let overrides = incoming.overridden_status != Status::Unknown
            && entry.override_status() == Status::Unknown;
        let mut claimed = content(incoming, incoming.status);
        normalise(&mut claimed.lease, self.lease_of(incoming).as_secs());
        !newer && !overrides && claimed == content(&entry.doc, entry.reported)
    }

    fn take_repeat(&mut self, key: &Key, at: Monotonic) {
        let Some(entry) = self.entry_mut(key) else { return };
        entry.source = Source::Own;
        entry.written = at;
        entry.direct = Some(at);
        entry.suspicion = None;
        let expires = at + entry.lease;
        self.refresh(key, expires);
        self.outgoing.push((key.clone(), Respects::ALL));
    }

    /// The override of a registration: what is stored stays; what the client brings counts only
    /// where nothing is stored.
    fn override_of(
        &mut self,
        key: &Key,
        incoming: &Instance,
        before: Option<&Entry>,
        version: i64,
    ) -> (Status, i64) {
        let orphan = self.orphans.take(key);
        match (before, orphan) {
            (Some(it), _) if it.override_status() != Status::Unknown => {
                (it.override_status(), it.override_version)
            }
            (None, Some(it)) => (it.status, it.version),
            (before, _) if incoming.overridden_status == Status::Unknown => {
                (Status::Unknown, before.map_or(0, |it| it.override_version))
            }
            _ => (incoming.overridden_status, version),
        }
    }
}

/// The lease as it is shown: the duration that really holds, and no absent interval.
pub(super) fn normalise(lease: &mut LeaseInfo, secs: u64) {
    lease.duration_secs = i32::try_from(secs).unwrap_or(i32::MAX);
    if lease.renewal_interval_secs <= 0 {
        lease.renewal_interval_secs = LeaseInfo::RENEWAL_INTERVAL_SECS_DEFAULT;
    }
}
