//! Inventory, points and warehouse of the comparison: one local transaction for each request.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tradewind::axum::Router;
use tradewind::axum::extract::State;
use tradewind::axum::routing::post;
use tradewind::call::{CallError, Policy};
use tradewind::message::{BrokerClient, Consumer, Subscription, schema};
use tradewind::service::{Answer, Failure, Json};
use tradewind::sql::{Database, Error, Migration, Transaction, TransactionError, params};
use tradewind_base::Clock;
use tradewind_host::Host;

use super::{INVENTORY, POINTS, TOPIC, WAREHOUSE};

/// One line of an order.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Item {
    pub(super) product_id: i64,
    pub(super) quantity: i64,
}

/// What an order takes, earns and sends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Wanted {
    pub(super) order_id: String,
    pub(super) user_id: String,
    pub(super) address: String,
    pub(super) points: i64,
    pub(super) items: Vec<Item>,
}

/// What a product costs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Priced {
    pub(super) product_id: i64,
    pub(super) sku: String,
    pub(super) name: String,
    pub(super) price_cents: i64,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) done: bool,
}

#[tradewind::client(service = "bench-inventory")]
pub(super) trait Inventory {
    #[post("/prices", idempotent)]
    async fn prices(&self, #[json] items: &[Item]) -> Result<Vec<Priced>, CallError>;
    #[post("/take")]
    async fn take(&self, #[json] wanted: &Wanted) -> Result<Done, CallError>;
}

#[tradewind::client(service = "bench-points")]
pub(super) trait Points {
    #[post("/credit")]
    async fn credit(&self, #[json] wanted: &Wanted) -> Result<Done, CallError>;
}

#[tradewind::client(service = "bench-warehouse")]
pub(super) trait Warehouse {
    #[post("/outbound")]
    async fn outbound(&self, #[json] wanted: &Wanted) -> Result<Done, CallError>;
}

/// What a handler works with.
#[derive(Clone)]
struct App {
    database: Database,
    clock: Arc<dyn Clock>,
}

/// A table of one dialect: the comparison runs on SQLite.
const fn table(version: u32, name: &'static str, sqlite: &'static str) -> Migration {
    Migration { version, name, sqlite, mysql: "DO 0" }
}

const INVENTORY_TABLES: &[Migration] = &[
    table(
        1,
        "product",
        "CREATE TABLE product (id INTEGER NOT NULL PRIMARY KEY, sku TEXT NOT NULL,
        name TEXT NOT NULL, price_cents INTEGER NOT NULL) STRICT",
    ),
    table(
        2,
        "stock",
        "CREATE TABLE stock (product_id INTEGER NOT NULL PRIMARY KEY,
        on_hand INTEGER NOT NULL CHECK (0 <= on_hand), version INTEGER NOT NULL) STRICT",
    ),
    table(
        3,
        "flow",
        "CREATE TABLE stock_flow (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        product_id INTEGER NOT NULL, change INTEGER NOT NULL, reference TEXT NOT NULL,
        at_ms INTEGER NOT NULL) STRICT",
    ),
    table(4, "flow by product", "CREATE INDEX flow_by_product ON stock_flow (product_id, id)"),
    table(
        5,
        "products",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n
        WHERE i < 200) INSERT INTO product (id, sku, name, price_cents)
        SELECT i, 'SKU-' || i, 'Product ' || i, 1000 + i * 10 FROM n",
    ),
    table(
        6,
        "first stock",
        "INSERT INTO stock (product_id, on_hand, version)
        SELECT id, 1000000000, 1 FROM product",
    ),
];

const POINTS_TABLES: &[Migration] = &[
    table(
        1,
        "account",
        "CREATE TABLE account (user_id TEXT NOT NULL PRIMARY KEY,
        balance INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    ),
    table(
        2,
        "ledger",
        "CREATE TABLE ledger (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        user_id TEXT NOT NULL, points INTEGER NOT NULL, reference TEXT NOT NULL UNIQUE,
        at_ms INTEGER NOT NULL) STRICT",
    ),
    table(3, "ledger by user", "CREATE INDEX ledger_by_user ON ledger (user_id, id)"),
];

const WAREHOUSE_TABLES: &[Migration] = &[
    table(
        1,
        "outbound",
        "CREATE TABLE outbound (order_id TEXT NOT NULL PRIMARY KEY,
        user_id TEXT NOT NULL, address TEXT NOT NULL, items TEXT NOT NULL, state TEXT NOT NULL,
        received_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    ),
    schema::consumed(2),
    schema::consumed_by_time(3),
];

pub(super) fn failed(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::internal(error)
}

