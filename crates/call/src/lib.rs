//! Declared HTTP clients: balance, time limits, retry, warm connections.
//!
//! A trait says what a service can be asked; the attribute [`client`] makes a client of it that
//! finds the service's instances through [discovery](tradewind_discovery), takes them in turn and
//! sends JSON over pooled connections.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use tradewind_call::{CallError, client};
//!
//! #[derive(Debug, Deserialize)]
//! pub struct Product {
//!     pub id: i64,
//!     pub name: String,
//! }
//!
//! #[derive(Serialize)]
//! pub struct Ask {
//!     pub product_ids: Vec<i64>,
//! }
//!
//! #[client(service = "inventory")]
//! pub trait Inventory {
//!     /// One product.
//!     #[get("/products/{id}")]
//!     async fn product(&self, #[path] id: i64) -> Result<Product, CallError>;
//!
//!     /// How many are there: a question, though it is a POST.
//!     #[post("/availability", idempotent, timeout = "2s")]
//!     async fn availability(&self, #[json] ask: &Ask) -> Result<Vec<u32>, CallError>;
//! }
//!
//! // In production: the generated client over a channel.
//! use tradewind_call::{Channel, Identity, Policy};
//! # use tradewind_base::{Tasks, seal::Key};
//! # use tradewind_discovery::{Discovery, ServiceName};
//! # async fn start(discovery: Discovery, http: tradewind_http::Client, key: Key, tasks: Tasks)
//! # -> Result<(), Box<dyn std::error::Error>> {
//! let identity = Identity::new(ServiceName::parse("order")?, key);
//! let service = ServiceName::parse(InventoryClient::SERVICE)?;
//! let channel = Channel::new(&discovery, http, service, Policy::default(), Some(identity));
//! channel.warm(std::time::Duration::from_secs(5), &tasks).await?;
//! let inventory = InventoryClient::new(channel);
//! let product = inventory.product(1).await?;
//! # let _ = product.name; Ok(()) }
//!
//! // In a test: a fake, with plain `async fn`.
//! struct Shelf;
//! impl Inventory for Shelf {
//!     async fn product(&self, id: i64) -> Result<Product, CallError> {
//!         Ok(Product { id, name: "lamp".into() })
//!     }
//!     async fn availability(&self, ask: &Ask) -> Result<Vec<u32>, CallError> {
//!         Ok(vec![7; ask.product_ids.len()])
//!     }
//! }
//! ```
//!
//! # One call
//! 1. The total time is the policy's (or the method's `timeout`), cut by the deadline of the
//!    request that is being served. Nothing is begun that has no time left.
//! 2. An instance is taken in turn, or the one with the least to do ([`Balance`]). Those that could
//!    not be reached a moment ago are left out, as long as there are others: nobody waits for the
//!    registry to notice what this process has already seen.
//! 3. The attempt carries what the other side needs: `traceparent` of a new span,
//!    `x-tradewind-deadline-ms` with what is left, `x-request-id`, the user as the gateway sealed
//!    it, the transaction, and the sealed name of this service.
//! 4. If it fails, [`machine::schedule`] decides. What was never sent moves on to the next
//!    instance, whatever the method. What may have arrived is repeated only if the method is
//!    idempotent (GET, PUT, DELETE, or declared so), within the counts of the [`Policy`] and the
//!    channel's retry budget: retries help when one instance fails and must not multiply the load
//!    when all do.
//! 5. Success is decoded; a problem document becomes [`CallError::Refused`];
//!    [`CallError::outcome_unknown`] says what a failure means for the caller's own state.
//!
//! # Limits
//! Bodies are whole and in memory, at most [`Policy::body_max`] bytes. HTTP/1.1 and JSON only.
//! Redirects are not followed. Connections are kept warm to 64 instances for each service. An
//! address is at most 8 KiB long.

pub mod machine;

mod channel;
mod encode;
mod error;
mod gather;
mod identity;
mod policy;
mod request;
mod stats;

pub use channel::{Channel, WarmError};
pub use error::CallError;
pub use gather::{Asked, Gather};
pub use identity::Identity;
pub use machine::balancer::Balance;
pub use policy::Policy;
pub use request::Request;
pub use stats::{Latency, Outcome, Stats};
// What a channel is made of and its errors hold, so that its users need no further dependency.
pub use tradewind_http::{Client, PoolConfig, SendError, Target, TcpConnect};

/// Makes a client of a trait.
///
/// For `trait Inventory` it makes `struct InventoryClient`, which is `Clone` and `Debug`, has
/// `new(channel)`, `channel()` and the constant `SERVICE`, and implements the trait. The trait's
/// methods become `fn …(&self, …) -> impl Future<Output = …> + Send`; a fake may implement them
/// with `async fn`.
///
/// # On the trait
/// - `service = "inventory"`: whom it calls, in lower case.
/// - `crate = "path"`: where this crate is found, if it is neither `::tradewind_call` nor, through
///   the facade, `::tradewind::call`.
///
/// # On a method
/// One of `get`, `post`, `put`, `patch`, `delete`, with the path; `{name}` is a whole segment.
/// - `idempotent`: doing it twice is the same as doing it once, so it may be retried. GET, PUT and
///   DELETE are, always.
/// - `timeout = "500ms"`: the time limit of the whole call, instead of the policy's (`ms`, `s`,
///   `m`).
///
/// It returns `Result<T, CallError>`: `T` is read from the answer's JSON, `()` ignores the body.
///
/// # On a parameter
/// | attribute | takes | goes to |
/// |---|---|---|
/// | `#[path]`, `#[path("name")]` | `Display` | the segment `{name}`, escaped |
/// | `#[query]`, `#[query("name")]` | `Display` | the query, escaped |
/// | `#[header("name")]` | `Display` | a header |
/// | `#[json]` | `Serialize` | the body; not with `get` and `delete` |
///
/// In query and header an `Option` is left out when there is none, and a `Vec`, slice or array is
/// repeated. The macro knows them by these names: an alias of such a type is taken for one value.
/// Escaped is everything but the unreserved characters of RFC 3986, so that a value arrives as it
/// is whatever it holds; a segment that is empty, `.` or `..` is an error of the call, since it
/// would lead to another path.
pub use tradewind_call_macros::client;

/// For the facade alone.
#[doc(hidden)]
pub mod __facade {
    pub use tradewind_call_macros::client_of_facade as client;
}

/// For expansions of [`client`] alone.
#[doc(hidden)]
pub mod __private {
    pub use http::Method;

    pub use crate::{Channel, Request};
}
