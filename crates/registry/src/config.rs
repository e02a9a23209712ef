//! The settings of a registry node.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tradewind_base::SecretString;
use tradewind_service::config::{ByteSize, Reader, Section};
use tradewind_service::edge::EdgeConfig;

use crate::machine::{Limits, Rules};
use crate::peers::PeerUrl;

/// The address that is listened on unless another is set.
pub const BIND_DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8761);

/// How one registry node runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The HTTP edge.
    pub edge: EdgeConfig,
    /// What peers know this node by; made at random at each start when absent.
    pub node_id: Option<String>,
    /// The other nodes. One of them may be this node itself.
    pub peers: Vec<PeerUrl>,
    /// User and password that clients, and peers, have to give, and that peers are given.
    pub user: Option<(String, SecretString)>,
    /// How often ended leases are looked for.
    pub expiry_check: Duration,
    /// When expiry is held back.
    pub protection: Rules,
    /// The bounds of the table.
    pub limits: Limits,
    /// Probing of suspects.
    pub probe: ProbeConfig,
    /// The most change streams at a time.
    pub watchers_max: usize,
    /// How long changes are gathered before a stream tells them.
    pub coalesce: Duration,
    /// The most bytes of a request body after decompression.
    pub decompressed_bytes_max: u64,
    /// How long the start waits for a peer to fill the table.
    pub sync_wait: Duration,
    /// How often the whole table is compared with a peer's.
    pub resync: Duration,
    /// How long requests in work have to end at a stop.
    pub drain: Duration,
}

/// How suspects are probed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProbeConfig {
    /// Whether they are.
    pub enabled: bool,
    /// The longest wait for one connection.
    pub timeout: Duration,
    /// The most probes at a time.
    pub concurrency: usize,
}

impl Config {
    /// The defaults, listening on `bind`.
    #[must_use]
    pub fn new(bind: SocketAddr) -> Self {
        Self {
            edge: EdgeConfig::new(bind),
            node_id: None,
            peers: Vec::new(),
            user: None,
            expiry_check: Duration::from_millis(250),
            protection: Rules::default(),
            limits: Limits::default(),
            probe: ProbeConfig {
                enabled: true,
                timeout: Duration::from_millis(200),
                concurrency: 32,
            },
            watchers_max: 2000,
            coalesce: Duration::from_millis(20),
            decompressed_bytes_max: 4 << 20,
            sync_wait: Duration::from_secs(5),
            resync: Duration::from_secs(30),
            drain: Duration::from_secs(3),
        }
    }

    /// Reads the section `registry`.
    pub fn read(reader: &mut Reader) -> Self {
        let normal = Self::new(BIND_DEFAULT);
        let mut section = reader.section("registry");
        let edge = EdgeConfig::read(&mut section, BIND_DEFAULT);
        let user = user(&mut section, edge.bind);
        let peers = peers(&mut section);
        let some_time = Duration::from_millis(10)..=Duration::from_secs(3600);
        let expiry_check = section.get_within(
            "expiry_check",
            normal.expiry_check,
            &(Duration::from_millis(10)..=Duration::from_secs(60)),
            "how often ended leases are looked for",
        );
        Self {
            node_id: section.optional(
                "node_id",
                "what peers know this node by; made at random at each start when absent",
            ),
            watchers_max: section.get(
                "watchers_max",
                normal.watchers_max,
                "most change streams at a time; more are answered 503",
            ),
            coalesce: section.get_within(
                "coalesce",
                normal.coalesce,
                &(Duration::ZERO..=Duration::from_millis(50)),
                "how long changes are gathered before a change stream tells them",
            ),
            decompressed_bytes_max: section
                .get(
                    "decompressed_bytes_max",
                    ByteSize(normal.decompressed_bytes_max),
                    "largest request body after decompression; larger ones are answered 413",
                )
                .bytes(),
            sync_wait: section.get_within(
                "sync_wait",
                normal.sync_wait,
                &(Duration::ZERO..=Duration::from_secs(600)),
                "how long the start waits for a peer to fill the table",
            ),
            resync: section.get_within(
                "resync",
                normal.resync,
                &some_time,
                "how often the whole table is compared with each peer's",
            ),
            drain: section.get_within(
                "drain",
                normal.drain,
                &(Duration::ZERO..=Duration::from_secs(600)),
                "how long requests in work have to end at a stop",
            ),
            limits: limits(&mut section, expiry_check),
            protection: protection(&mut section.section("protection")),
            probe: probe(&mut section.section("probe"), &normal.probe),
            edge,
            user,
            peers,
            expiry_check,
        }
    }
}

