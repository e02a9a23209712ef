//! The end of leases.

use std::sync::Arc;

use tradewind_base::Monotonic;
use tradewind_eureka::Instance;

use super::entry::Phase;
use super::{Key, Now, Protection, Table, Why};

/// An instance that was taken out.
#[derive(Clone, Debug, PartialEq)]
pub struct Removed {
    /// Which.
    pub key: Key,
    /// Why.
    pub why: Why,
    /// Its last document.
    pub doc: Arc<Instance>,
}

impl Table {
    /// Ends the leases whose time has come, unless protection holds them (REG-2), and forgets what
    /// has been kept long enough.
    ///
    /// Costs the timers that fired, not the instances there are.
    pub fn expire(&mut self, now: Now) -> Vec<Removed> {
        let at = self.advance(now);
        // All that is late is counted before anything is judged: after a delay, the lease that
        // ended first must not be judged as if it were the only one.
        while let Some((_, key)) = self.timers.first().filter(|(due, _)| *due <= at).cloned() {
            self.fire(&key, at);
        }
        self.judge(at);
        let ended = self.held.iter().filter(|key| !self.protects(key)).cloned().collect::<Vec<_>>();
        let removed = ended.into_iter().filter_map(|key| {
            let entry = self.remove(&key, Why::Expired, at)?;
            Some(Removed { key, why: Why::Expired, doc: entry.doc })
        });
        let removed = removed.collect();
        self.forget(at);
        removed
    }

    /// Which scopes are protected, in words.
    #[must_use]
    pub fn protections(&self, now: Now) -> Vec<Protection> {
        let at = self.at(now);
        let apps = self.late_apps.iter().filter_map(|name| self.protection_of(name, at));
        self.protection_of_all(at).into_iter().chain(apps).collect()
    }

    // === within the machine ===

    /// The protection of one application.
    pub(super) fn protection_of(&self, name: &str, at: Monotonic) -> Option<Protection> {
        let app = self.apps.get(name)?;
        app.scope.explain(&self.rules, name, app.instances.len(), at)
    }

    /// The protection of all applications together.
    pub(super) fn protection_of_all(&self, at: Monotonic) -> Option<Protection> {
        self.overall.explain(&self.rules, "all applications", self.count, at)
    }

    /// Whether expiry of `key` is held back.
    pub(super) fn protects(&self, key: &Key) -> bool {
        self.overall.protecting()
            || self.apps.get(&*key.app).is_some_and(|app| app.scope.protecting())
    }

    /// A timer went off: the lease was renewed since, is late, or is over.
    fn fire(&mut self, key: &Key, at: Monotonic) {
        let Some(mut entry) = self.detach(key) else { return };
        entry.phase = if entry.expires <= at {
            Phase::Held
        } else if entry.late_at() <= at {
            Phase::Late
        } else {
            Phase::Live
        };
        self.attach(key, entry);
    }

    fn judge(&mut self, at: Monotonic) {
        self.overall.judge(&self.rules, self.count, at);
        let mut calm = Vec::new();
        for name in &self.late_apps {
            let Some(app) = self.apps.get_mut(name) else {
                calm.push(Arc::clone(name));
                continue;
            };
            app.scope.judge(&self.rules, app.instances.len(), at);
            if app.scope.late() == 0 {
                calm.push(Arc::clone(name));
            }
        }
        for name in calm {
            self.late_apps.remove(&name);
            if self.apps.get(&name).is_some_and(|app| app.instances.is_empty()) {
                self.apps.remove(&name);
            }
        }
    }

    fn forget(&mut self, at: Monotonic) {
        self.window.purge(at);
        let keep = self.tombstone_keep();
        self.tombstones.purge(keep, at);
        let keep = self.limits.override_keep;
        self.orphans.purge(keep, at);
    }
}
