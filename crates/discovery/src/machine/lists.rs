//! The lists of the followed services, from the lines of a watch.
//!
//! For each service there are two sets: *told*, what the registry node of the present epoch has
//! said, and *kept*, what an earlier one had said and the present one, not being warm, cannot
//! know to be gone. The list is both together.
//!
//! | event | told | kept |
//! |---|---|---|
//! | snapshot, warm | replaced | emptied |
//! | snapshot, not warm | replaced | + what was told before, − what is told now |
//! | resume, at our point | | emptied if warm |
//! | change: upsert | + | − |
//! | change: remove | − | − |
//! | ping, warm for the first time | | emptied |
//! | a caller's connection was refused | | − that instance |
//! | service missing in a snapshot (then also its changes), stream lost, no registry at all | | |
//!
//! A line with a revision that is not beyond ours changes nothing. A snapshot of our epoch with
//! a revision before ours comes from a registry that contradicts itself: it counts as that of a new
//! epoch, and as not warm.
//!
//! Invariants:
//! - **DISC-1** No instance leaves a list by an absence of knowledge: only by a removal, by the
//!   word of a warm registry node that does not have it, or, if it was merely kept, by a refused
//!   connection.
//! - **DISC-2** Within an epoch, the revision of a list never goes back.
//! - **DISC-3** After a warm snapshot, the lists of the services in it are exactly those of the
//!   snapshot.
//! - **DISC-4** What the present epoch has told and not removed is in the list.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::wire::{Change, InstanceRecord, Line, Ping, Resume, Snapshot};
use crate::{Instance, InstanceId, List, ServiceName};

/// The line cannot be at this place: the stream is not to be believed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the watch does not begin with a snapshot or a resume")]
    NoBeginning,
    #[error("the watch begins a second time")]
    SecondBeginning,
    #[error("the watch resumes at a point that was not asked for")]
    WrongPoint,
}

/// All followed services.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    services: BTreeMap<ServiceName, Followed>,
    /// The epoch as the registry says it; `None` before the first snapshot.
    epoch: Option<Arc<str>>,
    /// The epoch as lists carry it: with a number, so that it is another one also when a registry
    /// contradicts itself or is come back to.
    life: Arc<str>,
    lives: u64,
    revision: u64,
    warm: bool,
    begun: bool,
    skipped: u64,
}

#[derive(Debug, Default)]
struct Followed {
    /// Whether any registry has ever said something of it.
    known: bool,
    /// Whether the last snapshot did.
    covered: bool,
    told: BTreeMap<InstanceId, Arc<Instance>>,
    kept: BTreeMap<InstanceId, Arc<Instance>>,
    /// The revision of the last difference.
    revision: u64,
    life: Arc<str>,
}

impl Lists {
    /// Follows a service from the next stream on.
    pub(crate) fn follow(&mut self, service: &ServiceName) {
        if !self.services.contains_key(service) {
            self.services.insert(service.clone(), Followed::default());
        }
    }

    /// A new stream begins.
    pub(crate) const fn opened(&mut self) {
        self.begun = false;
    }

    /// From where a new stream can go on: epoch and revision. `None` when a service is followed that
    /// the last snapshot did not have.
    pub(crate) fn point(&self) -> Option<(&str, u64)> {
        let whole = self.services.values().all(|it| it.covered);
        self.epoch.as_deref().filter(|_| whole).map(|epoch| (epoch, self.revision))
    }

    /// Where we stand: the epoch, the revision, and whether the registry is warm.
    pub(crate) const fn standing(&self) -> (&Arc<str>, u64, bool) {
        (&self.life, self.revision, self.warm)
    }

    /// How many records were no usable instances.
    pub(crate) const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The list of a service; `None` while nothing is known of it.
    pub(crate) fn list(&self, service: &ServiceName) -> Option<List> {
        let followed = self.services.get(service).filter(|it| it.known)?;
        let instances = followed.told.values().chain(followed.kept.values()).cloned().collect();
        let mut list = List::new(followed.revision, instances);
        list.epoch = Arc::clone(&followed.life);
        Some(list)
    }

    /// Takes a line; returns the services whose lists are other ones now.
    pub(crate) fn line(&mut self, line: Line) -> Result<BTreeSet<ServiceName>, Broken> {
        match line {
            Line::Snapshot(_) | Line::Resume(_) if self.begun => Err(Broken::SecondBeginning),
            Line::Change(_) | Line::Ping(_) if !self.begun => Err(Broken::NoBeginning),
            Line::Snapshot(snapshot) => Ok(self.snapshot(snapshot)),
            Line::Resume(resume) => self.resume(&resume),
            Line::Change(change) => Ok(self.change(change)),
            Line::Ping(ping) => Ok(self.ping(&ping)),
        }
    }

    /// A caller's connection to an instance was refused.
    pub(crate) fn refused(&mut self, service: &ServiceName, id: &InstanceId) -> bool {
        let followed = self.services.get_mut(service);
        followed.is_some_and(|it| it.kept.remove(id).is_some())
    }

