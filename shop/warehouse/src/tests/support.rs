//! The service on a database of its own, a broker to talk to, and a clock that tests move.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tradewind::base::id::Xid;
use tradewind::base::{Clock, ManualClock, Rng, Tasks};
use tradewind::call::{Channel, Client, Identity, Policy};
use tradewind::discovery::{Discovery, Instance, ServiceName};
use tradewind::host::testing::{Reply, Running, exchange};
use tradewind::message::signature::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER};
use tradewind::message::{BrokerClient, Consumer, MessageId, Outbox, SigningKey};
use tradewind::service::Keys;
use tradewind::sql::{
    Database, DatabaseUrl, Error, Options, Transaction, TransactionError, params,
};
use tradewind::transaction::Participants;

use crate::branch::Void;
use crate::placed::Intake;
use crate::schema::{MIGRATIONS, SET};
use crate::shipping::Shipper;
use crate::store::Store;
use crate::{PLACED_PATH, SERVICE, api};

/// No test waits longer for anything.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

/// How long an order lies in these tests.
pub(super) const SHIP_AFTER: Duration = Duration::from_secs(3);

pub(super) const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// An instance of the service.
pub(super) struct Warehouse {
    pub(super) running: Running,
    pub(super) database: Database,
    pub(super) clock: Arc<ManualClock>,
    pub(super) shipper: Shipper,
    pub(super) outbox: Outbox,
    pub(super) broker: BrokerClient,
    pub(super) tasks: Tasks,
}

/// One cancellation of the order service, on this branch.
pub(super) struct Voiding<'a> {
    warehouse: &'a Warehouse,
    pub(super) xid: Xid,
}

pub(super) fn keys() -> Keys {
    Keys::from_secret(&[7; 32]).unwrap()
}

pub(super) fn broker(discovery: &Discovery, tasks: &Tasks) -> BrokerClient {
    let identity = Identity::new(ServiceName::parse(SERVICE).unwrap(), keys().seal().clone());
    let name = ServiceName::parse(BrokerClient::SERVICE).unwrap();
    let policy = Policy { total: Duration::from_millis(500), ..Policy::default() };
    BrokerClient::new(Channel::new(
        discovery,
        Client::standard(tasks),
        name,
        policy,
        Some(identity),
    ))
}

pub(super) fn at(name: &str, running: &Running) -> Discovery {
    let (name, address) = (ServiceName::parse(name).unwrap(), running.address());
    let instance = Instance::plain(&name, &address.ip().to_string(), address.port()).unwrap();
    Discovery::fixed(vec![instance])
}

impl Warehouse {
    /// An instance whose broker is nowhere.
    pub(super) async fn start(url: &DatabaseUrl, clock: &Arc<ManualClock>) -> Self {
        Self::with(url, clock, &Discovery::fixed(Vec::new())).await
    }

    pub(super) async fn with(
        url: &DatabaseUrl,
        clock: &Arc<ManualClock>,
        discovery: &Discovery,
    ) -> Self {
        let (tasks, keys) = (Tasks::new(), keys());
        let time = Arc::clone(clock) as Arc<dyn Clock>;
        let database = Database::open(url, Options::default(), SET, MIGRATIONS).unwrap();
        let broker = broker(discovery, &tasks);
        let outbox = Outbox::new(database.clone(), broker.clone(), Arc::clone(&time));
        let shipper = Shipper::new(database.clone(), outbox.clone(), Arc::clone(&time));
        let consumer = Consumer::new(SERVICE, database.clone(), keys.seal(), Arc::clone(&time));
        let intake = Intake::new(consumer, shipper.clone(), Arc::clone(&time), SHIP_AFTER);
        let branches = Participants::new(database.clone(), time).with(Void);
        let store = Store::new(database.clone());
        let router = api::router(store, intake).merge(branches.mount());
        let running = Running::start(SERVICE, router).await;
        let clock = Arc::clone(clock);
        Self { running, database, clock, shipper, outbox, broker, tasks }
    }

