//! Lists that follow the registry.

use std::sync::Arc;

use tradewind_base::Tasks;
use tradewind_http::Client;

use crate::store::Store;
use crate::wire::Reason;
use crate::{Instance, RegistryClientConfig};

pub(crate) struct Registry;

impl Registry {
    pub(crate) fn start(
        _config: RegistryClientConfig,
        _client: Client,
        _store: Arc<Store>,
        _tasks: &Tasks,
    ) -> Self {
        Self
    }

    pub(crate) fn report(&self, _instance: &Instance, _reason: Reason) {}
}
