//! Lists that follow the registry: one task follows the change stream, one passes reports on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{CONTENT_TYPE, HeaderValue};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tradewind_base::{Rng, Tasks};
use tradewind_http::Client;

use crate::machine::lists::Lists;
use crate::machine::reports::Reports;
use crate::machine::retry::Retry;
use crate::peers::{Peers, limits};
use crate::store::Store;
use crate::watching::{Ask, Watch, WatchError};
use crate::wire::{Reason, SUSPICIONS_PATH, Suspicion};
use crate::{Instance, InstanceId, RegistryClientConfig, ServiceName};

/// Most reports that wait to be passed on.
const QUEUE_MAX: usize = 256;
/// A process asks for its views one after the other while it starts; this much later they are
/// followed together.
const GATHER: Duration = Duration::from_millis(5);
/// A report is worth little after this time.
const REPORT_CONNECT: Duration = Duration::from_millis(500);
const REPORT_HEAD: Duration = Duration::from_secs(1);

/// The handle of the two tasks.
pub(crate) struct Registry {
    store: Arc<Store>,
    reports: Mutex<Reports>,
    suspicions: mpsc::Sender<Suspicion>,
    refused: mpsc::Sender<(ServiceName, InstanceId)>,
}

impl Registry {
    pub(crate) fn start(
        config: RegistryClientConfig,
        client: Client,
        store: Arc<Store>,
        tasks: &Tasks,
    ) -> Self {
        let mut rng = Rng::from_entropy();
        let peers = Arc::new(Peers::new(config, client, &mut rng));
        let (suspicions, suspicion_queue) = mpsc::channel(QUEUE_MAX);
        let (refused, refused_queue) = mpsc::channel(QUEUE_MAX);
        let at = Arc::new(AtomicUsize::new(0));
        let follower = Follower {
            lists: Lists::default(),
            retry: Retry::new(peers.len()),
            rng,
            followed: store.followed(),
            refused: refused_queue,
            store: Arc::clone(&store),
            peers: Arc::clone(&peers),
            at: Arc::clone(&at),
            silent: false,
        };
        tasks.spawn("discovery follow", |cancel| follower.run(cancel));
        let reporter = Reporter { peers, at, queue: suspicion_queue };
        tasks.spawn("discovery report", |cancel| reporter.run(cancel));
        Self { store, reports: Mutex::default(), suspicions, refused }
    }

    pub(crate) fn report(&self, instance: &Instance, reason: Reason) {
        let now = self.store.clock().monotonic();
        let Instance { service, id, .. } = instance;
        if reason == Reason::Refused {
            // Full: the follower is behind, and a later report will say the same.
            drop(self.refused.try_send((service.clone(), id.clone())));
        }
        let admitted = {
            let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
            reports.admit(now, service, id)
        };
        if !admitted {
            return;
        }
        let suspicion = Suspicion {
            service: service.as_str().to_owned(),
            id: id.as_str().to_owned(),
            reason,
            by: String::new(),
        };
        if self.suspicions.try_send(suspicion).is_err() {
            tracing::debug!(app = %service, instance.id = %id, "report dropped: too many wait");
        }
    }
}

/// Follows the change stream of one peer after the other.
struct Follower {
    peers: Arc<Peers>,
    store: Arc<Store>,
    lists: Lists,
    retry: Retry,
    rng: Rng,
    followed: watch::Receiver<u64>,
    refused: mpsc::Receiver<(ServiceName, InstanceId)>,
    /// The peer that is followed; the reporter asks it first.
    at: Arc<AtomicUsize>,
    /// Whether the loss of the stream has been logged.
    silent: bool,
}

/// How a wait ended.
enum Waited<T> {
    Done(T),
    /// Another service is followed.
    Refollow,
}

impl Follower {
    async fn run(mut self, cancel: CancellationToken) {
        if self.peers.is_empty() {
            tracing::warn!("no registry is configured: lists stay unknown");
            return;
        }
        let work = async {
            loop {
                self.round().await;
            }
        };
        tokio::select! {
            () = cancel.cancelled() => {}
            () = work => {}
        }
    }

    /// Follows until the stream is lost or another service is followed.
    async fn round(&mut self) {
        self.followed.mark_unchanged();
        let services = self.store.all();
        if services.is_empty() {
            self.wait(std::future::pending::<()>()).await;
            tokio::time::sleep(GATHER).await;
            return;
        }
        for service in &services {
            self.lists.follow(&service.name);
        }
        let names = services.iter().map(|it| &it.name).collect();
        let Err(error) = self.stream(names).await else {
            tokio::time::sleep(GATHER).await;
            return;
        };
        let lost = self.retry.peer();
        let random = self.rng.unit();
        let pause = self.retry.failed(random);
        self.log_loss(lost, &error);
        // Another service to follow is no reason to hurry: all are followed by the next stream.
        let pause = tokio::time::sleep(pause);
        tokio::pin!(pause);
        while let Waited::Refollow = self.wait(&mut pause).await {}
    }

