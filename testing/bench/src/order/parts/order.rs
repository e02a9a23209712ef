//! The order service of the comparison.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tradewind::axum::Router;
use tradewind::axum::extract::State;
use tradewind::axum::http::{HeaderMap, StatusCode};
use tradewind::axum::response::{IntoResponse as _, Response};
use tradewind::axum::routing::post;
use tradewind::call::{Balance, CallError, Policy};
use tradewind::idempotency::{
    self, Attempt, Claim, Fence, Fingerprint, KEY_HEADER, Key, Scope, StoredAnswer, Terms, store,
};
use tradewind::message::{BrokerClient, Draft, Outbox, schema};
use tradewind::service::{Failure, Json};
use tradewind::sql::{self, Database, Migration, Transaction, TransactionError, params};
use tradewind_base::{Clock, Problem, Rng, Timestamp};
use tradewind_host::Host;

use super::others::{
    Inventory as _, InventoryClient, Item, Points as _, PointsClient, Priced, Wanted,
    Warehouse as _, WarehouseClient,
};
use super::{ORDER, TOPIC};

const KEYS: [Migration; 2] = idempotency::migrations(5);
const TABLES: &[Migration] = &[
    Migration {
        version: 1,
        name: "header",
        sqlite: "CREATE TABLE order_header (id TEXT NOT NULL PRIMARY KEY, user_id TEXT NOT NULL,
            state TEXT NOT NULL, address TEXT NOT NULL, total_cents INTEGER NOT NULL,
            points INTEGER NOT NULL, version INTEGER NOT NULL, created_at_ms INTEGER NOT NULL,
            updated_at_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID",
        mysql: "DO 0",
    },
    Migration {
        version: 2,
        name: "header by user",
        sqlite: "CREATE INDEX order_header_by_user ON order_header (user_id, id)",
        mysql: "DO 0",
    },
    Migration {
        version: 3,
        name: "line",
        sqlite: "CREATE TABLE order_line (order_id TEXT NOT NULL, product_id INTEGER NOT NULL,
            line INTEGER NOT NULL, sku TEXT NOT NULL, name TEXT NOT NULL,
            unit_price_cents INTEGER NOT NULL, quantity INTEGER NOT NULL,
            PRIMARY KEY (order_id, product_id)) STRICT, WITHOUT ROWID",
        mysql: "DO 0",
    },
    Migration {
        version: 4,
        name: "event",
        sqlite: "CREATE TABLE order_event (order_id TEXT NOT NULL, version INTEGER NOT NULL,
            to_state TEXT NOT NULL, at_ms INTEGER NOT NULL,
            PRIMARY KEY (order_id, version)) STRICT, WITHOUT ROWID",
        mysql: "DO 0",
    },
    KEYS[0],
    KEYS[1],
    schema::outbox(7),
    schema::outbox_by_time(8),
];

/// What an order has besides the bare steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum With {
    Nothing,
    Key,
    KeyAndMessage,
}

#[derive(Clone)]
struct App {
    database: Database,
    clock: Arc<dyn Clock>,
    inventory: InventoryClient,
    points: PointsClient,
    warehouse: WarehouseClient,
    outbox: Outbox,
}

#[derive(Debug, Deserialize)]
struct Body {
    items: Vec<Item>,
    address: String,
}

