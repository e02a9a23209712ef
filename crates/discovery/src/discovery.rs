//! The lists of all services this process calls.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tradewind_base::{Clock, SystemClock, Tasks};
use tradewind_http::Client;

use crate::source::fixed::Fixed;
use crate::source::registry::Registry;
use crate::store::Store;
use crate::wire::Reason;
use crate::{Instance, RegistryClientConfig, ServiceName, View};

/// What a caller met when it tried to reach an instance.
pub type Suspicion = Reason;

/// How long [`Discovery::report`] sets an instance aside in this process: longer than the registry
/// takes to probe it and tell everybody, short enough for a false alarm.
pub const SET_ASIDE: Duration = Duration::from_secs(3);

/// Follows the instances of services. Clones are handles to the same lists.
#[derive(Clone)]
pub struct Discovery {
    store: Arc<Store>,
    source: Source,
}

/// Where the lists come from.
#[derive(Clone)]
enum Source {
    Fixed(Arc<Fixed>),
    Registry(Arc<Registry>),
}

/// Not every followed service is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no list yet of: {}", .missing.iter().map(ServiceName::as_str).collect::<Vec<_>>().join(", "))]
pub struct NotReady {
    /// The services without a list.
    pub missing: Vec<ServiceName>,
}

/// How fresh the lists are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The time since a registry was last heard; `None` if none ever was. A living one is heard
    /// every second. Lists that are not refreshed are kept, however old they become.
    pub last_contact_age: Option<Duration>,
    /// The registry's revision that everything up to has been applied.
    pub revision: u64,
    /// Whether that registry knows every living instance.
    pub warm: bool,
    /// How many instances each followed service has; `None` while nothing is known of it.
    pub services: BTreeMap<ServiceName, Option<usize>>,
}

impl Discovery {
    /// Follows the registry. Nothing is asked until the first [`Discovery::view`].
    ///
    /// `tasks` own the work in the background. Must be called within a tokio runtime.
    #[must_use]
    pub fn registry(
        config: RegistryClientConfig,
        client: Client,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Self {
        let store = Arc::new(Store::new(clock));
        let registry = Registry::start(config, client, Arc::clone(&store), tasks);
        Self { store, source: Source::Registry(Arc::new(registry)) }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Lists that are given, for tests and for set-ups without a registry. Must be called within a
    /// tokio runtime if a clock is to be steered by a test.
    #[must_use]
    pub fn fixed(instances: Vec<Instance>) -> Self {
        let store = Arc::new(Store::new(Arc::new(SystemClock::new())));
        let fixed = Arc::new(Fixed::new(instances));
        Self { store, source: Source::Fixed(fixed) }
    }

    /// Gives other lists. Only for [`Discovery::fixed`]; of no effect on one that follows a
    /// registry.
    pub fn replace(&self, instances: Vec<Instance>) {
        match &self.source {
            Source::Fixed(fixed) => fixed.replace(instances, &self.store),
            Source::Registry(_) => tracing::warn!("lists from a registry cannot be replaced"),
        }
    }

    /// The list of a service, followed from now on for as long as this process lives.
    #[must_use]
    pub fn view(&self, service: &ServiceName) -> View {
        let state = self.store.follow(service);
        if let Source::Fixed(fixed) = &self.source {
            fixed.publish(service, &self.store);
        }
        View::new(state)
    }

    /// A caller could not reach an instance: sets it aside in this process for [`SET_ASIDE`] and
    /// tells the registry, which probes it and removes it for everybody if the probe is refused.
    /// Never waits; repeated reports of one instance are told once a second, and when more wait
    /// than the queue holds, further ones are dropped.
    pub fn report(&self, instance: &Instance, reason: Suspicion) {
        if let Some(service) = self.store.find(&instance.service) {
            service.suspect(&instance.id, SET_ASIDE);
        }
        if let Source::Registry(registry) = &self.source {
            registry.report(instance, reason);
        }
    }

    /// Waits until a list of every followed service is known.
    ///
    /// # Errors
    /// When that took longer than `limit`; the missing ones are named.
    pub async fn ready(&self, limit: Duration) -> Result<(), NotReady> {
        let all = async {
            for service in self.store.all() {
                View::new(service).wait_for(|_| true).await;
            }
        };
        timeout(limit, all).await.map_err(|_| {
            let unknown = self.store.all().into_iter().filter(|it| !it.known());
            NotReady { missing: unknown.map(|it| it.name.clone()).collect() }
        })
    }

    /// How fresh the lists are.
    #[must_use]
    pub fn health(&self) -> Health {
        let contact = self.store.contact();
        let now = self.store.clock().monotonic();
        let count = |it: &Arc<crate::store::Service>| {
            (it.name.clone(), it.known().then(|| it.load().instances.len()))
        };
        Health {
            last_contact_age: contact.at.map(|at| now.since(at)),
            revision: contact.revision,
            warm: contact.warm,
            services: self.store.all().iter().map(count).collect(),
        }
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery").field("store", &self.store).finish_non_exhaustive()
    }
}
