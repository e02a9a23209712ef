//! The server: listening, accepting, draining.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tradewind_base::{Clock, Problem, Tasks};

use super::measure::prepare;
use super::request::Edge;
use super::{EdgeConfig, Listener, connection};
use crate::Keys;
use crate::extract::Authority;
use crate::health::Health;
use crate::interfaces::Interfaces;
use crate::telemetry::Metrics;

/// Connections the system keeps waiting to be accepted.
const BACKLOG: i32 = 1024;
/// Connections that are told at one time that there are too many; further ones are closed unheard.
const REFUSALS_MAX: usize = 64;
/// How long such a connection is kept for the client to read why.
const REFUSAL_TIME: Duration = Duration::from_secs(1);
/// How long accepting rests after an error that is not the client's.
const REST_MIN: Duration = Duration::from_millis(10);
const REST_MAX: Duration = Duration::from_secs(1);
/// How often recorded durations are moved into their buckets.
const UPKEEP: Duration = Duration::from_secs(5);
/// How long what was cut has to notice.
const CUT_TIME: Duration = Duration::from_secs(1);

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "failed to listen on {address}{}",
    if .key.is_empty() { String::new() } else { format!("; the setting {} moves it", .key) }
)]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// The setting it comes from; empty when it does not come from the configuration.
    pub key: String,
    /// The cause.
    #[source]
    pub source: io::Error,
}

/// A server that listens but does not serve yet.
#[must_use]
pub struct Server<L = TcpListener> {
    config: EdgeConfig,
    listener: L,
    address: SocketAddr,
    bare: fn(&str) -> bool,
    pages: Vec<(&'static str, Page)>,
}

/// What a management page shows, asked anew for every request.
pub(super) type Page = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// A server that serves.
#[must_use = "what is not drained goes on until the runtime ends"]
pub struct Serving {
    address: SocketAddr,
    pub(super) tasks: Tasks,
    edge: Arc<Edge>,
}

/// How the requests ended that were not answered when draining began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// They were answered to the last byte, or their clients left.
    pub finished: usize,
    /// They were cut off at the limit.
    pub cut: usize,
}

