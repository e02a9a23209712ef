//! Building, running and ending the gateway.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tradewind_base::Tasks;
use tradewind_discovery::{Discovery, RegistryClientConfig};
use tradewind_http::{Client, Connect, Target, TargetError, TcpConnect};
use tradewind_service::edge::{self, Server, Serving};
use tradewind_service::telemetry::Metrics;
use tradewind_service::{AdminToken, Health, Shared, Stop};
use tradewind_sql::DatabaseUrl;

use crate::access::AccessLog;
use crate::admin::{self, Admin};
use crate::proxy::gate::Gate;
use crate::proxy::pool::PoolStats;
use crate::proxy::worker;
use crate::routing::Routing;
use crate::settings::Config;
use crate::store::Store;
use crate::tokens::Tokens;

/// How long the admin surface and the background tasks have to end.
const END_LIMIT: Duration = Duration::from_secs(1);
/// How long one look at the first lists of instances takes before it is reported as missing.
const FIRST_LISTS: Duration = Duration::from_secs(1);

/// Why the gateway does not start, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The address for clients is taken or not to be had.
    #[error("failed to listen on {address}; the setting gateway.bind moves it")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The address of the admin surface is taken or not to be had.
    #[error("failed to start the admin surface")]
    Admin(#[source] edge::BindError),
    /// The admin token cannot be made or read.
    #[error("failed to make or read the admin token")]
    Token(#[source] tradewind_service::lifecycle::KeysError),
    /// The access log cannot be opened.
    #[error("failed to open the access log {path}")]
    AccessLog {
        /// The file.
        path: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A URL of the registry is none.
    #[error("the registry's URL {url} is not usable")]
    Registry {
        /// The text.
        url: String,
        /// The cause.
        #[source]
        source: TargetError,
    },
    /// A worker's thread could not be started or failed.
    #[error("a worker failed")]
    Worker(#[source] io::Error),
}

/// What became of the requests that were in work when the gateway was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Finished in time.
    pub finished: usize,
    /// Cut off at the limit.
    pub cut: usize,
}

/// A running gateway.
#[derive(Debug)]
#[must_use]
pub struct Gateway {
    gate: Arc<Gate>,
    store: Arc<Store>,
    serving: Serving,
    health: Health,
    threads: Vec<JoinHandle<io::Result<()>>>,
    tasks: Tasks,
    drain_limit: Duration,
}

impl Gateway {
    /// Starts a gateway that finds instances through `discovery` and reaches them through
    /// `connector`. `client` fetches the keys of tokens.
    ///
    /// # Errors
    /// When an address is taken or a file cannot be opened. A database that is not there is no
    /// error: the routes of the last run are served until it comes back.
    pub async fn start(
        config: Config,
        shared: &Shared,
        discovery: Discovery,
        client: Client,
        connector: Arc<dyn Connect>,
    ) -> Result<Self, RunError> {
        // First of all: what is counted before there is a recorder is lost, and handles made
        // before it stay dead.
        let _metrics = Metrics::of_process();
        let listeners = worker::bind(config.bind, config.workers)
            .map_err(|source| RunError::Bind { address: config.bind, source })?;
        let local = listeners.first().map_or(Ok(config.bind), std::net::TcpListener::local_addr);
        let local = local.map_err(RunError::Worker)?;
        let server = Server::bind(config.admin.clone()).await.map_err(RunError::Admin)?;
        let token = AdminToken::load_or_create(&shared.data, "admin").map_err(RunError::Token)?;
        let log = open_log(&config, shared)?;
        let tasks = Tasks::new();
        let health = Health::new();
        let routing = Arc::new(Routing::new(discovery.clone()));
        let url = config
            .database
            .clone()
            .unwrap_or_else(|| DatabaseUrl::sqlite(&shared.data.join("gateway.db")));
        let seeds = config.seed_routes.clone();
        let store = Arc::new(Store::new(url, &shared.data, seeds, Arc::clone(&routing)));
        let tokens = Arc::new(Tokens::new());
        tokens.start(config.jwks.clone(), config.jwks_interval, &discovery, client, &tasks);
        store.start(config.watch_interval, health.component("routes"), &tasks).await;
        follow_lists(&discovery, &health, &tasks);
        let gate = Arc::new(Gate {
            routing,
            tokens,
            wanted: config.tokens,
            seal: shared.keys.seal().clone(),
            clock: Arc::clone(&shared.clock),
            connector,
            client: config.client,
            upstream: config.upstream,
            trusted: config.trusted_proxies,
            log: Arc::new(log),
            local,
            inflight: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            pools: Arc::new(PoolStats::default()),
            draining: CancellationToken::new(),
            cut: CancellationToken::new(),
        });
        export_gauges(&gate, &tasks);
        let admin = Admin { store: Arc::clone(&store), gate: Arc::clone(&gate), token };
        let (keys, clock) = (Some(shared.keys.clone()), Arc::clone(&shared.clock));
        let router = admin::router(admin);
        let known = discovery.clone();
        let server = server.page("/discovery", move || serde_json::json!(known.overview()));
        let serving = server.serve("gateway", router, health.clone(), keys, clock, &tasks);
        gate.tokens.opened(config.jwks_wait).await;
        let threads = worker::start(&gate, listeners).map_err(RunError::Worker)?;
        tracing::info!(addr = %local, admin = %serving.local_addr(), "listening");
        let drain_limit = config.drain_limit;
        Ok(Self { gate, store, serving, health, threads, tasks, drain_limit })
    }

    /// The address for clients, with the real port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.gate.local
    }

    /// The address of the admin surface, with the real port.
    #[must_use]
    pub const fn admin_addr(&self) -> SocketAddr {
        self.serving.local_addr()
    }

    /// What is up and what is not.
    #[must_use]
    pub const fn health(&self) -> &Health {
        &self.health
    }

    /// Requests in work.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.gate.inflight.load(Ordering::Relaxed)
    }

    /// Connections of clients.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.gate.connections.load(Ordering::Relaxed)
    }

    /// Whether a worker has ended by itself, which only a fault of ours makes it do.
    fn broken(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Stops accepting, lets requests finish within the drain limit, cuts off the rest. `urged`
    /// resolves when nobody wants to wait any longer.
    pub async fn stop(self, urged: impl Future<Output = ()>) -> Drained {
        self.health.component("drain").down("stopping");
        let before = self.in_flight();
        self.gate.draining.cancel();
        let idle = async {
            let mut look = tokio::time::interval(Duration::from_millis(10));
            while 0 < self.connections() + self.in_flight() {
                look.tick().await;
            }
        };
        let finished = tokio::select! {
            () = idle => true,
            () = tokio::time::sleep(self.drain_limit) => false,
            () = urged => false,
        };
        let cut = if finished { 0 } else { self.in_flight() };
        self.gate.cut.cancel();
        let threads = self.threads;
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().map(JoinHandle::join).collect::<Vec<_>>()
        });
        match joined.await {
            Ok(ends) => {
                for end in ends {
                    match end {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => tracing::error!(error = %error, "a worker failed"),
                        Err(_) => tracing::error!("a worker panicked"),
                    }
                }
            }
            Err(error) => tracing::error!(error = %error, "failed to wait for the workers"),
        }
        self.serving.drain(END_LIMIT).await;
        if let Err(error) = self.tasks.shutdown(END_LIMIT).await {
            tracing::warn!(error = %error, "tasks of the gateway do not end");
        }
        self.store.close().await;
        let log = Arc::clone(&self.gate.log);
        if let Err(error) = tokio::task::spawn_blocking(move || log.close()).await {
            tracing::warn!(error = %error, "failed to close the access log");
        }
        let drained = Drained { finished: before.saturating_sub(cut), cut };
        tracing::info!(finished = drained.finished, cut, "gateway stopped");
        drained
    }
}

