//! The order service between services that do as they are told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use tradewind::base::Problem;
use tradewind::base::SystemClock;
use tradewind::base::identity::{USER_HEADER, User};
use tradewind::call::{CallError, Client, Identity};
use tradewind::discovery::{Discovery, Instance, ServiceName};
use tradewind::host::testing::{Reply, Running};
use tradewind::message::{Consumer, SigningKey};
use tradewind::service::axum::Router;
use tradewind::service::axum::extract::{Path, State};
use tradewind::service::axum::http::StatusCode;
use tradewind::service::axum::response::{IntoResponse as _, Response};
use tradewind::service::axum::routing::post;
use tradewind::service::{Failure, Json, Keys};
use tradewind::sql::{DatabaseUrl, Options};
use tradewind::transaction::{Peers, participant};

use super::super::*;
use crate::inventory::{Ask, Availability, AvailableItem, Inventory};
use crate::schema::{MIGRATIONS, SET};

/// What a service does when an action is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Refuses(&'static str),
    Away,
    Hangs,
    /// Reserves, and is not there for the second phase.
    Leaves,
}

/// A branch call that came.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) action: String,
    pub(super) step: String,
    pub(super) body: Value,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Others {
    seen: Arc<Mutex<Vec<Seen>>>,
    moods: Arc<Mutex<BTreeMap<&'static str, Mood>>>,
    switch: Arc<Mutex<Option<Switch>>>,
    /// Which branches are tried, and which are closed before that.
    fences: Arc<Mutex<BTreeMap<(String, String), bool>>>,
}

/// What is set to which value when the first Try comes.
type Switch = (Arc<AtomicU32>, u32);

/// Product n costs n hundred cents.
#[derive(Clone, Debug)]
pub(super) struct Prices;

impl Inventory for Prices {
    async fn availability(&self, ask: &Ask) -> Result<Availability, CallError> {
        let item = |it: &crate::inventory::AskItem| AvailableItem {
            product_id: it.product_id,
            sku: format!("SKU-{}", it.product_id),
            name: format!("Thing {}", it.product_id),
            price_cents: 100 * it.product_id,
            currency: "CNY".into(),
            available: 5,
        };
        let (known, unknown): (Vec<&crate::inventory::AskItem>, Vec<_>) =
            ask.items.iter().partition(|it| it.product_id <= 200);
        let unknown =
            unknown.into_iter().map(|it: &crate::inventory::AskItem| it.product_id).collect();
        Ok(Availability { items: known.into_iter().map(item).collect(), unknown })
    }
}

