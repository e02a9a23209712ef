//! What a caller holds of one service.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tradewind_base::Monotonic;

use crate::store::Service;
use crate::{Instance, InstanceId, List, ServiceName};

/// The current list of one service. Clones are cheap and follow the same list.
#[derive(Clone, Debug)]
pub struct View {
    service: Arc<Service>,
    versions: watch::Receiver<u64>,
}

impl View {
    pub(crate) fn new(service: Arc<Service>) -> Self {
        let versions = service.versions();
        Self { service, versions }
    }

    /// The service.
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        &self.service.name
    }

    /// The list as it is now; empty until the first is known. Takes no lock.
    #[must_use]
    pub fn load(&self) -> Arc<List> {
        self.service.load()
    }

    /// Whether a list is known at all: tells "no instances" from "nobody said yet".
    #[must_use]
    pub fn known(&self) -> bool {
        self.service.known()
    }

    /// Waits until a list is published that this view has not been told of, and returns the
    /// newest. Lists in between are skipped.
    ///
    /// Cancel safe.
    pub async fn changed(&mut self) -> Arc<List> {
        // An error means that the sender is gone; it lives in the service, which this view holds.
        if self.versions.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.load()
    }

    /// Waits until a list is known that fits, and returns it.
    ///
    /// Cancel safe.
    pub async fn wait_for(&mut self, mut fits: impl FnMut(&List) -> bool) -> Arc<List> {
        loop {
            self.versions.mark_unchanged();
            let list = self.load();
            if self.known() && fits(&list) {
                return list;
            }
            self.changed().await;
        }
    }

    /// The instances to call: UP and not set aside; all that are UP when every one of them is set
    /// aside, since a doubtful instance is better than none.
    #[must_use]
    pub fn callable(&self) -> Vec<Arc<Instance>> {
        let list = self.load();
        if self.service.any_suspects() {
            let trusted: Vec<_> = list.up().filter(|it| !self.suspected(&it.id)).cloned().collect();
            if !trusted.is_empty() {
                return trusted;
            }
        }
        list.up().cloned().collect()
    }

    /// Sets an instance aside for a while, in this process only. A change of the instance in the
    /// registry ends it early.
    pub fn suspect(&self, id: &InstanceId, span: Duration) {
        self.service.suspect(id, span);
    }

    /// Ends the time aside of an instance: a call of it succeeded.
    pub fn trust(&self, id: &InstanceId) {
        self.service.trust(id);
    }

    /// Whether the instance is set aside now.
    #[must_use]
    pub fn suspected(&self, id: &InstanceId) -> bool {
        self.suspected_until(id).is_some()
    }

    /// Until when the instance is set aside; `None` when it is not.
    #[must_use]
    pub fn suspected_until(&self, id: &InstanceId) -> Option<Monotonic> {
        self.service.suspected_until(id)
    }
}
