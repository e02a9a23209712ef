//! One server in this process: runtime, telemetry, run, exit.

use std::time::Duration;

use anyhow::Context as _;
use tradewind_base::Tasks;
use tradewind_service::{Shared, Stop, telemetry};

use crate::cli::{Cli, ShopService};
use crate::config::Config;

/// How long work that blocks a thread may hold up the end of the process.
const BLOCKED_LIMIT: Duration = Duration::from_millis(200);

/// Which server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// The service registry.
    Registry,
    /// The TCC coordinator.
    Coordinator,
    /// The reliable-message server.
    Broker,
    /// The API gateway.
    Gateway,
    /// The shop's order service.
    Order,
    /// The shop's inventory service.
    Inventory,
    /// The shop's points service.
    Points,
    /// The shop's warehouse service.
    Warehouse,
}

impl From<ShopService> for Kind {
    fn from(service: ShopService) -> Self {
        match service {
            ShopService::Order => Self::Order,
            ShopService::Inventory => Self::Inventory,
            ShopService::Points => Self::Points,
            ShopService::Warehouse => Self::Warehouse,
        }
    }
}

/// Runs one server until it is told to stop.
///
/// # Errors
/// When it cannot start or fails while running.
pub(crate) fn run(cli: &Cli, config: Config, kind: Kind) -> anyhow::Result<()> {
    let runtime = config.runtime.start().context("cannot start the runtime")?;
    let outcome = runtime.block_on(async {
        // Held to the end: dropping it writes out the last lines.
        let _telemetry = telemetry::init(&config.telemetry).context("cannot set up logging")?;
        let tasks = Tasks::new();
        let stop = Stop::on_signals(cli.supervised, &tasks).context("cannot listen for signals")?;
        let shared = Shared::open(config.shared).context("cannot prepare the data folder")?;
        match kind {
            Kind::Registry => tradewind_registry::run(config.registry, shared, stop).await?,
            Kind::Coordinator => {
                tradewind_coordinator::run(config.coordinator, shared, stop).await?;
            }
            Kind::Broker => tradewind_broker::run(config.broker, shared, stop).await?,
            Kind::Gateway => tradewind_gateway::run(config.gateway, shared, stop).await?,
            Kind::Order => tradewind_order::run(config.order, shared, stop).await?,
            Kind::Inventory => tradewind_inventory::run(config.inventory, shared, stop).await?,
            Kind::Points => tradewind_points::run(config.points, shared, stop).await?,
            Kind::Warehouse => tradewind_warehouse::run(config.warehouse, shared, stop).await?,
        }
        Ok(())
    });
    // Everything that matters has ended in order. Dropping the runtime would wait for whatever
    // blocks a thread, however long that takes.
    runtime.shutdown_timeout(BLOCKED_LIMIT);
    outcome
}
