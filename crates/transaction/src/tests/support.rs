//! An order service that initiates, a stock and a points service that take part.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tradewind_base::id::Xid;
use tradewind_base::{Clock, SystemClock, Tasks};
use tradewind_call::{Client, Identity};
use tradewind_discovery::{Discovery, Instance, ServiceName};
use tradewind_host::testing::{Reply, Running};
use tradewind_service::Keys;
use tradewind_service::axum::extract::Request;
use tradewind_service::axum::middleware::{Next, from_fn};
use tradewind_service::axum::response::IntoResponse as _;
use tradewind_sql::{
    Database, DatabaseUrl, Error, Migration, Options, Transaction, TransactionError, params,
};

use super::shelf::{Mischief, Shelf, Take};
use crate::engine::{Declaration, Engine, Settings, Setup, Tried};
use crate::machine::backoff::Backoff;
use crate::machine::global::Refused;
use crate::participant::{self, BranchError, Participants};
use crate::{LogError, Peers, engine, fence};

/// No test waits longer for anything.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Sqlite,
    #[cfg(feature = "services")]
    MySql,
}

const FENCE: [Migration; 2] = fence::migrations(2);
const STOCK: &[Migration] = &[
    Migration {
        version: 1,
        name: "create goods",
        sqlite: "CREATE TABLE goods (id INTEGER PRIMARY KEY,
            available INTEGER NOT NULL CHECK (available >= 0),
            frozen INTEGER NOT NULL CHECK (frozen >= 0), taken INTEGER NOT NULL)",
        mysql: "CREATE TABLE goods (id BIGINT PRIMARY KEY,
            available BIGINT NOT NULL CHECK (available >= 0),
            frozen BIGINT NOT NULL CHECK (frozen >= 0), taken BIGINT NOT NULL)",
    },
    FENCE[0],
    FENCE[1],
];
const LOG: [Migration; 5] = engine::migrations(2);
const COMPACT: [Migration; engine::COMPACT] = engine::compact(7);
const IMPLIED: [Migration; engine::IMPLIED] = engine::implied(13);
const OWN: [Migration; 2] = fence::migrations(14);
const ORDER: &[Migration] = &[
    Migration {
        version: 1,
        name: "create orders",
        sqlite: "CREATE TABLE orders (xid TEXT PRIMARY KEY, state TEXT NOT NULL,
            cancels INTEGER NOT NULL)",
        mysql: "CREATE TABLE orders (xid CHAR(36) PRIMARY KEY, state VARCHAR(20) NOT NULL,
            cancels INT NOT NULL)",
    },
    LOG[0],
    LOG[1],
    LOG[2],
    LOG[3],
    LOG[4],
    COMPACT[0],
    COMPACT[1],
    COMPACT[2],
    COMPACT[3],
    COMPACT[4],
    COMPACT[5],
    IMPLIED[0],
    OWN[0],
    OWN[1],
];

/// How a local transaction ends that was to begin something, when so many more branches, of any
/// transaction, have been reserved.
#[derive(Clone, Copy, Debug)]
pub(super) enum Begin {
    /// As it should.
    Durable,
    /// It does not become durable.
    Lost { reserved: u32 },
    /// It comes to something else.
    Another { reserved: u32 },
    /// It is refused, for its time is over.
    Late { reserved: u32 },
}

/// A service with its database. Its tasks end with the test's runtime.
pub(super) struct Member {
    name: &'static str,
    pub(super) database: Database,
    pub(super) running: Running,
    pub(super) mischief: Arc<Mischief>,
    participants: Participants,
}

pub(super) struct World {
    pub(super) discovery: Discovery,
    pub(super) stock: Member,
    pub(super) points: Member,
    pub(super) orders: Database,
    pub(super) order: Running,
    pub(super) engine: Engine,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) keys: Keys,
    pub(super) tasks: Tasks,
    peers: Peers,
    _folder: tempfile::TempDir,
}

pub(super) fn quick() -> Settings {
    Settings {
        decide: Duration::from_millis(300),
        answer: Duration::from_secs(2),
        backoff: Backoff { first: Duration::from_millis(10), longest: Duration::from_millis(50) },
        not_yet: Duration::from_millis(20),
        lease: Duration::from_millis(600),
        poll: Duration::from_millis(20),
        ..Settings::default()
    }
}