impl<L: Listener> std::fmt::Debug for Server<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pages: Vec<_> = self.pages.iter().map(|(path, _)| path).collect();
        f.debug_struct("Server")
            .field("config", &self.config)
            .field("listener", &self.listener)
            .field("pages", &pages)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Listens on the address of `config`. The address is not shared with another process: two
    /// servers on one port would be a mistake that nobody notices.
    ///
    /// # Errors
    /// When the address is taken or not to be had; the error names the setting that moves it.
    #[expect(clippy::unused_async, reason = "must run inside a runtime, which a future does")]
    pub async fn bind(config: EdgeConfig) -> Result<Self, BindError> {
        let listener = listen(config.bind).map_err(|source| BindError {
            address: config.bind,
            key: config.bind_key.clone(),
            source,
        })?;
        Self::with_listener(config, listener)
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    // So that a restart need not wait for old connections to time out. Unlike SO_REUSEPORT this
    // does not let two listeners share the port.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

impl<L: Listener> Server<L> {
    /// A server on a listener that exists already.
    ///
    /// # Errors
    /// When the listener does not know its address.
    pub fn with_listener(config: EdgeConfig, listener: L) -> Result<Self, BindError> {
        let address = listener.local_addr().map_err(|source| BindError {
            address: config.bind,
            key: config.bind_key.clone(),
            source,
        })?;
        Ok(Self { config, listener, address, bare: |_| false, pages: Vec::new() })
    }

    /// Names the paths whose refusals carry no body, as a foreign protocol may ask for.
    pub fn bare(mut self, paths: fn(&str) -> bool) -> Self {
        self.bare = paths;
        self
    }

    /// Adds a management page beside `/health/ready` and `/metrics`, hidden like them from what
    /// came through a proxy.
    pub fn page(
        mut self,
        path: &'static str,
        show: impl Fn() -> serde_json::Value + Send + Sync + 'static,
    ) -> Self {
        self.pages.push((path, Arc::new(show)));
        self
    }

    /// The address that is listened on, with the real port.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves `router` as the service `name` until [`Serving::drain`]. When `tasks` end, accepting
    /// ends too.
    pub fn serve(
        self,
        name: &'static str,
        router: Router,
        health: Health,
        keys: Option<Keys>,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Serving {
        let tasks = tasks.child();
        let edge = Arc::new(Edge {
            name,
            router: prepare(router),
            bare: self.bare,
            pages: self.pages,
            health,
            authority: Authority::new(keys, Arc::clone(&clock)),
            interfaces: Arc::new(Interfaces::new(name, Arc::clone(&clock))),
            metrics: Metrics::of_process(),
            clock,
            connections: Arc::new(Semaphore::new(self.config.connections_max)),
            permits: Arc::new(Semaphore::new(self.config.requests_in_flight_max)),
            total: Arc::new(AtomicUsize::new(0)),
            tasks: tasks.clone(),
            cut: CancellationToken::new(),
            config: self.config,
        });
        let accepting = accept(Arc::clone(&edge), self.listener);
        tasks.spawn("accept", |cancel| async move {
            cancel.run_until_cancelled(accepting).await;
        });
        let metrics = edge.metrics.clone();
        tasks.spawn("metrics-upkeep", |cancel| async move {
            let mut ticks = tokio::time::interval(UPKEEP);
            while cancel.run_until_cancelled(ticks.tick()).await.is_some() {
                metrics.upkeep();
            }
        });
        Serving { address: self.address, tasks, edge }
    }
}

impl Serving {
    /// The address that is listened on.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The numbers of the interfaces, as `/interfaces` shows them.
    #[must_use]
    pub fn interfaces(&self) -> Arc<Interfaces> {
        Arc::clone(&self.edge.interfaces)
    }

    /// Stops accepting, tells every connection to finish, waits for that at most `limit`, and cuts
    /// off the rest.
    pub async fn drain(self, limit: Duration) -> Drained {
        let before = self.edge.total.load(Ordering::Relaxed);
        if self.tasks.shutdown(limit).await.is_ok() {
            return Drained { finished: before, cut: 0 };
        }
        let cut = self.edge.total.load(Ordering::Relaxed);
        tracing::warn!(service = self.edge.name, cut, "requests were cut off by the end");
        self.edge.cut.cancel();
        if let Err(error) = self.tasks.shutdown(CUT_TIME).await {
            tracing::warn!(service = self.edge.name, %error, "tasks do not end");
        }
        Drained { finished: before.saturating_sub(cut), cut }
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Accepts connections for as long as it is polled; nothing that happens to one ends it.
async fn accept<L: Listener>(edge: Arc<Edge>, mut listener: L) {
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    let builder = connection::builder(&edge.config, &edge.tasks);
    let mut rest = REST_MIN;
    loop {
        let (io, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if concerns_one(&error) => continue,
            Err(error) => {
                // Out of descriptors, most likely: they come back when connections end.
                tracing::warn!(service = edge.name, %error, "failed to accept a connection");
                tokio::time::sleep(rest).await;
                rest = (rest * 2).min(REST_MAX);
                continue;
            }
        };
        rest = REST_MIN;
        if let Ok(permit) = Arc::clone(&edge.connections).try_acquire_owned() {
            let (edge, builder) = (Arc::clone(&edge), builder.clone());
            edge.tasks.clone().spawn("connection", |cancel| async move {
                connection::serve(edge, builder, io, peer, cancel).await;
                drop(permit);
            });
            continue;
        }
        metrics::counter!("tradewind_http_connections_refused_total", "service" => edge.name)
            .increment(1);
        if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
            edge.tasks.spawn("refusal", |cancel| async move {
                let refusal = tokio::time::timeout(REFUSAL_TIME, refuse(io));
                cancel.run_until_cancelled(refusal).await;
                drop(permit);
            });
        }
    }
}

/// Whether an error of accepting concerns the one connection it kept from being accepted.
fn concerns_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    use io::ErrorKind::{InvalidInput, NotConnected};
    matches!(
        error.kind(),
        // The last two: the options of a socket whose client has already gone.
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | Interrupted
            | InvalidInput
            | NotConnected
    )
}

/// Tells a client that there are too many, and waits for it to hear.
async fn refuse<I: AsyncRead + AsyncWrite + Unpin>(mut io: I) {
    let problem = Problem::unavailable("edge.too-many-connections", "try again in a moment");
    let body = problem.to_json();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: {}\r\ncontent-length: {}\r\n\
         retry-after: 1\r\nconnection: close\r\n\r\n{body}",
        tradewind_base::problem::MEDIA_TYPE,
        body.len(),
    );
    if io.write_all(answer.as_bytes()).await.is_err() || io.shutdown().await.is_err() {
        return;
    }
    // Closing with unread bytes would reset the connection and take the answer with it.
    let mut ignored = [0_u8; 1024];
    while io.read(&mut ignored).await.is_ok_and(|it| 0 < it) {}
}
