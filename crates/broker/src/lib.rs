//! The reliable-message server.
//!
//! Producers hand messages over in one of three ways: published outright (the relay of an outbox
//! does that), as a half message around a local transaction, or as a branch of a distributed
//! transaction. Consumers subscribe a service and a path to a topic; each subscriber gets every
//! message committed after it subscribed, at least once, pushed to an instance found in the
//! registry, and remembers the id to act once.
//!
//! [`machine`] has the rules with their tables and invariants. Around it:
//!
//! - the store: one row per message, one per delivery that is still open. A message's deliveries
//!   are fixed in the transaction that commits it; so is its sequence number. Every change is a
//!   compare-and-set. Finished rows leave the hot table at once and the database after a
//!   retention, during which a repeat with the same id is recognised.
//! - the dispatcher: a commit hands its deliveries over in memory; the table is scanned for what
//!   is due, for what found no place, and after a crash. What is due together on one subscription
//!   travels in one request to a subscriber that takes several, and one by one to all others; each
//!   delivery still stands and falls for itself.
//! - the HTTP API under `/messages/v1`, and `/tcc/message` for transactions, for services of the
//!   estate only, described at `/openapi.json`. Only the service that began a transaction may
//!   settle its branches.
//!
//! # Limits
//! 1000 subscriptions, data of 64 KiB, a page of 200. A delivery that cannot reach any instance
//! is tried until one is there and does not count as an attempt. Messages have no order among each
//! other. Leases are in wall time: several brokers on one database need clocks that agree within
//! a few seconds. On MySQL the sequence number is a row that commits take in turn.

mod api;
pub mod audit;
mod config;
mod dispatch;
pub mod machine;
mod store;

use std::sync::Arc;

use tradewind_base::{Clock, Tasks, seal};
use tradewind_discovery::{Discovery, RegistryClientConfig};
use tradewind_host::{Host, HostError};
use tradewind_http::{Client, Target};
use tradewind_service::axum::Router;
use tradewind_service::{Shared, Stop};
use tradewind_sql::{Database, DatabaseUrl, OpenError, Options};

use crate::api::App;
use crate::dispatch::{Dispatcher, Parts};
use crate::store::{Store, schema};

pub use config::{Config, Settings};

/// The name under which the broker registers.
pub const SERVICE: &str = tradewind_message::wire::BROKER;

/// Why the broker could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Start or registration failed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The database cannot be taken into use.
    #[error("failed to prepare the database of the broker")]
    Prepare(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What a broker works with, for whoever runs one inside another program: a test, a simulation.
#[derive(Debug)]
pub struct Surroundings {
    /// The database, opened with [`open_database`].
    pub database: Database,
    /// Where instances of subscribers and producers are found.
    pub discovery: Discovery,
    /// Sends deliveries.
    pub client: Client,
    /// The estate's secret.
    pub key: seal::Key,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// How messages are delivered.
    pub settings: Settings,
}

/// Opens the broker's database and brings its schema up to date. It blocks.
///
/// # Errors
/// When it cannot be opened.
pub fn open_database(url: &DatabaseUrl) -> Result<Database, OpenError> {
    Database::open(url, Options::default(), schema::SET, schema::MIGRATIONS)
}

/// Starts the dispatcher and hands back the HTTP API.
///
/// # Errors
/// When the database cannot be taken into use.
pub async fn start(it: Surroundings, tasks: &Tasks) -> Result<Router, RunError> {
    let store = Store::new(it.database).await.map_err(|it| RunError::Prepare(it.into()))?;
    let branch_grace = it.settings.branch_grace;
    let check_first = it.settings.checks.first;
    let parts = Parts {
        store: store.clone(),
        discovery: it.discovery,
        client: it.client,
        key: it.key,
        clock: Arc::clone(&it.clock),
        settings: it.settings,
    };
    let dispatcher = Dispatcher::start(parts, tasks);
    Ok(api::router(App { store, dispatcher, clock: it.clock, branch_grace, check_first }))
}

/// Runs the broker until `stop`, and ends in order.
///
/// # Errors
/// When it cannot start; what had started is ended in order.
pub async fn run(config: Config, shared: Shared, stop: Stop) -> Result<(), RunError> {
    let mut host = Host::new(SERVICE, config.host.clone(), shared, stop)?;
    let database = host.database(schema::SET, schema::MIGRATIONS).await?;
    host.audit(&database, audit::CHECKS);
    let (tasks, shared) = (host.tasks().clone(), host.shared());
    let clock = Arc::clone(&shared.clock);
    let client = Client::standard(&tasks);
    // The host has checked these addresses.
    let urls = shared.registry.iter().filter_map(|it| Target::parse(it).ok()).collect();
    let mut registry = RegistryClientConfig::new(urls);
    registry.user.clone_from(&shared.registry_user);
    let discovery = Discovery::registry(registry, client.clone(), Arc::clone(&clock), &tasks);
    let (key, settings) = (shared.keys.seal().clone(), config.settings);
    let surroundings = Surroundings { database, discovery, client, key, clock, settings };
    let router = start(surroundings, &tasks).await?;
    Ok(host.run(router).await?)
}