fn open(
    kind: Kind,
    folder: &tempfile::TempDir,
    name: &'static str,
    migrations: &[Migration],
) -> Database {
    let url = match kind {
        Kind::Sqlite => DatabaseUrl::sqlite(&folder.path().join(format!("{name}.db"))),
        #[cfg(feature = "services")]
        Kind::MySql => {
            use std::sync::atomic::AtomicU32;
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::SeqCst);
            let id = std::process::id();
            tradewind_host::testing::fresh_mysql(&format!("tcc_{name}_{id}_{number}"))
        }
    };
    Database::open(&url, Options::default(), name, migrations).unwrap()
}

impl World {
    pub(super) async fn new(kind: Kind) -> Self {
        Self::with(kind, quick()).await
    }

    pub(super) async fn with(kind: Kind, settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (clock, tasks) = (Arc::new(SystemClock::new()) as Arc<dyn Clock>, Tasks::new());
        let keys = Keys::from_secret(&[7; 32]).unwrap();
        let discovery = Discovery::fixed(Vec::new());
        let stock = Member::start(kind, &folder, "stock", &clock).await;
        let points = Member::start(kind, &folder, "points", &clock).await;
        let orders = open(kind, &folder, "orders", ORDER);
        let peers = peers("order", &discovery, &keys, &tasks);
        let engine = setup(&orders, &clock, &peers, settings).start(&tasks);
        let order = Running::start("order", engine.mount()).await;
        let world = Self {
            discovery,
            stock,
            points,
            orders,
            order,
            engine,
            clock,
            keys,
            tasks,
            peers,
            _folder: folder,
        };
        world.everybody_is_up();
        world
    }

    /// Another engine over the same log, as another instance of the order service has it.
    pub(super) fn another_engine(&self) -> Engine {
        setup(&self.orders, &self.clock, &self.peers, quick()).start(&self.tasks)
    }

    pub(super) fn everybody_is_up(&self) {
        let addresses = [
            ("stock", self.stock.running.address()),
            ("points", self.points.running.address()),
            ("order", self.order.address()),
        ];
        self.discovery.replace(addresses.map(|(name, at)| instance(name, at)).to_vec());
    }

    /// Points refuses connections.
    pub(super) fn points_is_down(&self) {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let addresses = [
            ("stock", self.stock.running.address()),
            ("points", closed),
            ("order", self.order.address()),
        ];
        self.discovery.replace(addresses.map(|(name, at)| instance(name, at)).to_vec());
    }

    /// Participants ask for outcomes from now on.
    pub(super) fn resolvers(&self) {
        for member in [&self.stock, &self.points] {
            let peers = peers(member.name, &self.discovery, &self.keys, &self.tasks);
            member.participants.start(peers, &self.tasks);
        }
    }

    pub(super) fn declare(&self, count: i64, limit: Duration) -> Declaration {
        self.declare_as("place", count, limit)
    }

    pub(super) fn declare_as(
        &self,
        name: &'static str,
        count: i64,
        limit: Duration,
    ) -> Declaration {
        let take = Take { id: 1, count };
        let declaration = self.engine.declare(name, limit);
        let declaration = declaration.own(&json!({ "of": count })).unwrap();
        let declaration = declaration.branch("stock", "take", &take).unwrap();
        declaration.branch("points", "take", &take).unwrap()
    }

    /// The first durable step.
    pub(super) async fn begin(&self, declaration: &Declaration) {
        let (engine, it) = (self.engine.clone(), declaration.clone());
        self.orders
            .transaction("begin", move |tx| {
                engine.begin(tx, &it)?;
                let sql = "INSERT INTO orders (xid, state, cancels) VALUES (?, 'pending', 0)";
                tx.execute(sql, params![it.xid().to_string()])?;
                Ok::<_, LogError>(())
            })
            .await
            .unwrap();
    }

