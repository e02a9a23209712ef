//! The databases of an estate on a real server.

use std::sync::atomic::{AtomicU32, Ordering};

use mysql::Conn;
use mysql::prelude::Queryable as _;

/// The servers that have a database, and the setting that says where.
const SERVERS: [(&str, &str); 7] = [
    ("order", "order.database.url"),
    ("inventory", "inventory.database.url"),
    ("points", "points.database.url"),
    ("warehouse", "warehouse.database.url"),
    ("broker", "broker.database.url"),
    ("coordinator", "coordinator.database.url"),
    ("gateway", "gateway.database.url"),
];

/// Names the server: `mysql://user@host/?parameters`; `cargo xtask test` starts one and sets it.
const VARIABLE: &str = "TRADEWIND_TEST_MYSQL_URL";

/// One database for each server of one estate, on MariaDB; gone when this is dropped.
#[derive(Debug)]
pub struct Databases {
    /// The server's address up to the name of the database.
    server: String,
    /// What follows it.
    parameters: String,
    prefix: String,
}

impl Databases {
    /// Makes them, empty.
    ///
    /// # Panics
    /// When the environment names no server that does as it is told.
    #[must_use]
    pub fn create() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let url = std::env::var(VARIABLE)
            .unwrap_or_else(|_| panic!("{VARIABLE} names no server; see `cargo xtask services`"));
        let (server, parameters) = url.split_once('?').unwrap_or((&url, ""));
        let host = server.strip_prefix("mysql://").expect("an address that begins with mysql://");
        let host = host.split('/').next().expect("a text has a first part");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let it = Self {
            server: format!("mysql://{host}"),
            parameters: parameters.to_owned(),
            prefix: format!("tradewind_e2e_{}_{number}", std::process::id()),
        };
        let mut connection = it.admin();
        for (server, _) in SERVERS {
            let name = it.name(server);
            let create = format!("CREATE DATABASE {name} CHARACTER SET utf8mb4");
            connection.query_drop(create).expect("a database is made");
        }
        it
    }

    /// The settings that put every server of an estate there.
    #[must_use]
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        SERVERS.into_iter().map(|(server, key)| (key, self.url(server))).collect()
    }

    /// The address of one server's database.
    #[must_use]
    pub fn url(&self, server: &str) -> String {
        self.address(&self.name(server))
    }

    /// A connection to one server's database, to look into it.
    ///
    /// # Panics
    /// When there is none to be had.
    #[must_use]
    pub fn connect(&self, server: &str) -> Conn {
        Conn::new(self.url(server).as_str()).expect("a connection")
    }

    fn admin(&self) -> Conn {
        Conn::new(self.address("").as_str()).expect("a connection")
    }

    fn name(&self, server: &str) -> String {
        format!("{}_{server}", self.prefix)
    }

    fn address(&self, database: &str) -> String {
        let all = format!("{}/{database}?{}", self.server, self.parameters);
        all.trim_end_matches('?').to_owned()
    }
}

impl Drop for Databases {
    fn drop(&mut self) {
        // The server is a throw-away one: what cannot be dropped goes with it.
        let Ok(mut connection) = Conn::new(self.address("").as_str()) else { return };
        drop(connection.query_drop("SET SESSION lock_wait_timeout = 5"));
        for (server, _) in SERVERS {
            drop(connection.query_drop(format!("DROP DATABASE IF EXISTS {}", self.name(server))));
        }
    }
}
