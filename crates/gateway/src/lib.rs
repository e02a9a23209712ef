//! The API gateway: routes, filters, streaming proxy.
//!
//! Every decision is a pure function over a borrowed request head ([`machine`]); around it an IO
//! layer on hyper streams bodies both ways. The two are kept apart because another data path is to
//! follow, and because decisions that touch no socket can be tested for every input.
//!
//! - **Routes** come from the table `gateway_api_route` and mean what Zuul means by them
//!   ([`machine::route`]). They are an immutable snapshot, swapped whole: a request finishes on
//!   the one it began with. Edits through the admin API are in force when they are answered, edits
//!   by plain SQL within the watch interval (300 ms), and the last good routes are on disk.
//! - **Instances** come from the registry's change stream; they take turns. What was never sent is
//!   sent to the next one, what may have been seen only if that is harmless ([`machine::retry`]).
//! - **Users**: a bearer token is verified with the keys of its issuer and replaced by a short
//!   sealed header that services accept. No client can write it ([`machine::auth`],
//!   [`machine::headers`]). `Authorization` goes no further, unless the route is `passthrough`.
//! - **Framing**: a tracker reads the bytes before hyper and refuses what two servers could read
//!   in two ways ([`machine::framing`]).
//! - **Limits**: connections, requests, heads, bodies, pools and every wait have a bound.
//!
//! Limits of this data path: HTTP/1.1 and 1.0 in, HTTP/1.1 out. HTTP/2 (also h2c by prior
//! knowledge) is answered 505. Trailers are not passed on. TLS towards clients is for whatever
//! stands in front; towards fixed `https` upstreams it is spoken.
//!
//! ```no_run
//! use tradewind_gateway::machine::route::RouteRow;
//! use tradewind_gateway::{Config, run};
//! use tradewind_service::{Shared, Stop};
//!
//! # async fn start(shared: Shared) -> Result<(), tradewind_gateway::RunError> {
//! let mut config = Config::new();
//! config.seed_routes = vec![RouteRow::service("order-service", "/order/**", "order")];
//! run(config, shared, Stop::manual()).await
//! # }
//! ```

mod access;
mod admin;
pub mod machine;
mod proxy;
mod routing;
mod run;
pub mod settings;
mod stats;
mod store;
pub mod tokens;

pub use run::{Drained, Gateway, RunError, run};
pub use settings::Config;
pub use store::MIGRATIONS;
