//! Which children there are, with their arguments, addresses and order.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use tradewind_order::orders::Decider;
use tradewind_service::runtime::RuntimeConfig;

use crate::cli::Cli;
use crate::config::Config;

/// An address a child listens on, and the key that moves it.
#[derive(Clone, Debug)]
pub(super) struct Port {
    /// The configuration key.
    pub(super) key: &'static str,
    /// The address.
    pub(super) address: SocketAddr,
}

/// One child process.
#[derive(Clone, Debug)]
pub(super) struct ChildPlan {
    /// Its name in the log folder, in `run.json` and on the screen.
    pub(super) name: &'static str,
    /// Its command line, without the executable.
    pub(super) arguments: Vec<String>,
    /// Where it listens; health is asked at the last one, people are shown the first one.
    pub(super) ports: Vec<Port>,
    /// Children of a lower stage are ready before those of a higher one are started, and are
    /// ended after them.
    pub(super) stage: u8,
}

impl ChildPlan {
    /// The address that people and clients use.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.ports.first().map(|it| it.address)
    }

    /// The address that answers `/health/ready`.
    pub(super) fn health(&self) -> Option<SocketAddr> {
        self.ports.last().map(|it| it.address)
    }
}

/// Everything `up` needs to know.
#[derive(Debug)]
pub(super) struct Plan {
    /// The binary, which is also every child.
    pub(super) executable: PathBuf,
    /// The data folder, absolute.
    pub(super) data: PathBuf,
    /// The children, in order of start.
    pub(super) children: Vec<ChildPlan>,
    /// What the screen shows besides the addresses.
    pub(super) demo_users: Vec<(String, String)>,
    /// Whether the end of standard input ends it, as it does for the children.
    pub(super) supervised: bool,
    /// How much is logged by the supervisor itself.
    pub(super) telemetry: tradewind_service::telemetry::TelemetryConfig,
}

impl Plan {
    /// The plan of a configuration.
    ///
    /// # Errors
    /// When the path of this binary or of the data folder cannot be found out.
    pub(super) fn of(cli: &Cli, config: Config) -> anyhow::Result<Self> {
        let executable = std::env::current_exe().context("cannot find the path of this binary")?;
        let data = std::path::absolute(&config.shared.data)
            .with_context(|| format!("cannot resolve {}", config.shared.data.display()))?;
        let common = common(cli, &config, &data);
        let child = |name, words: &[&str], ports: Vec<Port>, stage| ChildPlan {
            name,
            arguments: words.iter().map(|it| (*it).to_owned()).chain(common.clone()).collect(),
            ports,
            stage,
        };
        let port = |key, address| Port { key, address };
        let one = |name, words: &[&str], key, address, stage| {
            child(name, words, vec![port(key, address)], stage)
        };
        let up = &config.up;
        let inventory_second = second(
            "inventory",
            up.inventory_second,
            config.inventory.host.advertise.is_some(),
            up.inventory_second_advertise,
        );
        let warehouse_second = second(
            "warehouse",
            up.warehouse_second,
            config.warehouse.host.advertise.is_some(),
            up.warehouse_second_advertise,
        );
        let (inventory, warehouse) = (["shop", "inventory"], ["shop", "warehouse"]);
        let mut children = vec![
            one("registry", &["registry"], "registry.bind", config.registry.edge.bind, 0),
            one("broker", &["broker"], "broker.bind", config.broker.host.edge.bind, 1),
            one("inventory-a", &inventory, "inventory.bind", config.inventory.bind(), 1),
            one("inventory-b", &inventory, "up.inventory_second", up.inventory_second, 1)
                .with(inventory_second),
            one("points", &["shop", "points"], "points.bind", config.points.bind(), 1),
            one("warehouse-a", &warehouse, "warehouse.bind", config.warehouse.bind(), 1),
            one("warehouse-b", &warehouse, "up.warehouse_second", up.warehouse_second, 1)
                .with(warehouse_second),
            one("order", &["shop", "order"], "order.bind", config.order.bind(), 1),
            child(
                "gateway",
                &["gateway"],
                vec![
                    port("gateway.bind", config.gateway.bind),
                    port("gateway.admin.bind", config.gateway.admin.bind),
                ],
                2,
            ),
        ];
        // What it began it has to end, also when the setting has changed since.
        let began = data.join("coordinator.db").is_file();
        if config.order.transactions == Decider::Coordinator || began {
            let address = config.coordinator.bind();
            // After the registry, and before what needs it.
            let it = one("coordinator", &["coordinator"], "coordinator.bind", address, 1);
            children.insert(1, it);
        }
        let demo_users = config.order.demo_users();
        let (supervised, telemetry) = (cli.supervised, config.telemetry);
        Ok(Self { executable, data, children, demo_users, supervised, telemetry })
    }
}

impl ChildPlan {
    fn with(mut self, settings: Vec<String>) -> Self {
        self.arguments.extend(settings.into_iter().flat_map(|it| ["--set".to_owned(), it]));
        self
    }
}

/// What every child is told: where the data is, what was set, its share of the machine.
fn common(cli: &Cli, config: &Config, data: &Path) -> Vec<String> {
    let mut common = vec!["--supervised".to_owned()];
    common.extend(["--data".to_owned(), data.to_string_lossy().into_owned()]);
    if let Some(file) = &cli.config {
        common.extend(["--config".to_owned(), file.to_string_lossy().into_owned()]);
    }
    for set in &cli.set {
        common.extend(["--set".to_owned(), set.clone()]);
    }
    if let (None, Some(share)) = (config.runtime.threads, RuntimeConfig::shared().threads) {
        common.extend(["--set".to_owned(), format!("runtime.threads={share}")]);
    }
    if let Some(url) = moved_registry(config.registry.edge.bind, &config.shared.registry) {
        common.extend(["--set".to_owned(), format!("discovery.urls={url}")]);
    }
    common
}

