//! Servers that can be killed, and a declared client.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tradewind_base::Tasks;
use tradewind_call::{CallError, Channel, Client, Policy, client};
use tradewind_discovery::{Discovery, Instance, ServiceName};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Product {
    pub(crate) id: i64,
    pub(crate) name: String,
}

#[client(service = "inventory")]
pub(crate) trait Inventory {
    #[get("/products/{id}")]
    async fn product(&self, #[path] id: &str) -> Result<Product, CallError>;

    #[get("/products")]
    async fn list(
        &self,
        #[query] page: u32,
        #[query] text: Option<&str>,
        #[query("tag")] tags: &[&str],
        #[header("if-none-match")] etag: Option<String>,
        #[header("x-flag")] flags: Vec<u8>,
    ) -> Result<Vec<Product>, CallError>;

    #[post("/products")]
    async fn add(&self, #[json] product: &Product) -> Result<Product, CallError>;

    #[post("/search", idempotent)]
    async fn search(&self, #[json] product: &Product) -> Result<Product, CallError>;

    #[put("/products/{id}/stock/{place}")]
    async fn stock(
        &self,
        #[path("id")] product: i64,
        #[path] place: char,
        #[json] count: u32,
    ) -> Result<(), CallError>;

    #[delete("/products/{id}")]
    async fn remove(&self, #[path] id: i64) -> Result<(), CallError>;

    #[patch("/products", timeout = "100ms")]
    async fn hurry(&self) -> Result<(), CallError>;
}

pub(crate) fn lamp() -> Product {
    Product { id: 1, name: "lamp".into() }
}

/// A request as a server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) address: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

type Answer = Response<Full<Bytes>>;
type Handler = dyn Fn(Seen) -> BoxFuture<'static, Answer> + Send + Sync;

pub(crate) fn answer(status: u16, content_type: &str, body: &str) -> Answer {
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .header("content-type", content_type)
        .body(Full::from(body.to_owned()))
        .unwrap()
}

pub(crate) fn json<T: Serialize>(body: &T) -> Answer {
    answer(200, "application/json", &serde_json::to_string(body).unwrap())
}

/// A server on a free port.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    accepted: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<Seen>>>,
    dead: CancellationToken,
    tasks: Tasks,
}

impl Server {
    pub(crate) async fn start<F>(handler: impl Fn(Seen) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        Self::start_at("127.0.0.1:0".parse().unwrap(), handler).await
    }

    pub(crate) async fn start_at<F>(
        addr: SocketAddr,
        handler: impl Fn(Seen) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let listener = TcpListener::bind(addr).await.unwrap();
        let server = Self {
            addr: listener.local_addr().unwrap(),
            accepted: Arc::default(),
            seen: Arc::default(),
            dead: CancellationToken::new(),
            tasks: Tasks::new(),
        };
        let handler: Arc<Handler> = Arc::new(move |seen| handler(seen).boxed());
        let (tasks, dead) = (server.tasks.clone(), server.dead.clone());
        let (seen, accepted) = (Arc::clone(&server.seen), Arc::clone(&server.accepted));
        server.tasks.spawn("accept", |_| async move {
            let accept = async {
                while let Ok((stream, _)) = listener.accept().await {
                    accepted.fetch_add(1, Ordering::SeqCst);
                    let serve = serve(stream, Arc::clone(&handler), Arc::clone(&seen));
                    let dead = dead.clone();
                    tasks.spawn("serve", |_| async move {
                        dead.run_until_cancelled(serve).await;
                    });
                }
            };
            dead.run_until_cancelled(accept).await;
        });
        server
    }

    /// A server that answers every request with the lamp.
    pub(crate) async fn lamps() -> Self {
        Self::start(|_| async { json(&lamp()) }).await
    }

    /// As SIGKILL does: the port refuses and every connection is cut, whatever was on it.
    pub(crate) async fn kill(&self) {
        self.dead.cancel();
        self.tasks.shutdown(Duration::from_secs(5)).await.unwrap();
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(crate) fn instance(&self) -> Instance {
        instance(self.addr)
    }
}

async fn serve(stream: TcpStream, handler: Arc<Handler>, seen: Arc<Mutex<Vec<Seen>>>) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (handler, seen) = (Arc::clone(&handler), Arc::clone(&seen));
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let (method, headers) = (parts.method, parts.headers);
            let request = Seen { method, address: parts.uri.to_string(), headers, body };
            seen.lock().unwrap().push(request.clone());
            Ok::<_, hyper::Error>(handler(request).await)
        }
    });
    // A connection that the client cuts is none of the server's errors.
    drop(
        hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await,
    );
}

pub(crate) fn service() -> ServiceName {
    ServiceName::parse("inventory").unwrap()
}

pub(crate) fn instance(addr: SocketAddr) -> Instance {
    Instance::plain(&service(), &addr.ip().to_string(), addr.port()).unwrap()
}

/// An instance where nobody listens.
pub(crate) async fn nobody() -> Instance {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    instance(listener.local_addr().unwrap())
}

/// A client and what it is made of.
pub(crate) struct Setup {
    pub(crate) discovery: Discovery,
    pub(crate) client: InventoryClient,
    pub(crate) tasks: Tasks,
}

pub(crate) fn setup(instances: Vec<Instance>, policy: Policy) -> Setup {
    let tasks = Tasks::new();
    let discovery = Discovery::fixed(instances);
    let http = Client::standard(&tasks);
    let channel = Channel::new(&discovery, http, service(), policy, None);
    Setup { discovery, client: InventoryClient::new(channel), tasks }
}

/// Waits until it holds, for five seconds at most.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), wait).await.expect(what);
}
