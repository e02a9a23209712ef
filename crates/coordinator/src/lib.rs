//! The TCC server: the engine of [`tradewind_transaction`] behind a JSON HTTP API. It keeps its log
//! in a database of its own, and serves initiators in other languages, those without a database,
//! and those that leave deciding and driving to somebody who goes on when they do not
//! (`Setup::coordinator` in the library; `order.transactions = "coordinator"` in the shop).
//!
//! | request | answer |
//! |---|---|
//! | `POST /coordinator/v1/transactions` | 201, begun: durable, nothing sent yet; 200 for a repeat |
//! | `POST /coordinator/v1/transactions/{xid}/try` | 200 with what came of asking all branches; with a declaration in the body it begins first, unless it has; 409 decided |
//! | `POST /coordinator/v1/transactions/{xid}/commit` | 200, decided: Confirms go out; 409 too late |
//! | `POST /coordinator/v1/transactions/{xid}/abort` | 200, decided: Cancels go out; 409 committed; what has not begun never will |
//! | `GET /coordinator/v1/transactions/{xid}` | 200 how far it is |
//! | `GET /coordinator/v1/stuck` | 200 what a human should look at |
//! | `GET /coordinator/v1/openapi.json` | the API as an OpenAPI document |
//! | `GET /tcc/outcome/{xid}` | the decision, for participants |
//!
//! An initiator chooses the xid, or lets the coordinator do so; with one of its own it may repeat
//! every request when the answer was lost. Two requests are enough: `try` with the declaration, then
//! `commit` or `abort`.
//!
//! What belongs to the initiator itself may be a branch too, declared as `own`: it is reserved
//! already and not tried, and is confirmed or cancelled by a call like the others, as branch 33.
//! With it, whatever happens to the initiator after its begin is settled. An initiator that cannot
//! be called declares none, and settles its own part when it learns of the decision.
//!
//! | state \ request | begin | try | commit | abort | deadline passes |
//! |---|---|---|---|---|---|
//! | unknown | trying | with a declaration as begin, then try; else 404 | 404 | given up | – |
//! | trying | 200, as it is | Trys are sent, again if need be | committing | aborting | aborting |
//! | committing, committed | 200, as it is | 409 `coordinator.committed` | 200 | 409 `coordinator.committed` | – |
//! | aborting, aborted | 200, as it is | 409 `coordinator.aborted` | 409 `coordinator.aborted` | 200 | – |
//! | given up (aborted before it began) | 409 `coordinator.aborted` | 409 `coordinator.aborted` | 409 `coordinator.aborted` | 200 | – |
//!
//! A commit past the deadline is 409 `coordinator.expired`. What another service began is
//! 404 `coordinator.unknown`; what was given up before it began is nobody's.
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

const COMPACT: [Migration; engine::COMPACT] = engine::compact(6);
const IMPLIED: [Migration; engine::IMPLIED] = engine::implied(12);

/// The schema.
pub static MIGRATIONS: &[Migration] = &[
    LOG[0], LOG[1], LOG[2], LOG[3], LOG[4], COMPACT[0], COMPACT[1], COMPACT[2], COMPACT[3],
    COMPACT[4], COMPACT[5], IMPLIED[0],
];

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

/// The API over an engine and the database of its log, which has the schema [`MIGRATIONS`]: what
/// [`run`] serves, for those who have a server already.
pub fn router(engine: Engine, database: Database) -> Router {
    engine.mount().merge(api::router(engine, database))
}
