//! Starts nodes and speaks HTTP with them.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tradewind_base::{SystemClock, Tasks};
use tradewind_http::{Body, Client, Limits, Target, collect};
use tradewind_registry::{Config, Node};
use tradewind_service::edge::Server;

/// Nothing here takes longer on a working machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |it| it.to_str().unwrap())
    }
}

/// A node, or anything else that speaks HTTP.
#[derive(Clone)]
pub(crate) struct Http {
    client: Client,
    target: Target,
    headers: Vec<(String, String)>,
}

impl Http {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        let client = Client::standard(&Tasks::new());
        Self { client, target: Target::parse(&format!("http://{addr}")).unwrap(), headers: vec![] }
    }

    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        let mut with = self.clone();
        with.headers.push((name.into(), value.into()));
        with
    }

    pub(crate) async fn stream(
        &self,
        method: &str,
        path: &str,
        body: Bytes,
    ) -> http::Response<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
        *request.uri_mut() = path.parse().unwrap();
        for (name, value) in &self.headers {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        let limits = Limits { head: LIMIT, body_idle: LIMIT, connect: LIMIT };
        self.client.send(&self.target, request, &limits).await.unwrap()
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Answer {
        let (parts, body) = self.stream(method, path, body.into()).await.into_parts();
        let limits = Limits { head: LIMIT, body_idle: LIMIT, connect: LIMIT };
        let body = collect(body, 64 << 20, &limits).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.with("accept", "application/json").send("GET", path, "").await
    }

    pub(crate) async fn put(&self, path: &str) -> StatusCode {
        self.send("PUT", path, "").await.status
    }

    pub(crate) async fn delete(&self, path: &str) -> StatusCode {
        self.send("DELETE", path, "").await.status
    }

    pub(crate) async fn register(&self, instance: &Value) -> Answer {
        let path = format!("/eureka/apps/{}", instance["instance"]["app"].as_str().unwrap());
        self.with("content-type", "application/json")
            .send("POST", &path, instance.to_string())
            .await
    }

    /// Registers, and checks that it went well.
    pub(crate) async fn registered(&self, instance: &Value) {
        let answer = self.register(instance).await;
        assert_eq!(answer.status, 204, "{}", answer.text());
        assert!(answer.body.is_empty());
    }

    /// The ids of an application's instances with their statuses, as native clients see them.
    pub(crate) async fn instances(&self, service: &str) -> Vec<(String, String)> {
        let answer = self.get(&format!("/tradewind/v1/instances/{service}")).await.json();
        let instances = answer["instances"].as_array().unwrap().iter();
        instances
            .map(|it| (it["id"].as_str().unwrap().into(), it["status"].as_str().unwrap().into()))
            .collect()
    }

    pub(crate) async fn has(&self, service: &str, id: &str) -> bool {
        self.instances(service).await.iter().any(|(it, _)| it == id)
    }

    pub(crate) async fn watch(&self, query: &str) -> Lines {
        let answer =
            self.stream("GET", &format!("/tradewind/v1/watch?{query}"), Bytes::new()).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
        Lines { body: answer.into_body(), rest: Vec::new() }
    }
}

/// The lines of a change stream.
pub(crate) struct Lines {
    body: Body,
    rest: Vec<u8>,
}

impl Lines {
    /// The next line; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|it| *it == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let chunk = tokio::time::timeout(LIMIT, self.body.chunk()).await.expect("a line");
            self.rest.extend_from_slice(&chunk.ok()??);
        }
    }

    /// The next line that is no ping.
    pub(crate) async fn event(&mut self) -> Value {
        loop {
            let line = self.next().await.expect("the stream goes on");
            if line.get("ping").is_none() {
                return line;
            }
        }
    }
}

/// An instance as the native client registers it.
pub(crate) fn instance(service: &str, id: &str, port: u16, lease_secs: u32) -> Value {
    serde_json::json!({"instance": {
        "instanceId": id,
        "hostName": "127.0.0.1",
        "app": service.to_uppercase(),
        "ipAddr": "127.0.0.1",
        "status": "UP",
        "port": {"$": port, "@enabled": "true"},
        "securePort": {"$": 443, "@enabled": "false"},
        "vipAddress": service,
        "secureVipAddress": service,
        "dataCenterInfo": {
            "@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn"
        },
        "leaseInfo": {"renewalIntervalInSecs": 1, "durationInSecs": lease_secs},
        "metadata": {"version": "current"},
        "lastDirtyTimestamp": "1700000000000",
    }})
}

pub(crate) fn local() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub(crate) async fn bound(config: &Config) -> Server {
    Server::bind(config.edge.clone()).await.unwrap()
}

pub(crate) fn started(server: Server, config: Config) -> Node {
    Node::start(server, config, Arc::new(SystemClock::new()), None)
}

/// A node alone, changed by `change` before its start.
pub(crate) async fn node(change: impl FnOnce(&mut Config)) -> (Node, Http) {
    let mut config = Config::new(local());
    change(&mut config);
    let node = started(bound(&config).await, config);
    node.ready().await;
    let http = Http::new(node.local_addr());
    (node, http)
}

/// Waits until `condition` holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) {
    let holds = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, holds).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Bytes as they are over a connection of their own; the answer's status and body.
pub(crate) async fn raw(addr: SocketAddr, request: &[u8]) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut read = Vec::new();
    let mut buffer = [0_u8; 8192];
    loop {
        if let Some(end) = read.windows(4).position(|it| it == b"\r\n\r\n") {
            let head = String::from_utf8(read[..end].to_vec()).unwrap();
            let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
            let length = head
                .lines()
                .find_map(|it| {
                    it.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned)
                })
                .map_or(0, |it| it.trim().parse::<usize>().unwrap());
            if end + 4 + length <= read.len() {
                return (status, head, read[end + 4..].to_vec());
            }
        }
        let count = tokio::time::timeout(LIMIT, stream.read(&mut buffer)).await.unwrap().unwrap();
        assert_ne!(count, 0, "closed after {}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&buffer[..count]);
    }
}

/// A way to a server that can be cut.
pub(crate) struct Relay {
    pub(crate) addr: SocketAddr,
    open: watch::Sender<bool>,
}

impl Relay {
    pub(crate) async fn to(server: SocketAddr, tasks: &Tasks) -> Self {
        let listener = TcpListener::bind(local()).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let open = watch::Sender::new(true);
        let (gate, connections) = (open.clone(), tasks.clone());
        tasks.spawn("relay", |cancel| async move {
            while let Some(Ok((mut from, _))) = cancel.run_until_cancelled(listener.accept()).await
            {
                let mut gate = gate.subscribe();
                connections.spawn("relayed", |cancel| async move {
                    if !*gate.borrow_and_update() {
                        return;
                    }
                    let mut to = TcpStream::connect(server).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut from, &mut to) => {}
                        _ = gate.wait_for(|open| !open) => {}
                        () = cancel.cancelled() => {}
                    }
                });
            }
        });
        Self { addr, open }
    }

    pub(crate) fn set(&self, open: bool) {
        self.open.send_replace(open);
    }
}