fn user(section: &mut Section<'_>, bind: SocketAddr) -> Option<(String, SecretString)> {
    let user: Option<String> =
        section.optional("user", "user that clients and peers have to give (basic auth)");
    let password = section.secret("password", "password that clients and peers have to give");
    match (user, password) {
        (Some(user), Some(password)) => {
            if user.contains(':') {
                section.invalid("user", "must not contain a colon: basic auth cannot carry it");
            }
            Some((user, password))
        }
        (None, None) => {
            if !bind.ip().is_loopback() {
                section.invalid(
                    "user",
                    format!(
                        "must be set together with registry.password, because registry.bind is \
                         {bind} and not a loopback address: anyone who reaches an open registry \
                         can take over a service's traffic"
                    ),
                );
            }
            None
        }
        (Some(_), None) => {
            section.invalid("password", "must be set together with registry.user");
            None
        }
        (None, Some(_)) => {
            section.invalid("user", "must be set together with registry.password");
            None
        }
    }
}

fn peers(section: &mut Section<'_>) -> Vec<PeerUrl> {
    let urls: Vec<String> = section.get(
        "peers",
        Vec::new(),
        "URLs of the other nodes, such as http://10.0.0.2:8761/eureka/; this node may be among \
         them, so that all nodes can have one list",
    );
    let mut peers = Vec::new();
    for url in urls {
        match PeerUrl::parse(&url) {
            Ok(peer) if peers.contains(&peer) => {}
            Ok(peer) => peers.push(peer),
            Err(error) => section.invalid("peers", format!("`{url}`: {error}")),
        }
    }
    peers
}

fn limits(section: &mut Section<'_>, expiry_check: Duration) -> Limits {
    let normal = Limits::default();
    let warm_up = section.get(
        "warm_up",
        normal.warm_up,
        "until when after the start an answer may lack instances that have not renewed yet; \
         longest lease of native clients plus some grace",
    );
    let delta_retention = section.get_within(
        "delta_retention",
        normal.delta_retention,
        &(Duration::from_secs(1)..=Duration::from_secs(3600)),
        "for how long a change stays in the delta that Eureka clients poll",
    );
    let probe_pause = section.section("probe").get(
        "pause",
        normal.probe_pause,
        "time between probes of one instance",
    );
    let mut section = section.section("limits");
    Limits {
        instances_max: section.get_within(
            "instances",
            normal.instances_max,
            &(1..=10_000_000),
            "most instances in all",
        ),
        instances_per_app_max: section.get(
            "instances_per_app",
            normal.instances_per_app_max,
            "most instances of one application",
        ),
        name_bytes_max: section.get(
            "name_bytes",
            normal.name_bytes_max,
            "longest application name, instance id, host name and address",
        ),
        metadata_bytes_max: section
            .get(
                "metadata_bytes",
                ByteSize(normal.metadata_bytes_max as u64),
                "most bytes of one instance's metadata, and of its other texts",
            )
            .as_usize(),
        lease_max: section.get_within(
            "lease",
            normal.lease_max,
            &(Duration::from_secs(1)..=Duration::from_secs(12 * 3600)),
            "longest lease; longer wishes are cut",
        ),
        history_max: section.get(
            "history",
            normal.history_max,
            "changes that are kept for change streams to resume from",
        ),
        delta_max: section.get("delta", normal.delta_max, "most changes in the delta"),
        // A slower check must not look like a pause of the process.
        pause_min: normal.pause_min.max(expiry_check * 4),
        warm_up,
        delta_retention,
        probe_pause,
        ..normal
    }
}