    async fn stream(&mut self, services: Vec<&ServiceName>) -> Result<(), WatchError> {
        let peer = self.retry.peer();
        let peers = Arc::clone(&self.peers);
        let point = self.lists.point().map(|(epoch, revision)| (epoch.to_owned(), revision));
        let point = point.as_ref().map(|(epoch, revision)| (epoch.as_str(), *revision));
        let ask = Ask { services, point, instance: None };
        let opened = self.wait(Watch::open(&peers, peer, &ask)).await;
        let Waited::Done(opened) = opened else { return Ok(()) };
        let mut watch = opened?;
        self.lists.opened();
        loop {
            let Waited::Done(line) = self.wait(watch.next()).await else { return Ok(()) };
            let changed = self.lists.line(line?).map_err(WatchError::Broken)?;
            self.heard(peer);
            for service in changed {
                self.publish(&service);
            }
        }
    }

    /// Waits for the work; meanwhile takes callers' reports.
    async fn wait<T>(&mut self, work: impl Future<Output = T>) -> Waited<T> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                Some((service, id)) = self.refused.recv() => {
                    if self.lists.refused(&service, &id) {
                        self.publish(&service);
                    }
                }
                Ok(()) = self.followed.changed() => return Waited::Refollow,
                out = &mut work => return Waited::Done(out),
            }
        }
    }

    fn publish(&self, service: &ServiceName) {
        if let Some(list) = self.lists.list(service) {
            tracing::debug!(
                app = %service,
                revision = list.revision,
                instances = list.instances.len(),
                "list changed"
            );
            self.store.publish(service, list);
        }
    }

    fn heard(&mut self, peer: usize) {
        self.retry.succeeded();
        self.at.store(peer, Ordering::Relaxed);
        let (epoch, revision, warm) = self.lists.standing();
        let first = self.store.heard(epoch, revision, warm);
        if first || self.silent {
            self.silent = false;
            let skipped = self.lists.skipped();
            let url = self.peers.url(peer).map(ToString::to_string);
            tracing::info!(url, revision, warm, skipped, "following the registry");
        }
    }

    fn log_loss(&mut self, peer: usize, error: &WatchError) {
        let url = self.peers.url(peer).map(ToString::to_string);
        let error = chain(error);
        if self.silent {
            tracing::debug!(url, error, "the registry cannot be followed");
        } else {
            tracing::warn!(url, error, "the registry cannot be followed: lists are kept");
        }
        self.silent = true;
    }
}

/// Passes callers' reports on.
struct Reporter {
    peers: Arc<Peers>,
    at: Arc<AtomicUsize>,
    queue: mpsc::Receiver<Suspicion>,
}

impl Reporter {
    async fn run(mut self, cancel: CancellationToken) {
        loop {
            let suspicion = tokio::select! {
                () = cancel.cancelled() => return,
                suspicion = self.queue.recv() => suspicion,
            };
            let Some(suspicion) = suspicion else { return };
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.pass_on(&suspicion) => {}
            }
        }
    }

    /// Tells the peer that is followed, or else the first that listens.
    async fn pass_on(&self, suspicion: &Suspicion) {
        let body = match serde_json::to_vec(suspicion) {
            Ok(body) => Bytes::from(body),
            Err(error) => return tracing::warn!(%error, "a report cannot be written"),
        };
        let first = self.at.load(Ordering::Relaxed);
        for peer in first..first + self.peers.len() {
            let mut request = Request::new(body.clone());
            *request.method_mut() = http::Method::POST;
            *request.uri_mut() = http::Uri::from_static(SUSPICIONS_PATH);
            let json = HeaderValue::from_static("application/json");
            request.headers_mut().insert(CONTENT_TYPE, json);
            let sent = self.peers.send(peer, request, &limits(REPORT_CONNECT, REPORT_HEAD)).await;
            match sent {
                Some(Ok(answer)) if answer.status().is_success() => return,
                Some(Ok(answer)) => {
                    let status = answer.status().as_u16();
                    tracing::debug!(status, "the registry did not take a report");
                }
                Some(Err(error)) => {
                    tracing::debug!(error = chain(&error), "the registry could not be told");
                }
                None => return,
            }
        }
    }
}

/// An error with its causes, for a log.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(it) = cause {
        text.push_str(": ");
        text.push_str(&it.to_string());
        cause = it.source();
    }
    text
}
