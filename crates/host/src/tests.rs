use std::sync::{Arc, Mutex};

use tokio::net::TcpStream;
use tokio::sync::Notify;
use tradewind_service::Keys;
use tradewind_service::axum::body;
use tradewind_service::axum::extract::{Path, Request, State};
use tradewind_service::axum::http::StatusCode;
use tradewind_service::axum::routing::{delete, get, post};
use tradewind_service::edge::EdgeConfig;
use tradewind_sql::TransactionError;

use super::*;
use crate::testing::{Running, exchange};

const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "create note",
    sqlite: "CREATE TABLE note (id INTEGER PRIMARY KEY) STRICT",
    mysql: "CREATE TABLE note (id BIGINT PRIMARY KEY)",
}];

/// What a registry was told, and what it saw when it was told.
#[derive(Clone, Debug, Default)]
struct Heard(Arc<Mutex<Vec<Said>>>);

/// What was said, by the service at which port, and whether it answered there.
type Said = (&'static str, u16, bool);

impl Heard {
    /// Notes what was said and whether the service answers at that moment.
    async fn note(&self, what: &'static str, port: u16) {
        let answers = TcpStream::connect(("127.0.0.1", port)).await.is_ok();
        self.0.lock().unwrap().push((what, port, answers));
    }

    fn of(&self, what: &str) -> Option<(u16, bool)> {
        let all = self.0.lock().unwrap();
        all.iter().find(|it| it.0 == what).map(|it| (it.1, it.2))
    }
}

async fn register(State(heard): State<Heard>, request: Request) -> StatusCode {
    let body = body::to_bytes(request.into_body(), 1 << 16).await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let port = &body["instance"]["port"]["$"];
    heard.note("registered", u16::try_from(port.as_u64().unwrap()).unwrap()).await;
    StatusCode::NO_CONTENT
}

async fn leave(State(heard): State<Heard>, Path((_, id)): Path<(String, String)>) -> StatusCode {
    heard.note("left", id.rsplit(':').next().unwrap().parse().unwrap()).await;
    StatusCode::OK
}

/// A registry that knows nobody and takes everybody.
async fn registry(heard: Heard) -> Running {
    let router = Router::new()
        .route("/eureka/apps/{app}", post(register))
        .route("/eureka/apps/{app}/{id}", delete(leave).put(async || StatusCode::OK))
        .with_state(heard);
    Running::start("registry", router).await
}

fn shared(folder: &tempfile::TempDir, registry: String) -> Shared {
    let keys = Keys::from_secret(&[1; 32]).unwrap();
    let clock = Arc::new(tradewind_base::SystemClock::new());
    Shared::new(folder.path().to_owned(), keys, clock, vec![registry])
}

fn config() -> HostConfig {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let edge = EdgeConfig::new(any);
    HostConfig { edge, advertise: None, database: None, audit_every: Duration::ZERO }
}

/// Waits until `done`, with a limit.
async fn eventually<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(it) = done() {
                return it;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, wait).await.unwrap_or_else(|_| panic!("never: {what}"))
}

/// R2.3: it serves before it registers, leaves before it stops serving, and then all is ended.
#[tokio::test]
async fn a_service_registers_when_it_serves_and_leaves_while_it_serves() {
    let (heard, folder, stop) = (Heard::default(), tempfile::tempdir().unwrap(), Stop::manual());
    let registry = registry(heard.clone()).await;
    let shared = shared(&folder, format!("http://{}", registry.address()));
    let mut host = Host::new("demo", config(), shared, stop.clone()).unwrap();
    let database = host.database("demo", MIGRATIONS).await.unwrap();
    assert!(folder.path().join("demo.db").is_file());
    let tasks = host.tasks().clone();
    let (started, left) = (Arc::new(Notify::new()), heard.clone());
    let handler = Arc::clone(&started);
    let slow = get(move || async move {
        handler.notify_one();
        // It ends only after the registry was told, which is before the listener closes.
        eventually("left", || left.of("left")).await;
        "done"
    });
    let run = host.run(Router::new().route("/slow", slow));
    let meanwhile = async {
        let (port, serves) = eventually("registered", || heard.of("registered")).await;
        assert!(serves, "it was found before it served");
        let request = exchange(([127, 0, 0, 1], port).into(), "GET", "/slow", &[], "");
        let ((), reply) = tokio::join!(
            async {
                // The request is in work when the service is told to stop.
                started.notified().await;
                stop.now();
            },
            request
        );
        assert_eq!((reply.status, reply.body.as_str()), (200, "done"), "it was cut off");
        port
    };
    let (done, port) = tokio::join!(run, meanwhile);
    done.unwrap();
    assert_eq!(heard.of("left"), Some((port, true)), "it leaves while it still serves");
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
    assert!(tasks.is_empty());
    let closed: Result<Option<i64>, TransactionError<tradewind_sql::Error>> =
        database.read("test", |tx| tx.query_one("SELECT 1", &[], |it| it.get(0))).await;
    assert!(matches!(closed, Err(TransactionError::Closed)));
}