    pub(super) fn void(&self) -> Voiding<'_> {
        let xid = Xid::generate(self.clock.now(), &mut Rng::from_entropy());
        Voiding { warehouse: self, xid }
    }

    /// Delivers `order.placed` as the broker does.
    pub(super) async fn deliver(&self, id: MessageId, order: &str) -> Reply {
        self.deliver_data(id, &placed(order)).await
    }

    pub(super) async fn deliver_data(&self, id: MessageId, data: &Value) -> Reply {
        let body = data.to_string();
        let (now, id) = (self.clock.now().seconds(), id.to_string());
        let signature = SigningKey::derive(keys().seal()).sign(&id, now, body.as_bytes());
        let xid = Xid::from_u128(77).to_string();
        let headers = [
            ("content-type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-id", &id),
            ("ce-type", "order.placed"),
            ("ce-topic", "order.placed"),
            ("ce-source", "order"),
            ("ce-xid", &xid),
            ("traceparent", TRACE),
            (ID_HEADER, &id),
            (TIMESTAMP_HEADER, &now.to_string()),
            (SIGNATURE_HEADER, &signature),
        ]
        .map(|(name, text)| (name, text.to_owned()));
        exchange(self.running.address(), "POST", PLACED_PATH, &headers, &body).await
    }

    /// Delivers, and is believed.
    pub(super) async fn receive(&self, order: &str) {
        let reply = self.deliver(message(), order).await;
        assert_eq!(reply.status, 204, "{reply:?}");
    }

    /// What services see of it.
    pub(super) async fn outbound(&self, order: &str) -> Reply {
        let caller = [self.running.caller("order")];
        self.running.send("GET", &format!("/outbound/{order}"), &caller, "").await
    }

    pub(super) async fn state(&self, order: &str) -> String {
        let reply = self.outbound(order).await;
        if reply.status == 404 {
            return "none".to_owned();
        }
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["state"].as_str().unwrap().to_owned()
    }

    /// Lets the time pass after which orders ship, and ships.
    pub(super) async fn ship(&self) -> usize {
        self.clock.advance(SHIP_AFTER);
        self.shipper.turn().await.unwrap().shipped
    }

    /// How many messages about the order wait in the outbox.
    pub(super) async fn told(&self, order: &str) -> i64 {
        let order = order.to_owned();
        let read = move |tx: &mut Transaction<'_>| {
            let sql = "SELECT COUNT(*) FROM message_outbox
                WHERE msg_key = ? AND topic = 'order.shipped'";
            tx.query_one(sql, params![&order], |row| row.get(0))
        };
        let read: Result<_, TransactionError<Error>> = self.database.read("told", read).await;
        read.unwrap().unwrap()
    }

    pub(super) async fn write(&self, sql: &'static str) -> Result<u64, Error> {
        let done = self.database.transaction("test", move |tx| tx.execute(sql, params![])).await;
        done.map_err(|error| match error {
            TransactionError::Refused(error) => error,
            error => panic!("{error}"),
        })
    }
}

impl Voiding<'_> {
    pub(super) async fn reserve(&self, order: &str) -> Reply {
        let deadline = self.warehouse.clock.now() + Duration::from_secs(10);
        let body = json!({"xid": self.xid, "branch": 3, "initiator": "order",
            "deadline_ms": deadline.millis(), "payload": {"order_id": order}});
        self.send("try", &body).await
    }

    pub(super) async fn confirm(&self) -> Reply {
        self.send("confirm", &self.second()).await
    }

    pub(super) async fn cancel(&self) -> Reply {
        self.send("cancel", &self.second()).await
    }

    fn second(&self) -> Value {
        json!({"xid": self.xid, "branch": 3, "initiator": "order"})
    }

    async fn send(&self, step: &str, body: &Value) -> Reply {
        let running = &self.warehouse.running;
        let path = format!("/tcc/warehouse.void/{step}");
        running.post(&path, &[running.caller("order")], &body.to_string()).await
    }
}

/// A message that nobody has seen.
pub(super) fn message() -> MessageId {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    MessageId::from_u128(NEXT.fetch_add(1, Ordering::SeqCst).into())
}

/// The data of `order.placed`.
pub(super) fn placed(order: &str) -> Value {
    json!({"order_id": order, "user_id": "usr_1", "address": "Unter den Linden 1, 🏠",
        "lines": [{"product_id": 7, "sku": "TEA-1", "name": "Grüner Tee", "quantity": 2}],
        "total_cents": 1998})
}

/// The participant's own code of a refusal.
pub(super) fn refusal(reply: &Reply) -> String {
    assert_eq!((reply.status, reply.problem().0.as_str()), (409, "tcc.refused"), "{reply:?}");
    let kind = reply.json()["type"].as_str().unwrap().to_owned();
    kind.rsplit(['/', ':']).next().unwrap().to_owned()
}

pub(super) fn ok(reply: &Reply) {
    assert_eq!(reply.status, 200, "{reply:?}");
}

pub(super) fn not_yet(reply: &Reply) {
    assert_eq!((reply.status, reply.problem().0.as_str()), (425, "tcc.not-yet"), "{reply:?}");
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
