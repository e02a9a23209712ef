//! An estate: the broker, a producer, subscribers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tradewind_base::{Clock, SystemClock, Tasks, seal};
use tradewind_broker::{Settings, Surroundings};
use tradewind_call::{Channel, Client, Identity, Policy};
use tradewind_discovery::{Discovery, Instance, ServiceName};
use tradewind_host::testing::{Reply, Running};
use tradewind_message::wire::Subscribe;
use tradewind_message::{Broker as _, BrokerClient, ConsumeError, Consumer, Draft, Event, schema};
use tradewind_service::axum::Router;
use tradewind_service::axum::body::Bytes;
use tradewind_service::axum::http::{HeaderMap, StatusCode};
use tradewind_service::axum::response::{IntoResponse as _, Response};
use tradewind_service::axum::routing::post;
use tradewind_service::{Failure, Keys};
use tradewind_sql::{Database, DatabaseUrl, Error, Migration, Options, Transaction, params};

/// The longest wait for something that must happen.
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) const MIGRATIONS: &[Migration] = &[
    schema::consumed(1),
    schema::consumed_by_time(2),
    schema::outbox(3),
    schema::outbox_by_time(4),
    schema::barrier(5),
    schema::barrier_by_time(6),
    Migration {
        version: 7,
        name: "create effect",
        sqlite: "CREATE TABLE effect (what TEXT NOT NULL)",
        mysql: "CREATE TABLE effect (what VARCHAR(200) NOT NULL)",
    },
];

/// Everything but the servers.
pub(crate) struct Estate {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) discovery: Discovery,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Tasks,
    pub(crate) key: seal::Key,
    instances: Mutex<BTreeMap<String, Vec<u16>>>,
    url: DatabaseUrl,
}

/// A running broker.
pub(crate) struct Node {
    pub(crate) server: Running,
    tasks: Tasks,
    database: Database,
}

impl Estate {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::sqlite(&folder.path().join("broker.db"));
        Self {
            url,
            folder,
            discovery: Discovery::fixed(Vec::new()),
            clock: Arc::new(SystemClock::new()),
            tasks: Tasks::new(),
            key: Keys::from_secret(&[7; 32]).unwrap().seal().clone(),
            instances: Mutex::default(),
        }
    }

    /// With the broker's database on a server.
    #[cfg(feature = "services")]
    pub(crate) fn on_mysql(name: &str) -> Self {
        Self { url: tradewind_host::testing::fresh_mysql(name), ..Self::new() }
    }

    /// Says which ports of loopback are instances of `service`.
    pub(crate) fn list(&self, service: &str, ports: &[u16]) {
        let mut all = self.instances.lock().unwrap();
        all.insert(service.to_owned(), ports.to_vec());
        let instance = |service: &String, port: &u16| {
            Instance::plain(&ServiceName::parse(service).unwrap(), "127.0.0.1", *port).unwrap()
        };
        let each = all.iter().flat_map(|(name, ports)| ports.iter().map(|it| instance(name, it)));
        self.discovery.replace(each.collect());
    }

    pub(crate) fn database(&self, name: &str) -> Database {
        let url = DatabaseUrl::sqlite(&self.folder.path().join(format!("{name}.db")));
        Database::open(&url, Options::default(), "test", MIGRATIONS).unwrap()
    }

    /// Starts a broker on the estate's one broker database.
    pub(crate) async fn broker(&self) -> Node {
        self.broker_with(quick()).await
    }

    pub(crate) async fn broker_with(&self, settings: Settings) -> Node {
        let database = tradewind_broker::open_database(&self.url).unwrap();
        let tasks = Tasks::new();
        let surroundings = Surroundings {
            database: database.clone(),
            discovery: self.discovery.clone(),
            client: Client::standard(&tasks),
            key: self.key.clone(),
            clock: Arc::clone(&self.clock),
            settings,
        };
        let router = tradewind_broker::start(surroundings, &tasks).await.unwrap();
        let server = Running::start("broker", router).await;
        self.list("broker", &[server.address().port()]);
        Node { server, tasks, database }
    }

    /// The broker as `service` calls it.
    pub(crate) fn client(&self, service: &str) -> BrokerClient {
        let identity = Identity::new(ServiceName::parse(service).unwrap(), self.key.clone());
        let client = Client::standard(&self.tasks);
        let name = ServiceName::parse(BrokerClient::SERVICE).unwrap();
        let policy = Policy::default();
        BrokerClient::new(Channel::new(&self.discovery, client, name, policy, Some(identity)))
    }

    pub(crate) fn draft(&self, topic: &str, key: &str) -> Draft {
        let data = serde_json::json!({"key": key});
        Draft::new(&*self.clock, topic, key, "order", &data).unwrap()
    }

    /// Subscribes `service` under its own name, as one that takes single deliveries.
    pub(crate) async fn subscribe(&self, service: &str, topic: &str) {
        self.subscribe_together(service, topic, 0).await;
    }

    /// Subscribes `service` under its own name, as one that takes so many deliveries in a request.
    pub(crate) async fn subscribe_together(&self, service: &str, topic: &str, together: u32) {
        let wanted = Subscribe { service: service.into(), path: "/in".into(), together };
        self.client(service).subscribe(service, topic, &wanted).await.unwrap();
    }
}

