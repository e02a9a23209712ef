//! A gateway with services behind it, and raw clients before it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tradewind_base::{SystemClock, Tasks};
use tradewind_discovery::{Discovery, Instance, ServiceName};
use tradewind_gateway::machine::route::RouteRow;
use tradewind_gateway::tokens::KeySource;
use tradewind_gateway::{Config, Drained, Gateway};
use tradewind_http::{Client, Connect, Io, Target, TcpConnect};
use tradewind_service::edge::EdgeConfig;
use tradewind_service::{Keys, Shared};

use super::backend::Backend;

pub(crate) const SECRET: [u8; 32] = [7; 32];
/// Long enough for a slow machine, short enough to fail a test.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Rig {
    pub(crate) gateway: Gateway,
    pub(crate) backends: Vec<Backend>,
    pub(crate) discovery: Discovery,
    pub(crate) folder: Arc<tempfile::TempDir>,
    pub(crate) tasks: Tasks,
}

/// The host whose connections are a fault of ours.
pub(crate) const PANIC_HOST: &str = "panic.invalid";

/// TCP, but for one host.
struct Treacherous(TcpConnect);

impl Connect for Treacherous {
    fn connect<'a>(
        &'a self,
        target: &'a Target,
    ) -> futures_util::future::BoxFuture<'a, std::io::Result<Box<dyn Io>>> {
        assert_ne!(target.host(), PANIC_HOST, "on purpose");
        self.0.connect(target)
    }
}

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub(crate) fn instance(service: &str, address: SocketAddr) -> Instance {
    let service = ServiceName::parse(service).unwrap();
    Instance::plain(&service, &address.ip().to_string(), address.port()).unwrap()
}

pub(crate) fn config() -> Config {
    let mut config = Config::new();
    // Most tests have no issuer; those that do wait for its keys themselves.
    config.jwks_wait = Duration::ZERO;
    config.bind = loopback();
    config.admin = EdgeConfig::new(loopback());
    config.workers = 2;
    config.seed_routes = vec![RouteRow {
        strip_prefix: Some(true),
        ..RouteRow::service("order-service", "/order/**", "order")
    }];
    config.drain_limit = Duration::from_secs(2);
    // Nobody is there: a test that wants keys says where they are.
    config.jwks = KeySource::parse("http://127.0.0.1:1/keys").unwrap();
    config
}

pub(crate) fn shared(folder: &Path) -> Shared {
    let keys = Keys::from_secret(&SECRET).unwrap();
    Shared::new(folder.to_owned(), keys, Arc::new(SystemClock::new()), Vec::new())
}

impl Rig {
    /// One service `order` with one instance.
    pub(crate) async fn start() -> Self {
        Self::with(1, |_| ()).await
    }

    /// `count` instances of `order`, and a configuration to change.
    pub(crate) async fn with(count: usize, change: impl FnOnce(&mut Config)) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        Self::on(folder, count, change).await
    }

    pub(crate) async fn on(
        folder: Arc<tempfile::TempDir>,
        count: usize,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let tasks = Tasks::new();
        let names = ["a", "b", "c"];
        let mut backends = Vec::new();
        for name in names.iter().take(count) {
            backends.push(Backend::start(&tasks, name).await);
        }
        let instances = backends.iter().map(|it| instance("order", it.address)).collect();
        let discovery = Discovery::fixed(instances);
        let mut config = config();
        change(&mut config);
        let client = Client::standard(&tasks);
        let shared = shared(folder.path());
        let connector = Arc::new(Treacherous(TcpConnect::new()));
        let gateway =
            Gateway::start(config, &shared, discovery.clone(), client, connector).await.unwrap();
        Self { gateway, backends, discovery, folder, tasks }
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.backends[0]
    }

    pub(crate) async fn client(&self) -> Raw {
        Raw::connect(self.gateway.local_addr()).await
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, request: &str) -> Answer {
        let mut client = self.client().await;
        client.send(request.as_bytes()).await;
        client.answer().await.expect("an answer")
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n")).await
    }

    pub(crate) fn token(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("admin.token")).unwrap().trim().to_owned()
    }

    /// A request to the admin surface.
    pub(crate) async fn admin(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let token = self.token();
        let body = body.map_or_else(String::new, |it| it.to_string());
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: admin\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut client = Raw::connect(self.gateway.admin_addr()).await;
        client.send(text.as_bytes()).await;
        client.answer().await.expect("an answer of the admin surface")
    }

    /// The access log, once it has at least `lines` lines.
    pub(crate) async fn log(&self, lines: usize) -> Vec<Value> {
        let path = self.folder.path().join("logs/gateway-access.jsonl");
        let read = || -> Vec<Value> {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            text.lines().filter_map(|it| serde_json::from_str(it).ok()).collect()
        };
        until("the lines of the access log", || lines <= read().len()).await;
        read()
    }

    pub(crate) async fn stop(self) -> Drained {
        let drained = self.gateway.stop(std::future::pending()).await;
        self.tasks.shutdown(LIMIT).await.unwrap();
        drained
    }
}

