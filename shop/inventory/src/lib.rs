//! The shop's inventory service: what there is to buy, at which price, and how many of it.
//!
//! The catalogue is open: `GET /products` (paged, by category, by text), `GET /products/{id}`,
//! `GET /categories`. `POST /availability` tells other services of the estate what there is of a
//! list of products, in one snapshot.
//!
//! # Stock
//! `on_hand` is what lies on the shelf, `frozen` what of it is promised to somebody, and what can
//! be bought is the difference. Every change is a row of `stock_flow`, which only grows, written in
//! the same transaction; the sums over it are the stock. The constraints in the schema hold
//! STOCK-1 (`0 <= frozen <= on_hand`) whatever the code does.
//!
//!
//! # Orders
//! An order takes stock through the branches in [`branch`]: it is frozen by Try, sold by Confirm,
//! released by Cancel, and given back when a placed order is cancelled. [`audit`] checks the
//! invariants over all of it.
//!
//! # Running it
//! The service runs several times, on one SQLite file (the instances take turns) or on one MySQL
//! database. Whoever comes first fills an empty database with the [`catalogue`]; what is there is
//! never overwritten.
//!
//! # Limits
//! A page has at most 100 products, a search text 64 characters, a question for availability 100
//! items. Prices are whole cents. Text search is a substring search, case-insensitive for ASCII.

pub mod api;
pub mod audit;
pub mod branch;
pub mod catalogue;
mod schema;
mod store;

use std::net::SocketAddr;

use tradewind::host::{Host, HostConfig, HostError};
use tradewind::service::config::Reader;
use tradewind::service::{Shared, Stop};
use tradewind::transaction::Peers;

use crate::branch::LockKind;
use crate::store::{Store, StoreError};

/// The name under which the service registers.
pub const SERVICE: &str = "inventory";

/// Where it listens by default.
const BIND: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9002);

/// The settings of the service: section `inventory`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// What every service of the shop has.
    pub host: HostConfig,
    /// Whether reservations take a lock on their products first.
    pub lock: LockKind,
}

/// Why the service could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Start or registration failed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The catalogue could not be loaded into an empty database.
    #[error("failed to load the catalogue")]
    Load(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The locks cannot work.
    #[error("failed to set up the locks")]
    Lock(#[from] tradewind::lock::ConfigError),
}

impl Config {
    /// Reads the section `inventory`.
    pub fn read(reader: &mut Reader) -> Self {
        let mut section = reader.section(SERVICE);
        let host = HostConfig::read(&mut section, BIND);
        let meaning = "lock that a reservation takes on its products: none or sql; \
                       stock is right either way";
        Self { host, lock: section.get("lock", LockKind::None, meaning) }
    }

    /// Where the service listens.
    #[must_use]
    pub const fn bind(&self) -> SocketAddr {
        self.host.edge.bind
    }
}

/// Runs the service until `stop`, and ends in order.
///
/// # Errors
/// When it cannot start; what had started is ended in order.
pub async fn run(config: Config, shared: Shared, stop: Stop) -> Result<(), RunError> {
    let mut host = Host::new(SERVICE, config.host, shared, stop)?;
    let database = host.database(schema::SET, schema::MIGRATIONS).await?;
    host.audit(&database, audit::CHECKS);
    let store = Store::new(database.clone());
    let loaded = store.load_first_day(host.shared().clock.now()).await;
    if loaded.map_err(|it: StoreError| RunError::Load(it.into()))? {
        tracing::info!(products = catalogue::articles().len(), "catalogue loaded");
    }
    let clock = &host.shared().clock;
    let branches = branch::participants(&database, config.lock, clock, host.tasks())?;
    let peers = Peers::new(host.discovery().clone(), host.client().clone(), host.identity());
    branches.start(peers, host.tasks());
    Ok(host.run(api::router(store).merge(branches.mount())).await?)
}
