//! An order service that initiates, a stock that takes part, and a coordinator between which
//! answers get lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tradewind_base::{Clock, SystemClock, Tasks, Timestamp};
use tradewind_call::{Client, Identity};
use tradewind_discovery::{Discovery, Instance, ServiceName};
use tradewind_host::testing::{Reply, Running};
use tradewind_service::Keys;
use tradewind_service::axum::extract::Request;
use tradewind_service::axum::http::StatusCode;
use tradewind_service::axum::middleware::{Next, from_fn};
use tradewind_service::axum::response::IntoResponse as _;
use tradewind_sql::{
    Database, DatabaseUrl, Error, Migration, Options, Transaction, TransactionError, params,
};
use tradewind_transaction::engine::{self, MayAbort, MayCommit, Settings};
use tradewind_transaction::machine::backoff::Backoff;
use tradewind_transaction::machine::global::Phase;
use tradewind_transaction::{
    BranchError, Declaration, Engine, LogError, Participants, Peers, Setup, fence, participant,
};

use crate::tests::{STOCK, Stock};

/// The network between order and coordinator works.
pub(super) const WORKS: u32 = 0;
/// It loses what the coordinator answers.
pub(super) const LOSES: u32 = 1;

const LOG: [Migration; engine::MIGRATIONS] = engine::migrations(2);
const FENCE: [Migration; fence::MIGRATIONS] = fence::migrations(7);
const COMPACT: [Migration; engine::COMPACT] = engine::compact(9);
const IMPLIED: [Migration; engine::IMPLIED] = engine::implied(15);
const ORDER: &[Migration] = &[
    Migration {
        version: 1,
        name: "create orders",
        sqlite: "CREATE TABLE orders (xid TEXT PRIMARY KEY, state TEXT NOT NULL,
            steps INTEGER NOT NULL)",
        mysql: "CREATE TABLE orders (xid CHAR(36) PRIMARY KEY, state VARCHAR(20) NOT NULL,
            steps INT NOT NULL)",
    },
    LOG[0],
    LOG[1],
    LOG[2],
    LOG[3],
    LOG[4],
    FENCE[0],
    FENCE[1],
    COMPACT[0],
    COMPACT[1],
    COMPACT[2],
    COMPACT[3],
    COMPACT[4],
    COMPACT[5],
    IMPLIED[0],
];

/// What can be restarted.
struct Life {
    running: Running,
    tasks: Tasks,
}

impl Life {
    fn end(&self) {
        self.tasks.cancelled().cancel();
        self.running.tasks().cancelled().cancel();
    }
}

pub(super) struct Shop {
    /// Whether the next life of the order service has the embedded engine.
    pub(super) embedded: bool,
    pub(super) engine: Engine,
    order: Life,
    orders: Database,
    coordinator: Life,
    other: Option<Life>,
    log: Database,
    network: Arc<AtomicU32>,
    lost: Arc<AtomicU32>,
    inventory: Running,
    stock: Database,
    discovery: Discovery,
    clock: Arc<dyn Clock>,
    _folder: tempfile::TempDir,
}

fn quick() -> Settings {
    Settings {
        decide: Duration::from_millis(300),
        answer: Duration::from_secs(2),
        backoff: Backoff { first: Duration::from_millis(10), longest: Duration::from_millis(50) },
        not_yet: Duration::from_millis(20),
        lease: Duration::from_millis(600),
        poll: Duration::from_millis(20),
        own: participant_settings(),
        ..Settings::default()
    }
}

fn participant_settings() -> participant::Settings {
    participant::Settings {
        skew: Duration::from_millis(100),
        resolve_after: Duration::from_millis(100),
        resolve_every: Duration::from_millis(50),
        ..participant::Settings::default()
    }
}