/// Waits for a condition, within [`LIMIT`].
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, waiting).await.is_ok(), "waited too long for {what}");
}

/// A client that writes bytes as they are.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    pub(crate) inbox: Vec<u8>,
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.head
            .lines()
            .filter_map(|it| it.split_once(':'))
            .filter(|(it, _)| it.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("JSON in {self:?}"))
    }

    /// The code of a problem document, which must be a whole one.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.one("content-type"), Some("application/problem+json"), "{self:?}");
        let json = self.json();
        assert_eq!(json["status"], self.status, "{json}");
        let id = json["request_id"].as_str().expect("a request id");
        assert_eq!(self.one("x-request-id"), Some(id));
        json["code"].as_str().expect("a code").to_owned()
    }
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, inbox: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        // The gateway may have refused and closed already; its answer is what counts.
        drop(self.stream.write_all(bytes).await);
    }

    async fn fill(&mut self) -> bool {
        let mut buffer = vec![0; 64 * 1024];
        let read = tokio::time::timeout(LIMIT, self.stream.read(&mut buffer)).await;
        match read.expect("bytes or the end in time") {
            Ok(0) | Err(_) => false,
            Ok(bytes) => {
                self.inbox.extend_from_slice(&buffer[..bytes]);
                true
            }
        }
    }

    /// The head of the next answer; `None` when the connection ended instead.
    pub(crate) async fn head(&mut self) -> Option<(u16, String)> {
        loop {
            let end = self.inbox.windows(4).position(|it| it == b"\r\n\r\n");
            if let Some(end) = end {
                let head = String::from_utf8_lossy(&self.inbox[..end]).into_owned();
                self.inbox.drain(..end + 4);
                let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
                return Some((status.expect("a status line"), head));
            }
            if !self.fill().await {
                assert!(
                    self.inbox.is_empty(),
                    "half a head: {:?}",
                    String::from_utf8_lossy(&self.inbox)
                );
                return None;
            }
        }
    }

    /// The next final answer to a request that was not HEAD.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        let (mut status, mut head) = self.head().await?;
        while (100..200).contains(&status) && status != 101 {
            (status, head) = self.head().await?;
        }
        let mut answer = Answer { status, head, body: Vec::new() };
        let chunked = answer.one("transfer-encoding") == Some("chunked");
        let length = answer.one("content-length").map(|it| it.parse::<usize>().unwrap());
        match length {
            _ if matches!(status, 101 | 204 | 304) => {}
            Some(length) => {
                while self.inbox.len() < length && self.fill().await {}
                assert!(length <= self.inbox.len(), "the body of {answer:?} is cut");
                answer.body = self.inbox.drain(..length).collect();
            }
            None if chunked => {
                while !self.inbox.ends_with(b"0\r\n\r\n") && self.fill().await {}
                answer.body = dechunk(&std::mem::take(&mut self.inbox));
            }
            None => {
                while self.fill().await {}
                answer.body = std::mem::take(&mut self.inbox);
            }
        }
        Some(answer)
    }

    /// Whether the gateway ends the connection without another byte.
    pub(crate) async fn ended(&mut self) -> bool {
        let empty = self.inbox.is_empty();
        empty && !self.fill().await
    }
}

fn dechunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = bytes.windows(2).position(|it| it == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        out.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + 4 + size..];
    }
    out
}