/// What the second process of a service sets otherwise than the first. It must not register the
/// address of the first.
fn second(
    service: &str,
    bind: SocketAddr,
    first_advertises: bool,
    advertise: Option<SocketAddr>,
) -> Vec<String> {
    let advertise = advertise.or_else(|| first_advertises.then_some(bind));
    let mut settings = vec![format!("{service}.bind={bind}")];
    settings.extend(advertise.map(|it| format!("{service}.advertise={it}")));
    settings
}

/// Where `discovery.urls` points when nobody says otherwise.
const DEFAULT_URL: &str = "http://127.0.0.1:8761";

/// The URL of a registry that was moved by `registry.bind` alone: its own children would look for
/// it where it used to be, and never get ready.
fn moved_registry(bind: SocketAddr, urls: &[String]) -> Option<String> {
    let ip = if bind.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { bind.ip() };
    let url = format!("http://{}", SocketAddr::new(ip, bind.port()));
    (*urls == [DEFAULT_URL] && url != DEFAULT_URL).then_some(url)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn plan(arguments: &[&str]) -> Plan {
        let cli = Cli::parse_from([&["tradewind", "up"], arguments].concat());
        let flags = cli.set.iter().filter_map(|it| it.split_once('='));
        let flags = flags.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let sources = tradewind_service::config::Sources { flags, ..Default::default() };
        let (config, _) = Config::read(sources).unwrap();
        Plan::of(&cli, config).unwrap()
    }

    #[test]
    fn the_servers_share_the_threads_of_the_machine_unless_told_how_many() {
        let threads = |arguments: &[&str]| {
            let children = plan(arguments).children;
            let of = |it: &ChildPlan| {
                let set = it.arguments.iter().filter(|it| it.starts_with("runtime.threads="));
                set.cloned().collect::<Vec<_>>()
            };
            let all: Vec<_> = children.iter().map(of).collect();
            assert!(all.windows(2).all(|it| it[0] == it[1]), "{all:?}");
            all[0].clone()
        };
        let share = RuntimeConfig::shared().threads.unwrap();
        assert_eq!(threads(&[]), [format!("runtime.threads={share}")]);
        assert_eq!(threads(&["--set", "runtime.threads=7"]), ["runtime.threads=7"]);
    }

    #[test]
    fn a_registry_that_moved_alone_is_found_where_it_is() {
        let moved = |bind: &str, urls: &[&str]| {
            let urls: Vec<String> = urls.iter().map(|it| (*it).to_owned()).collect();
            moved_registry(bind.parse().unwrap(), &urls)
        };
        let new = Some("http://127.0.0.1:8762".to_owned());
        assert_eq!(moved("127.0.0.1:8762", &[DEFAULT_URL]), new);
        assert_eq!(moved("0.0.0.0:8762", &[DEFAULT_URL]), new);
        assert_eq!(moved("[::1]:8761", &[DEFAULT_URL]).as_deref(), Some("http://[::1]:8761"));
        assert_eq!(moved("127.0.0.1:8761", &[DEFAULT_URL]), None);
        assert_eq!(moved("0.0.0.0:8761", &[DEFAULT_URL]), None);
        assert_eq!(moved("127.0.0.1:8762", &["http://registry.example:8761"]), None);
    }

    /// R5.2
    #[test]
    fn the_coordinator_is_there_when_it_decides_the_orders() {
        let plan = |arguments: &[&str]| {
            plan(arguments).children.iter().map(|it| it.name).collect::<Vec<_>>()
        };
        assert!(!plan(&[]).contains(&"coordinator"));
        let there = plan(&["--set", "order.transactions=coordinator"]);
        assert_eq!(there[..2], ["registry", "coordinator"]);
        // What it began before the setting changed has to end.
        let folder = tempfile::tempdir().unwrap();
        let data = format!("tradewind.data={}", folder.path().display());
        assert!(!plan(&["--set", &data]).contains(&"coordinator"));
        std::fs::write(folder.path().join("coordinator.db"), "").unwrap();
        assert!(plan(&["--set", &data]).contains(&"coordinator"));
    }

    #[test]
    fn the_second_process_never_registers_the_address_of_the_first() {
        let (bind, other) = ("127.0.0.1:9012".parse().unwrap(), "127.0.0.1:7".parse().unwrap());
        assert_eq!(second("a", bind, false, None), ["a.bind=127.0.0.1:9012"]);
        let own = ["a.bind=127.0.0.1:9012", "a.advertise=127.0.0.1:9012"];
        assert_eq!(second("a", bind, true, None), own);
        let told = ["a.bind=127.0.0.1:9012", "a.advertise=127.0.0.1:7"];
        assert_eq!(second("a", bind, true, Some(other)), told);
        assert_eq!(second("a", bind, false, Some(other)), told);
    }

    #[test]
    fn the_default_is_the_one_of_the_configuration() {
        let sources = tradewind_service::config::Sources::default();
        let (config, _) = Config::read(sources).unwrap();
        assert_eq!(config.shared.registry, [DEFAULT_URL]);
    }
}