impl Shop {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &'static str, migrations: &[Migration]| {
            let url = DatabaseUrl::sqlite(&folder.path().join(format!("{name}.db")));
            Database::open(&url, Options::default(), name, migrations).unwrap()
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let (stock, log) = (open("stock", STOCK), open("coordinator", crate::MIGRATIONS));
        let orders = open("orders", ORDER);
        let fill = |tx: &mut Transaction<'_>| tx.execute("INSERT INTO stock VALUES (10, 0)", &[]);
        stock.transaction("fill", fill).await.unwrap();
        let inventory = Participants::new(stock.clone(), Arc::clone(&clock)).with(Stock);
        let inventory = Running::start("inventory", inventory.mount()).await;
        let discovery = Discovery::fixed(Vec::new());
        let (network, lost) = (Arc::default(), Arc::default());
        let coordinator = coordinator(&log, &clock, &discovery, (&network, &lost)).await;
        let (order, engine) = order(&orders, &clock, &discovery, false).await;
        let shop = Self {
            embedded: false,
            engine,
            order,
            orders,
            coordinator,
            other: None,
            log,
            network,
            lost,
            inventory,
            stock,
            discovery,
            clock,
            _folder: folder,
        };
        shop.coordinator_is_back();
        shop
    }

    fn found(&self, order: SocketAddr, coordinator: Option<SocketAddr>) {
        let mut all = vec![("inventory", self.inventory.address()), ("order", order)];
        all.extend(coordinator.map(|it| ("coordinator", it)));
        all.extend(self.other.iter().map(|it| ("coordinator", it.running.address())));
        let instance = |(name, at): (&str, SocketAddr)| {
            let name = ServiceName::parse(name).unwrap();
            Instance::plain(&name, &at.ip().to_string(), at.port()).unwrap()
        };
        self.discovery.replace(all.into_iter().map(instance).collect());
    }

    /// No coordinator is up, as far as anybody knows.
    pub(super) fn coordinator_is_away(&self) {
        self.found(self.order.running.address(), None);
    }

    pub(super) fn coordinator_is_back(&self) {
        self.found(self.order.running.address(), Some(self.coordinator.running.address()));
    }

    /// The order service cannot be reached.
    pub(super) fn initiator_is_away(&self) {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        self.found(closed, Some(self.coordinator.running.address()));
    }

    /// The coordinator dies, and another is started on its log.
    pub(super) async fn restart_coordinator(&mut self) {
        self.coordinator.end();
        let switches = (&self.network, &self.lost);
        self.coordinator = coordinator(&self.log, &self.clock, &self.discovery, switches).await;
        self.coordinator_is_back();
    }

    /// A second one over the same log.
    pub(super) async fn another_coordinator(&mut self) {
        let switches = (&self.network, &self.lost);
        let other = coordinator(&self.log, &self.clock, &self.discovery, switches).await;
        self.other = Some(other);
        self.coordinator_is_back();
    }

    /// The first of two dies; whoever calls finds that out.
    pub(super) fn one_coordinator_dies(&self) {
        self.coordinator.end();
    }

    /// The order service dies, and another is started on its database.
    pub(super) async fn restart_initiator(&mut self) {
        self.order.end();
        let embedded = self.embedded;
        (self.order, self.engine) =
            order(&self.orders, &self.clock, &self.discovery, embedded).await;
        self.coordinator_is_back();
    }

    pub(super) fn network(&self, does: u32) {
        self.lost.store(0, Ordering::SeqCst);
        self.network.store(does, Ordering::SeqCst);
    }

    /// How many answers were lost since the network was told what to do.
    pub(super) fn lost(&self) -> u32 {
        self.lost.load(Ordering::SeqCst)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The first durable step of an order of `count` pieces.
    pub(super) async fn begin(&self, count: i64, limit: Duration) -> Declaration {
        let declaration = self.engine.declare("place", limit).own(&json!({"count": count}));
        let declaration = declaration.unwrap().branch("inventory", "stock", &count).unwrap();
        self.try_to_begin(&declaration).await.unwrap();
        declaration
    }

    pub(super) async fn try_to_begin(
        &self,
        it: &Declaration,
    ) -> Result<(), TransactionError<LogError>> {
        let (engine, it) = (self.engine.clone(), it.clone());
        let work = move |tx: &mut Transaction<'_>| {
            engine.begin(tx, &it)?;
            let sql = "INSERT INTO orders (xid, state, steps) VALUES (?, 'pending', 0)";
            tx.execute(sql, params![it.xid().to_string()])?;
            Ok(())
        };
        self.orders.transaction("begin", work).await
    }

    pub(super) async fn resume(&self, it: &Declaration) -> Option<Declaration> {
        let (engine, xid) = (self.engine.clone(), it.xid());
        let work = move |tx: &mut Transaction<'_>| engine.resume(tx, xid);
        self.orders.read::<_, Error, _>("resume", work).await.unwrap()
    }

    pub(super) async fn commit(&self, leave: MayCommit) -> Result<(), TransactionError<LogError>> {
        let engine = self.engine.clone();
        self.orders.transaction("commit", move |tx| engine.commit(tx, leave)).await
    }

    pub(super) async fn abort(&self, leave: MayAbort) -> Result<(), TransactionError<LogError>> {
        let engine = self.engine.clone();
        self.orders.transaction("abort", move |tx| engine.abort(tx, leave, "test")).await
    }

    /// The state of the order, and how many steps of its own branch it has taken.
    pub(super) async fn order(&self, it: &Declaration) -> (String, i64) {
        let xid = it.xid().to_string();
        let read = move |tx: &mut Transaction<'_>| {
            let sql = "SELECT state, steps FROM orders WHERE xid = ?";
            tx.query_one(sql, params![xid.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        };
        self.orders.read("order", read).await.unwrap().unwrap()
    }

    /// What the stock has: available, frozen.
    pub(super) async fn goods(&self) -> (i64, i64) {
        let read = |tx: &mut Transaction<'_>| {
            let sql = "SELECT available, frozen FROM stock";
            tx.query_one(sql, &[], |row| Ok((row.get(0)?, row.get(1)?)))
        };
        self.stock.read("stock", read).await.unwrap().unwrap()
    }

    pub(super) async fn phase(&self, it: &Declaration) -> Option<Phase> {
        self.engine.progress(it.xid()).await.unwrap()
    }

    /// What the coordinator says about it: status, and the code of a problem.
    pub(super) async fn there(&self, it: &Declaration) -> (u16, String) {
        let path = format!("/coordinator/v1/transactions/{}", it.xid());
        let running = &self.coordinator.running;
        let reply = running.send("GET", &path, &[running.caller("order")], "").await;
        let code = if reply.status == 200 { String::new() } else { reply.problem().0 };
        (reply.status, code)
    }

    /// Asks the coordinator as any service.
    pub(super) async fn ask(&self, caller: &str, xid: &str, step: &str, body: &Value) -> Reply {
        let running = &self.coordinator.running;
        let path = format!("/coordinator/v1/transactions/{xid}/{step}");
        running.post(&path, &[running.caller(caller)], &body.to_string()).await
    }

    /// Calls the order service as any service.
    pub(super) async fn call(&self, path: &str, caller: &str, body: &Value) -> Reply {
        let running = &self.order.running;
        running.post(path, &[running.caller(caller)], &body.to_string()).await
    }
}

