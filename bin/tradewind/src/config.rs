//! The whole configuration: every server reads its own section, and all mistakes are told at once.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use tradewind_gateway::machine::route::RouteRow;
use tradewind_service::SharedConfig;
use tradewind_service::config::{ConfigErrors, Described, Reader, Sources};
use tradewind_service::runtime::RuntimeConfig;
use tradewind_service::telemetry::TelemetryConfig;

use crate::cli::Cli;

/// The file that is read when none is named.
const FILE: &str = "tradewind.toml";

/// Everything that can be set.
#[derive(Debug)]
pub(crate) struct Config {
    /// What all servers share.
    pub(crate) shared: SharedConfig,
    /// Logging.
    pub(crate) telemetry: TelemetryConfig,
    /// The threads of a server.
    pub(crate) runtime: RuntimeConfig,
    /// The registry.
    pub(crate) registry: tradewind_registry::Config,
    /// The TCC coordinator.
    pub(crate) coordinator: tradewind_coordinator::Config,
    /// The reliable-message server.
    pub(crate) broker: tradewind_broker::Config,
    /// The gateway.
    pub(crate) gateway: tradewind_gateway::Config,
    /// The order service.
    pub(crate) order: tradewind_order::Config,
    /// The inventory service.
    pub(crate) inventory: tradewind_inventory::Config,
    /// The points service.
    pub(crate) points: tradewind_points::Config,
    /// The warehouse service.
    pub(crate) warehouse: tradewind_warehouse::Config,
    /// `tradewind up`.
    pub(crate) up: Up,
}

/// What only `tradewind up` needs.
#[derive(Debug)]
pub(crate) struct Up {
    /// Where the second inventory process listens.
    pub(crate) inventory_second: SocketAddr,
    /// Where the second warehouse process listens.
    pub(crate) warehouse_second: SocketAddr,
    /// What the second inventory process registers, as `inventory.advertise` is for the first.
    pub(crate) inventory_second_advertise: Option<SocketAddr>,
    /// What the second warehouse process registers.
    pub(crate) warehouse_second_advertise: Option<SocketAddr>,
}

impl Config {
    /// Reads all sections, so that a mistake in any of them is told before anything starts.
    ///
    /// # Errors
    /// All mistakes at once.
    pub(crate) fn read(sources: Sources) -> Result<(Self, Described), ConfigErrors> {
        let mut reader = Reader::new(sources);
        let config = Self {
            shared: SharedConfig::read(&mut reader),
            telemetry: TelemetryConfig::read(&mut reader),
            runtime: RuntimeConfig::read(&mut reader),
            registry: tradewind_registry::Config::read(&mut reader),
            coordinator: tradewind_coordinator::Config::read(&mut reader),
            broker: tradewind_broker::Config::read(&mut reader),
            gateway: gateway(&mut reader),
            order: tradewind_order::Config::read(&mut reader),
            inventory: tradewind_inventory::Config::read(&mut reader),
            points: tradewind_points::Config::read(&mut reader),
            warehouse: tradewind_warehouse::Config::read(&mut reader),
            up: Up::read(&mut reader),
        };
        let described = reader.finish()?;
        Ok((config, described))
    }
}

/// The gateway, with the routes of the shop for a database that has none yet.
fn gateway(reader: &mut Reader) -> tradewind_gateway::Config {
    let mut config = tradewind_gateway::Config::read(reader);
    config.seed_routes = vec![
        RouteRow::service("order", "/order/**", "order"),
        RouteRow::service("inventory", "/inventory/**", "inventory"),
        RouteRow::service("points", "/points/**", "points"),
    ];
    config
}

impl Up {
    fn read(reader: &mut Reader) -> Self {
        let mut section = reader.section("up");
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            inventory_second: section.get(
                "inventory_second",
                local(9012),
                "where the second inventory process of `tradewind up` listens",
            ),
            warehouse_second: section.get(
                "warehouse_second",
                local(9014),
                "where the second warehouse process of `tradewind up` listens",
            ),
            inventory_second_advertise: section.optional(
                "inventory_second_advertise",
                "the address others reach the second inventory process of `tradewind up` under; \
                 the one it listens on when unset",
            ),
            warehouse_second_advertise: section.optional(
                "warehouse_second_advertise",
                "the address others reach the second warehouse process of `tradewind up` under; \
                 the one it listens on when unset",
            ),
        }
    }
}

/// Why the sources of the configuration could not be gathered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// A named file is not there or cannot be read.
    #[error("cannot read the configuration file {}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A flag `--set` that sets nothing.
    #[error("--set {0}: expected KEY=VALUE, for example --set registry.bind=127.0.0.1:8762")]
    Flag(String),
}

/// Gathers file, environment and flags.
///
/// # Errors
/// When a file cannot be read or a flag is not of the form `KEY=VALUE`.
pub(crate) fn sources(cli: &Cli) -> Result<Sources, SourceError> {
    let file = match &cli.config {
        Some(path) => Some((path.clone(), read(path)?)),
        None => match std::fs::read_to_string(FILE) {
            Ok(text) => Some((PathBuf::from(FILE), text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => return Err(SourceError::File { path: PathBuf::from(FILE), source }),
        },
    };
    Ok(Sources::of_process(file, flags(cli)?))
}

/// Gathers what the command line names, and nothing of the folder or the environment it is given
/// in.
///
/// # Errors
/// As [`sources`].
pub(crate) fn sources_named(cli: &Cli) -> Result<Sources, SourceError> {
    let file = cli.config.as_ref().map(|it| Ok((it.clone(), read(it)?))).transpose()?;
    Ok(Sources { file, environment: Vec::new(), flags: flags(cli)? })
}

fn flags(cli: &Cli) -> Result<Vec<(String, String)>, SourceError> {
    let mut flags = Vec::with_capacity(cli.set.len() + 1);
    if let Some(data) = &cli.data {
        flags.push(("tradewind.data".to_owned(), data.to_string_lossy().into_owned()));
    }
    for text in &cli.set {
        let Some((key, value)) = text.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(SourceError::Flag(text.clone()));
        };
        flags.push((key.to_owned(), value.to_owned()));
    }
    Ok(flags)
}

fn read(path: &Path) -> Result<String, SourceError> {
    std::fs::read_to_string(path)
        .map_err(|source| SourceError::File { path: path.to_owned(), source })
}