/// Runs the gateway until `stop`, finding instances through the registry of `shared`.
///
/// # Errors
/// When it cannot start, or a worker ends by itself.
pub async fn run(config: Config, shared: Shared, stop: Stop) -> Result<(), RunError> {
    let tasks = Tasks::new();
    let mut urls = Vec::with_capacity(shared.registry.len());
    for url in &shared.registry {
        let parsed = Target::parse(url);
        urls.push(parsed.map_err(|source| RunError::Registry { url: url.clone(), source })?);
    }
    let client = Client::standard(&tasks);
    let registry = RegistryClientConfig {
        user: shared.registry_user.clone(),
        ..RegistryClientConfig::new(urls)
    };
    let discovery =
        Discovery::registry(registry, client.clone(), Arc::clone(&shared.clock), &tasks);
    let gateway =
        Gateway::start(config, &shared, discovery, client, Arc::new(TcpConnect::new())).await?;
    let mut look = tokio::time::interval(Duration::from_secs(1));
    let broken = loop {
        tokio::select! {
            () = stop.wait() => break false,
            _ = look.tick() => if gateway.broken() { break true },
        }
    };
    gateway.stop(stop.wait_urged()).await;
    if let Err(error) = tasks.shutdown(END_LIMIT).await {
        tracing::warn!(error = %error, "tasks of the gateway do not end");
    }
    if broken {
        return Err(RunError::Worker(io::Error::other("it ended without being told to")));
    }
    Ok(())
}

fn open_log(config: &Config, shared: &Shared) -> Result<AccessLog, RunError> {
    let path = config
        .access_log
        .clone()
        .unwrap_or_else(|| shared.data.join("logs").join("gateway-access.jsonl"));
    let text = path.display().to_string();
    AccessLog::open(path, config.access_log_bytes)
        .map_err(|source| RunError::AccessLog { path: text, source })
}

/// Ready only when the first list of every routed service is there.
fn follow_lists(discovery: &Discovery, health: &Health, tasks: &Tasks) {
    let component = health.component("discovery");
    let discovery = discovery.clone();
    tasks.spawn("first-lists", move |cancel| async move {
        loop {
            let ready = cancel.run_until_cancelled(discovery.ready(FIRST_LISTS)).await;
            match ready {
                Some(Ok(())) => return component.up(),
                Some(Err(error)) => component.down(error.to_string()),
                None => return,
            }
        }
    });
}

/// Numbers that are levels, not events, are looked at once a second.
fn export_gauges(gate: &Arc<Gate>, tasks: &Tasks) {
    let gate = Arc::clone(gate);
    tasks.spawn("gauges", move |cancel| async move {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        let level = |name: &'static str, count: &AtomicUsize| {
            let count = u32::try_from(count.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
            metrics::gauge!(name).set(f64::from(count));
        };
        while cancel.run_until_cancelled(ticks.tick()).await.is_some() {
            level("gw_upstream_pool_active", &gate.pools.active);
            level("gw_upstream_pool_idle", &gate.pools.idle);
            level("gw_upstream_pool_waiting", &gate.pools.waiting);
            level("gw_http_connections", &gate.connections);
            metrics::gauge!("gw_tokens_ready").set(if gate.tokens.ready() { 1.0 } else { 0.0 });
        }
    });
}
