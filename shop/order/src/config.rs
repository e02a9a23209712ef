//! The settings of the order service: section `order`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tradewind::service::config::Reader;
use tradewind_shop_host::HostConfig;

use crate::SERVICE;
use crate::demo::DEMO_USERS;
use crate::login::Limits;
use crate::login::attempts::Limit;
use crate::token::Settings;

/// Where it listens by default.
const BIND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9001);

/// How many names and addresses with failed attempts are remembered at most: some megabytes.
const ATTEMPT_KEYS_MAX: usize = 20_000;

/// The settings.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// What every service of the shop has.
    pub host: HostConfig,
    /// Whether the demo users are made at the start.
    pub demo_users: bool,
    /// How many passwords are hashed at once; each takes 19 MiB.
    pub password_threads: usize,
    pub(crate) token: Settings,
    pub(crate) attempts: Limits,
}

impl Config {
    /// Reads the section `order`.
    pub fn read(reader: &mut Reader) -> Self {
        let mut section = reader.section(SERVICE);
        let host = HostConfig::read(&mut section, BIND);
        let local = host.edge.bind.ip().is_loopback();
        let meaning = "whether the demo users exist: their passwords are public; \
                       by default only when listening on loopback";
        let demo_users = section.get("demo_users", local, meaning);
        let meaning = "passwords that are checked at once; each takes 19 MiB";
        let password_threads = section.get_within("password_threads", 2, &(1..=64), meaning);
        let second = Duration::from_secs(1);
        let token = Settings {
            issuer: section.get("token_issuer", "tradewind".to_owned(), "claim `iss` of tokens"),
            audience: section.get("token_audience", "shop".to_owned(), "claim `aud` of tokens"),
            lifetime: section.get_within(
                "token_life",
                3600 * second,
                &(second..=30 * 24 * 3600 * second),
                "how long a token is good for",
            ),
        };
        let mut limit = |burst: (&'static str, u32), interval: (&'static str, Duration)| Limit {
            burst: section.get_within(
                burst.0,
                burst.1,
                &(1..=10_000),
                "failed log-ins in a row that are let pass",
            ),
            interval: section.get_within(
                interval.0,
                interval.1,
                &(Duration::from_millis(10)..=24 * 3600 * second),
                "time after which one failed log-in is forgotten",
            ),
            keys_max: ATTEMPT_KEYS_MAX,
        };
        let user = limit(("login_user_failures", 10), ("login_user_forget", 30 * second));
        // Many people share an address; a guesser of many names has one.
        let peer = limit(("login_peer_failures", 50), ("login_peer_forget", 5 * second));
        Self { host, demo_users, password_threads, token, attempts: Limits { user, peer } }
    }

    /// Where the service listens.
    #[must_use]
    pub const fn bind(&self) -> SocketAddr {
        self.host.edge.bind
    }

    /// The names and passwords of the demo users; none when they are not made.
    #[must_use]
    pub fn demo_users(&self) -> Vec<(String, String)> {
        let all = DEMO_USERS.iter().filter(|_| self.demo_users);
        all.map(|it| (it.username.to_owned(), it.password.to_owned())).collect()
    }
}
