//! The shop's order service: signing in, what a basket costs, and orders.
//!
//! `POST /login` gives a token for a name and a password; `GET /.well-known/jwks.json` is the key
//! set with which the gateway verifies it; `GET /me` shows whom the gateway vouches for.
//! `POST /quotes` prices a basket: the order service asks inventory through its declared client
//! ([`inventory::Inventory`]) what there is of each product and at which price, and does the sums.
//!
//! # Design
//! [`basket`], [`quote`] and [`money`] are pure: what a basket may be, what it costs, how amounts
//! are added. A basket is read by hand instead of by a derived decoder, so that one answer names
//! every wrong field. The edge ([`api`]) decides which status a failure has.
//!
//! [`mod@orders`] places, reads and cancels orders through transactions over the shop's services;
//! [`machine`] is the life of an order; `GET /tcc/outcome/{xid}` tells participants what was
//! decided. The setting `order.transactions` says who decides: this service, or the coordinator.
//!
//! # Identity
//! Tokens are Ed25519-signed JWTs; the key pair lives in the data folder, readable by its owner
//! only. A service never looks at tokens: it accepts the user that the gateway vouches for.
//! Passwords are argon2id hashes. Failed attempts are counted per user and per address.
//!
//! # Limits
//! A basket has 1 to 100 lines of 1 to 999 pieces. A quote reserves nothing.

pub mod api;
pub mod basket;
mod config;
pub mod demo;
mod fields;
pub mod inventory;
mod login;
pub mod machine;
pub mod money;
pub mod orders;
pub mod quote;
mod schema;
mod store;
mod token;

use std::sync::Arc;
use std::time::Duration;

use tradewind::call::Policy;
use tradewind::host::{Host, HostError, blocking};
use tradewind::message::{BrokerClient, Consumer, Subscription};
use tradewind::service::axum::Router;
use tradewind::service::{Shared, Stop};
use tradewind::sql::Database;
use tradewind::transaction::wire::coordinator::SERVICE as COORDINATOR;
use tradewind::transaction::{PeerError, Peers, engine};

use crate::api::App;
use crate::inventory::{Gathered, InventoryClient, Remembered};
use crate::login::Login;
use crate::login::password::{HashError, Hasher};
use crate::orders::{Decider, Orders};
use crate::store::Store;
use crate::token::Issuer;

pub use config::Config;
pub use token::{KeyFileError, KeySet, PublicKey};

/// The name under which the service registers.
pub const SERVICE: &str = "order";

/// How long it is remembered which messages were consumed: longer than any is redelivered.
const CONSUMED_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// The file with the signing key, in the data folder.
const KEY_FILE: &str = "order-jwt.pk8";

/// Why the service could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Start or registration failed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A service that is called has no usable name.
    #[error("failed to set up the calls of other services")]
    Peer(#[from] PeerError),
    /// There is no signing key.
    #[error("failed to load or make the signing key")]
    Key(#[from] KeyFileError),
    /// The demo users could not be made.
    #[error("failed to make the demo users")]
    DemoUsers(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No password can be hashed.
    #[error("failed to hash a password")]
    Hash(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Runs the service until `stop`, and ends in order.
///
/// # Errors
/// When it cannot start; what had started is ended in order.
pub async fn run(config: Config, shared: Shared, stop: Stop) -> Result<(), RunError> {
    let mut host = Host::new(SERVICE, config.host.clone(), shared, stop)?;
    let database = host.database(schema::SET, schema::MIGRATIONS).await?;
    host.audit(&database, orders::audit::CHECKS);
    let store = Store::new(database.clone());
    let login = login(&config, &host, store).await?;
    let channel = host.channel(InventoryClient::SERVICE, config.inventory.clone()).await?;
    let inventory = Gathered::new(InventoryClient::new(channel));
    let issuer = Arc::clone(login.issuer());
    if config.transactions == Decider::Coordinator {
        // For health and warm connections; the engine finds it by itself.
        host.channel(COORDINATOR, Policy::default()).await?;
    }
    let inventory = Remembered::new(inventory, config.price_keep);
    let orders = orders(&config, &host, &database, inventory.clone())?;
    let app = Arc::new(App { login, issuer, inventory: inventory.asking() });
    Ok(host.run(api::router(app).merge(orders)).await?)
}

fn orders(
    config: &Config,
    host: &Host,
    database: &Database,
    inventory: Remembered<Gathered<InventoryClient>>,
) -> Result<Router, RunError> {
    let (tasks, clock) = (host.tasks(), &host.shared().clock);
    let peers = Peers::new(host.discovery().clone(), host.client().clone(), host.identity());
    // Nobody waits for the broker at the start: without it, orders fail and everything else works.
    let broker = BrokerClient::new(peers.channel(BrokerClient::SERVICE)?);
    let how = (engine::Settings::default(), config.transactions);
    let deciders = orders::engine(database, clock, peers, how, tasks);
    let secret = host.shared().keys.seal();
    let consumer = Consumer::new(SERVICE, database.clone(), secret, Arc::clone(clock));
    consumer.clean(CONSUMED_KEPT, tasks);
    let (topic, path) = (orders::api::SHIPPED_TOPIC, orders::api::SHIPPED_PATH);
    let subscription = Subscription::new(SERVICE, topic, path);
    Subscription::declare(broker, vec![subscription], tasks);
    let clock = Arc::clone(clock);
    let orders = Orders::new(database.clone(), deciders, inventory, clock, config.orders, tasks);
    orders.clean(tasks);
    Ok(orders::api::router(orders, &consumer))
}

async fn login(config: &Config, host: &Host, store: Store) -> Result<Login, RunError> {
    let shared = host.shared();
    let (path, settings) = (shared.data.join(KEY_FILE), config.token.clone());
    let issuer = blocking("open the signing key", move || Issuer::open(&path, settings)).await??;
    let hasher = Hasher::new(config.password_threads);
    if config.demo_users {
        demo::create(&store, &hasher, &*shared.clock)
            .await
            .map_err(|it| RunError::DemoUsers(it.into()))?;
    }
    // Of a password that nobody has: only the time to compare it counts.
    let nobody = hasher.hash(shared.clock.now().to_string()).await;
    let nobody = nobody.map_err(|it: HashError| RunError::Hash(it.into()))?;
    let clock = Arc::clone(&shared.clock);
    Ok(Login::new(store, hasher, nobody, Arc::new(issuer), config.attempts, clock))
}
