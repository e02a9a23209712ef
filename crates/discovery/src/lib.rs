//! Instance lists that follow the registry, and registering oneself.
//!
//! - [`Discovery`] keeps a local copy of the instances of every service this process calls; a
//!   [`View`] reads one of them, without a lock.
//! - [`Registration`] puts this process into the registry and keeps it there.
//! - [`wire`] is the registry's native protocol, for both sides.
//!
//! # How a list follows
//!
//! One change stream to one of the registry's peers carries the changes of all followed services
//! ([`wire`] has the protocol). Three missing pings, a closed stream or a line that cannot be are
//! the end of it; then the other peers are asked at once, and after a round of failures with a
//! growing, random pause of at most five seconds. A stream goes on where the last one ended.
//!
//! What is known is kept. A registry that does not answer changes nothing, however long. A registry
//! node that has just started knows few instances and says so (it is not *warm*): what it says is
//! added to what is known, and only when it is warm does its silence count. So nobody loses an
//! address because a registry was restarted. [`Discovery::health`] tells how old the lists are.
//!
//! An instance that a caller cannot reach ([`Discovery::report`]) is set aside in this process at
//! once, for three seconds, and the registry is told, which probes it.
//!
//! # Limits
//!
//! Followed services stay followed until the process ends; the registry takes up to 1000 on one
//! stream, and their names must fit into the head of one request. Reports: 256 wait, one a second for each
//! instance. A line of the stream: 64 MiB. Lists come from the registry or are given
//! ([`Discovery::fixed`]).
//!
//! # Example
//!
//! ```no_run
//! use std::sync::Arc;
//! use std::time::Duration;
//! use tradewind_base::{SystemClock, Tasks};
//! use tradewind_discovery::{
//!     Discovery, Instance, Registration, RegistryClientConfig, ServiceName,
//! };
//! use tradewind_http::{Client, Target};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let (tasks, clock) = (Tasks::new(), Arc::new(SystemClock::new()));
//! let client = Client::standard(&tasks);
//! let config = RegistryClientConfig::new(vec![Target::parse("http://127.0.0.1:8761")?]);
//!
//! let discovery = Discovery::registry(config.clone(), client.clone(), clock.clone(), &tasks);
//! let inventory = discovery.view(&ServiceName::parse("inventory")?);
//! discovery.ready(Duration::from_secs(5)).await?;
//! for instance in inventory.load().up() {
//!     println!("{} at {}", instance.id, instance.target());
//! }
//!
//! let me = Instance::plain(&ServiceName::parse("order")?, "127.0.0.1", 9001)?;
//! let registration = Registration::register(config, client, me, clock, &tasks).await?;
//! // … serve …
//! registration.leave(Duration::from_secs(2)).await;
//! tasks.shutdown(Duration::from_secs(5)).await?;
//! # Ok(())
//! # }
//! ```

mod config;
mod discovery;
mod instance;
mod machine;
mod overview;
mod peers;
mod registration;
mod source;
mod store;
#[cfg(test)]
mod tests;
mod view;
mod watching;
pub mod wire;

pub use config::RegistryClientConfig;
pub use discovery::{Discovery, Health, NotReady, SET_ASIDE, Suspicion};
pub use instance::{
    AddressError, Instance, InstanceId, InstanceIdError, List, ServiceName, ServiceNameError,
    Status,
};
pub use overview::{Entry, Known, Overview};
pub use registration::{RegisterError, Registration};
pub use view::View;
