//! The shop's points service: what an order earns, and who has how much.
//!
//! `GET /accounts/me` and `GET /accounts/me/ledger` show a user the own account. Points move only
//! as branches of the order service's transactions:
//!
//! - `points.credit` ([`branch::Credit`]): Try notes a pending credit, Confirm writes it into the
//!   ledger and the balance, Cancel drops the note.
//! - `points.revoke` ([`branch::Revoke`]): takes back what a cancelled order earned. Its Try answers
//!   "not yet" while the order's credit is pending, so a cancellation cannot overtake the Confirm
//!   of the placing.
//!
//! # Design
//! The ledger only grows; one row per order and kind, by a unique key, so that nothing is credited
//! or revoked twice whatever the code does. The balance is the sum of the ledger (POINTS-1), kept
//! beside it under a constraint that it is never negative. Pending points are no part of it.
//! [`audit`] compares the three tables.
//!
//! # Running it
//! Any number of instances on one SQLite file or one MySQL database.
//!
//! # Limits
//! An order earns 0 to [`branch::POINTS_MAX`] points; 0 is written like any other, so that every
//! placed order has its row. Points cannot be spent yet, so a revocation always finds them.

pub mod api;
pub mod audit;
pub mod branch;
mod schema;
mod store;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use tradewind::host::{Host, HostConfig, HostError};
use tradewind::service::config::Reader;
use tradewind::service::{Shared, Stop};
use tradewind::transaction::{Participants, Peers};

use crate::branch::{Credit, Revoke};
use crate::store::Store;

/// The name under which the service registers.
pub const SERVICE: &str = "points";

/// Where it listens by default.
const BIND: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9003);

/// The settings of the service: section `points`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// What every service of the shop has.
    pub host: HostConfig,
}

/// Why the service could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Start or registration failed.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl Config {
    /// Reads the section `points`.
    pub fn read(reader: &mut Reader) -> Self {
        Self { host: HostConfig::read(&mut reader.section(SERVICE), BIND) }
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
    let clock = Arc::clone(&host.shared().clock);
    let branches = Participants::new(database.clone(), clock).with(Credit).with(Revoke);
    let peers = Peers::new(host.discovery().clone(), host.client().clone(), host.identity());
    branches.start(peers, host.tasks());
    let router = api::router(Store::new(database)).merge(branches.mount());
    Ok(host.run(router).await?)
}
