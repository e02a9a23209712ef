//! The settings that every service has.

use std::net::SocketAddr;

use tradewind_service::config::{HIDDEN, Section, Setting};
use tradewind_service::edge::EdgeConfig;
use tradewind_sql::DatabaseUrl;

/// Where a service listens, what it bears, where its database is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HostConfig {
    /// The HTTP edge.
    pub edge: EdgeConfig,
    /// The database; a file of the service's name in the data folder when absent.
    pub database: Option<DatabaseSetting>,
}

/// The address of a database as a setting. Shown without its password.
#[derive(Clone, Debug)]
pub struct DatabaseSetting(pub DatabaseUrl);

impl HostConfig {
    /// Reads the settings of a service from its section.
    pub fn read(section: &mut Section<'_>, bind: SocketAddr) -> Self {
        let edge = EdgeConfig::read(section, bind);
        let meaning = "where the data is; a SQLite file in the data folder when unset";
        let database = section.section("database").optional("url", meaning);
        Self { edge, database }
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
    fn a_password_is_shown_nowhere() {
        let it = DatabaseSetting::parse("mysql://shop:hunter2@db:3306/order").unwrap();
        assert!(!it.show().contains("hunter2"), "{}", it.show());
        let error = DatabaseSetting::parse("postgres://shop:hunter2@db/order").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
        let error = DatabaseSetting::parse(&it.show()).unwrap_err();
        assert!(error.contains("in place of the password"), "{error}");
    }
}
