//! The settings of the gateway: section `gateway`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tradewind_service::config::{ByteSize, HIDDEN, Reader, Section, Setting};
use tradewind_service::edge::EdgeConfig;
use tradewind_sql::DatabaseUrl;

use crate::machine::auth::{Expectations, LEEWAY_SECONDS};
use crate::machine::framing;
use crate::machine::headers::Cidr;
use crate::machine::route::RouteRow;
use crate::tokens::KeySource;

/// Everything that can be set. [`Config::new`] has the defaults, [`Config::read`] the way from a
/// configuration file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The address clients connect to.
    pub bind: SocketAddr,
    /// Threads that serve, each with its own listener and pools.
    pub workers: usize,
    /// The admin API, metrics and health.
    pub admin: EdgeConfig,
    /// Where the routes are; a SQLite file in the data folder when absent.
    pub database: Option<DatabaseUrl>,
    /// How often the route table is looked at for foreign edits.
    pub watch_interval: Duration,
    /// Routes for a database that has none when it is first used.
    pub seed_routes: Vec<RouteRow>,
    /// Bounds on clients.
    pub client: ClientLimits,
    /// Bounds on services.
    pub upstream: UpstreamLimits,
    /// Where the keys of tokens come from.
    pub jwks: KeySource,
    /// How often the keys are fetched anew.
    pub jwks_interval: Duration,
    /// How long opening waits for the first keys; without keys a token is answered 503.
    pub jwks_wait: Duration,
    /// What tokens must say.
    pub tokens: Expectations,
    /// Proxies whose word on the client counts.
    pub trusted_proxies: Vec<Cidr>,
    /// The access log; `logs/gateway-access.jsonl` in the data folder when absent.
    pub access_log: Option<PathBuf>,
    /// Bytes after which the access log starts a new file, keeping one old one.
    pub access_log_bytes: u64,
    /// How long requests in flight may take to finish at the end.
    pub drain_limit: Duration,
}

/// Bounds on clients.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientLimits {
    /// Connections at a time.
    pub connections: usize,
    /// Requests in work at a time.
    pub requests: usize,
    /// Bytes of a body.
    pub body_bytes: u64,
    /// Bounds of heads.
    pub framing: framing::Limits,
    /// Time for a whole head.
    pub head_timeout: Duration,
    /// Time between two pieces of a body.
    pub body_timeout: Duration,
    /// Time between two requests.
    pub idle_timeout: Duration,
    /// Time to take the next piece of an answer.
    pub write_timeout: Duration,
    /// Time an upgraded connection may be silent.
    pub tunnel_timeout: Duration,
}

/// Bounds on services.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UpstreamLimits {
    /// Time to get a connection, the wait for a place included.
    pub connect_timeout: Duration,
    /// Time from the last byte of the request to the head of the answer.
    pub head_timeout: Duration,
    /// Time for the head of the answer, all attempts together, while no body is being sent.
    pub total_timeout: Duration,
    /// Time between two pieces of an answer's body.
    pub body_timeout: Duration,
    /// Requests under way to one instance from one worker.
    pub active: usize,
    /// Idle connections to one instance from one worker.
    pub idle: usize,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// Bytes of an answer's head.
    pub head_bytes: usize,
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