#[derive(Debug, thiserror::Error)]
enum WorkError {
    #[error("the database failed")]
    Sql(#[from] sql::Error),
    #[error("the key cannot be used")]
    Key(#[from] idempotency::StoreError),
    #[error("the key is in use")]
    Taken,
}

/// The user of everybody: who asks is not part of the comparison.
const USER: &str = "usr_bench";

pub(super) async fn run(mut host: Host) -> anyhow::Result<()> {
    let database = host.database(ORDER, TABLES).await?;
    let clock = Arc::clone(&host.shared().clock);
    // As the shop's own order service calls those that an order needs.
    let balance = Balance::LeastOutstanding;
    let policy = || Policy { balance, read: Duration::from_secs(5), ..Policy::default() };
    let broker = BrokerClient::new(host.channel(BrokerClient::SERVICE, policy()).await?);
    let outbox = Outbox::new(database.clone(), broker, Arc::clone(&clock));
    outbox.relay(host.tasks());
    let app = App {
        inventory: InventoryClient::new(host.channel(InventoryClient::SERVICE, policy()).await?),
        points: PointsClient::new(host.channel(PointsClient::SERVICE, policy()).await?),
        warehouse: WarehouseClient::new(host.channel(WarehouseClient::SERVICE, policy()).await?),
        database,
        clock,
        outbox,
    };
    let place = |with: With| {
        post(
            move |State(app): State<App>, headers: HeaderMap, Json(body): Json<Value>| async move {
                app.place(with, &headers, body).await
            },
        )
    };
    let router = Router::new()
        .route("/bare", place(With::Nothing))
        .route("/keyed", place(With::Key))
        .route("/told", place(With::KeyAndMessage))
        .with_state(app);
    Ok(host.run(router).await?)
}

impl App {
    async fn place(
        &self,
        with: With,
        headers: &HeaderMap,
        body: Value,
    ) -> Result<Response, Failure> {
        let internal = |error: &(dyn std::error::Error + 'static)| Failure::internal(error);
        let attempt = match with {
            With::Nothing => None,
            With::Key | With::KeyAndMessage => Some(attempt(headers, &body)?),
        };
        let body: Body = serde_json::from_value(body).map_err(|it| internal(&it))?;
        let prices = self.inventory.prices(&body.items).await.map_err(|it| internal(&it))?;
        let total: i64 = prices.iter().map(|it| it.price_cents).sum();
        let wanted = Wanted {
            order_id: format!("ord_{:032x}", Rng::from_entropy().u128()),
            user_id: USER.to_owned(),
            address: body.address,
            points: total / 100,
            items: body.items,
        };
        let fence = self.insert(attempt.clone(), wanted.clone(), prices, total).await;
        let fence = fence.map_err(|it| internal(&it))?;
        let (stock, points) = (self.inventory.take(&wanted), self.points.credit(&wanted));
        let outbound = async {
            match with {
                With::Nothing | With::Key => {
                    self.warehouse.outbound(&wanted).await.map(|it| it.done)
                }
                With::KeyAndMessage => Ok(true),
            }
        };
        let (stock, points, outbound) = tokio::join!(stock, points, outbound);
        let failed = |it: CallError| Failure::internal(&it);
        let all = stock.map_err(failed)?.done && points.map_err(failed)?.done;
        if !(all && outbound.map_err(failed)?) {
            let detail = "one of the steps was refused";
            return Err(Problem::new(StatusCode::CONFLICT, "bench.refused", detail).into());
        }
        let answer = json!({"id": wanted.order_id, "state": "placed", "total_cents": total});
        if let (Some(attempt), Some(fence)) = (attempt, fence) {
            let message = (with == With::KeyAndMessage)
                .then(|| Draft::new(&*self.clock, TOPIC, &wanted.order_id, ORDER, &wanted))
                .transpose()
                .map_err(|it| internal(&it))?;
            let told = message.is_some();
            self.finish(attempt, fence, answer.clone(), message)
                .await
                .map_err(|it| internal(&it))?;
            if told {
                self.outbox.hand_over();
            }
        }
        Ok((StatusCode::CREATED, Json(answer)).into_response())
    }

    /// The order and, with a key, its claim, in one local transaction.
    async fn insert(
        &self,
        attempt: Option<Attempt>,
        wanted: Wanted,
        prices: Vec<Priced>,
        total: i64,
    ) -> Result<Option<Fence>, TransactionError<WorkError>> {
        let now = self.clock.now();
        let work = move |tx: &mut Transaction<'_>| {
            let fence = match &attempt {
                Some(attempt) => {
                    let (at, fixed) = (store::now(tx)?, json!({"order_id": wanted.order_id}));
                    match store::claim(tx, attempt, &fixed, at, &Terms::default())? {
                        Claim::Mine { fence } => Some(fence),
                        _ => return Err(WorkError::Taken),
                    }
                }
                None => None,
            };
            insert(tx, &wanted, &prices, total, now)?;
            Ok(fence)
        };
        self.database.transaction("insert order", work).await
    }

    async fn finish(
        &self,
        attempt: Attempt,
        fence: Fence,
        answer: Value,
        message: Option<Draft>,
    ) -> Result<(), TransactionError<WorkError>> {
        let now = self.clock.now();
        let work = move |tx: &mut Transaction<'_>| {
            let (at, stored) = (store::now(tx)?, StoredAnswer::json(201, &answer));
            store::finish(tx, &attempt, fence, &stored, at, &Terms::default())?;
            if let Some(message) = &message {
                Outbox::write(tx, message, None, now)?;
            }
            Ok(())
        };
        self.database.transaction("finish order", work).await
    }
}

fn insert(
    tx: &mut Transaction<'_>,
    it: &Wanted,
    prices: &[Priced],
    total: i64,
    now: Timestamp,
) -> Result<(), sql::Error> {
    let id = &it.order_id;
    let sql = "INSERT INTO order_header (id, user_id, state, address, total_cents, points, version,
        created_at_ms, updated_at_ms) VALUES (?, ?, 'placed', ?, ?, ?, 1, ?, ?)";
    tx.execute(sql, params![id, &it.user_id, &it.address, total, it.points, now, now])?;
    for (number, (item, price)) in (1_i64..).zip(it.items.iter().zip(prices)) {
        let sql = "INSERT INTO order_line (order_id, product_id, line, sku, name, unit_price_cents,
            quantity) VALUES (?, ?, ?, ?, ?, ?, ?)";
        let (sku, name) = (&price.sku, &price.name);
        let line =
            params![id, item.product_id, number, sku, name, price.price_cents, item.quantity];
        tx.execute(sql, line)?;
    }
    let sql = "INSERT INTO order_event (order_id, version, to_state, at_ms)
        VALUES (?, 1, 'placed', ?)";
    tx.execute(sql, params![id, now]).map(drop)
}

fn attempt(headers: &HeaderMap, body: &Value) -> Result<Attempt, Failure> {
    let wrong =
        |what: String| Failure::from(Problem::new(StatusCode::BAD_REQUEST, "bench.key", what));
    let key = headers.get(KEY_HEADER).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let key = Key::parse(key).map_err(|it| wrong(it.to_string()))?;
    let scope = Scope::new(USER, "bench.place").map_err(|it| wrong(it.to_string()))?;
    Ok(Attempt { scope, key, fingerprint: Fingerprint::of_json(body) })
}