async fn done(
    app: &App,
    work: impl FnMut(&mut Transaction<'_>) -> Result<bool, Error> + Send + 'static,
) -> Answer<Done> {
    let done: Result<bool, TransactionError<Error>> = app.database.transaction("step", work).await;
    done.map(|done| Json(Done { done })).map_err(|it| failed(&it))
}

async fn app(
    host: &mut Host,
    set: &'static str,
    tables: &'static [Migration],
) -> anyhow::Result<App> {
    let database = host.database(set, tables).await?;
    Ok(App { database, clock: Arc::clone(&host.shared().clock) })
}

pub(super) async fn inventory(mut host: Host) -> anyhow::Result<()> {
    let app = app(&mut host, INVENTORY, INVENTORY_TABLES).await?;
    let router = Router::new().route("/prices", post(prices)).route("/take", post(take));
    Ok(host.run(router.with_state(app)).await?)
}

async fn prices(State(app): State<App>, Json(items): Json<Vec<Item>>) -> Answer<Vec<Priced>> {
    let work = move |tx: &mut Transaction<'_>| {
        let mut found = Vec::with_capacity(items.len());
        for it in &items {
            let sql = "SELECT p.id, p.sku, p.name, p.price_cents FROM product p
                JOIN stock s ON s.product_id = p.id WHERE p.id = ?";
            found.extend(tx.query_one(sql, params![it.product_id], |row| {
                Ok(Priced {
                    product_id: row.get(0)?,
                    sku: row.get(1)?,
                    name: row.get(2)?,
                    price_cents: row.get(3)?,
                })
            })?);
        }
        Ok(found)
    };
    let found: Result<_, TransactionError<Error>> = app.database.read("prices", work).await;
    found.map(Json).map_err(|it| failed(&it))
}

async fn take(State(app): State<App>, Json(wanted): Json<Wanted>) -> Answer<Done> {
    let now = app.clock.now();
    done(&app, move |tx| {
        for it in &wanted.items {
            let sql = "UPDATE stock SET on_hand = on_hand - ?, version = version + 1
                WHERE product_id = ? AND ? <= on_hand";
            if tx.execute(sql, params![it.quantity, it.product_id, it.quantity])? == 0 {
                return Ok(false);
            }
            let sql = "INSERT INTO stock_flow (product_id, change, reference, at_ms)
                VALUES (?, ?, ?, ?)";
            tx.execute(sql, params![it.product_id, -it.quantity, &wanted.order_id, now])?;
        }
        Ok(true)
    })
    .await
}

pub(super) async fn points(mut host: Host) -> anyhow::Result<()> {
    let app = app(&mut host, POINTS, POINTS_TABLES).await?;
    Ok(host.run(Router::new().route("/credit", post(credit)).with_state(app)).await?)
}

async fn credit(State(app): State<App>, Json(it): Json<Wanted>) -> Answer<Done> {
    let now = app.clock.now();
    done(&app, move |tx| {
        let sql = "INSERT INTO ledger (user_id, points, reference, at_ms) VALUES (?, ?, ?, ?)";
        tx.execute(sql, params![&it.user_id, it.points, &it.order_id, now])?;
        let sql = "INSERT INTO account (user_id, balance) VALUES (?, ?)
            ON CONFLICT (user_id) DO UPDATE SET balance = balance + excluded.balance";
        tx.execute(sql, params![&it.user_id, it.points])?;
        Ok(true)
    })
    .await
}

pub(super) async fn warehouse(mut host: Host) -> anyhow::Result<()> {
    let app = app(&mut host, WAREHOUSE, WAREHOUSE_TABLES).await?;
    let broker = BrokerClient::new(host.channel(BrokerClient::SERVICE, Policy::default()).await?);
    let clock = Arc::clone(&app.clock);
    let secret = host.shared().keys.seal();
    let consumer = Consumer::new(WAREHOUSE, app.database.clone(), secret, Arc::clone(&clock));
    let subscription = Subscription::new(WAREHOUSE, TOPIC, "/messages/placed");
    Subscription::declare(broker, vec![subscription], host.tasks());
    let heard = consumer.handler(move |tx: &mut Transaction<'_>, event| {
        let wanted: Wanted =
            event.json().map_err(|it| tradewind::message::ConsumeError::Refused(it.to_string()))?;
        insert(tx, &wanted, clock.now())?;
        Ok(())
    });
    let router = Router::new().route("/outbound", post(outbound)).with_state(app);
    Ok(host.run(router.route("/messages/placed", heard)).await?)
}

async fn outbound(State(app): State<App>, Json(it): Json<Wanted>) -> Answer<Done> {
    let now = app.clock.now();
    done(&app, move |tx| insert(tx, &it, now)).await
}

fn insert(
    tx: &mut Transaction<'_>,
    it: &Wanted,
    now: tradewind_base::Timestamp,
) -> Result<bool, Error> {
    let sql = "INSERT INTO outbound (order_id, user_id, address, items, state, received_ms)
        VALUES (?, ?, ?, ?, 'received', ?)";
    let items = serde_json::to_string(&it.items).unwrap_or_default();
    tx.execute(sql, params![&it.order_id, &it.user_id, &it.address, items, now]).map(|_| true)
}
