//! Connections to services, one pool per worker.
//!
//! At most [`PoolLimits::active`] requests are on their way to one target from one worker; who
//! finds no place waits in order within the connect limit. Idle connections are used last in,
//! first out, and the socket itself is asked before one is used again, so that an instance that
//! died a moment ago is not sent a request.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tradewind_base::Tasks;
use tradewind_http::{Connect, Target, Watch};

use super::body::UpBody;

/// Bounds of a pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolLimits {
    /// Requests under way to one target.
    pub(crate) active: usize,
    /// Idle connections kept to one target.
    pub(crate) idle: usize,
    /// How long an idle connection is kept.
    pub(crate) idle_time: Duration,
    /// Bytes of an answer's head.
    pub(crate) head_bytes: usize,
}

/// Why there is no connection. Nothing was sent in any case.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("no place for another request in time")]
    Queue,
    #[error("no connection in time")]
    TimedOut,
    #[error("failed to connect")]
    Refused(#[source] std::io::Error),
    #[error("failed to begin HTTP on the connection")]
    Handshake(#[source] hyper::Error),
}

/// Sums over the pools of all workers.
#[derive(Debug, Default)]
pub(crate) struct PoolStats {
    pub(crate) active: AtomicUsize,
    pub(crate) idle: AtomicUsize,
    pub(crate) waiting: AtomicUsize,
}

/// Counts up until dropped.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Connection {
    sender: SendRequest<UpBody>,
    watch: Option<Box<dyn Watch>>,
    /// Closes the connection, whatever it is doing, when dropped.
    close: DropGuard,
}

impl Connection {
    fn usable(&self) -> bool {
        !self.sender.is_closed() && !self.watch.as_ref().is_some_and(|it| it.ended())
    }
}

struct Host {
    places: Arc<Semaphore>,
    idle: Mutex<Vec<(Connection, Instant)>>,
}

/// A pool.
pub(crate) struct Pool {
    connector: Arc<dyn Connect>,
    limits: PoolLimits,
    hosts: Mutex<HashMap<Target, Arc<Host>>>,
    stats: Arc<PoolStats>,
    tasks: Tasks,
}

/// A connection for one request, with its place. Dropped, it closes.
pub(crate) struct Lease {
    connection: Option<Connection>,
    host: Arc<Host>,
    stats: Arc<PoolStats>,
    idle_max: usize,
    /// Whether it served a request before.
    pub(crate) reused: bool,
    _place: OwnedSemaphorePermit,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("reused", &self.reused).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    pub(crate) fn new(
        connector: Arc<dyn Connect>,
        limits: PoolLimits,
        stats: Arc<PoolStats>,
        tasks: Tasks,
    ) -> Self {
        Self { connector, limits, hosts: Mutex::default(), stats, tasks }
    }

    fn host(&self, target: &Target) -> Arc<Host> {
        let mut hosts = lock(&self.hosts);
        let fresh = || {
            let places = Arc::new(Semaphore::new(self.limits.active));
            Arc::new(Host { places, idle: Mutex::default() })
        };
        Arc::clone(hosts.entry(target.clone()).or_insert_with(fresh))
    }

    /// A connection to the target; `fresh` asks for one that no other request has used.
    pub(crate) async fn lease(
        &self,
        target: &Target,
        fresh: bool,
        until: Instant,
    ) -> Result<Lease, ConnectError> {
        let host = self.host(target);
        let place = match Arc::clone(&host.places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                let _waiting = Counted::new(&self.stats.waiting);
                let waited = timeout_at(until, Arc::clone(&host.places).acquire_owned()).await;
                // The semaphore is never closed.
                waited.ok().and_then(Result::ok).ok_or(ConnectError::Queue)?
            }
        };
        self.stats.active.fetch_add(1, Ordering::Relaxed);
        let mut lease = Lease {
            connection: None,
            host,
            stats: Arc::clone(&self.stats),
            idle_max: self.limits.idle,
            reused: false,
            _place: place,
        };
        while !fresh && let Some(mut connection) = lease.take_idle() {
            // The last answer may have ended a moment ago: its task must notice first.
            if connection.usable()
                && timeout_at(until, connection.sender.ready()).await.is_ok_and(|it| it.is_ok())
            {
                lease.connection = Some(connection);
                lease.reused = true;
                return Ok(lease);
            }
        }
        lease.connection = Some(self.connect(target, until).await?);
        Ok(lease)
    }

    async fn connect(&self, target: &Target, until: Instant) -> Result<Connection, ConnectError> {
        let stream = timeout_at(until, self.connector.connect(target))
            .await
            .map_err(|_| ConnectError::TimedOut)?
            .map_err(ConnectError::Refused)?;
        let watch = stream.watch();
        let (sender, connection) = Builder::new()
            .max_headers(200)
            .max_header_size(self.limits.head_bytes)
            .max_buf_size(self.limits.head_bytes.max(64 * 1024))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(ConnectError::Handshake)?;
        let close = CancellationToken::new();
        let closed = close.clone();
        self.tasks.spawn("upstream", move |_| async move {
            let connection = connection.with_upgrades();
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                ended = &mut connection => if let Err(error) = ended {
                    tracing::debug!(error = %error, "connection to a service ended");
                },
                () = closed.cancelled() => {}
            }
        });
        Ok(Connection { sender, watch, close: close.drop_guard() })
    }

    /// Closes what has been idle too long; called about once a second.
    pub(crate) fn sweep(&self) {
        let mut hosts = lock(&self.hosts);
        hosts.retain(|_, host| {
            let mut idle = lock(&host.idle);
            let before = idle.len();
            idle.retain(|(it, since)| since.elapsed() < self.limits.idle_time && it.usable());
            self.stats.idle.fetch_sub(before - idle.len(), Ordering::Relaxed);
            // Nobody else holds it, and nothing is in it.
            !idle.is_empty() || 1 < Arc::strong_count(host)
        });
    }

    /// Closes every idle connection.
    pub(crate) fn clear(&self) {
        for host in lock(&self.hosts).values() {
            let closed = std::mem::take(&mut *lock(&host.idle));
            self.stats.idle.fetch_sub(closed.len(), Ordering::Relaxed);
        }
    }
}

impl Lease {
    fn take_idle(&self) -> Option<Connection> {
        let (connection, _) = lock(&self.host.idle).pop()?;
        self.stats.idle.fetch_sub(1, Ordering::Relaxed);
        Some(connection)
    }

    /// What sends the request.
    pub(crate) fn sender(&mut self) -> Option<&mut SendRequest<UpBody>> {
        self.connection.as_mut().map(|it| &mut it.sender)
    }

    /// The request and its answer are through: others may use the connection.
    pub(crate) fn give_back(mut self) {
        let Some(connection) = self.connection.take() else { return };
        let mut idle = lock(&self.host.idle);
        if idle.len() < self.idle_max && !connection.sender.is_closed() {
            idle.push((connection, Instant::now()));
            self.stats.idle.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The connection was upgraded: from now on the guard alone closes it, and the place is held.
    pub(crate) fn into_tunnel(mut self) -> (Option<DropGuard>, Self) {
        let guard = self.connection.take().map(|it| it.close);
        (guard, self)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.stats.active.fetch_sub(1, Ordering::Relaxed);
    }
}