impl Node {
    /// What the broker says of something, asked by a service of the estate.
    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.server.send("GET", path, &[self.server.caller("order")], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &serde_json::Value) -> Reply {
        self.server.post(path, &[self.server.caller("order")], &body.to_string()).await
    }

    /// The state of a message.
    pub(crate) async fn state(&self, id: tradewind_message::MessageId) -> String {
        let reply = self.get(&format!("/messages/v1/messages/{id}")).await;
        reply.json()["state"].as_str().unwrap_or("unknown").to_owned()
    }

    /// Ends it as a crash does: nothing reaches the database any more.
    pub(crate) async fn crash(self) {
        self.database.close().await.unwrap();
        self.tasks.shutdown(Duration::from_secs(5)).await.unwrap();
    }

    /// Ends it in order.
    pub(crate) async fn stop(self) {
        self.tasks.shutdown(Duration::from_secs(5)).await.unwrap();
        self.database.close().await.unwrap();
    }
}

/// Settings in which hours are milliseconds.
pub(crate) fn quick() -> Settings {
    let mut it = Settings::default();
    let milli = Duration::from_millis(1);
    it.attempt_timeout = 1000 * milli;
    it.rules.retry.first = 10 * milli;
    it.rules.retry.longest = 50 * milli;
    it.rules.soon = 20 * milli;
    it.checks.first = 50 * milli;
    it.checks.longest = 100 * milli;
    it.checks.times = 1000;
    it.branch_grace = Duration::ZERO;
    it.scan_every = 20 * milli;
    it
}

/// A subscriber that does what it is told.
#[derive(Clone)]
pub(crate) struct Subscriber {
    pub(crate) database: Database,
    control: Arc<Control>,
    server: Arc<Running>,
}

#[derive(Default)]
struct Control {
    /// 0: take it; otherwise answer so without taking it; 1: take it and lose the answer.
    answer: AtomicU16,
    attempts: AtomicUsize,
    events: Mutex<Vec<(Event, HeaderMap)>>,
}

/// Takes it, and answers as if it had not.
pub(crate) const LOST: u16 = 1;
/// Does not take it and never answers.
pub(crate) const SILENT: u16 = 2;

impl Subscriber {
    /// Starts an instance of `service`, whose instances share a database.
    pub(crate) async fn start(estate: &Estate, service: &str) -> Self {
        let database = estate.database(service);
        let control = Arc::<Control>::default();
        let key = &estate.key;
        let clock = Arc::clone(&estate.clock);
        let consumer = Consumer::new(service, database.clone(), key, clock);
        let shared = Arc::clone(&control);
        let handler = post(move |headers: HeaderMap, body: Bytes| {
            take(consumer.clone(), Arc::clone(&shared), headers, body)
        });
        let router = Router::new().route("/in", handler);
        let server = Arc::new(Running::start("subscriber", router).await);
        Self { database, control, server }
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.address().port()
    }

    pub(crate) fn server(&self) -> &Running {
        &self.server
    }

    pub(crate) fn answer(&self, status: u16) {
        self.control.answer.store(status, Ordering::SeqCst);
    }

    /// How many deliveries came.
    pub(crate) fn attempts(&self) -> usize {
        self.control.attempts.load(Ordering::SeqCst)
    }

    pub(crate) fn events(&self) -> Vec<(Event, HeaderMap)> {
        self.control.events.lock().unwrap().clone()
    }

    /// The keys of the messages that had their effect, each as often as it had it.
    pub(crate) async fn effects(&self) -> Vec<String> {
        effects(&self.database).await
    }
}

async fn take(
    consumer: Consumer,
    control: Arc<Control>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    control.attempts.fetch_add(1, Ordering::SeqCst);
    let answer = control.answer.load(Ordering::SeqCst);
    if answer == SILENT {
        std::future::pending::<()>().await;
    }
    if 1 < answer {
        return Ok(StatusCode::from_u16(answer).unwrap().into_response());
    }
    let seen = Arc::clone(&control);
    let of = headers.clone();
    let act = move |tx: &mut Transaction<'_>, event: &Event| {
        tx.execute("INSERT INTO effect (what) VALUES (?)", params![&event.key])?;
        seen.events.lock().unwrap().push((event.clone(), of.clone()));
        Ok::<_, ConsumeError>(())
    };
    let reply = match consumer.take(&headers, body, act).await? {
        tradewind_message::Reply::One(_) => StatusCode::OK.into_response(),
        several @ tradewind_message::Reply::Several(_) => several.into_response(),
    };
    let lost = control.answer.load(Ordering::SeqCst) == LOST;
    Ok(if lost { StatusCode::BAD_GATEWAY.into_response() } else { reply })
}

pub(crate) async fn effects(database: &Database) -> Vec<String> {
    let read = |tx: &mut Transaction<'_>| {
        tx.query("SELECT what FROM effect ORDER BY what", &[], |row| row.get(0))
    };
    database.read::<_, Error, _>("effects", read).await.unwrap()
}

/// A port of loopback on which nobody listens.
pub(crate) fn refused_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until `holds`, and says what was waited for when it does not come.
pub(crate) async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, wait).await.is_ok(), "{what}");
}
