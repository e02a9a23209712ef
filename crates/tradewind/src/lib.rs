//! Tradewind for service authors: one dependency line.
//!
//! - [`host`]: a whole service: database, calls, edge, registration, ordered start and end.
//! - [`service`]: configuration, logs and metrics, the HTTP edge (with [`axum`]), health, ordered
//!   shutdown.
//! - [`client`] and [`call`]: declared HTTP clients to other services.
//! - [`discovery`]: where the others are, and registering oneself.
//! - [`sql`]: transactions on SQLite and MySQL.
//! - [`transaction`]: TCC over several services; [`message`]: reliable messages; [`lock`]: leases
//!   with fencing tokens; [`idempotency`]: one effect and one answer per key.
//! - [`audit`]: invariants over a database, stated once and checked by tests and running servers.
//! - [`base`]: time, ids, tasks, the context of a request, problem documents; the most used are
//!   here at the top as well.
//!
//! This crate re-exports and does nothing else.
//!
//! # A small service
//! It answers `GET /quotes/{id}` with the price that another service, found through the registry,
//! knows. It reports UP when its connections are ready, and leaves the registry before it stops.
//!
//! ```no_run
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use serde::{Deserialize, Serialize};
//! use tradewind::axum::Router;
//! use tradewind::axum::extract::State;
//! use tradewind::axum::routing::get;
//! use tradewind::call::{CallError, Channel, Client, Identity, Policy, Target};
//! use tradewind::discovery::{
//!     Discovery, Instance, RegistryClientConfig, Registration, ServiceName,
//! };
//! use tradewind::service::edge::{EdgeConfig, Server};
//! use tradewind::service::{Answer, Health, Json, Keys, Path, Stop};
//! use tradewind::{Problem, SystemClock, Tasks};
//!
//! #[derive(Deserialize, Serialize)]
//! pub struct Product {
//!     pub id: i64,
//!     pub price_cents: i64,
//! }
//!
//! #[tradewind::client(service = "inventory")]
//! pub trait Inventory {
//!     #[get("/products/{id}")]
//!     async fn product(&self, #[path] id: i64) -> Result<Product, CallError>;
//! }
//!
//! async fn quote(
//!     State(inventory): State<InventoryClient>,
//!     Path(id): Path<i64>,
//! ) -> Answer<Product> {
//!     Ok(Json(inventory.product(id).await.map_err(Problem::from)?))
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let (tasks, clock) = (Tasks::new(), Arc::new(SystemClock::new()));
//!     let stop = Stop::on_signals(false, &tasks)?;
//!     let keys = Keys::load_or_create("./data".as_ref())?;
//!     let http = Client::standard(&tasks);
//!     let registry = RegistryClientConfig::new(vec![Target::parse("http://127.0.0.1:8761")?]);
//!     let discovery =
//!         Discovery::registry(registry.clone(), http.clone(), clock.clone(), &tasks);
//!
//!     let name = ServiceName::parse("quotes")?;
//!     let identity = Identity::new(name.clone(), keys.seal().clone());
//!     let inventory = ServiceName::parse(InventoryClient::SERVICE)?;
//!     let channel =
//!         Channel::new(&discovery, http.clone(), inventory, Policy::default(), Some(identity));
//!     channel.warm(Duration::from_secs(5), &tasks).await?;
//!
//!     let router = Router::new()
//!         .route("/quotes/{id}", get(quote))
//!         .with_state(InventoryClient::new(channel));
//!     let server = Server::bind(EdgeConfig::new("127.0.0.1:9100".parse()?)).await?;
//!     let port = server.local_addr().port();
//!     let serving =
//!         server.serve("quotes", router, Health::new(), Some(keys), clock.clone(), &tasks);
//!     let instance = Instance::plain(&name, "127.0.0.1", port)?;
//!     let registration = Registration::register(registry, http, instance, clock, &tasks).await?;
//!
//!     stop.wait().await;
//!     registration.leave(Duration::from_secs(1)).await;
//!     serving.drain(Duration::from_secs(5)).await;
//!     tasks.shutdown(Duration::from_secs(2)).await?;
//!     Ok(())
//! }
//! ```

pub use tradewind_audit as audit;
pub use tradewind_base as base;
pub use tradewind_base::{
    Clock, Context, Deadline, ExposeSecret, ManualClock, Monotonic, Problem, Rng, SecretString,
    SystemClock, Tasks, Timestamp, TraceContext,
};
pub use tradewind_discovery as discovery;
pub use tradewind_host as host;
pub use tradewind_idempotency as idempotency;
pub use tradewind_lock as lock;
pub use tradewind_message as message;
pub use tradewind_service as service;
pub use tradewind_service::axum;
pub use tradewind_sql as sql;

pub use crate::call::client;

/// Declared HTTP clients: balance, time limits, retry, warm connections.
pub mod call {
    pub use tradewind_call::*;
    // Shadows the one of the same name above: its expansions start at `::tradewind::call`, so that
    // users need this crate alone.
    pub use tradewind_call::__facade::client;
}

/// TCC over several services: begin, take part, fence.
pub mod transaction {
    pub use tradewind_transaction::*;
    // As with `call::client`: its expansions start at `::tradewind::transaction`.
    pub use tradewind_transaction::__facade::participant;
}
