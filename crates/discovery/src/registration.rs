//! Registering this process and staying registered.
//!
//! The registration speaks Eureka's REST, so that any Eureka server takes it. Beside it a native
//! watch without services is kept open: should this process die, the registry sees the stream
//! close and need not wait for the lease. A registry without native watches is left alone.

mod driver;
mod presence;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};
use tradewind_base::{Clock, Monotonic, Rng, Tasks};
use tradewind_http::Client;

use crate::peers::Peers;
use crate::{Instance, RegistryClientConfig, Status};
use driver::{Driver, Leave};

/// Why a registration cannot be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// Every registry answered that it does not want it: the wrong password, an instance it finds
    /// invalid. Trying again would not help.
    #[error("the registry {url} refused to register {instance}: status {status}")]
    Refused {
        /// The registry that was asked last.
        url: String,
        /// The instance.
        instance: String,
        /// The HTTP status.
        status: u16,
    },
    /// No registry is configured.
    #[error("no registry is configured")]
    NoRegistry,
}

/// This process in the registry. [`Registration::leave`] ends it at once; when it is dropped, the
/// heartbeats stop and the lease runs out.
pub struct Registration {
    renewed: watch::Receiver<Option<Monotonic>>,
    status: watch::Sender<Status>,
    leave: oneshot::Sender<Leave>,
    lease: Duration,
    clock: Arc<dyn Clock>,
}

impl Registration {
    /// Registers and keeps the registration alive: heartbeats, another registry when one does not
    /// answer, registering anew when the registry does not know the instance.
    ///
    /// Returns after the first success; or, when each registry was asked and not all refused,
    /// without one, and goes on trying in the background. `tasks` own the work; when they are told
    /// to end before [`Registration::leave`], the heartbeats stop.
    ///
    /// # Errors
    /// When every registry refuses the instance, or none is configured.
    pub async fn register(
        config: RegistryClientConfig,
        client: Client,
        instance: Instance,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Result<Self, RegisterError> {
        if config.urls.is_empty() {
            return Err(RegisterError::NoRegistry);
        }
        let (heartbeat, lease) = (config.heartbeat, config.lease);
        let mut rng = Rng::from_entropy();
        let peers = Arc::new(Peers::new(config, client, &mut rng));
        let status = watch::Sender::new(instance.status);
        let (renewed_tx, renewed) = watch::channel(None);
        let (leave, leaving) = oneshot::channel();
        let mut driver = Driver::new(driver::Parts {
            peers,
            instance,
            clock: Arc::clone(&clock),
            rng,
            heartbeat,
            lease,
            status: status.subscribe(),
            renewed: renewed_tx,
        });
        driver.first().await?;
        driver.spawn(leaving, tasks);
        Ok(Self { renewed, status, leave, lease, clock })
    }

    /// Whether a registry holds the registration, as far as is known: the last success is no older
    /// than the lease.
    #[must_use]
    pub fn registered(&self) -> bool {
        let last = *self.renewed.borrow();
        last.is_some_and(|it| self.clock.monotonic().since(it) < self.lease)
    }

    /// Waits until [`Registration::registered`], at most `limit`; whether it is.
    pub async fn wait_registered(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while !self.registered() {
            let renewed = timeout_at(end, self.renewed.changed()).await;
            if !matches!(renewed, Ok(Ok(()))) {
                break;
            }
        }
        self.registered()
    }

    /// Tells the registry another status, at once.
    pub fn set_status(&self, status: Status) {
        self.status.send_if_modified(|it| std::mem::replace(it, status) != status);
    }

    /// Ends the heartbeats and takes the instance out of the registry, trying one registry after
    /// the other for at most `limit`. Returns whether one confirmed it; if none did, the lease runs
    /// out.
    pub async fn leave(self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let (done, confirmed) = oneshot::channel();
        if self.leave.send(Leave { end, done }).is_err() {
            // The heartbeats have ended already, by the end of their tasks.
            return false;
        }
        matches!(timeout_at(end, confirmed).await, Ok(Ok(true)))
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("registered", &self.registered())
            .field("status", &*self.status.borrow())
            .finish_non_exhaustive()
    }
}