/// Behind a proxy, others are told the proxy's address, however the service listens.
#[tokio::test]
async fn a_service_registers_under_the_address_it_is_told() {
    let (heard, folder, stop) = (Heard::default(), tempfile::tempdir().unwrap(), Stop::manual());
    let registry = registry(heard.clone()).await;
    let shared = shared(&folder, format!("http://{}", registry.address()));
    let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = proxy.local_addr().unwrap().port();
    let mut config = config();
    config.edge.bind = "0.0.0.0:0".parse().unwrap();
    config.advertise = Some(Advertise { host: "127.0.0.1".to_owned(), port });
    let host = Host::new("demo", config, shared, stop.clone()).unwrap();
    let run = host.run(Router::new());
    let meanwhile = async {
        let told = eventually("registered", || heard.of("registered")).await;
        stop.now();
        told
    };
    let (done, told) = tokio::join!(run, meanwhile);
    done.unwrap();
    assert_eq!(told, (port, true));
}

#[tokio::test]
async fn without_a_registry_it_serves_and_says_what_is_missing() {
    let (folder, stop) = (tempfile::tempdir().unwrap(), Stop::manual());
    let shared = shared(&folder, "http://127.0.0.1:1".to_owned());
    let mut host = Host::new("demo", config(), shared, stop.clone()).unwrap();
    host.database("demo", MIGRATIONS).await.unwrap();
    let health = host.health.clone();
    let run = host.run(Router::new());
    let meanwhile = async {
        let told = || {
            let states = format!("{:?}", health.states());
            states.contains("no registry holds").then_some(())
        };
        eventually("the registry is missed", told).await;
        assert!(!health.ready());
        stop.now();
    };
    let (done, ()) = tokio::join!(run, meanwhile);
    done.unwrap();
}

#[tokio::test]
async fn what_cannot_start_says_why_and_leaves_nothing_running() {
    let (folder, stop) = (tempfile::tempdir().unwrap(), Stop::manual());
    let error = Host::new("demo", config(), shared(&folder, "nowhere".to_owned()), stop.clone());
    assert!(error.unwrap_err().to_string().contains("discovery.urls"));

    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut busy = config();
    busy.edge.bind = taken.local_addr().unwrap();
    let shared = shared(&folder, "http://127.0.0.1:1".to_owned());
    let host = Host::new("demo", busy, shared.clone(), stop.clone()).unwrap();
    let tasks = host.tasks().clone();
    let error = host.run(Router::new()).await.unwrap_err();
    assert!(matches!(error, HostError::Bind { .. }), "{error}");
    assert!(tasks.is_empty());

    let mut everywhere = config();
    everywhere.edge.bind = "0.0.0.0:0".parse().unwrap();
    let host = Host::new("demo", everywhere, shared, stop).unwrap();
    let error = host.run(Router::new()).await.unwrap_err();
    assert!(error.to_string().contains("tradewind.host"), "{error}");
}

/// The steps of the end fit into the promised time, so that a supervisor need not kill.
#[test]
fn the_end_fits_into_its_limit() {
    let steps = end::STEPS.iter().sum::<Duration>();
    assert!(steps <= END_LIMIT && END_LIMIT < Duration::from_secs(10), "{steps:?}");
}
