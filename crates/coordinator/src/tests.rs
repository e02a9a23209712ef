//! Transactions over the API, with participants over HTTP.

mod initiator;
mod life;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tradewind_base::{Clock, SystemClock, Tasks};
use tradewind_call::{Client, Identity};
use tradewind_discovery::{Discovery, Instance, ServiceName};
use tradewind_host::testing::{Reply, Running};
use tradewind_service::Keys;
use tradewind_sql::{Database, DatabaseUrl, Migration, Options, Transaction, params};
use tradewind_transaction::engine::Settings;
use tradewind_transaction::{BranchError, Call, Participant, Participants, Peers, Setup, fence};

const FENCE: [Migration; fence::MIGRATIONS] = fence::migrations(2);
const STOCK: &[Migration] = &[
    Migration {
        version: 1,
        name: "create stock",
        sqlite: "CREATE TABLE stock (available INTEGER NOT NULL CHECK (available >= 0),
            frozen INTEGER NOT NULL CHECK (frozen >= 0))",
        mysql: "CREATE TABLE stock (available BIGINT NOT NULL, frozen BIGINT NOT NULL)",
    },
    FENCE[0],
    FENCE[1],
];

struct Stock;

impl Participant for Stock {
    type Reservation = i64;
    const ACTION: &'static str = "stock";

    fn reserve(&self, tx: &mut Transaction<'_>, _: &Call, it: &i64) -> Result<(), BranchError> {
        let sql = "UPDATE stock SET available = available - ?, frozen = frozen + ?
            WHERE available >= ?";
        if tx.execute(sql, params![*it, *it, *it])? == 1 {
            return Ok(());
        }
        let status = tradewind_service::axum::http::StatusCode::CONFLICT;
        Err(tradewind_base::Problem::new(status, "stock.short", "too few are left").into())
    }

    fn confirm(&self, tx: &mut Transaction<'_>, _: &Call, it: &i64) -> Result<(), BranchError> {
        tx.execute("UPDATE stock SET frozen = frozen - ?", params![*it])?;
        Ok(())
    }

    fn cancel(&self, tx: &mut Transaction<'_>, _: &Call, it: &i64) -> Result<(), BranchError> {
        let sql = "UPDATE stock SET frozen = frozen - ?, available = available + ?";
        tx.execute(sql, params![*it, *it])?;
        Ok(())
    }
}

struct World {
    coordinator: Running,
    stock: Database,
    _participant: Running,
    _folder: tempfile::TempDir,
}

async fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &'static str, migrations: &[Migration]| {
        let url = DatabaseUrl::sqlite(&folder.path().join(format!("{name}.db")));
        Database::open(&url, Options::default(), name, migrations).unwrap()
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let tasks = Tasks::new();
    let keys = Keys::from_secret(&[7; 32]).unwrap();
    let (stock, log) = (open("stock", STOCK), open("coordinator", crate::MIGRATIONS));
    let fill = |tx: &mut Transaction<'_>| tx.execute("INSERT INTO stock VALUES (10, 0)", &[]);
    stock.transaction("fill", fill).await.unwrap();
    let participants = Participants::new(stock.clone(), Arc::clone(&clock)).with(Stock);
    let participant = Running::start("inventory", participants.mount()).await;
    let (name, at) = (ServiceName::parse("inventory").unwrap(), participant.address());
    let instance = Instance::plain(&name, &at.ip().to_string(), at.port()).unwrap();
    let identity = Identity::new(ServiceName::parse(crate::SERVICE).unwrap(), keys.seal().clone());
    let peers = Peers::new(Discovery::fixed(vec![instance]), Client::standard(&tasks), identity);
    let settings = Settings { poll: Duration::from_millis(20), ..Settings::default() };
    let engine = Setup::new(log.clone(), clock, peers).settings(settings).start(&tasks);
    let coordinator = Running::start(crate::SERVICE, crate::router(engine, log)).await;
    World { coordinator, stock, _participant: participant, _folder: folder }
}

impl World {
    async fn post(&self, path: &str, body: &Value) -> Reply {
        let caller = self.coordinator.caller("order");
        let path = format!("/coordinator/v1/transactions{path}");
        self.coordinator.post(&path, &[caller], &body.to_string()).await
    }

    async fn begin(&self, count: i64, limit_ms: u64) -> String {
        let reply = self.post("", &declaration(count, limit_ms)).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        reply.json()["xid"].as_str().unwrap().to_owned()
    }

