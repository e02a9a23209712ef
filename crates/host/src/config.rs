//! The settings that every service has.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tradewind_discovery::{Instance, ServiceName};
use tradewind_service::config::{HIDDEN, Section, Setting};
use tradewind_service::edge::EdgeConfig;
use tradewind_sql::DatabaseUrl;

/// Where a service listens, what it bears, where its database is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HostConfig {
    /// The HTTP edge.
    pub edge: EdgeConfig,
    /// The address it registers; where it listens when absent.
    pub advertise: Option<Advertise>,
    /// The database; a file of the service's name in the data folder when absent.
    pub database: Option<DatabaseSetting>,
    /// How often the service looks for broken invariants in its database; never when zero.
    pub audit_every: Duration,
}

/// The longest time between two looks for broken invariants.
const AUDIT_EVERY_MAX: Duration = Duration::from_secs(24 * 3600);

/// The address under which others reach a service, where that is not the one it listens on: behind
/// a proxy or a port mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertise {
    /// A name or an IP address; IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// The address of a database as a setting. Shown without its password.
#[derive(Clone, Debug)]
pub struct DatabaseSetting(pub DatabaseUrl);

impl HostConfig {
    /// Reads the settings of a service from its section.
    pub fn read(section: &mut Section<'_>, bind: SocketAddr) -> Self {
        let edge = EdgeConfig::read(section, bind);
        let meaning = "the address others reach it under, for one behind a proxy or a port mapping; \
                       the one it listens on when unset";
        let advertise = section.optional("advertise", meaning);
        let meaning = "where the data is; a SQLite file in the data folder when unset";
        let database = section.section("database").optional("url", meaning);
        let meaning = "time between two looks for broken invariants in the own database; 0s: never";
        let audit_every = section.get_within(
            "audit_every",
            Duration::from_secs(60),
            &(Duration::ZERO..=AUDIT_EVERY_MAX),
            meaning,
        );
        Self { edge, advertise, database, audit_every }
    }
}

impl Setting for Advertise {
    const EXPECTED: &'static str = "a host and a port like shop.example:9001";

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not such an address");
        let (host, port) = text.trim().rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|it| *it != 0).ok_or_else(wrong)?;
        let host = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
        // Refused here already, before the service has started anything.
        let service = ServiceName::parse("any").map_err(|_| wrong())?;
        Instance::plain(&service, host, port).map_err(|_| wrong())?;
        if host.parse::<IpAddr>().is_ok_and(|it| it.is_unspecified()) {
            return Err(format!("`{text}` names every address of a machine, not one"));
        }
        Ok(Self { host: host.to_owned(), port })
    }

    fn show(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl Setting for DatabaseSetting {
    const EXPECTED: &'static str =
        "a database like sqlite:data/order.db or mysql://user:password@host:3306/name";

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertised_address_is_one_that_can_be_reached() {
        for text in ["shop.example:9001", "10.0.0.7:80", "[::1]:9001"] {
            assert_eq!(Advertise::parse(text).unwrap().show(), text);
        }
        for text in ["", "shop", "shop:", "shop:0", "shop:70000", ":9001", "0.0.0.0:1", "a b:1"] {
            assert!(Advertise::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_is_shown_nowhere() {
        let it = DatabaseSetting::parse("mysql://shop:hunter2@db:3306/order").unwrap();
        assert!(!it.show().contains("hunter2"), "{}", it.show());
        let error = DatabaseSetting::parse("postgres://shop:hunter2@db/order").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
        let error = DatabaseSetting::parse(&it.show()).unwrap_err();
        assert!(error.contains("in place of the password"), "{error}");
    }
}