fn protection(section: &mut Section<'_>) -> Rules {
    let normal = Rules::default();
    Rules {
        enabled: section.get(
            "enabled",
            normal.enabled,
            "whether expiry is held back when many instances fall silent at once",
        ),
        instances_min: section.get(
            "instances_min",
            normal.instances_min,
            "smallest application, or estate, that is protected",
        ),
        missing_min: section.get("missing_min", normal.missing_min, "fewest silent instances"),
        hosts_min: section.get("hosts_min", normal.hosts_min, "fewest hosts they are on"),
        share_percent: section.get_within(
            "share_percent",
            normal.share_percent,
            &(0..=100),
            "they must be more than this share",
        ),
        hold_max: section.get("hold", normal.hold_max, "longest time without a pause"),
    }
}

fn probe(section: &mut Section<'_>, normal: &ProbeConfig) -> ProbeConfig {
    ProbeConfig {
        enabled: section.get(
            "enabled",
            normal.enabled,
            "whether an instance that callers report is probed by a TCP connection",
        ),
        timeout: section.get_within(
            "timeout",
            normal.timeout,
            &(Duration::from_millis(10)..=Duration::from_secs(10)),
            "longest wait for one connection; there are two attempts",
        ),
        concurrency: section.get_within(
            "concurrency",
            normal.concurrency,
            &(1..=1000),
            "most probes at a time",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tradewind_service::config::{ConfigErrors, Sources};

    fn read(text: &str) -> Result<Config, ConfigErrors> {
        let file = Some(("tradewind.toml".into(), text.into()));
        let mut reader = Reader::new(Sources { file, ..Sources::default() });
        let config = Config::read(&mut reader);
        reader.finish().map(|_| config)
    }

    /// R1.2: every interval can be set.
    #[test]
    fn every_interval_can_be_set() {
        let config = read(
            "[registry]\nexpiry_check = \"6s\"\nwarm_up = \"9s\"\ndelta_retention = \"60s\"\n\
             resync = \"10s\"\ncoalesce = \"0ms\"\nprobe.timeout = \"50ms\"\nprobe.pause = \"1s\"\n\
             protection.hold = \"1m\"\nlimits.lease = \"10m\"\n",
        );
        let config = config.unwrap();
        assert_eq!(config.expiry_check, Duration::from_secs(6));
        assert_eq!(config.limits.pause_min, Duration::from_secs(24));
        assert_eq!(config.limits.probe_pause, Duration::from_secs(1));
        assert_eq!(config.protection.hold_max, Duration::from_secs(60));
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let config = read("").unwrap();
        assert_eq!(config.edge.bind, BIND_DEFAULT);
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.protection, Rules::default());
        assert!(config.user.is_none() && config.peers.is_empty());
    }

    /// R1.3: protection can be switched off.
    #[test]
    fn protection_can_be_switched_off() {
        assert!(!read("[registry]\nprotection.enabled = false\n").unwrap().protection.enabled);
    }

    #[test]
    fn an_open_registry_stays_on_loopback() {
        let error = read("[registry]\nbind = \"0.0.0.0:8761\"\n").unwrap_err().to_string();
        assert!(error.contains("registry.user"), "{error}");
        let closed = "[registry]\nbind = \"0.0.0.0:8761\"\nuser = \"u\"\npassword = \"p\"\n";
        assert!(read(closed).unwrap().user.is_some());
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let text = "[registry]\nuser = \"u\"\npeers = [\"ftp://x\", \"http://a:1\"]\nexpiry_check = \"0s\"\n";
        let error = read(text).unwrap_err().to_string();
        for key in ["registry.password", "registry.peers", "registry.expiry_check"] {
            assert!(error.contains(key), "{key}: {error}");
        }
    }
}
