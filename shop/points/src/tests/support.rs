//! The service on a database of its own, and the order service's calls to it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tradewind::base::id::Xid;
use tradewind::base::identity::{USER_HEADER, User};
use tradewind::base::{Clock, Rng, SystemClock};
use tradewind::host::testing::{Reply, Running};
use tradewind::sql::{
    Database, DatabaseUrl, Error, Options, Transaction, TransactionError, params,
};
use tradewind::transaction::Participants;

use crate::branch::{Credit, Revoke};
use crate::schema::{MIGRATIONS, SET};
use crate::store::Store;
use crate::{api, audit};

/// The service on a database of its own.
pub(super) struct Points {
    pub(super) running: Running,
    database: Database,
    pub(super) clock: Arc<dyn Clock>,
}

/// One transaction of the order service, on one branch.
#[derive(Clone, Copy)]
pub(super) struct Branch<'a> {
    points: &'a Points,
    action: &'static str,
    pub(super) xid: Xid,
}

impl Points {
    pub(super) async fn start(url: &DatabaseUrl) -> Self {
        let database = Database::open(url, Options::default(), SET, MIGRATIONS).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let branches = Participants::new(database.clone(), Arc::clone(&clock));
        let branches = branches.with(Credit).with(Revoke);
        let router = api::router(Store::new(database.clone())).merge(branches.mount());
        Self { running: Running::start("points", router).await, database, clock }
    }

    pub(super) fn begin(&self, action: &'static str) -> Branch<'_> {
        let xid = Xid::generate(self.clock.now(), &mut Rng::from_entropy());
        Branch { points: self, action, xid }
    }

    /// Places an order as far as this service is concerned.
    pub(super) async fn credited(&self, user: &str, order: &str, points: i64) -> Xid {
        let credit = self.begin("points.credit");
        assert_eq!(credit.reserve(user, order, points).await.status, 200);
        assert_eq!(credit.confirm().await.status, 200);
        credit.xid
    }

    pub(super) async fn get(&self, user: &str, path: &str) -> Reply {
        let user = User { id: user.into(), name: "A".into(), roles: vec![] };
        let end = self.clock.now() + Duration::from_secs(60);
        let header = (USER_HEADER, user.seal(self.running.keys().seal(), end).unwrap());
        self.running.send("GET", path, &[header], "").await
    }

    /// Balance and pending points, and the amounts of the ledger, the newest first.
    pub(super) async fn account(&self, user: &str) -> (i64, i64, Vec<i64>) {
        let account = self.get(user, "/accounts/me").await.json();
        assert_eq!(account["user_id"], user);
        let ledger = self.get(user, "/accounts/me/ledger").await.json();
        let amount = |it: &Value| it["amount"].as_i64().unwrap();
        let amounts = ledger["items"].as_array().unwrap().iter().map(amount).collect();
        let number = |name: &str| account[name].as_i64().unwrap();
        (number("balance"), number("pending"), amounts)
    }

    pub(super) async fn violations(&self) -> Vec<tradewind::audit::Violation> {
        let now = self.clock.now();
        let look = move |tx: &mut Transaction<'_>| tradewind::audit::all(tx, audit::CHECKS, now);
        let found: Result<_, TransactionError<Error>> = self.database.read("audit", look).await;
        found.unwrap()
    }

    pub(super) async fn write(&self, sql: &'static str) -> Result<u64, Error> {
        let done = self.database.transaction("test", move |tx| tx.execute(sql, params![])).await;
        done.map_err(|error| match error {
            TransactionError::Refused(error) => error,
            error => panic!("{error}"),
        })
    }
}

impl Branch<'_> {
    pub(super) async fn reserve(&self, user: &str, order: &str, points: i64) -> Reply {
        let deadline = self.points.clock.now() + Duration::from_secs(10);
        let payload = json!({"user_id": user, "order_id": order, "points": points});
        let body = json!({"xid": self.xid, "branch": 2, "initiator": "order",
            "deadline_ms": deadline.millis(), "payload": payload});
        self.send("try", &body).await
    }

    pub(super) async fn confirm(&self) -> Reply {
        self.send("confirm", &self.second()).await
    }

    pub(super) async fn cancel(&self) -> Reply {
        self.send("cancel", &self.second()).await
    }

    pub(super) fn second(&self) -> Value {
        json!({"xid": self.xid, "branch": 2, "initiator": "order"})
    }

    pub(super) async fn send(&self, step: &str, body: &Value) -> Reply {
        let header = self.points.running.caller("order");
        let path = format!("/tcc/{}/{step}", self.action);
        self.points.running.post(&path, &[header], &body.to_string()).await
    }
}

/// The participant's own code of a refusal.
pub(super) fn refusal(reply: &Reply) -> String {
    assert_eq!((reply.status, reply.problem().0.as_str()), (409, "tcc.refused"), "{reply:?}");
    let kind = reply.json()["type"].as_str().unwrap().to_owned();
    kind.rsplit(['/', ':']).next().unwrap().to_owned()
}

pub(super) fn not_yet(reply: &Reply) {
    assert_eq!((reply.status, reply.problem().0.as_str()), (425, "tcc.not-yet"), "{reply:?}");
}
