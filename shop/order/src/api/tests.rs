use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::json;
use tradewind::base::{Clock, ManualClock};
use tradewind::discovery::ServiceName;
use tradewind::host::testing::{Reply, Running};
use tradewind::sql::{Database, DatabaseUrl, Options};

use super::*;
use crate::demo;
use crate::inventory::AvailableItem;
use crate::login::Limits;
use crate::login::attempts::Limit;
use crate::login::password::Hasher;
use crate::schema::{MIGRATIONS, SET};
use crate::store::Store;
use crate::token::Settings;

mod login;
mod quotes;

/// An inventory that knows products 1 to 200, or fails.
#[derive(Clone, Debug, Default)]
struct Shelf {
    asked: Arc<Mutex<Vec<Ask>>>,
    mood: Mood,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mood {
    #[default]
    Fine,
    Away,
    Slow,
    Confused,
}

impl Inventory for Shelf {
    async fn availability(&self, ask: &Ask) -> Result<Availability, CallError> {
        self.asked.lock().unwrap().push(ask.clone());
        let service = ServiceName::parse("inventory").unwrap();
        match self.mood {
            Mood::Away => return Err(CallError::NoInstance { service }),
            Mood::Slow => {
                return Err(CallError::DeadlineExceeded { service, attempts: 1, sent: true });
            }
            Mood::Confused => return Ok(Availability { items: vec![], unknown: vec![] }),
            Mood::Fine => {}
        }
        let item = |it: &AskItem| AvailableItem {
            product_id: it.product_id,
            sku: format!("SKU-{}", it.product_id),
            name: format!("Thing {}", it.product_id),
            price_cents: 100 * it.product_id,
            currency: "CNY".into(),
            available: 500,
        };
        let (known, unknown): (Vec<_>, Vec<_>) =
            ask.items.iter().partition(|it| (1..=200).contains(&it.product_id));
        Ok(Availability {
            items: known.into_iter().map(item).collect(),
            unknown: unknown.into_iter().map(|it| it.product_id).collect(),
        })
    }
}

/// The service with a database and a key of its own.
struct Shop {
    running: Running,
    store: Store,
    shelf: Shelf,
    hasher: Hasher,
    clock: Arc<ManualClock>,
    folder: tempfile::TempDir,
}

async fn shop_with(mood: Mood, password_threads: usize) -> Shop {
    let folder = tempfile::tempdir().unwrap();
    let url = DatabaseUrl::sqlite(&folder.path().join("order.db"));
    let store = Store::new(Database::open(&url, Options::default(), SET, MIGRATIONS).unwrap());
    let clock = Arc::new(ManualClock::new());
    let hasher = Hasher::new(password_threads);
    demo::create(&store, &hasher, &*clock).await.unwrap();
    let issuer = Issuer::open(&key(&folder), settings()).unwrap();
    let limits = Limits {
        user: Limit { burst: 3, interval: Duration::from_secs(30), keys_max: 100 },
        peer: Limit { burst: 5, interval: Duration::from_secs(5), keys_max: 100 },
    };
    let nobody = hasher.hash("nobody".into()).await.unwrap();
    let issuer = Arc::new(issuer);
    let time: Arc<dyn Clock> = clock.clone();
    let login =
        Login::new(store.clone(), hasher.clone(), nobody, Arc::clone(&issuer), limits, time);
    let shelf = Shelf { mood, ..Shelf::default() };
    let app = App { login, issuer, inventory: shelf.clone() };
    let running = Running::start("order", router(Arc::new(app))).await;
    Shop { running, store, shelf, hasher, clock, folder }
}

async fn shop() -> Shop {
    shop_with(Mood::Fine, 2).await
}

fn key(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("order-jwt.pk8")
}

fn settings() -> Settings {
    let lifetime = Duration::from_secs(3600);
    Settings { issuer: "tradewind".into(), audience: "shop".into(), lifetime }
}

impl Shop {
    async fn login(&self, username: &str, password: &str, from: &str) -> Reply {
        let body = json!({"username": username, "password": password}).to_string();
        let via = ("x-forwarded-for", from.to_owned());
        self.running.post("/login", &[via], &body).await
    }

    async fn quote(&self, body: &str) -> Reply {
        self.running.post("/quotes", &[self.running.user()], body).await
    }

    fn asked(&self) -> Vec<Ask> {
        self.shelf.asked.lock().unwrap().clone()
    }
}

fn basket(lines: &[(i64, i64)]) -> String {
    let line = |it: &(i64, i64)| json!({"product_id": it.0, "quantity": it.1});
    json!({"items": lines.iter().map(line).collect::<Vec<_>>()}).to_string()
}

fn lines(count: i64) -> String {
    basket(&(1..=count).map(|it| (it, 1)).collect::<Vec<_>>())
}
