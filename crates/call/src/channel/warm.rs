//! Keeps a connection to every instance ready, so that no call waits for one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tradewind_base::{Deadline, Tasks};
use tradewind_discovery::{Instance, InstanceId, List, ServiceName};
use tradewind_http::SendError;

use super::{Chain, Channel, Inner};

/// Most instances that connections are kept to. Beyond them, a first call connects.
const INSTANCES_MAX: usize = 64;
/// Most connections that are opened at a time.
const AT_A_TIME: usize = 8;
/// How often the connections are looked after when nothing happens: more often than idle ones are
/// closed.
const ROUND: Duration = Duration::from_secs(10);
/// How soon again after an instance could not be reached.
const ROUND_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How soon after a call has met a doubtful instance. Not at once: such calls come in bursts.
const ROUND_AFTER_DOUBT: Duration = Duration::from_millis(100);

/// What the last round found.
#[derive(Clone, Debug)]
pub(super) struct Warmth {
    /// Instances that were UP.
    up: usize,
    /// Those among them that a connection is ready to.
    connected: usize,
    error: Option<Arc<SendError>>,
}

/// A channel is not ready for calls.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WarmError {
    /// No instance of the service appeared in time.
    #[error("no instance of {service} is up after {} ms", .waited.as_millis())]
    NoInstance {
        /// The missing service.
        service: ServiceName,
        /// How long it was waited for.
        waited: Duration,
    },
    /// There are instances, and none could be connected to in time.
    #[error("none of {instances} instances of {service} can be reached")]
    Unreachable {
        /// The service.
        service: ServiceName,
        /// How many instances are UP.
        instances: usize,
        /// Why the last one could not be reached, if that is known yet.
        source: Option<Arc<SendError>>,
    },
}

impl Channel {
    /// Waits until the service's instances are known and every one has been connected to, at least
    /// one with success. Call it before the own service reports UP: then the first request finds
    /// lists and connections ready.
    ///
    /// From the first call on, a task in `tasks` keeps connections to instances that come later,
    /// too, and looks after those that cannot be reached.
    ///
    /// # Errors
    /// When that has not happened within `limit`. The task goes on all the same: a service that
    /// comes up later is found, so whether to start without it is for the caller to decide.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn warm(&self, limit: Duration, tasks: &Tasks) -> Result<(), WarmError> {
        let started = Instant::now();
        self.keep_warm(tasks);
        let mut warmth = self.inner.warmth.subscribe();
        let ready = warmth.wait_for(|it| it.as_ref().is_some_and(|it| 0 < it.connected));
        if timeout_at(Deadline::after(limit).instant(), ready).await.is_ok() {
            return Ok(());
        }
        let service = self.service().clone();
        let found = self.inner.warmth.borrow().clone().filter(|it| 0 < it.up);
        match (found, self.inner.view.load().up().count()) {
            (Some(Warmth { up, error, .. }), _) => {
                Err(WarmError::Unreachable { service, instances: up, source: error })
            }
            (None, 0) => Err(WarmError::NoInstance { service, waited: started.elapsed() }),
            (None, instances) => Err(WarmError::Unreachable { service, instances, source: None }),
        }
    }

    /// Starts the task, once.
    fn keep_warm(&self, tasks: &Tasks) {
        if std::mem::replace(&mut self.inner.lock().followed, true) {
            return;
        }
        let inner = Arc::clone(&self.inner);
        tasks.spawn("call.warm", move |end| async move { inner.follow(end).await });
    }
}

impl Inner {
    async fn follow(&self, end: CancellationToken) {
        let mut view = self.view.clone();
        let mut known = BTreeMap::new();
        loop {
            let list = view.load();
            let warmth = tokio::select! {
                it = self.round(&list, &mut known) => it,
                () = end.cancelled() => return,
            };
            let failing = warmth.connected < warmth.up.min(INSTANCES_MAX);
            self.warmth.send_replace(Some(warmth));
            let pause = if failing { ROUND_AFTER_FAILURE } else { ROUND };
            tokio::select! {
                _ = view.changed() => {}
                () = sleep(pause) => {}
                () = self.doubt() => {}
                () = end.cancelled() => return,
            }
        }
    }

    async fn doubt(&self) {
        self.lost.notified().await;
        sleep(ROUND_AFTER_DOUBT).await;
    }

    /// Connects to every instance that is UP and has no idle connection. `known` holds those that
    /// could be reached, so that only changes are logged.
    async fn round(&self, list: &List, known: &mut BTreeMap<InstanceId, bool>) -> Warmth {
        let limits = self.policy.limits(self.policy.connect);
        let up: Vec<Arc<Instance>> = list.up().take(INSTANCES_MAX).cloned().collect();
        known.retain(|id, _| up.iter().any(|it| it.id == *id));
        let results: Vec<(Arc<Instance>, Result<(), SendError>)> = stream::iter(up)
            .map(|it| async move {
                let result = self.client.warm(&it.target(), &limits).await;
                (it, result)
            })
            .buffer_unordered(AT_A_TIME)
            .collect()
            .await;
        let mut warmth = Warmth { up: list.up().count(), connected: 0, error: None };
        for (instance, result) in results {
            let reached = result.is_ok();
            let news = known.insert(instance.id.clone(), reached) != Some(reached);
            let (service, id) = (instance.service.as_str(), instance.id.as_str());
            match result {
                Ok(()) => {
                    warmth.connected += 1;
                    self.fit(&instance);
                    if news {
                        tracing::debug!(service, instance.id = id, "connection ready");
                    }
                }
                Err(error) => {
                    self.suspect(&instance, &error);
                    if news {
                        tracing::warn!(service, instance.id = id, error = %Chain(&error), "instance cannot be reached");
                    }
                    warmth.error = Some(Arc::new(error));
                }
            }
        }
        warmth
    }
}
