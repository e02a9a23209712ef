//! A running node: started, ready, stopped in order.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};
use tradewind_base::shutdown::Shutdown;
use tradewind_base::{Clock, Tasks};
use tradewind_http::Client;
use tradewind_service::axum::routing::get;
use tradewind_service::axum::{Router, middleware};
use tradewind_service::edge::{BindError, Listener, Server, Serving};
use tradewind_service::telemetry::Metrics;
use tradewind_service::{Component, Health, Keys, Shared, Stop};

use crate::auth::{self, Basic};
use crate::config::Config;
use crate::documents::Documents;
use crate::peers::First;
use crate::peers::link::Link;
use crate::rest::App;
use crate::state::{Registry, log_removed};
use crate::{metrics, native, page, prober, rest};

/// How long the background work has to end.
const TASKS_END: Duration = Duration::from_secs(3);

/// Why a registry node did not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The address cannot be listened on.
    #[error("failed to start the registry")]
    Bind(#[source] BindError),
}

/// Runs a node until `stop`, and ends it in order.
///
/// # Errors
/// When the address is taken.
pub async fn run(config: Config, shared: Shared, stop: Stop) -> Result<(), RunError> {
    let server = Server::bind(config.edge.clone()).await.map_err(RunError::Bind)?;
    let node = Node::start(server, config, shared.clock, Some(shared.keys));
    tracing::info!(addr = %node.local_addr(), "listening");
    tokio::select! {
        () = stop.wait() => {}
        () = node.ready() => {
            tracing::info!("ready");
            stop.wait().await;
        }
    }
    node.stop().await;
    Ok(())
}

/// One registry node in this process.
#[derive(Debug)]
#[must_use = "a node goes on until it is stopped"]
pub struct Node {
    registry: Arc<Registry>,
    serving: Serving,
    tasks: Tasks,
    component: Component,
}

impl Node {
    /// Serves on `server`, and begins to fill the table from the peers.
    pub fn start<L: Listener>(
        server: Server<L>,
        config: Config,
        clock: Arc<dyn Clock>,
        keys: Option<Keys>,
    ) -> Self {
        // What is counted before there is a recorder is lost.
        let _recorder = Metrics::of_process();
        metrics::describe();
        let tasks = Tasks::new();
        let health = Health::new();
        let component = health.component("table");
        let basic = config.user.as_ref().map(|(user, password)| Basic::new(user, password));
        let registry = Arc::new(Registry::new(config, Arc::clone(&clock)));
        spawn_expiry(&registry, &tasks);
        if registry.config.probe.enabled {
            let (registry, probes) = (Arc::clone(&registry), tasks.clone());
            tasks.spawn("prober", |cancel| prober::run(registry, probes, cancel));
        }
        let client = Client::standard(&tasks);
        for peer in &registry.peers {
            let authorization = basic.as_ref().and_then(Basic::header);
            let (registry, peer) = (Arc::clone(&registry), Arc::clone(peer));
            let link = Link::new(registry, peer, client.clone(), authorization);
            tasks.spawn("peer-link", |cancel| link.run(cancel));
        }
        let router = router(&registry, basic);
        let serving = server.bare(rest::is_bare).serve(
            "registry",
            router,
            health,
            keys,
            clock,
            &tasks.child(),
        );
        Self { registry, serving, tasks, component }
    }

    /// The address that is listened on.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.serving.local_addr()
    }

    /// Waits until the table was filled by a peer, or no peer could fill it, or the time set for
    /// that is over; from then on the node reports itself ready.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn ready(&self) {
        let wait = self.registry.config.sync_wait;
        if timeout(wait, self.filled()).await.is_err() {
            tracing::warn!("no peer filled the table in time; starting without");
        }
        self.component.up();
    }

    async fn filled(&self) {
        let mut pending: Vec<_> =
            self.registry.peers.iter().map(|it| it.first.subscribe()).collect();
        loop {
            let firsts: Vec<First> = pending.iter_mut().map(|it| *it.borrow_and_update()).collect();
            if firsts.contains(&First::Synced) || !firsts.contains(&First::Trying) {
                return;
            }
            let changes = pending.iter_mut().map(|it| Box::pin(it.changed()));
            // The senders live as long as the node.
            drop(futures_util::future::select_all(changes).await);
        }
    }

    /// Stops accepting, lets requests finish and change streams end, passes the last changes on to
    /// the peers, and ends.
    pub async fn stop(self) {
        self.component.down("stopping");
        let Self { registry, serving, tasks, .. } = self;
        let drain = registry.config.drain;
        Shutdown::new()
            .step("requests", drain + Duration::from_secs(2), async move {
                serving.drain(drain).await;
                Ok::<(), Infallible>(())
            })
            .step("background work", TASKS_END + Duration::from_secs(1), async move {
                tasks.shutdown(TASKS_END).await
            })
            .run()
            .await;
    }
}

fn router(registry: &Arc<Registry>, basic: Option<Basic>) -> Router {
    let app = App { registry: Arc::clone(registry), documents: Arc::new(Documents::default()) };
    let router = rest::router().merge(native::router()).route("/", get(page::page)).with_state(app);
    match basic {
        Some(basic) => router.layer(middleware::from_fn_with_state(basic, auth::require)),
        None => router,
    }
}

fn spawn_expiry(registry: &Arc<Registry>, tasks: &Tasks) {
    let registry = Arc::clone(registry);
    tasks.spawn("expiry", |cancel| async move {
        let mut ticks = interval(registry.config.expiry_check);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut holding = Vec::new();
        while cancel.run_until_cancelled(ticks.tick()).await.is_some() {
            let (removed, protections, sample) = registry.change(|table, now| {
                let removed = table.expire(now);
                let protections = table.protections(now);
                let (instances, protected) = (table.len(), protections.len());
                let sample = metrics::Sample { instances, protected, totals: table.totals() };
                (removed, protections, sample)
            });
            metrics::observe(&registry, &sample);
            log_removed(&removed);
            for it in &protections {
                if !holding.contains(&it.scope) {
                    tracing::warn!(scope = it.scope, "expiry is held back: {}", it.text);
                }
            }
            for scope in &holding {
                if protections.iter().all(|it| it.scope != *scope) {
                    tracing::info!(scope, "expiry is no longer held back");
                }
            }
            holding = protections.into_iter().map(|it| it.scope).collect();
        }
    });
}