    /// The first two durable steps beside each other.
    pub(super) async fn begin_and_try(
        &self,
        declaration: &Declaration,
        end: Begin,
    ) -> (Result<bool, TransactionError<LogError>>, Option<Tried>) {
        let (engine, it) = (self.engine.clone(), declaration.clone());
        let mischief = [&self.stock, &self.points].map(|it| Arc::clone(&it.mischief));
        let seen =
            move || mischief.iter().map(|it| it.reserved.load(Ordering::SeqCst)).sum::<u32>();
        let before = seen();
        let wait = move |reserved| {
            let begun = tokio::time::Instant::now();
            while seen() < before + reserved && begun.elapsed() < LIMIT {
                std::thread::yield_now();
            }
        };
        let work = move |tx: &mut Transaction<'_>| {
            if let Begin::Another { reserved } = end {
                wait(reserved);
                return Ok(false);
            }
            if let Begin::Late { reserved } = end {
                wait(reserved);
                return Err(LogError::Refused { xid: it.xid(), source: Refused::Expired });
            }
            engine.begin(tx, &it)?;
            let sql = "INSERT INTO orders (xid, state, cancels) VALUES (?, 'pending', 0)";
            tx.execute(sql, params![it.xid().to_string()])?;
            let Begin::Lost { reserved } = end else { return Ok(true) };
            wait(reserved);
            Err(LogError::Unknown { xid: it.xid() })
        };
        let begin = self.orders.transaction("begin", work);
        let begins = |it: &Result<bool, _>| match it {
            Ok(begins) => Some(*begins),
            Err(TransactionError::Refused(LogError::Refused { .. })) => Some(false),
            Err(_) => None,
        };
        self.engine.try_beside(declaration, begin, begins).await
    }

    /// A first transaction of the engine that began, and ended: from then on Trys hurry.
    pub(super) async fn one_began(&self) {
        let declaration = self.declare(1, Duration::from_secs(5));
        let (begun, tried) = self.begin_and_try(&declaration, Begin::Durable).await;
        assert!(begun.unwrap());
        assert_eq!(tried, None, "nothing is known of commits yet");
        self.engine.abort_now(declaration.xid(), "it was the first").await.unwrap();
        self.all_finished().await;
    }

    /// The last durable step; twice is once.
    pub(super) async fn commit(&self, xid: Xid) -> Result<(), TransactionError<LogError>> {
        let engine = self.engine.clone();
        self.orders
            .transaction("commit", move |tx| {
                engine.commit(tx, xid)?;
                let sql = "UPDATE orders SET state = 'placed' WHERE xid = ?";
                tx.execute(sql, params![xid.to_string()])?;
                Ok(())
            })
            .await
    }

    /// The whole way of an order.
    pub(super) async fn place(&self, count: i64, limit: Duration) -> (Xid, Tried) {
        let declaration = self.declare(count, limit);
        let xid = declaration.xid();
        self.begin(&declaration).await;
        let tried = self.engine.try_all(&declaration).await;
        if tried == Tried::Reserved {
            self.commit(xid).await.unwrap();
            self.engine.settle(xid);
        } else {
            self.engine.abort_now(xid, "a branch did not reserve").await.unwrap();
        }
        (xid, tried)
    }

    /// State of an order, and how often it was cancelled.
    pub(super) async fn order(&self, xid: Xid) -> (String, u32) {
        self.orders
            .read("order", move |tx| {
                let sql = "SELECT state, cancels FROM orders WHERE xid = ?";
                let row = tx.query_one(sql, params![xid.to_string()], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?;
                Ok::<_, Error>(row.unwrap_or_default())
            })
            .await
            .unwrap()
    }

    /// What both participants hold: available, frozen, taken.
    pub(super) async fn goods(&self) -> [(i64, i64, i64); 2] {
        [self.stock.goods().await, self.points.goods().await]
    }

    pub(super) async fn both_hold(&self, what: (i64, i64, i64)) {
        until(async || self.goods().await == [what, what]).await;
    }

    /// Nothing is left to be done in the log.
    pub(super) async fn all_finished(&self) {
        until(async || {
            let open = self.orders.read("open", |tx| {
                let sql = "SELECT COUNT(*) FROM tradewind_tcc WHERE finished_ms IS NULL";
                Ok::<_, Error>(tx.query_one(sql, &[], |row| row.get::<i64>(0))?.unwrap_or(0))
            });
            open.await.unwrap() == 0
        })
        .await;
    }
}