async fn coordinator(
    log: &Database,
    clock: &Arc<dyn Clock>,
    discovery: &Discovery,
    (network, lost): (&Arc<AtomicU32>, &Arc<AtomicU32>),
) -> Life {
    let tasks = Tasks::new();
    let peers = peers(crate::SERVICE, discovery, &tasks);
    let engine = Setup::new(log.clone(), Arc::clone(clock), peers).settings(quick()).start(&tasks);
    let (network, lost) = (Arc::clone(network), Arc::clone(lost));
    let layer = from_fn(move |request: Request, next: Next| {
        let (network, lost) = (Arc::clone(&network), Arc::clone(&lost));
        async move {
            let answer = next.run(request).await;
            if network.load(Ordering::SeqCst) == LOSES {
                lost.fetch_add(1, Ordering::SeqCst);
                return StatusCode::BAD_GATEWAY.into_response();
            }
            answer
        }
    });
    let router = crate::router(engine, log.clone()).layer(layer);
    Life { running: Running::start(crate::SERVICE, router).await, tasks }
}

async fn order(
    orders: &Database,
    clock: &Arc<dyn Clock>,
    discovery: &Discovery,
    embedded: bool,
) -> (Life, Engine) {
    let tasks = Tasks::new();
    let peers = peers("order", discovery, &tasks);
    let setup = Setup::new(orders.clone(), Arc::clone(clock), peers).settings(quick());
    let setup = if embedded { setup } else { setup.coordinator(crate::SERVICE) };
    let step = |state: &'static str| {
        move |tx: &mut Transaction<'_>, xid, own: &Value| {
            assert!(own["count"].is_i64(), "the own payload comes back");
            let sql = "UPDATE orders SET state = ?, steps = steps + 1 WHERE xid = ?";
            let xid: tradewind_base::id::Xid = xid;
            match tx.execute(sql, params![state, xid.to_string()])? {
                1 => Ok(()),
                _ => Err(BranchError::Failed("no such order".into())),
            }
        }
    };
    let setup = setup.on_commit("place", step("placed")).on_abort("place", step("cancelled"));
    let engine = setup.start(&tasks);
    (Life { running: Running::start("order", engine.mount()).await, tasks }, engine)
}

fn peers(name: &str, discovery: &Discovery, tasks: &Tasks) -> Peers {
    let keys = Keys::from_secret(&[7; 32]).unwrap();
    let identity = Identity::new(ServiceName::parse(name).unwrap(), keys.seal().clone());
    Peers::new(discovery.clone(), Client::standard(tasks), identity)
}

/// Waits until `holds`.
pub(super) async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, wait).await.expect("what was waited for did not come");
}
