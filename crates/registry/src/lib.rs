//! The registry server: lease table, replication, Eureka REST and the native change stream.
//!
//! - [`machine`] is the protocol: leases, overrides, tombstones, protection, suspicions, change
//!   history and the merging of copies between nodes. Synchronous, without IO or clock.
//! - The Eureka side answers stock clients and stock peers byte for byte as they expect, from the
//!   same table and with no cache in between: what is registered is in the next answer.
//! - The native side streams changes to those who follow a service, takes their suspicions and
//!   explains every instance.
//! - Links keep the other nodes up to date; all nodes are equal.
//!
//! # A dead instance
//!
//! | how it died | who notices | gone after |
//! |---|---|---|
//! | it cancelled | itself | at once |
//! | its process ended | its own change stream closes, or a caller is refused; a probe confirms | half a second |
//! | its host vanished | its lease | the lease, 3 s for native clients |
//!
//! The second row holds for stock clients with leases of 90 s too, as soon as one native caller
//! meets the dead address.
//!
//! # Limits
//!
//! Nothing is kept on disk: a node that restarts is filled by a peer, or by the heartbeats of the
//! clients, and says so (`warm`) until then. A stock peer is told everything and understood, but
//! among stock peers the guarantees are Eureka's own. One table holds all instances: sharding
//! comes later.
//!
//! ```
//! use std::sync::Arc;
//! use tradewind_base::SystemClock;
//! use tradewind_registry::{Config, Node};
//! use tradewind_service::edge::Server;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::new("127.0.0.1:0".parse()?);
//! let server = Server::bind(config.edge.clone()).await?;
//! let node = Node::start(server, config, Arc::new(SystemClock::new()), None);
//! node.ready().await;
//! println!("http://{}/eureka/apps", node.local_addr());
//! node.stop().await;
//! # Ok(())
//! # }
//! ```

pub mod machine;

mod auth;
mod config;
mod documents;
mod metrics;
mod native;
mod page;
mod peers;
mod prober;
mod rest;
mod server;
mod state;

pub use config::{BIND_DEFAULT, Config, ProbeConfig};
pub use peers::PeerUrl;
pub use server::{Node, RunError, run};