async fn branch(
    State(others): State<Others>,
    Path((action, step)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Result<Response, Failure> {
    let branch = (action.clone(), body["xid"].to_string());
    let seen = Seen { action: action.clone(), step: step.clone(), body };
    others.seen.lock().unwrap().push(seen);
    if step == "try"
        && let Some((switch, value)) = others.switch.lock().unwrap().take()
    {
        switch.store(value, Ordering::SeqCst);
    }
    let mood = others.moods.lock().unwrap().get(action.as_str()).copied();
    match mood.filter(|it| (step == "try") == (*it != Mood::Leaves)) {
        None if step == "close" => {
            let tried = *others.fences.lock().unwrap().entry(branch).or_insert(false);
            Ok(Json(json!({"tried": tried})).into_response())
        }
        None if step == "try" && !*others.fences.lock().unwrap().entry(branch).or_insert(true) => {
            Err(Problem::new(StatusCode::CONFLICT, "tcc.suspended", "closed before it came").into())
        }
        None => Ok(Json(json!({"state": "done"})).into_response()),
        Some(Mood::Refuses(code)) => {
            let mut problem = Problem::new(StatusCode::CONFLICT, code, "not this time");
            problem.code = "tcc.refused".to_owned();
            Err(problem.into())
        }
        Some(Mood::Away | Mood::Leaves) => Err(Problem::unavailable("test.away", "away").into()),
        Some(Mood::Hangs) => std::future::pending().await,
    }
}

/// One life of the order service.
pub(super) struct Life {
    pub(super) running: Running,
    pub(super) orders: Orders<Prices>,
    pub(super) tasks: Tasks,
}

/// The estate: the services around, and the database that outlives the order service.
pub(super) struct Shop {
    pub(super) life: Life,
    pub(super) others: Others,
    discovery: Discovery,
    url: DatabaseUrl,
    instances: Vec<Instance>,
    decider: Decider,
    _services: Vec<Running>,
    _folder: tempfile::TempDir,
}

pub(super) const ALICE: &str = "usr_1";

pub(super) fn settings(place_ms: u64) -> Settings {
    let place_limit = Duration::from_millis(place_ms);
    let cancel_limit = Duration::from_millis(500);
    Settings { place_limit, cancel_limit, placing_max: 256, parallel_commit: true }
}

pub(super) fn basket(lines: &[(i64, i64)]) -> Value {
    let line = |it: &(i64, i64)| json!({"product_id": it.0, "quantity": it.1});
    let items: Vec<_> = lines.iter().map(line).collect();
    json!({"items": items, "address": "1 Harbour Street 🏠"})
}

pub(super) async fn shop(settings: Settings, lease: Option<Duration>) -> Shop {
    let folder = tempfile::tempdir().unwrap();
    let url = DatabaseUrl::sqlite(&folder.path().join("order.db"));
    shop_at(url, folder, settings, lease).await
}

/// The same with the order service's database, empty, on the real server.
#[cfg(feature = "services")]
pub(super) async fn mysql_shop(name: &str, settings: Settings, lease: Option<Duration>) -> Shop {
    let url = tradewind::host::testing::fresh_mysql(&format!("tradewind_test_orders_{name}"));
    shop_at(url, tempfile::tempdir().unwrap(), settings, lease).await
}

pub(super) async fn shop_at(
    url: DatabaseUrl,
    folder: tempfile::TempDir,
    settings: Settings,
    lease: Option<Duration>,
) -> Shop {
    let others = Others::default();
    let mut services = Vec::new();
    let mut instances = Vec::new();
    for name in ["inventory", "points", "warehouse", "broker"] {
        let router = Router::new().route("/tcc/{action}/{step}", post(branch));
        let running = Running::start(name, router.with_state(others.clone())).await;
        instances.push(instance(name, running.address()));
        services.push(running);
    }
    let discovery = Discovery::fixed(instances.clone());
    let decider = Decider::Embedded;
    let life = Life::start(&url, &discovery, (settings, decider), lease).await;
    let _services = services;
    Shop { life, others, discovery, url, instances, decider, _services, _folder: folder }
}

fn instance(name: &str, at: SocketAddr) -> Instance {
    let name = ServiceName::parse(name).unwrap();
    Instance::plain(&name, &at.ip().to_string(), at.port()).unwrap()
}

/// The bounds of engines in tests.
pub(super) fn quick() -> engine::Settings {
    let own = participant::Settings {
        skew: Duration::from_millis(100),
        resolve_after: Duration::from_millis(100),
        resolve_every: Duration::from_millis(50),
        ..participant::Settings::default()
    };
    engine::Settings {
        lease: Duration::from_millis(400),
        poll: Duration::from_millis(50),
        own,
        ..engine::Settings::default()
    }
}

impl Life {
    async fn start(
        url: &DatabaseUrl,
        discovery: &Discovery,
        (settings, decider): (Settings, Decider),
        lease: Option<Duration>,
    ) -> Self {
        let database = Database::open(url, Options::default(), SET, MIGRATIONS).unwrap();
        let (tasks, clock) = (Tasks::new(), Arc::new(SystemClock::new()) as Arc<dyn Clock>);
        let keys = Keys::from_secret(&[7; 32]).unwrap();
        let name = ServiceName::parse("order").unwrap();
        let identity = Identity::new(name, keys.seal().clone());
        let peers = Peers::new(discovery.clone(), Client::standard(&tasks), identity);
        let deciders = super::super::engine(&database, &clock, peers, (quick(), decider), &tasks);
        let consumer = Consumer::new("order", database.clone(), keys.seal(), Arc::clone(&clock));
        let mut orders = Orders::new(database, deciders, Prices, clock, settings, &tasks);
        orders.lease = lease.unwrap_or(orders.lease);
        let running = Running::start("order", api::router(orders.clone(), &consumer)).await;
        Self { running, orders, tasks }
    }
}

impl Shop {
    /// The order service dies, and another is started on its database.
    pub(super) async fn restart(&mut self, settings: Settings, lease: Option<Duration>) {
        self.life.tasks.cancelled().cancel();
        self.life.running.tasks().cancelled().cancel();
        let how = (settings, self.decider);
        self.life = Life::start(&self.url, &self.discovery, how, lease).await;
        self.found();
    }

    /// From now on a coordinator decides, which is found at `at`; nowhere while there is none.
    pub(super) async fn coordinated(
        mut self,
        at: Option<SocketAddr>,
        settings: Settings,
        lease: Option<Duration>,
    ) -> Self {
        self.decider = Decider::Coordinator;
        self.instances.extend(at.map(|at| instance("coordinator", at)));
        self.restart(settings, lease).await;
        self
    }

    /// Everybody finds this life of the order service, and all others.
    fn found(&self) {
        let order = instance("order", self.life.running.address());
        self.discovery.replace(self.instances.iter().cloned().chain([order]).collect());
    }

    /// Where the services are found.
    pub(super) const fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    pub(super) fn feels(&self, action: &'static str, mood: Option<Mood>) {
        let mut moods = self.others.moods.lock().unwrap();
        match mood {
            Some(mood) => drop(moods.insert(action, mood)),
            None => drop(moods.remove(action)),
        }
    }

    /// Sets `switch` when the next Try comes: what was begun is durable then.
    #[cfg(feature = "services")]
    pub(super) fn at_first_try(&self, switch: &Arc<AtomicU32>, value: u32) {
        *self.others.switch.lock().unwrap() = Some((Arc::clone(switch), value));
    }

    /// The calls of one step of one action.
    pub(super) fn seen(&self, action: &str, step: &str) -> Vec<Seen> {
        let all = self.others.seen.lock().unwrap();
        all.iter().filter(|it| it.action == action && it.step == step).cloned().collect()
    }

    pub(super) async fn place(&self, key: &str, body: &Value) -> Reply {
        let headers = [as_user(&self.life.running, ALICE), ("idempotency-key", key.to_owned())];
        self.life.running.post("/orders", &headers, &body.to_string()).await
    }

    pub(super) async fn get(&self, user: &str, path: &str) -> Reply {
        let headers = [as_user(&self.life.running, user)];
        self.life.running.send("GET", path, &headers, "").await
    }

    pub(super) async fn as_service(&self, path: &str) -> Reply {
        let headers = [self.life.running.caller("console")];
        self.life.running.send("GET", path, &headers, "").await
    }

    pub(super) async fn cancel(&self, user: &str, id: &str) -> Reply {
        let headers = [as_user(&self.life.running, user)];
        self.life.running.send("POST", &format!("/orders/{id}/cancel"), &headers, "").await
    }

    pub(super) async fn state(&self, id: &str) -> String {
        let reply = self.get(ALICE, &format!("/orders/{id}")).await;
        reply.json()["state"].as_str().unwrap().to_owned()
    }

    /// The message `order.shipped`, as the broker delivers it.
    pub(super) async fn shipped(&self, message: u8, order: &str) -> Reply {
        let body = json!({"order_id": order, "shipped_at": 1_700_000_000_000_i64}).to_string();
        let id = format!("msg_{message:032x}");
        let seconds = SystemClock::new().now().seconds();
        let key = SigningKey::derive(self.life.running.keys().seal());
        let headers = [
            ("webhook-id", id.clone()),
            ("webhook-timestamp", seconds.to_string()),
            ("webhook-signature", key.sign(&id, seconds, body.as_bytes())),
            ("ce-specversion", "1.0".to_owned()),
            ("ce-id", id),
            ("ce-type", "order.shipped".to_owned()),
            ("ce-source", "warehouse".to_owned()),
            ("ce-topic", "order.shipped".to_owned()),
        ];
        self.life.running.post(api::SHIPPED_PATH, &headers, &body).await
    }

    pub(super) async fn violations(&self) -> Vec<tradewind::audit::Violation> {
        let now = SystemClock::new().now();
        let look = move |tx: &mut Transaction<'_>| tradewind::audit::all(tx, audit::CHECKS, now);
        let found: Result<_, TransactionError<tradewind::sql::Error>> =
            self.life.orders.database.read("audit", look).await;
        found.unwrap()
    }

    /// How many orders are in each state.
    pub(super) async fn states(&self) -> BTreeMap<String, usize> {
        let page = self.get(ALICE, "/orders?size=100").await.json();
        let mut all = BTreeMap::new();
        for it in page["items"].as_array().unwrap() {
            *all.entry(it["state"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        all
    }
}

pub(super) fn as_user(running: &Running, id: &str) -> (&'static str, String) {
    let user = User { id: id.into(), name: "Somebody".into(), roles: vec![] };
    let end = SystemClock::new().now() + Duration::from_secs(60);
    (USER_HEADER, user.seal(running.keys().seal(), end).unwrap())
}

/// Waits until `holds`.
pub(super) async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it did not come");
}