    fn snapshot(&mut self, snapshot: Snapshot) -> BTreeSet<ServiceName> {
        let Snapshot { epoch, revision, mut warm, services } = snapshot;
        let same = self.epoch.as_deref() == Some(epoch.as_str());
        if !same || revision < self.revision {
            self.lives += 1;
            self.life = format!("{}/{epoch}", self.lives).into();
        }
        if same {
            warm &= self.revision <= revision;
        } else {
            self.epoch = Some(epoch.into());
        }
        // A service that the snapshot does not have is one this stream says nothing of.
        self.services.values_mut().for_each(|it| it.covered = false);
        (self.revision, self.warm, self.begun) = (revision, warm, true);
        let mut changed = BTreeSet::new();
        for (name, records) in services {
            let instances = self.instances(records);
            let Ok(name) = ServiceName::parse(&name) else { continue };
            let Some(followed) = self.services.get_mut(&name) else { continue };
            let told =
                instances.filter(|it| it.service == name).map(|it| (it.id.clone(), it)).collect();
            if followed.replace(told, warm, revision, &self.life) {
                changed.insert(name);
            }
        }
        changed
    }

    fn resume(&mut self, resume: &Resume) -> Result<BTreeSet<ServiceName>, Broken> {
        if self.point() != Some((resume.epoch.as_str(), resume.revision)) {
            // Whatever it meant, the next stream starts from a snapshot.
            self.services.values_mut().for_each(|it| it.covered = false);
            return Err(Broken::WrongPoint);
        }
        self.begun = true;
        Ok(self.warmed(resume.warm))
    }

    fn change(&mut self, change: Change) -> BTreeSet<ServiceName> {
        let mut changed = BTreeSet::new();
        if change.revision <= self.revision {
            return changed;
        }
        self.revision = change.revision;
        for removal in change.remove {
            let Ok(name) = ServiceName::parse(&removal.service) else { continue };
            let Some(followed) = covered(&mut self.services, &name) else { continue };
            let told = followed.told.remove(removal.id.as_str()).is_some();
            let kept = followed.kept.remove(removal.id.as_str()).is_some();
            if told || kept {
                changed.insert(name);
            }
        }
        for instance in self.instances(change.upsert) {
            let Some(followed) = covered(&mut self.services, &instance.service) else { continue };
            let kept = followed.kept.remove(&instance.id);
            let name = instance.service.clone();
            let before = followed.told.insert(instance.id.clone(), Arc::clone(&instance)).or(kept);
            if before.as_ref() != Some(&instance) {
                changed.insert(name);
            }
        }
        for name in &changed {
            if let Some(followed) = self.services.get_mut(name) {
                followed.stamp(self.revision, &self.life);
            }
        }
        changed
    }

    fn ping(&mut self, ping: &Ping) -> BTreeSet<ServiceName> {
        self.revision = self.revision.max(ping.revision);
        self.warmed(ping.warm)
    }

    /// The registry says whether it is warm: if it became so, what was merely kept is gone.
    fn warmed(&mut self, warm: bool) -> BTreeSet<ServiceName> {
        let mut changed = BTreeSet::new();
        if warm && !self.warm {
            self.warm = true;
            for (name, followed) in &mut self.services {
                if followed.covered && followed.forget_kept(self.revision, &self.life) {
                    changed.insert(name.clone());
                }
            }
        }
        changed
    }

    fn instances(
        &mut self,
        records: Vec<InstanceRecord>,
    ) -> impl Iterator<Item = Arc<Instance>> + use<> {
        let all = records.len();
        let usable: Vec<_> = records
            .into_iter()
            .filter_map(|it| Instance::try_from(it).ok())
            .map(Arc::new)
            .collect();
        self.skipped += (all - usable.len()) as u64;
        usable.into_iter()
    }
}

/// The service, if the last snapshot had it: a change of another one was not asked for.
fn covered<'a>(
    services: &'a mut BTreeMap<ServiceName, Followed>,
    name: &ServiceName,
) -> Option<&'a mut Followed> {
    services.get_mut(name).filter(|it| it.covered)
}

fn pair((id, instance): (&InstanceId, &Arc<Instance>)) -> (InstanceId, Arc<Instance>) {
    (id.clone(), Arc::clone(instance))
}

impl Followed {
    /// Takes what a snapshot says; returns whether the list is another one now.
    fn replace(
        &mut self,
        told: BTreeMap<InstanceId, Arc<Instance>>,
        warm: bool,
        revision: u64,
        life: &Arc<str>,
    ) -> bool {
        let before = self.all();
        let kept = if warm {
            BTreeMap::new()
        } else {
            before.iter().filter(|(id, _)| !told.contains_key(*id)).map(pair).collect()
        };
        (self.told, self.kept, self.covered) = (told, kept, true);
        let first = !std::mem::replace(&mut self.known, true);
        let other = first || before != self.all();
        if other {
            self.stamp(revision, life);
        }
        other
    }

    fn all(&self) -> BTreeMap<InstanceId, Arc<Instance>> {
        self.told.iter().chain(&self.kept).map(pair).collect()
    }

    fn forget_kept(&mut self, revision: u64, life: &Arc<str>) -> bool {
        let any = !self.kept.is_empty();
        if any {
            self.kept.clear();
            self.stamp(revision, life);
        }
        any
    }

    fn stamp(&mut self, revision: u64, life: &Arc<str>) {
        self.revision = revision;
        self.life = Arc::clone(life);
    }
}

#[cfg(test)]
mod tests;
