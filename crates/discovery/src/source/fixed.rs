//! Lists that are given.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::store::Store;
use crate::{Instance, List, ServiceName};

/// The instances of all services, and how often they were given.
pub(crate) struct Fixed(Mutex<Given>);

struct Given {
    revision: u64,
    services: BTreeMap<ServiceName, Vec<Arc<Instance>>>,
}

impl Fixed {
    pub(crate) fn new(instances: Vec<Instance>) -> Self {
        Self(Mutex::new(Given { revision: 1, services: by_service(instances) }))
    }

    pub(crate) fn replace(&self, instances: Vec<Instance>, store: &Store) {
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        given.revision += 1;
        given.services = by_service(instances);
        // Within the lock, so that lists are published in the order of their revisions.
        for service in store.all() {
            store.publish(&service.name, given.list(&service.name));
        }
    }

    /// Publishes the list of a service that may be followed for the first time.
    pub(crate) fn publish(&self, service: &ServiceName, store: &Store) {
        let given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if store.find(service).is_some_and(|it| !it.known()) {
            store.publish(service, given.list(service));
        }
    }
}

impl Given {
    fn list(&self, service: &ServiceName) -> List {
        List::new(self.revision, self.services.get(service).cloned().unwrap_or_default())
    }
}

fn by_service(instances: Vec<Instance>) -> BTreeMap<ServiceName, Vec<Arc<Instance>>> {
    let mut services: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for instance in instances {
        services.entry(instance.service.clone()).or_default().push(Arc::new(instance));
    }
    services
}