    async fn phase_becomes(&self, xid: &str, phase: &str) {
        let path = format!("/coordinator/v1/transactions/{xid}");
        let wait = async {
            loop {
                let caller = self.coordinator.caller("order");
                let reply = self.coordinator.send("GET", &path, &[caller], "").await;
                if reply.json()["phase"] == phase {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap();
    }

    async fn stock(&self) -> (i64, i64) {
        let read = |tx: &mut Transaction<'_>| {
            let sql = "SELECT available, frozen FROM stock";
            tx.query_one(sql, &[], |row| Ok((row.get(0)?, row.get(1)?)))
        };
        self.stock.read("stock", read).await.unwrap().unwrap()
    }
}

fn declaration(count: i64, limit_ms: u64) -> Value {
    json!({"name": "place", "limit_ms": limit_ms,
        "branches": [{"service": "inventory", "action": "stock", "payload": count}]})
}

/// R5.2: the coordinator as a server of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_initiator_without_a_database_commits() {
    let world = world().await;
    let xid = world.begin(3, 5000).await;
    let tried = world.post(&format!("/{xid}/try"), &json!({})).await;
    assert_eq!((tried.status, &tried.json()["outcome"]), (200, &"reserved".into()));
    assert_eq!(world.stock().await, (7, 3));
    for _ in 0..2 {
        let reply = world.post(&format!("/{xid}/commit"), &json!({})).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    world.phase_becomes(&xid, "committed").await;
    assert_eq!(world.stock().await, (7, 0));
    let late = world.post(&format!("/{xid}/abort"), &json!({"reason": "changed my mind"})).await;
    assert_eq!(late.problem().0, "coordinator.committed");
    let again = world.post(&format!("/{xid}/try"), &json!({})).await;
    assert_eq!(again.problem().0, "coordinator.committed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_told_and_an_abort_undoes() {
    let world = world().await;
    let xid = world.begin(11, 5000).await;
    let tried = world.post(&format!("/{xid}/try"), &json!({})).await.json();
    assert_eq!((&tried["outcome"], &tried["branch"]), (&"refused".into(), &1.into()));
    assert_eq!(tried["problem"]["code"], "stock.short");
    let reply = world.post(&format!("/{xid}/abort"), &json!({"reason": "refused"})).await;
    assert_eq!(reply.status, 200);
    world.phase_becomes(&xid, "aborted").await;
    let late = world.post(&format!("/{xid}/commit"), &json!({})).await;
    assert_eq!(late.problem().0, "coordinator.aborted");
    assert_eq!(world.stock().await, (10, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_initiator_leaves_behind_is_aborted_at_its_deadline() {
    let world = world().await;
    let xid = world.begin(3, 200).await;
    world.post(&format!("/{xid}/try"), &json!({})).await;
    world.phase_becomes(&xid, "aborted").await;
    assert_eq!(world.stock().await, (10, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_begin_is_repeatable_and_anothers_is_unknown() {
    let world = world().await;
    let mut body = declaration(1, 5000);
    body["xid"] = "txn_0192f3aa000070008000000000000001".into();
    assert_eq!(world.post("", &body).await.status, 201);
    assert_eq!(world.post("", &body).await.status, 200);
    let path = "/coordinator/v1/transactions";
    let other = world.coordinator.caller("points");
    let reply = world.coordinator.post(path, &[other], &body.to_string()).await;
    assert_eq!((reply.status, reply.problem().0.as_str()), (404, "coordinator.unknown"));
    let nobody = world.coordinator.post(path, &[], &body.to_string()).await;
    assert_eq!(nobody.status, 403);
}

/// R5.2: two requests are enough, and each may be repeated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_try_with_a_declaration_begins_first() {
    let world = world().await;
    let path = "/txn_0192f3aa000070008000000000000002";
    let unknown = world.post(&format!("{path}/try"), &json!({})).await;
    assert_eq!((unknown.status, unknown.problem().0.as_str()), (404, "coordinator.unknown"));
    let body = json!({"begin": declaration(3, 5000)});
    for _ in 0..2 {
        let tried = world.post(&format!("{path}/try"), &body).await;
        assert_eq!((tried.status, &tried.json()["outcome"]), (200, &"reserved".into()));
        assert_eq!(world.stock().await, (7, 3));
    }
    assert_eq!(world.post(&format!("{path}/commit"), &json!({})).await.status, 200);
    let late = world.post(&format!("{path}/try"), &body).await;
    assert_eq!((late.status, late.problem().0.as_str()), (409, "coordinator.committed"));
    let mut wrong = body;
    wrong["begin"]["xid"] = "txn_0192f3aa000070008000000000000003".into();
    let reply = world.post(&format!("{path}/try"), &wrong).await;
    assert_eq!((reply.status, reply.problem().1), (422, vec!["begin.xid".to_owned()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_given_up_before_it_began_never_begins() {
    let world = world().await;
    let xid = "txn_0192f3aa000070008000000000000004";
    for _ in 0..2 {
        let reply = world.post(&format!("/{xid}/abort"), &json!({"reason": "lost"})).await;
        assert_eq!((reply.status, &reply.json()["phase"]), (200, &"aborted".into()), "{reply:?}");
    }
    let mut body = declaration(1, 5000);
    body["xid"] = xid.into();
    for (path, body) in [
        (String::new(), body),
        (format!("/{xid}/try"), json!({"begin": declaration(1, 5000)})),
        (format!("/{xid}/try"), json!({})),
        (format!("/{xid}/commit"), json!({})),
    ] {
        let reply = world.post(&path, &body).await;
        let told = (reply.status, reply.problem().0);
        assert_eq!(told, (409, "coordinator.aborted".to_owned()), "{path}");
    }
    assert_eq!(world.stock().await, (10, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_declaration_names_its_field() {
    let world = world().await;
    let mut wrong = Vec::new();
    for (pointer, value, field) in [
        ("/name", json!("Place!"), "name"),
        ("/limit_ms", json!(0), "limit_ms"),
        ("/limit_ms", json!(3_600_001), "limit_ms"),
        ("/branches", json!([]), "branches"),
        ("/branches/0/service", json!("no service"), "branches[0].service"),
        ("/branches/0/action", json!("a/b"), "branches[0].action"),
        ("/own", json!("a/b"), "own"),
    ] {
        let mut body = declaration(1, 5000);
        body["own"] = json!("place");
        *body.pointer_mut(pointer).unwrap() = value;
        let reply = world.post("", &body).await;
        wrong.push((reply.status, reply.problem().1.concat() == field));
    }
    assert_eq!(wrong, vec![(422, true); 7]);
}

#[tokio::test]
async fn the_document_lists_every_path() {
    let document: Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
    let source = include_str!("api.rs");
    let routes: Vec<_> =
        source.split(".route(\"").skip(1).filter_map(|it| it.split('"').next()).collect();
    assert_eq!(routes.len(), 7);
    for route in routes {
        assert!(document["paths"][route].is_object(), "{route}");
    }
}
