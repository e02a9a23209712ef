//! The edge over real sockets: what it refuses, how it says so, and that it lives on.

mod bounds;
mod drain;
mod identity;
mod listening;
mod management;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tradewind_base::{Clock, Context, ManualClock, Problem, SystemClock, Tasks};

use super::*;
use crate::{Answer, Caller, Health, Json, Keys, MaybeUser, Path, Query, User};

/// No test waits longer than this for anything.
const LIMIT: Duration = Duration::from_secs(10);

struct Fixture {
    address: SocketAddr,
    serving: Option<Serving>,
    health: Health,
    clock: Arc<ManualClock>,
    tasks: Tasks,
    /// Opens the gate at which `/gate` waits.
    gate: watch::Sender<bool>,
    /// What handlers that wait at the gate report: once when they come, once when they are done.
    steps: mpsc::Receiver<&'static str>,
}

#[derive(Deserialize)]
struct Order {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    quantity: u32,
}

#[derive(Deserialize)]
struct Page {
    page: u32,
}

fn keys() -> Keys {
    Keys::from_secret(&[7; 32]).unwrap()
}

fn router(gate: watch::Receiver<bool>, steps: mpsc::Sender<&'static str>) -> Router {
    let wait = move || {
        let (mut gate, steps) = (gate.clone(), steps.clone());
        async move {
            steps.send("came").await.unwrap();
            gate.wait_for(|open| *open).await.unwrap();
            steps.send("done").await.unwrap();
            "through"
        }
    };
    async fn order(Json(order): Json<Order>) -> Answer<u32> {
        Ok(Json(order.items.iter().map(|it| it.quantity).sum()))
    }
    async fn refuse(Path(id): Path<u32>) -> Answer<()> {
        let problem = Problem::new(StatusCode::CONFLICT, "demo.taken", format!("{id} is taken"));
        Err(problem.field("path:id", "is taken").into())
    }
    async fn page(Query(page): Query<Page>) -> Json<u32> {
        Json(page.page)
    }
    async fn context() -> Json<Value> {
        let context = Context::current();
        Json(json!({
            "trace": context.trace.map(|it| it.to_string()),
            "request_id": context.request_id.map(|it| it.to_string()),
            "user": context.user.map(|it| it.0.id),
            "left_ms": context.deadline.map(|it| it.left().as_millis()),
        }))
    }
    async fn fail() -> &'static str {
        panic!("on purpose")
    }
    Router::new()
        .route("/hello", get(|| async { "hello" }))
        .route("/orders", post(order))
        .route("/items/{id}", get(refuse))
        .route("/pages", get(page))
        .route("/context", get(context))
        .route("/panic", get(fail).post(fail))
        .route("/gate", get(wait.clone()).post(wait))
        .route("/user", get(|User(it): User| async move { it.id }))
        .route(
            "/maybe",
            get(|MaybeUser(it): MaybeUser| async move {
                it.map_or_else(|| "nobody".to_owned(), |it| it.id)
            }),
        )
        .route("/caller", get(|Caller(it): Caller| async move { it.service }))
        .route("/bare/{id}", get(refuse))
        .route("/stream", get(stream))
}

/// An endless answer that ends when the server drains.
async fn stream(draining: Draining) -> axum::body::Body {
    let ticks = futures_util::stream::unfold((draining, 0_u32), |(draining, count)| async move {
        if 0 < count {
            draining.wait().await;
            return None;
        }
        Some((Ok::<_, std::convert::Infallible>("first\n"), (draining, count + 1)))
    });
    axum::body::Body::from_stream(ticks)
}

async fn start(change: impl FnOnce(&mut EdgeConfig)) -> Fixture {
    let mut config = EdgeConfig::new("127.0.0.1:0".parse().unwrap());
    change(&mut config);
    let (gate, gate_seen) = watch::channel(false);
    let (report, steps) = mpsc::channel(64);
    let (clock, tasks, health) = (Arc::new(ManualClock::new()), Tasks::new(), Health::new());
    let server = Server::bind(config).await.unwrap().bare(|path| path.starts_with("/bare"));
    let dynamic: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let router = router(gate_seen, report);
    let server = server.page("/own", || json!({"own": true}));
    let serving = server.serve("demo", router, health.clone(), Some(keys()), dynamic, &tasks);
    let address = serving.local_addr();
    Fixture { address, serving: Some(serving), health, clock, tasks, gate, steps }
}

impl Fixture {
    /// Waits until the server runs no task of that name.
    async fn until_no(&self, task: &str) {
        until_no(&self.serving.as_ref().unwrap().tasks, task).await;
    }
}

/// Waits until `tasks` has no task of that name.
async fn until_no(tasks: &Tasks, task: &str) {
    let task = format!("\"{task}\"");
    until(&task, || !format!("{tasks:?}").contains(&task)).await;
}

/// An answer as it came over the wire.
#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|it| it.strip_prefix(&format!("{name}: ")))
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks that it is a whole problem document, and gives its code and first field.
    #[track_caller]
    fn problem(&self, status: u16) -> (String, String) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], status);
        let id = problem["request_id"].as_str().unwrap_or("");
        assert!(!id.is_empty() && self.header("x-request-id") == Some(id), "{self:?}");
        let text = |it: &Value| it.as_str().unwrap_or("").to_owned();
        (text(&problem["code"]), text(&problem["errors"][0]["field"]))
    }
}

/// Sends raw bytes on a connection of its own and reads until the server closes it.
async fn raw(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Reply {
    let work = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // A server that refuses early may close before it has taken everything.
        let _refused_early = stream.write_all(bytes.as_ref()).await;
        read(&mut stream).await
    };
    tokio::time::timeout(LIMIT, work).await.expect("an answer within the limit")
}

