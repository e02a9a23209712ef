//! What every service starts and ends with: its database, its lists of other services,
//! its HTTP edge, its place in the registry, and the order in which all of that begins and ends.
//!
//! A service is up in this order, so that nobody finds it before it can answer:
//!
//! 1. the database is open and its schema current ([`Host::database`]),
//! 2. what it calls is known and connected ([`Host::channel`]),
//! 3. the listener is bound and serves,
//! 4. it registers ([`Host::run`]).
//!
//! It ends the other way round: it leaves the registry, stops accepting, lets what is in flight
//! finish, ends its background work and closes the database. Each step has a limit; together they
//! fit into [`END_LIMIT`].
//!
//! Health has a component for the database (read every few seconds), one for the registry (is our
//! registration alive) and one for each service that is called (is there anybody to call).

mod config;
mod end;
mod health;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use tradewind_audit::Check;
use tradewind_base::Tasks;
use tradewind_call::{Channel, Client, Identity, Policy, Target};
use tradewind_discovery::{
    Discovery, Instance, RegisterError, Registration, RegistryClientConfig, ServiceName,
};
use tradewind_service::axum::Router;
use tradewind_service::edge::{BindError, Server};
use tradewind_service::{Health, Shared, Stop};
use tradewind_sql::{Database, DatabaseUrl, Migration, OpenError, Options, Stats};

use end::End;

pub use config::{Advertise, DatabaseSetting, HostConfig};
pub use end::END_LIMIT;

/// How long a service waits at its start for what it calls; then it starts without.
pub const WARM_LIMIT: Duration = Duration::from_secs(5);

/// A service on its way up.
pub struct Host {
    name: &'static str,
    service: ServiceName,
    config: HostConfig,
    shared: Shared,
    tasks: Tasks,
    health: Health,
    client: Client,
    registry: RegistryClientConfig,
    discovery: Discovery,
    databases: Vec<Database>,
    stop: Stop,
}

/// Why a service could not start or had to stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The address of a registry cannot be read.
    #[error("discovery.urls: `{url}` is not the address of a registry: {reason}")]
    RegistryUrl {
        /// The text.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The service has a name or an address that cannot be registered.
    #[error("{what}; set tradewind.host to the name or address under which others reach it")]
    Address {
        /// What is wrong.
        what: String,
    },
    /// The database cannot be opened.
    #[error("failed to open the database of {service}")]
    Database {
        /// The service.
        service: &'static str,
        /// Why not.
        #[source]
        source: OpenError,
    },
    /// A blocking task ended early.
    #[error("failed to {what}: the work was cut off")]
    CutOff {
        /// What was being done.
        what: &'static str,
    },
    /// The listener cannot be bound.
    #[error("failed to listen for {service}")]
    Bind {
        /// The service.
        service: &'static str,
        /// Why not.
        #[source]
        source: BindError,
    },
    /// The registry does not want the service.
    #[error("failed to register {service}")]
    Register {
        /// The service.
        service: &'static str,
        /// Why not.
        #[source]
        source: RegisterError,
    },
}

impl Host {
    /// A service that registers as `name` and ends when `stop` says so. Must be called within a
    /// tokio runtime. When it is dropped its background work ends.
    ///
    /// # Errors
    /// When the address of a registry or the name cannot be used.
    pub fn new(
        name: &'static str,
        config: HostConfig,
        shared: Shared,
        stop: Stop,
    ) -> Result<Self, HostError> {
        let service = ServiceName::parse(name)
            .map_err(|error| HostError::Address { what: format!("service {name}: {error}") })?;
        let target = |url: &String| {
            Target::parse(url).map_err(|error| HostError::RegistryUrl {
                url: url.clone(),
                reason: error.to_string(),
            })
        };
        let urls = shared.registry.iter().map(target).collect::<Result<_, _>>()?;
        let mut registry = RegistryClientConfig::new(urls);
        registry.user.clone_from(&shared.registry_user);
        let tasks = Tasks::new();
        let client = Client::standard(&tasks);
        let clock = shared.clock.clone();
        let discovery = Discovery::registry(registry.clone(), client.clone(), clock, &tasks);
        let health = Health::new();
        let databases = Vec::new();
        Ok(Self {
            name,
            service,
            config,
            shared,
            tasks,
            health,
            client,
            registry,
            discovery,
            databases,
            stop,
        })
    }

