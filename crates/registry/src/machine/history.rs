//! What changed, in order: for streams that resume, and for Eureka's delta document.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tradewind_base::Monotonic;
use tradewind_eureka::{ActionType, Instance};

use super::Key;

/// Why an instance left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its client, or a peer on its behalf, cancelled it.
    Cancelled,
    /// Its lease ended.
    Expired,
    /// A probe found that nobody listens at its address.
    Refused,
}

impl Why {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Refused => "refused",
        }
    }
}

/// What a change did.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// The instance is now this.
    Upsert(Arc<Instance>),
    /// The instance left.
    Remove(Why),
}

/// One visible change.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The revision it made.
    pub revision: u64,
    /// Whose change it is.
    pub key: Key,
    /// What it did.
    pub what: What,
}

/// Instances by application.
pub type Groups = Vec<(Arc<str>, Vec<Arc<Instance>>)>;

/// The delta document's content.
#[derive(Clone, Debug)]
pub struct DeltaView {
    /// The revision of the table it was taken from.
    pub revision: u64,
    /// Grows when the window moved; together with the revision it names the content.
    pub generation: u64,
    /// `apps__hashcode` of the whole table at that revision.
    pub hash_code: String,
    /// Each changed instance once, grouped by application.
    pub apps: Groups,
}

#[derive(Debug)]
pub(super) struct History {
    revision: u64,
    changes: VecDeque<Change>,
    capacity: usize,
}

impl History {
    pub(super) const fn new(capacity: usize) -> Self {
        Self { revision: 0, changes: VecDeque::new(), capacity }
    }

    pub(super) const fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn push(&mut self, key: Key, what: What) {
        self.revision += 1;
        if self.capacity <= self.changes.len() {
            self.changes.pop_front();
        }
        self.changes.push_back(Change { revision: self.revision, key, what });
    }

    /// The changes after `revision`; `None` when some of them are no longer known.
    pub(super) fn since(&self, revision: u64) -> Option<impl Iterator<Item = &Change>> {
        let missing = self.revision.checked_sub(revision)?;
        let missing = usize::try_from(missing).ok()?;
        let skip = self.changes.len().checked_sub(missing)?;
        Some(self.changes.iter().skip(skip))
    }
}

/// The latest change of each instance within the window.
#[derive(Debug)]
pub(super) struct Window {
    order: VecDeque<(Monotonic, Key)>,
    latest: BTreeMap<Key, Note>,
    retention: Duration,
    capacity: usize,
    generation: u64,
    /// Changes were dropped early: until then the window is not whole.
    broken_until: Option<Monotonic>,
}

#[derive(Debug)]
struct Note {
    at: Monotonic,
    /// It left within the window and came back.
    back: bool,
    /// Its last document, when it is gone.
    gone: Option<Arc<Instance>>,
}

impl Window {
    pub(super) const fn new(retention: Duration, capacity: usize) -> Self {
        Self {
            order: VecDeque::new(),
            latest: BTreeMap::new(),
            retention,
            capacity,
            generation: 0,
            broken_until: None,
        }
    }

    pub(super) fn upsert(&mut self, key: Key, at: Monotonic) {
        let back = self.latest.get(&key).is_some_and(|it| it.back || it.gone.is_some());
        self.push(key, Note { at, back, gone: None });
    }

    pub(super) fn remove(&mut self, key: Key, doc: &Instance, at: Monotonic) {
        let mut doc = doc.clone();
        doc.action_type = Some(ActionType::Deleted);
        self.push(key, Note { at, back: false, gone: Some(Arc::new(doc)) });
    }

    fn push(&mut self, key: Key, note: Note) {
        if self.capacity <= self.order.len() {
            self.broken_until = Some(note.at + self.retention);
            self.drop_oldest();
        }
        self.order.push_back((note.at, key.clone()));
        self.latest.insert(key, note);
    }

    fn drop_oldest(&mut self) {
        if let Some((at, key)) = self.order.pop_front()
            && self.latest.get(&key).is_some_and(|it| it.at == at)
        {
            self.latest.remove(&key);
            self.generation += 1;
        }
    }

    pub(super) fn purge(&mut self, at: Monotonic) {
        while self.order.front().is_some_and(|(since, _)| self.retention < at.since(*since)) {
            self.drop_oldest();
        }
        if self.broken_until.is_some_and(|until| until <= at) {
            self.broken_until = None;
        }
    }

    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    /// The changed instances; `None` while the window is not whole. `live` looks an instance up.
    pub(super) fn view<'a>(
        &self,
        live: impl Fn(&Key) -> Option<&'a Arc<Instance>>,
    ) -> Option<Groups> {
        if self.broken_until.is_some() {
            return None;
        }
        let mut apps = Groups::new();
        for (key, note) in &self.latest {
            let Some(doc) = note.gone.as_ref().or_else(|| live(key)) else { continue };
            let doc = match doc.action_type {
                // A client may still hold what left, and the JavaScript client does not replace an
                // instance that is said to be added.
                Some(ActionType::Added) if note.back => {
                    let mut doc = Instance::clone(doc);
                    doc.action_type = Some(ActionType::Modified);
                    Arc::new(doc)
                }
                _ => Arc::clone(doc),
            };
            match apps.last_mut() {
                Some((app, docs)) if *app == key.app => docs.push(doc),
                _ => apps.push((Arc::clone(&key.app), vec![doc])),
            }
        }
        Some(apps)
    }
}
