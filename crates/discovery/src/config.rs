//! What a client of the registry is told.

use std::time::Duration;

use tradewind_base::SecretString;
use tradewind_http::Target;

/// Which registries there are and how to behave towards them.
///
/// The registries are peers that tell each other everything: a client uses one at a time.
#[derive(Clone, Debug)]
pub struct RegistryClientConfig {
    /// The peers. The order does not matter.
    pub urls: Vec<Target>,
    /// User and password for basic authentication.
    pub user: Option<(String, SecretString)>,
    /// How often a registration is renewed.
    pub heartbeat: Duration,
    /// How long a registration lasts without being renewed. Written to the registry in whole
    /// seconds, rounded up.
    pub lease: Duration,
}

impl RegistryClientConfig {
    /// These peers, without authentication, a heartbeat each second and a lease of three.
    #[must_use]
    pub const fn new(urls: Vec<Target>) -> Self {
        Self { urls, user: None, heartbeat: Duration::from_secs(1), lease: Duration::from_secs(3) }
    }
}