    /// What all servers of the estate share.
    #[must_use]
    pub const fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The owner of the background work; it ends before the database closes.
    #[must_use]
    pub const fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Where other services are found.
    #[must_use]
    pub const fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    /// What sends requests to other services.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// The name in which this service calls others.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::new(self.service.clone(), self.shared.keys.seal().clone())
    }

    /// Opens the database of the service, by default a SQLite file of its name in the data folder,
    /// and brings its schema up to date. It is closed at the end of [`Host::run`].
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn database(
        &mut self,
        set: &'static str,
        migrations: &'static [Migration],
    ) -> Result<Database, HostError> {
        let component = self.health.component("database");
        let file = || DatabaseUrl::sqlite(&self.shared.data.join(format!("{}.db", self.name)));
        let url = self.config.database.clone().map_or_else(file, |it| it.0);
        let open = move || Database::open(&url, Options::default(), set, migrations);
        let opened = blocking("open the database", open).await?;
        let database =
            opened.map_err(|source| HostError::Database { service: self.name, source })?;
        component.up();
        health::watch_database(database.clone(), component, &self.tasks);
        self.databases.push(database.clone());
        Ok(database)
    }

    /// Looks for broken invariants of `database` in the background, as often as the settings say;
    /// what it finds is logged and counted.
    pub fn audit(&self, database: &Database, checks: &'static [Check]) {
        let clock = self.shared.clock.clone();
        let every = self.config.audit_every;
        tradewind_audit::watch(self.name, database, checks, every, clock, &self.tasks);
    }

    /// A way to call `service`, in the name of this one. Waits up to [`WARM_LIMIT`] until its list
    /// is known and connections are open, so that the first call is no slower than the others; if
    /// it is not there by then, this service starts without and says so in its health.
    ///
    /// # Errors
    /// When `service` is not a name.
    pub async fn channel(
        &self,
        service: &'static str,
        policy: Policy,
    ) -> Result<Channel, HostError> {
        let name = ServiceName::parse(service)
            .map_err(|error| HostError::Address { what: format!("service {service}: {error}") })?;
        let component = self.health.component(service);
        let view = self.discovery.view(&name);
        let client = self.client.clone();
        let channel = Channel::new(&self.discovery, client, name, policy, Some(self.identity()));
        tokio::select! {
            warm = channel.warm(WARM_LIMIT, &self.tasks) => match warm {
                Ok(()) => component.up(),
                Err(error) => component.down(error.to_string()),
            },
            () = self.stop.wait() => {}
        }
        health::watch_service(view, component, &self.tasks);
        Ok(channel)
    }

    /// Serves `router` until it is time to stop, registered meanwhile, and ends in order.
    ///
    /// # Errors
    /// When the listener cannot be bound or the registry refuses the service. What was started is
    /// ended in order before the error is handed back.
    pub async fn run(self, router: Router) -> Result<(), HostError> {
        let mut end = End::new(self.tasks.clone(), self.databases.clone());
        let done = self.serve(router, &mut end).await;
        end.run().await;
        done
    }

    async fn serve(&self, router: Router, end: &mut End) -> Result<(), HostError> {
        let component = self.health.component("registry");
        let service = self.name;
        let server = Server::bind(self.config.edge.clone())
            .await
            .map_err(|source| HostError::Bind { service, source })?;
        let discovery = self.discovery.clone();
        let server = server.page("/discovery", move || serde_json::json!(discovery.overview()));
        let databases = self.databases.clone();
        let server = server.page("/databases", move || {
            databases.iter().map(|it| counted(&it.stats())).collect::<Vec<_>>().into()
        });
        let address = server.local_addr();
        let instance = self.instance(address)?;
        let (keys, clock) = (self.shared.keys.clone(), self.shared.clock.clone());
        let (health, tasks) = (self.health.clone(), &self.tasks);
        end.serving = Some(server.serve(service, router, health, Some(keys), clock.clone(), tasks));
        tracing::info!(service, addr = %address, "listening");
        let (registry, client) = (self.registry.clone(), self.client.clone());
        let registration = tokio::select! {
            it = Registration::register(registry, client, instance, clock, tasks) => it,
            // Told to stop before a registry answered: there is nothing to leave.
            () = self.stop.wait() => return Ok(()),
        };
        let registration =
            registration.map_err(|source| HostError::Register { service, source })?;
        let registration = end.registration.insert(registration);
        health::watch_registration(registration, &component, &self.stop).await;
        Ok(())
    }

    fn instance(&self, address: SocketAddr) -> Result<Instance, HostError> {
        if let Some(Advertise { host, port }) = &self.config.advertise {
            return Instance::plain(&self.service, host, *port)
                .map_err(|error| HostError::Address { what: error.to_string() });
        }
        let host = match &self.shared.host {
            Some(host) => host.clone(),
            None if address.ip().is_unspecified() => {
                let what = format!("{} listens on every address of this machine", self.name);
                return Err(HostError::Address { what });
            }
            None => address.ip().to_string(),
        };
        Instance::plain(&self.service, &host, address.port())
            .map_err(|error| HostError::Address { what: error.to_string() })
    }
}

/// What a database has done since the start, times in microseconds.
fn counted(it: &Stats) -> serde_json::Value {
    let micros = |it: Duration| u64::try_from(it.as_micros()).unwrap_or(u64::MAX);
    serde_json::json!({
        "transactions": it.closures, "refused": it.refused, "reruns": it.reruns,
        "commits": it.batches, "commit_size_max": it.batch_size_max,
        "reads": it.reads, "busy": it.busy, "queue": it.queue, "read_queue": it.read_queue,
        "run_us": micros(it.run_time), "commit_us": micros(it.commit_time),
        "commit_us_max": micros(it.commit_time_max), "turn_us": micros(it.turn_time),
        "checkpoints": it.checkpoints, "wal_pages": it.wal_pages,
    })
}

impl Drop for Host {
    fn drop(&mut self) {
        self.tasks.cancelled().cancel();
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Runs `work` where it may block.
///
/// # Errors
/// When it panicked or the runtime is ending.
pub async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, HostError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| HostError::CutOff { what })
}

#[cfg(test)]
mod tests;
