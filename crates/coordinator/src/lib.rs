//! The TCC server: the engine of [`tradewind_transaction`] behind a JSON HTTP API, for initiators
//! without a database and in other languages. It keeps its log in a database of its own.
//!
//! | request | answer |
//! |---|---|
//! | `POST /coordinator/v1/transactions` | 201, begun: durable, nothing sent yet; 200 for a repeat |
//! | `POST /coordinator/v1/transactions/{xid}/try` | 200 with what came of asking all branches |
//! | `POST /coordinator/v1/transactions/{xid}/commit` | 200, decided: Confirms go out; 409 too late |
//! | `POST /coordinator/v1/transactions/{xid}/abort` | 200, decided: Cancels go out; 409 committed |
//! | `GET /coordinator/v1/transactions/{xid}` | 200 how far it is |
//! | `GET /coordinator/v1/stuck` | 200 what a human should look at |
//! | `GET /coordinator/v1/openapi.json` | the API as an OpenAPI document |
//! | `GET /tcc/outcome/{xid}` | the decision, for participants |
//!
//! An initiator chooses the xid, or lets the coordinator do so; with one of its own it may repeat
//! the begin when the answer was lost. It runs what belongs to itself around these calls; as it has
//! no own branch in the log, it cancels its own part when it learns of an abort.
//!
//! Towards participants the coordinator is the initiator: the branches carry its name, and they ask
//! it for outcomes. Any number of coordinators may share one database.
//!
//! # Limits
//! 32 branches, an hour of trying, bodies of 1 MiB. Only services of the estate may call, and only
//! the one that began a transaction may decide it or look at it.

mod api;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tradewind_host::{Host, HostConfig, HostError};
use tradewind_service::axum::Router;
use tradewind_service::config::Reader;
use tradewind_service::{Shared, Stop};
use tradewind_sql::{Database, Migration};
use tradewind_transaction::{Engine, Peers, Setup, engine};

/// The name under which it registers, and as which participants know it.
pub const SERVICE: &str = "coordinator";

/// Where it listens by default.
const BIND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8091);

/// The component whose tables these are.
const SET: &str = "coordinator";

const LOG: [Migration; engine::MIGRATIONS] = engine::migrations(1);

/// The schema.
static MIGRATIONS: &[Migration] = &LOG;

/// The settings: section `coordinator`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// What every server with a database has.
    pub host: HostConfig,
}

impl Config {
    /// Reads the section `coordinator`.
    pub fn read(reader: &mut Reader) -> Self {
        Self { host: HostConfig::read(&mut reader.section(SERVICE), BIND) }
    }

    /// Where it listens.
    #[must_use]
    pub const fn bind(&self) -> SocketAddr {
        self.host.edge.bind
    }
}

/// Why the coordinator could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Start or registration failed.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// Runs the coordinator until `stop`, and ends in order.
///
/// # Errors
/// When it cannot start; what had started is ended in order.
pub async fn run(config: Config, shared: Shared, stop: Stop) -> Result<(), RunError> {
    let mut host = Host::new(SERVICE, config.host, shared, stop)?;
    let database = host.database(SET, MIGRATIONS).await?;
    let peers = Peers::new(host.discovery().clone(), host.client().clone(), host.identity());
    let clock = Arc::clone(&host.shared().clock);
    let engine = Setup::new(database.clone(), clock, peers).start(host.tasks());
    Ok(host.run(router(engine, database)).await?)
}

/// The API over an engine and the database of its log.
fn router(engine: Engine, database: Database) -> Router {
    engine.mount().merge(api::router(engine, database))
}