async fn read(stream: &mut TcpStream) -> Reply {
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.unwrap();
    Reply::parse(&String::from_utf8_lossy(&text))
}

/// A request without a body that asks for the connection to be closed.
async fn ask(address: SocketAddr, line: &str, headers: &[(&str, &str)]) -> Reply {
    raw(address, head(line, headers)).await
}

fn head(line: &str, headers: &[(&str, &str)]) -> String {
    let mut text = format!("{line} HTTP/1.1\r\nhost: demo\r\nconnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text + "\r\n"
}

async fn send_json(address: SocketAddr, path: &str, body: &str) -> Reply {
    let length = body.len().to_string();
    let headers = [("content-type", "application/json"), ("content-length", length.as_str())];
    raw(address, head(&format!("POST {path}"), &headers) + body).await
}

/// Waits until `condition` holds, at most the limit.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let work = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, work).await.unwrap_or_else(|_| panic!("waited in vain: {what}"));
}

#[tokio::test]
async fn a_good_request_is_answered_with_its_id() {
    let it = start(|_| ()).await;
    let reply = ask(it.address, "GET /hello", &[("x-request-id", "mine-1")]).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "hello"));
    assert_eq!(reply.header("x-request-id"), Some("mine-1"));
    let reply = ask(it.address, "GET /hello", &[("x-request-id", "a b")]).await;
    assert!(reply.header("x-request-id").unwrap().starts_with("req_"));
    let reply = send_json(it.address, "/orders", r#"{"items":[{"quantity":2}]}"#).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "2"));
}

#[tokio::test]
async fn refusals_name_the_field() {
    let it = start(|_| ()).await;
    for (body, field) in [
        (r#"{"items":[{"quantity":"x"}]}"#, "items[0].quantity"),
        (r#"{"items":[{}]}"#, "items[0].quantity"),
        (r#"{"items":"#, "body"),
        ("", "body"),
    ] {
        let reply = send_json(it.address, "/orders", body).await;
        assert_eq!(reply.problem(400), ("request.body".into(), field.into()), "{body}");
    }
    let reply = raw(it.address, head("POST /orders", &[("content-length", "2")]) + "{}").await;
    let expected = ("request.media-type".to_owned(), "header:content-type".to_owned());
    assert_eq!(reply.problem(415), expected);
    let reply = ask(it.address, "GET /items/abc", &[]).await;
    assert_eq!(reply.problem(400), ("request.path".into(), "path:id".into()));
    let reply = ask(it.address, "GET /items/5", &[]).await;
    assert_eq!(reply.problem(409), ("demo.taken".into(), "path:id".into()));
    for query in ["?page=x", "?page=-1", "", "?page=1&page=2"] {
        let reply = ask(it.address, &format!("GET /pages{query}"), &[]).await;
        assert_eq!(reply.problem(400), ("request.query".into(), "query:page".into()), "{query}");
    }
    // Bytes that are no UTF-8 are no name of anything.
    let reply = ask(it.address, "GET /items/%ff", &[]).await;
    assert_eq!(reply.problem(400), ("request.path".into(), "path:id".into()));
}

#[tokio::test]
async fn what_no_route_takes_is_a_problem() {
    let it = start(|_| ()).await;
    assert_eq!(ask(it.address, "GET /nowhere", &[]).await.problem(404).0, "edge.unknown-route");
    let reply = ask(it.address, "DELETE /gate", &[]).await;
    assert_eq!(reply.problem(405).0, "edge.wrong-method");
    assert_eq!(reply.header("allow"), Some("get,head,post"));
    let reply = ask(it.address, "BREW /hello", &[]).await;
    assert_eq!(reply.problem(405).0, "edge.wrong-method");
}

#[tokio::test]
async fn bare_paths_are_refused_without_a_body() {
    let it = start(|_| ()).await;
    for (line, status) in
        [("GET /bare/5", 409), ("GET /bare/x", 400), ("GET /bare", 404), ("PUT /bare/5", 405)]
    {
        let reply = ask(it.address, line, &[]).await;
        assert_eq!((reply.status, reply.body.as_str()), (status, ""), "{line}");
        assert_eq!(reply.header("content-type"), None, "{line}");
    }
}

#[tokio::test]
async fn a_panic_is_a_500_and_the_server_lives_on() {
    let it = start(|_| ()).await;
    for line in ["GET /panic", "POST /panic", "GET /panic"] {
        let reply = ask(it.address, line, &[]).await;
        assert_eq!(reply.problem(500).0, "internal", "{line}");
        assert!(!reply.body.contains("on purpose"), "the caller is not told why");
    }
    assert_eq!(ask(it.address, "GET /hello", &[]).await.status, 200);
}

/// R2.7
#[tokio::test]
async fn the_context_of_the_request_is_open_in_the_handler() {
    let it = start(|_| ()).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers =
        [("traceparent", trace), ("x-request-id", "abc"), ("x-tradewind-deadline-ms", "1500")];
    let seen = ask(it.address, "GET /context", &headers).await.json();
    let inner = seen["trace"].as_str().unwrap();
    assert!(inner.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && inner != trace);
    assert_eq!(seen["request_id"], "abc");
    let left = seen["left_ms"].as_u64().unwrap();
    assert!(left <= 1500, "{left}");
    let seen = ask(it.address, "GET /context", &[("traceparent", "nonsense")]).await.json();
    assert_eq!(seen["trace"].as_str().unwrap().len(), 55, "a new trace begins");
}
