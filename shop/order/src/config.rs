//! The settings of the order service: section `order`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tradewind::call::Policy;
use tradewind::host::HostConfig;
use tradewind::service::config::{Reader, Section};

use crate::SERVICE;
use crate::demo::DEMO_USERS;
use crate::login::Limits;
use crate::login::attempts::Limit;
use crate::orders::{self, Decider};
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
    /// How inventory is called.
    pub inventory: Policy,
    /// How old a price may be that an order is placed at, besides the time that placing takes.
    pub price_keep: Duration,
    /// How long placing and cancelling may take.
    pub orders: orders::Settings,
    /// Who decides the transactions of orders.
    pub transactions: Decider,
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
        let attempts = Limits { user, peer };
        let inventory = policy(&mut section.section("inventory"));
        let price_keep = section.get_within(
            "price_keep",
            2 * second,
            &(Duration::ZERO..=60 * second),
            "how long a price of inventory serves the orders that are placed; 0s: each asks",
        );
        let orders = bounds(&mut section);
        let meaning = "who decides the transactions of orders: `embedded`, this service in its own \
                       database, or `coordinator`, the server of that name";
        let transactions = section.get("transactions", Decider::default(), meaning);
        Self {
            host,
            demo_users,
            password_threads,
            token,
            attempts,
            inventory,
            price_keep,
            orders,
            transactions,
        }
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

/// The bounds of placing and cancelling.
fn bounds(section: &mut Section<'_>) -> orders::Settings {
    let range = Duration::from_millis(100)..=Duration::from_secs(60);
    let mut limit = |key, default: u64, meaning| {
        section.get_within(key, Duration::from_secs(default), &range, meaning)
    };
    let meaning = "longest time until an order is placed or refused";
    let place_limit = limit("place_limit", 2, meaning);
    let meaning = "longest time until an order is cancelled or that is refused";
    let cancel_limit = limit("cancel_limit", 5, meaning);
    let meaning = "most orders in the making at a time, and as many waiting; \
                   fewer are let in while they are late";
    let placing_max = section.get_within("placing_max", 256, &(8..=10_000), meaning);
    let meaning = "whether an order is answered as soon as it is begun and all is tried, before \
                   that is written down; every participant and every instance of order must \
                   know this before it is switched on";
    let parallel_commit = section.get("parallel_commit", true, meaning);
    orders::Settings { place_limit, cancel_limit, placing_max, parallel_commit }
}

fn policy(section: &mut Section<'_>) -> Policy {
    let normal = Policy {
        connect: Duration::from_millis(500),
        read: Duration::from_secs(2),
        total: Duration::from_secs(5),
        ..Policy::default()
    };
    let range = Duration::from_millis(1)..=Duration::from_secs(600);
    let mut time = |key, default, meaning| section.get_within(key, default, &range, meaning);
    let connect = time("connect_timeout", normal.connect, "longest wait for a connection");
    let read = time("read_timeout", normal.read, "longest wait for one attempt's answer");
    let total = time("timeout", normal.total, "longest wait for an answer, all attempts together");
    let meaning = "further instances that are tried when one gives no answer";
    let retries_next = section.get_within("retries_next", normal.retries_next, &(0..=10), meaning);
    Policy { connect, read, total, retries_next, ..normal }
}

#[cfg(test)]
mod tests {
    use tradewind::service::config::Sources;

    use super::*;

    fn read(file: &str) -> Result<(Config, String), String> {
        let file = Some(("tradewind.toml".into(), file.to_owned()));
        let sources = Sources { file, environment: vec![], flags: vec![] };
        let mut reader = Reader::new(sources);
        let config = Config::read(&mut reader);
        let described = reader.finish().map_err(|it| it.to_string())?;
        Ok((config, described.to_string()))
    }

    #[test]
    fn demo_users_exist_on_loopback_only_unless_told_otherwise() {
        let users = |file: &str| read(file).unwrap().0.demo_users();
        assert_eq!(users("")[0], ("alice".to_owned(), "alice-demo".to_owned()));
        assert_eq!(users("[order]\nbind = \"0.0.0.0:9001\"").len(), 0);
        assert_eq!(users("[order]\nbind = \"0.0.0.0:9001\"\ndemo_users = true").len(), 3);
        assert_eq!(users("[order]\ndemo_users = false").len(), 0);
    }

    /// R5.2
    #[test]
    fn one_setting_says_who_decides() {
        let decider = |file: &str| read(file).map(|it| it.0.transactions);
        assert_eq!(decider(""), Ok(Decider::Embedded));
        let there = "[order]\ntransactions = \"coordinator\"";
        assert_eq!(decider(there), Ok(Decider::Coordinator));
        let dump = read(there).unwrap().1;
        assert!(dump.contains("who decides the transactions of orders"), "{dump}");
        let wrong = decider("[order]\ntransactions = \"seata\"").unwrap_err();
        assert!(wrong.contains("`embedded` or `coordinator`"), "{wrong}");
    }

    #[test]
    fn every_mistake_is_reported_and_no_password_shown() {
        let errors = read(
            "[order]\ntoken_life = \"0s\"\nlogin_user_failures = 0\nnope = 1\n\
             [order.inventory]\nretries_next = 99\n\
             [order.database]\nurl = \"postgres://me:hunter2@db/x\"\n",
        )
        .unwrap_err();
        let keys = ["token_life", "login_user_failures", "nope", "retries_next", "database.url"];
        assert!(keys.iter().all(|it| errors.contains(it)), "{errors}");
        assert!(!errors.contains("hunter2"), "{errors}");
        let url = "mysql://me:hunter2@db:3306/order";
        let (_, dump) = read(&format!("[order.database]\nurl = \"{url}\"")).unwrap();
        assert!(dump.contains("order.database") && !dump.contains("hunter2"), "{dump}");
    }
}
