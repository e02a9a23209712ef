//! The local copy: one list per followed service, readable without a lock.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tradewind_base::{Clock, Monotonic};

use crate::{InstanceId, List, ServiceName};

/// Most instances of one service that are set aside at a time; further ones are not.
const SUSPECTS_MAX: usize = 1024;

/// What is known of one service.
pub(crate) struct Service {
    pub(crate) name: ServiceName,
    list: ArcSwap<List>,
    /// Counts the published lists; zero until the first.
    version: watch::Sender<u64>,
    suspects: Mutex<HashMap<InstanceId, Monotonic>>,
    /// How many there are, so that the usual case, none, costs no lock.
    suspect_count: AtomicUsize,
    clock: Arc<dyn Clock>,
}

impl Service {
    fn new(name: ServiceName, clock: Arc<dyn Clock>) -> Self {
        Self {
            name,
            list: ArcSwap::default(),
            version: watch::Sender::new(0),
            suspects: Mutex::default(),
            suspect_count: AtomicUsize::new(0),
            clock,
        }
    }

    pub(crate) fn load(&self) -> Arc<List> {
        self.list.load_full()
    }

    pub(crate) fn known(&self) -> bool {
        0 < *self.version.borrow()
    }

    pub(crate) fn versions(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    fn publish(&self, list: List) {
        let before = self.list.swap(Arc::new(list));
        let after = self.list.load();
        // An instance that came anew, at another address or in another state is a new chance.
        self.forgive(|id| before.get(id) == after.get(id));
        self.version.send_modify(|it| *it += 1);
    }

    pub(crate) fn suspect(&self, id: &InstanceId, span: Duration) {
        let until = self.clock.monotonic() + span;
        self.forgive(|_| true);
        let mut suspects = lock(&self.suspects);
        if suspects.len() < SUSPECTS_MAX || suspects.contains_key(id) {
            suspects.insert(id.clone(), until);
        }
        self.suspect_count.store(suspects.len(), Ordering::Release);
    }

    pub(crate) fn suspected_until(&self, id: &InstanceId) -> Option<Monotonic> {
        if self.suspect_count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let until = lock(&self.suspects).get(id).copied()?;
        (self.clock.monotonic() < until).then_some(until)
    }

    pub(crate) fn any_suspects(&self) -> bool {
        0 < self.suspect_count.load(Ordering::Acquire)
    }

    pub(crate) fn trust(&self, id: &InstanceId) {
        if self.any_suspects() {
            self.forgive(|it| it != id);
        }
    }

    /// Drops the suspects whose time is over, and those that are not to be kept.
    fn forgive(&self, keep: impl Fn(&InstanceId) -> bool) {
        let now = self.clock.monotonic();
        let mut suspects = lock(&self.suspects);
        suspects.retain(|id, until| now < *until && keep(id));
        self.suspect_count.store(suspects.len(), Ordering::Release);
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = self.load();
        f.debug_struct("Service")
            .field("name", &self.name)
            .field("revision", &list.revision)
            .field("instances", &list.instances.len())
            .finish_non_exhaustive()
    }
}

/// When a registry was last heard, and of which life and revision it spoke.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contact {
    pub(crate) at: Option<Monotonic>,
    pub(crate) epoch: Arc<str>,
    pub(crate) revision: u64,
    pub(crate) warm: bool,
}

/// All followed services. A source publishes into it, views read from it.
pub(crate) struct Store {
    services: Mutex<BTreeMap<ServiceName, Arc<Service>>>,
    /// Changes when a service is followed for the first time.
    followed: watch::Sender<u64>,
    contact: Mutex<Contact>,
    clock: Arc<dyn Clock>,
}

impl Store {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            services: Mutex::default(),
            followed: watch::Sender::new(0),
            contact: Mutex::default(),
            clock,
        }
    }

    /// The service's state; from now on it is followed.
    pub(crate) fn follow(&self, name: &ServiceName) -> Arc<Service> {
        let mut services = lock(&self.services);
        if let Some(service) = services.get(name) {
            return Arc::clone(service);
        }
        let service = Arc::new(Service::new(name.clone(), Arc::clone(&self.clock)));
        services.insert(name.clone(), Arc::clone(&service));
        drop(services);
        self.followed.send_modify(|it| *it += 1);
        service
    }

    pub(crate) fn find(&self, name: &ServiceName) -> Option<Arc<Service>> {
        lock(&self.services).get(name).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Service>> {
        lock(&self.services).values().cloned().collect()
    }

    /// Tells when the set of followed services grows.
    pub(crate) fn followed(&self) -> watch::Receiver<u64> {
        self.followed.subscribe()
    }

    /// A new list of a followed service; of another one it is not kept.
    pub(crate) fn publish(&self, name: &ServiceName, list: List) {
        if let Some(service) = self.find(name) {
            service.publish(list);
        }
    }

    /// A registry spoke; whether it is another life of one than before.
    pub(crate) fn heard(&self, epoch: &Arc<str>, revision: u64, warm: bool) -> bool {
        let at = Some(self.clock.monotonic());
        let contact = Contact { at, epoch: Arc::clone(epoch), revision, warm };
        std::mem::replace(&mut *lock(&self.contact), contact).epoch != *epoch
    }

    pub(crate) fn contact(&self) -> Contact {
        lock(&self.contact).clone()
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("services", &self.all()).finish_non_exhaustive()
    }
}

/// A panic elsewhere leaves these maps whole: every change is one insert or removal.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