impl Config {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            bind: loopback(9000),
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            admin: EdgeConfig::new(loopback(9010)),
            database: None,
            watch_interval: Duration::from_millis(300),
            seed_routes: Vec::new(),
            client: ClientLimits::new(),
            upstream: UpstreamLimits::new(),
            jwks: KeySource::default(),
            jwks_interval: seconds(300),
            jwks_wait: seconds(2),
            tokens: Expectations {
                issuer: "tradewind".to_owned(),
                audience: Some("shop".to_owned()),
                leeway_seconds: LEEWAY_SECONDS,
            },
            trusted_proxies: Vec::new(),
            access_log: None,
            access_log_bytes: 64 << 20,
            // With what comes after it this fits into the part of its end that `up` gives a server.
            drain_limit: seconds(5),
        }
    }

    /// Reads the section `gateway`. Mistakes are collected by the reader.
    pub fn read(reader: &mut Reader) -> Self {
        let normal = Self::new();
        let mut section = reader.section("gateway");
        let mut config = Self {
            bind: section.get("bind", normal.bind, "address for clients"),
            workers: section.get_within(
                "workers",
                normal.workers,
                &(1..=256),
                "threads that serve clients, by default one per core",
            ),
            watch_interval: section.get_within(
                "watch_interval",
                normal.watch_interval,
                &(Duration::from_millis(50)..=seconds(60)),
                "how often the route table is looked at for edits made by others",
            ),
            drain_limit: section.get_within(
                "drain_limit",
                normal.drain_limit,
                &(Duration::ZERO..=seconds(600)),
                "how long requests may take to finish when the gateway stops",
            ),
            access_log: section
                .optional("access_log", "file for the access log; absent: in the data folder"),
            access_log_bytes: section
                .get_within(
                    "access_log_bytes",
                    ByteSize(normal.access_log_bytes),
                    &(ByteSize::mib(1)..=ByteSize::mib(65536)),
                    "size after which the access log starts anew, keeping one old file",
                )
                .0,
            ..normal
        };
        config.trusted_proxies = read_proxies(&mut section);
        config.admin = EdgeConfig::read(&mut section.section("admin"), config.admin.bind);
        config.database = read_database(&mut section.section("database"));
        config.client.read(&mut section.section("client"));
        config.upstream.read(&mut section.section("upstream"));
        config.read_auth(&mut section.section("auth"));
        config
    }

    fn read_auth(&mut self, section: &mut Section<'_>) {
        let source: String = section.get(
            "jwks",
            self.jwks.to_string(),
            "where the keys of tokens are: service://NAME/path or http://host:port/path",
        );
        match KeySource::parse(&source) {
            Ok(source) => self.jwks = source,
            Err(reason) => section.invalid("jwks", reason),
        }
        self.jwks_interval = section.get_within(
            "jwks_interval",
            self.jwks_interval,
            &(seconds(1)..=seconds(86400)),
            "how often the keys are fetched anew",
        );
        self.jwks_wait = section.get_within(
            "jwks_wait",
            self.jwks_wait,
            &(seconds(0)..=seconds(60)),
            "how long opening waits for the first keys",
        );
        self.tokens.issuer =
            section.get("issuer", self.tokens.issuer.clone(), "what `iss` of a token must be");
        let audience: String = section.get(
            "audience",
            self.tokens.audience.clone().unwrap_or_default(),
            "what `aud` of a token must name; empty: not looked at",
        );
        self.tokens.audience = Some(audience).filter(|it| !it.is_empty());
        let leeway = section.get_within(
            "leeway",
            seconds(u64::try_from(LEEWAY_SECONDS).unwrap_or(0)),
            &(seconds(0)..=seconds(300)),
            "how far the clocks of issuer and gateway may be apart",
        );
        self.tokens.leeway_seconds = i64::try_from(leeway.as_secs()).unwrap_or(LEEWAY_SECONDS);
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

fn read_proxies(section: &mut Section<'_>) -> Vec<Cidr> {
    let texts: Vec<String> = section.get(
        "trusted_proxies",
        Vec::new(),
        "proxies whose X-Forwarded fields are believed: addresses or blocks like 10.0.0.0/8",
    );
    let mut blocks = Vec::new();
    for text in texts {
        match Cidr::parse(&text) {
            Some(block) => blocks.push(block),
            None => section.invalid("trusted_proxies", format!("`{text}` is no address or block")),
        }
    }
    blocks
}

fn read_database(section: &mut Section<'_>) -> Option<DatabaseUrl> {
    let meaning = "where the routes are; a SQLite file in the data folder when unset";
    let setting: Option<DatabaseSetting> = section.optional("url", meaning);
    setting.map(|it| it.0)
}

/// The address of a database as a setting, shown without its password.
struct DatabaseSetting(DatabaseUrl);

impl Setting for DatabaseSetting {
    const EXPECTED: &'static str =
        "a database like sqlite:data/gateway.db or mysql://user:password@host:3306/name";

    fn parse(text: &str) -> Result<Self, String> {
        // The messages do not repeat the text, which may hold a password.
        if text.contains(&format!(":{HIDDEN}@")) {
            return Err(format!("`{HIDDEN}` is what a dump shows in place of the password"));
        }
        DatabaseUrl::parse(text).map(Self).map_err(|error| error.to_string())
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

impl ClientLimits {
    fn new() -> Self {
        Self {
            connections: 8192,
            requests: 4096,
            body_bytes: 64 << 20,
            framing: framing::Limits::default(),
            head_timeout: seconds(10),
            body_timeout: seconds(30),
            idle_timeout: seconds(75),
            write_timeout: seconds(30),
            tunnel_timeout: seconds(300),
        }
    }

    fn read(&mut self, section: &mut Section<'_>) {
        self.connections = section.get_within(
            "connections_max",
            self.connections,
            &(1..=1_000_000),
            "most connections at a time; more are answered 503 and closed",
        );
        self.requests = section.get_within(
            "requests_in_flight_max",
            self.requests,
            &(1..=1_000_000),
            "most requests in work at a time; more are answered 503",
        );
        self.body_bytes = section
            .get_within(
                "body_bytes_max",
                ByteSize(self.body_bytes),
                &(ByteSize(0)..=ByteSize(1 << 50)),
                "largest request body; larger ones are answered 413",
            )
            .0;
        self.framing.head_bytes = section
            .get_within(
                "head_bytes_max",
                ByteSize(self.framing.head_bytes as u64),
                &(ByteSize::kib(1)..=ByteSize::kib(256)),
                "largest request head; larger ones are answered 431",
            )
            .as_usize();
        self.framing.target_bytes = self.framing.target_bytes.min(self.framing.head_bytes);
        self.framing.headers = section.get_within(
            "headers_max",
            self.framing.headers,
            &(8..=1000),
            "most header fields; more are answered 431",
        );
        let times = Duration::from_millis(100)..=seconds(86400);
        for (key, value, meaning) in [
            ("head_timeout", &mut self.head_timeout, "longest time to receive a head"),
            ("body_timeout", &mut self.body_timeout, "longest pause within a request body"),
            ("idle_timeout", &mut self.idle_timeout, "longest time between two requests"),
            ("write_timeout", &mut self.write_timeout, "longest pause in taking an answer"),
            ("tunnel_timeout", &mut self.tunnel_timeout, "longest silence of a WebSocket"),
        ] {
            *value = section.get_within(key, *value, &times, meaning);
        }
    }
}

impl UpstreamLimits {
    const fn new() -> Self {
        Self {
            connect_timeout: seconds(1),
            head_timeout: seconds(10),
            total_timeout: seconds(30),
            body_timeout: seconds(30),
            active: 1024,
            idle: 256,
            idle_timeout: seconds(30),
            head_bytes: 64 << 10,
        }
    }

    fn read(&mut self, section: &mut Section<'_>) {
        let times = Duration::from_millis(10)..=seconds(86400);
        for (key, value, meaning) in [
            ("connect_timeout", &mut self.connect_timeout, "longest wait for a connection"),
            (
                "head_timeout",
                &mut self.head_timeout,
                "longest wait for the head of an answer after the request was sent",
            ),
            (
                "total_timeout",
                &mut self.total_timeout,
                "longest wait for the head of an answer, all attempts together",
            ),
            ("body_timeout", &mut self.body_timeout, "longest pause within an answer"),
            ("idle_timeout", &mut self.idle_timeout, "how long an idle connection is kept"),
        ] {
            *value = section.get_within(key, *value, &times, meaning);
        }
        self.active = section.get_within(
            "requests_per_instance_max",
            self.active,
            &(1..=100_000),
            "most requests under way to one instance, per worker",
        );
        self.idle = section.get_within(
            "idle_per_instance_max",
            self.idle,
            &(0..=100_000),
            "most idle connections to one instance, per worker",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tradewind_service::config::Sources;

    fn read(text: &str) -> (Config, Result<String, String>) {
        let mut reader = Reader::new(Sources {
            file: Some(("tradewind.toml".into(), text.into())),
            environment: vec![],
            flags: vec![],
        });
        let config = Config::read(&mut reader);
        let result = reader.finish();
        (config, result.map(|it| it.to_string()).map_err(|it| it.to_string()))
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let (_, result) = read(
            "[gateway]\nbind = \"x\"\nworkers = 0\ntrusted_proxies = [\"10.0.0.0/99\"]\nworker = 1\n\
             [gateway.auth]\njwks = \"ftp://x\"\n[gateway.database]\nurl = \"oracle:x\"\n\
             [gateway.client]\nhead_timeout = \"0s\"\n",
        );
        let errors = result.unwrap_err();
        for key in [
            "gateway.bind",
            "gateway.workers",
            "gateway.trusted_proxies",
            "gateway.worker",
            "gateway.auth.jwks",
            "gateway.database.url",
            "gateway.client.head_timeout",
        ] {
            assert!(errors.contains(key), "{key} in {errors}");
        }
    }

    #[test]
    fn the_dump_has_every_key_with_its_meaning() {
        let (config, result) = read("[gateway.upstream]\nconnect_timeout = \"250ms\"\n");
        assert_eq!(config.upstream.connect_timeout, Duration::from_millis(250));
        let dump = result.unwrap();
        for text in ["tunnel_timeout", "longest silence of a WebSocket", "trusted_proxies", "jwks"]
        {
            assert!(dump.contains(text), "{text}");
        }
    }
}
