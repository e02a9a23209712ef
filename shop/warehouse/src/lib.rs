//! The shop's warehouse service: what leaves the house, and when.
//!
//! An order that was placed comes as the message `order.placed` and becomes one outbound order.
//! After a delay it ships, and the message `order.shipped` tells so. An order that is cancelled is
//! voided by the branch `warehouse.void` of the order service's transaction, also when its
//! `order.placed` is still on its way: the void row absorbs it.
//!
//! # States
//!
//! | state \ event | `order.placed` | due | void: Try | Confirm | Cancel |
//! |---|---|---|---|---|---|
//! | none | received | – | voiding | – | – |
//! | received | absorbed | shipped | voiding | – | – |
//! | voiding, without contents | contents are kept | – | not yet | void | none |
//! | voiding, with contents | absorbed | – | not yet | void | received |
//! | void | absorbed | – | refused | – | – |
//! | shipped | absorbed | – | refused | – | – |
//!
//! Every change is one conditional update that names the state it leaves, so two instances, a
//! shipment and a cancellation decide by who commits first. `order.shipped` is written into the
//! outbox in the transaction that ships.
//!
//! # Over HTTP
//! `GET /outbound/{order_id}` and `GET /outbound` are for services of the estate. Deliveries come
//! to [`PLACED_PATH`], signed by the broker.
//!
//! # Running it
//! Any number of instances on one SQLite file or one MySQL database.
//!
//! # Limits
//! An order has 1 to [`placed::LINES_MAX`] lines. An instance ships what another one received
//! within a second of its time. Rows are kept for ever, void ones too: a late message must find
//! them.

pub mod api;
pub mod audit;
pub mod branch;
pub mod placed;
mod schema;
mod shipping;
mod store;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tradewind::call::Policy;
use tradewind::host::{Host, HostConfig, HostError};
use tradewind::message::{BrokerClient, Consumer, Outbox, Subscription};
use tradewind::service::config::Reader;
use tradewind::service::{Shared, Stop};
use tradewind::transaction::{Participants, Peers};

use crate::branch::Void;
use crate::placed::Intake;
use crate::shipping::Shipper;
use crate::store::Store;

/// The name under which the service registers, subscribes and publishes.
pub const SERVICE: &str = "warehouse";

/// Where deliveries of `order.placed` go.
pub const PLACED_PATH: &str = "/messages/order-placed";

/// Where it listens by default.
const BIND: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9004);

/// How long a consumed message is remembered: longer than anybody replays one.
const REMEMBER: Duration = Duration::from_secs(30 * 24 * 3600);

/// The settings of the service: section `warehouse`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// What every service of the shop has.
    pub host: HostConfig,
    /// How long an order lies before it ships; until then it can be cancelled.
    pub ship_after: Duration,
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
    /// Reads the section `warehouse`.
    pub fn read(reader: &mut Reader) -> Self {
        let mut section = reader.section(SERVICE);
        let host = HostConfig::read(&mut section, BIND);
        let ship_after = section.get_within(
            "ship_after",
            Duration::from_secs(3),
            &(Duration::ZERO..=Duration::from_secs(30 * 24 * 3600)),
            "time between receiving an order and shipping it",
        );
        Self { host, ship_after }
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
    let broker = BrokerClient::new(host.channel(BrokerClient::SERVICE, Policy::default()).await?);
    let (shared, tasks) = (host.shared(), host.tasks());
    let clock = Arc::clone(&shared.clock);

    let outbox = Outbox::new(database.clone(), broker.clone(), Arc::clone(&clock));
    outbox.relay(tasks);
    let shipper = Shipper::new(database.clone(), outbox, Arc::clone(&clock));
    shipper.start(tasks);

    let secret = shared.keys.seal();
    let consumer = Consumer::new(SERVICE, database.clone(), secret, Arc::clone(&clock));
    consumer.clean(REMEMBER, tasks);
    Subscription::declare(broker, vec![subscription()], tasks);
    let intake = Intake::new(consumer, shipper, Arc::clone(&clock), config.ship_after);

    let branches = Participants::new(database.clone(), clock).with(Void);
    let peers = Peers::new(host.discovery().clone(), host.client().clone(), host.identity());
    branches.start(peers, tasks);
    let router = api::router(Store::new(database), intake).merge(branches.mount());
    Ok(host.run(router).await?)
}

fn subscription() -> Subscription {
    Subscription::new(SERVICE, placed::TOPIC, PLACED_PATH)
}