fn setup(database: &Database, clock: &Arc<dyn Clock>, peers: &Peers, settings: Settings) -> Setup {
    let own = |sql: &'static str| {
        move |tx: &mut Transaction<'_>, xid: Xid, payload: &Value| {
            assert!(payload["of"].is_i64(), "the own payload comes back");
            if tx.execute(sql, params![xid.to_string()])? == 1 {
                return Ok(());
            }
            Err(BranchError::Failed("no such order".into()))
        }
    };
    let cancel = "UPDATE orders SET state = 'cancelled', cancels = cancels + 1
        WHERE xid = ? AND state = 'pending'";
    let confirm = "UPDATE orders SET state = 'placed' WHERE xid = ? AND state = 'pending'";
    Setup::new(database.clone(), Arc::clone(clock), peers.clone())
        .settings(settings)
        .on_abort("place", own(cancel))
        .on_abort("implied", own(cancel))
        .on_commit("implied", own(confirm))
}

fn peers(name: &str, discovery: &Discovery, keys: &Keys, tasks: &Tasks) -> Peers {
    let identity = Identity::new(ServiceName::parse(name).unwrap(), keys.seal().clone());
    Peers::new(discovery.clone(), Client::standard(tasks), identity)
}

fn instance(name: &str, at: SocketAddr) -> Instance {
    let name = ServiceName::parse(name).unwrap();
    Instance::plain(&name, &at.ip().to_string(), at.port()).unwrap()
}

impl Member {
    async fn start(
        kind: Kind,
        folder: &tempfile::TempDir,
        name: &'static str,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        let database = open(kind, folder, name, STOCK);
        let fill =
            |tx: &mut Transaction<'_>| tx.execute("INSERT INTO goods VALUES (1, 10, 0, 0)", &[]);
        database.transaction("fill", fill).await.unwrap();
        let mischief = Arc::new(Mischief::default());
        let settings = participant::Settings {
            skew: Duration::from_millis(100),
            resolve_after: Duration::from_millis(200),
            resolve_every: Duration::from_millis(50),
            ..participant::Settings::default()
        };
        let participants = Participants::new(database.clone(), Arc::clone(clock))
            .settings(settings)
            .with(Shelf(Arc::clone(&mischief)));
        let lose = Arc::clone(&mischief);
        let router = participants.mount().layer(from_fn(move |request: Request, next: Next| {
            let lose = Arc::clone(&lose);
            async move {
                let answer = next.run(request).await;
                if lose.lose.load(Ordering::SeqCst) {
                    return StatusCode::BAD_GATEWAY.into_response();
                }
                answer
            }
        }));
        let running = Running::start(name, router).await;
        Self { name, database, running, mischief, participants }
    }

    pub(super) async fn goods(&self) -> (i64, i64, i64) {
        let read = |tx: &mut Transaction<'_>| {
            let sql = "SELECT available, frozen, taken FROM goods WHERE id = 1";
            tx.query_one(sql, &[], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        };
        self.database.read("goods", read).await.unwrap().unwrap_or_default()
    }

    /// The state of a fence row; 0 when there is none.
    pub(super) async fn fence(&self, xid: Xid, branch: u16) -> u8 {
        let read = move |tx: &mut Transaction<'_>| {
            let sql = "SELECT status FROM tradewind_fence WHERE xid = ? AND branch = ?";
            tx.query_one(sql, params![xid.to_string(), branch], |row| row.get::<u8>(0))
        };
        self.database.read("fence", read).await.unwrap().unwrap_or(0)
    }

    /// Sends a branch call as `caller`.
    pub(super) async fn send(&self, step: &str, caller: &str, body: &Value) -> Reply {
        let header = self.running.caller(caller);
        self.running.post(&format!("/tcc/take/{step}"), &[header], &body.to_string()).await
    }
}

/// Waits until `holds`.
pub(super) async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect("what was waited for did not come");
}
