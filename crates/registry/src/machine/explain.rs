//! Why an instance is, or is still, in the list.

use std::sync::Arc;
use std::time::Duration;

use tradewind_base::Monotonic;
use tradewind_eureka::{Instance, Status};

use super::entry::{Entry, Phase};
use super::probe::{Reason, Stage};
use super::{Key, Now, Source, Table};

/// A suspicion, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuspicionState {
    /// Why.
    pub reason: Reason,
    /// Who said so first.
    pub by: Box<str>,
    /// How long ago.
    pub age: Duration,
    /// How many said so.
    pub reports: u32,
    /// What was done about it.
    pub stage: Stage,
}

/// Everything that decides over one instance.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Which.
    pub key: Key,
    /// As it is shown.
    pub doc: Arc<Instance>,
    /// Where its content came from.
    pub source: Source,
    /// The status its client reported, which an override may hide.
    pub reported: Status,
    /// Since the last sign of life.
    pub silent_for: Duration,
    /// The length of its lease.
    pub lease: Duration,
    /// Until the lease ends; zero when it has.
    pub left: Duration,
    /// Whether it has used up two thirds of its lease.
    pub late: bool,
    /// Whether only protection keeps it, and the scope's reason.
    pub protected: Option<String>,
    /// Whether somebody thinks that it is dead.
    pub suspicion: Option<SuspicionState>,
}

/// The instances of one application by status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// The application, in upper case.
    pub app: Arc<str>,
    /// All of them.
    pub total: usize,
    /// Those that are UP.
    pub up: usize,
}

impl Table {
    /// Why this instance is in the list.
    #[must_use]
    pub fn explain(&self, key: &Key, now: Now) -> Option<Explanation> {
        let at = self.at(now);
        self.entry(key).map(|entry| self.explain_entry(key.clone(), entry, at))
    }

    /// The same for each instance of an application.
    #[must_use]
    pub fn explain_app(&self, app: &str, now: Now) -> Vec<Explanation> {
        let at = self.at(now);
        let Some((name, app)) = self.apps.get_key_value(app) else { return Vec::new() };
        let explain = |(id, entry): (&Arc<str>, &Entry)| {
            let key = Key { app: Arc::clone(name), id: Arc::clone(id) };
            self.explain_entry(key, entry, at)
        };
        app.instances.iter().map(explain).collect()
    }

    /// How many instances each application has.
    #[must_use]
    pub fn counts(&self) -> Vec<Counts> {
        let occupied = self.apps.iter().filter(|(_, app)| !app.instances.is_empty());
        let counts = occupied.map(|(name, app)| Counts {
            app: Arc::clone(name),
            total: app.instances.len(),
            up: app.instances.values().filter(|it| it.doc.status == Status::Up).count(),
        });
        counts.collect()
    }

    fn explain_entry(&self, key: Key, entry: &Entry, at: Monotonic) -> Explanation {
        let held = entry.phase == Phase::Held;
        let protected = held.then(|| {
            let scope = self.protection_of(&key.app, at).or_else(|| self.protection_of_all(at));
            // Between the tick that ends protection and the removal there is no reason left.
            scope.map_or_else(|| "protection just ended".to_owned(), |it| it.text)
        });
        let suspicion = entry.suspicion.as_ref().map(|it| SuspicionState {
            reason: it.reason,
            by: it.by.clone(),
            age: at.since(it.since),
            reports: it.reports,
            stage: it.stage,
        });
        Explanation {
            key,
            doc: Arc::clone(&entry.doc),
            source: entry.source,
            reported: entry.reported,
            silent_for: entry.silent_for(at),
            lease: entry.lease,
            left: entry.expires.since(at),
            late: entry.phase != Phase::Live,
            protected,
            suspicion,
        }
    }
}
