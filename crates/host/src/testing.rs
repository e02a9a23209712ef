//! For the tests of services: a router behind the real HTTP edge on a free port, and a
//! client that sends exactly what it is told.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a test helper fails its test"
)]

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tradewind_base::identity::{CALLER_HEADER, Caller, USER_HEADER, User};
use tradewind_base::{Clock, SystemClock, Tasks};
use tradewind_service::axum::Router;
use tradewind_service::edge::{EdgeConfig, Server, Serving};
use tradewind_service::{Health, Keys};
use tradewind_sql::DatabaseUrl;

/// The longest wait for an answer.
const LIMIT: Duration = Duration::from_secs(20);

/// A service that listens on a free port of loopback.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    keys: Keys,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    _serving: Serving,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Status line and headers, as they came.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Running {
    /// Serves `router` with keys of its own.
    pub async fn start(name: &'static str, router: Router) -> Self {
        let keys = Keys::from_secret(&[7; 32]).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let tasks = Tasks::new();
        let server = Server::bind(EdgeConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)))).await;
        let server = server.unwrap();
        let address = server.local_addr();
        let (health, keyed, time) = (Health::new(), Some(keys.clone()), Arc::clone(&clock));
        let serving = server.serve(name, router, health, keyed, time, &tasks);
        Self { address, keys, clock, tasks, _serving: serving }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The secret of its estate.
    #[must_use]
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The owner of its work.
    #[must_use]
    pub const fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// The header with which the gateway vouches for a user called Alice.
    #[must_use]
    pub fn user(&self) -> (&'static str, String) {
        let user = User { id: "usr_1".into(), name: "Alice".into(), roles: vec!["buyer".into()] };
        let end = self.clock.now() + Duration::from_secs(60);
        (USER_HEADER, user.seal(self.keys.seal(), end).unwrap())
    }

    /// The header with which a service called `service` vouches for itself.
    #[must_use]
    pub fn caller(&self, service: &str) -> (&'static str, String) {
        let caller = Caller { service: service.to_owned() };
        (CALLER_HEADER, caller.seal(self.keys.seal(), self.clock.now()).unwrap())
    }

    /// Asks for `path`.
    pub async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], "").await
    }

    /// Sends `body` as JSON, whatever it is.
    pub async fn post(&self, path: &str, headers: &[(&str, String)], body: &str) -> Reply {
        let json = ("content-type", "application/json".to_owned());
        let headers: Vec<_> = headers.iter().cloned().chain([json]).collect();
        self.send("POST", path, &headers, body).await
    }

    /// Sends a request on a connection of its own.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        body: &str,
    ) -> Reply {
        exchange(self.address, method, path, headers, body).await
    }
}

/// Sends a request on a connection of its own to whatever listens at `address`.
pub async fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, String)],
    body: &str,
) -> Reply {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
    for (name, value) in headers {
        write!(request, "{name}: {value}\r\n").unwrap();
    }
    write!(request, "content-length: {}\r\n\r\n{body}", body.len()).unwrap();
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    };
    let answer = tokio::time::timeout(LIMIT, exchange).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
    let Some(status) = status else { panic!("no status in {head}") };
    Reply { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

impl Reply {
    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The value of a header; empty when it is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_default()
    }

    /// The code of the problem document and the names of the wrong fields.
    #[must_use]
    pub fn problem(&self) -> (String, Vec<String>) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let json = self.json();
        assert_eq!(json["status"], self.status, "{self:?}");
        let errors = json["errors"].as_array().cloned().unwrap_or_default();
        let field = |it: &serde_json::Value| it["field"].as_str().unwrap().to_owned();
        (json["code"].as_str().unwrap().to_owned(), errors.iter().map(field).collect())
    }
}

/// An empty database `name` on the server of `TRADEWIND_TEST_MYSQL_URL`.
#[must_use]
pub fn fresh_mysql(name: &str) -> DatabaseUrl {
    use mysql::prelude::Queryable as _;
    let url = std::env::var("TRADEWIND_TEST_MYSQL_URL").unwrap();
    let (server, parameters) = url.split_once('?').unwrap_or((&url, ""));
    let (scheme, rest) = server.split_once("://").unwrap();
    let host = rest.split('/').next().unwrap();
    let with = |database: &str| format!("{scheme}://{host}/{database}?{parameters}");
    let mut connection = mysql::Conn::new(with("").as_str()).unwrap();
    connection.query_drop(format!("DROP DATABASE IF EXISTS {name}")).unwrap();
    connection.query_drop(format!("CREATE DATABASE {name} CHARACTER SET utf8mb4")).unwrap();
    DatabaseUrl::parse(with(name).trim_end_matches('?')).unwrap()
}
