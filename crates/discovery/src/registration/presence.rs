//! The stream whose end tells the registry that this process may be gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tradewind_base::Rng;

use crate::machine::retry::Retry;
use crate::peers::Peers;
use crate::source::registry::chain;
use crate::watching::{Ask, Watch, WatchError};
use crate::{InstanceId, ServiceName};

/// How long a registry that has no native watches is left alone.
const FOREIGN_PAUSE: Duration = Duration::from_secs(30);

pub(super) struct Presence {
    pub(super) peers: Arc<Peers>,
    pub(super) service: ServiceName,
    pub(super) id: InstanceId,
    /// The peer that has the registration.
    pub(super) holder: watch::Receiver<Option<usize>>,
    pub(super) rng: Rng,
}

impl Presence {
    /// Holds a stream to the peer that has the registration, until dropped.
    pub(super) async fn run(mut self) {
        let mut retry = Retry::new(1);
        loop {
            let holder = *self.holder.borrow_and_update();
            let Some(peer) = holder else {
                if self.holder.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let stream = hold(&self.peers, peer, &self.service, &self.id, &mut retry);
            let error = tokio::select! {
                error = stream => error,
                moved = self.holder.changed() => match moved {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            };
            let pause = match error {
                WatchError::Status(status) if status.is_client_error() => FOREIGN_PAUSE,
                _ => retry.failed(self.rng.unit()),
            };
            tracing::debug!(error = chain(&error), "presence stream ended");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                moved = self.holder.changed() => if moved.is_err() {
                    return;
                },
            }
        }
    }
}

async fn hold(
    peers: &Peers,
    peer: usize,
    service: &ServiceName,
    id: &InstanceId,
    retry: &mut Retry,
) -> WatchError {
    let ask = Ask { instance: Some((service, id)), ..Ask::default() };
    let mut watch = match Watch::open(peers, peer, &ask).await {
        Ok(watch) => watch,
        Err(error) => return error,
    };
    loop {
        match watch.next().await {
            Ok(_) => retry.succeeded(),
            Err(error) => return error,
        }
    }
}
