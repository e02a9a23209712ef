use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::json;
use tradewind::base::{Clock, ManualClock};
use tradewind::discovery::ServiceName;
use tradewind::sql::{Database, DatabaseUrl, Options};
use tradewind_shop_host::testing::{Reply, Running};

use super::*;
use crate::demo;
use crate::inventory::AvailableItem;
use crate::login::Limits;
use crate::login::attempts::Limit;
use crate::login::password::Hasher;
use crate::schema::{MIGRATIONS, SET};
use crate::store::Store;
use crate::token::Settings;

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

/// R3.3: a token for the right password, verified by the published key alone.
#[tokio::test]
async fn a_demo_user_logs_in_and_the_key_set_verifies_the_token() {
    let shop = shop().await;
    let reply = shop.login("alice", "alice-demo", "192.0.2.1").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let granted: Granted = serde_json::from_str(&reply.body).unwrap();
    assert_eq!((granted.token_type.as_str(), granted.expires_in), ("Bearer", 3600));
    assert!(!format!("{granted:?}").contains(&granted.access_token));
    let keys = shop.running.get("/.well-known/jwks.json").await.json();
    let keys: jsonwebtoken::jwk::JwkSet = serde_json::from_value(keys).unwrap();
    let head = jsonwebtoken::decode_header(&granted.access_token).unwrap();
    let jwk = keys.find(&head.kid.unwrap()).unwrap();
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::EdDSA);
    validation.set_issuer(&["tradewind"]);
    validation.set_audience(&["shop"]);
    // The service's clock stands in 2023 in this test.
    validation.validate_exp = false;
    let decoder = jsonwebtoken::DecodingKey::from_jwk(jwk).unwrap();
    let token = jsonwebtoken::decode::<Value>(&granted.access_token, &decoder, &validation);
    let claims = token.unwrap().claims;
    let now = shop.clock.now().seconds();
    assert_eq!((&claims["iat"], &claims["exp"]), (&json!(now), &json!(now + 3600)));
    assert_eq!((&claims["name"], &claims["roles"]), (&json!("Alice"), &json!(["buyer"])));
    let account = shop.store.account("alice".into()).await.unwrap().unwrap();
    assert_eq!(claims["sub"], account.id.to_string());
    assert_eq!(shop.login("ALICE", "alice-demo", "192.0.2.1").await.status, 200, "case of names");
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_look_alike() {
    let shop = shop().await;
    let wrong = shop.login("alice", "bob-demo", "192.0.2.1").await;
    let unknown = shop.login("mallory", "x", "192.0.2.2").await;
    let case = shop.login("alice", "Alice-demo", "192.0.2.3").await;
    for reply in [&wrong, &unknown, &case] {
        assert_eq!(reply.status, 401);
        assert_eq!(reply.problem(), ("order.wrong-credentials".to_owned(), vec![]));
    }
    let alike = |it: &Reply| {
        let mut json = it.json();
        json["request_id"].take();
        json
    };
    assert_eq!(alike(&wrong), alike(&unknown));
}

#[tokio::test]
async fn after_some_failures_a_user_has_to_wait_and_then_not() {
    let shop = shop().await;
    // From three addresses: the limit of the user holds over all of them.
    for from in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        assert_eq!(shop.login("alice", "guess", from).await.status, 401);
    }
    let limited = shop.login("alice", "alice-demo", "192.0.2.4").await;
    assert_eq!((limited.status, limited.problem().0.as_str()), (429, "order.too-many-logins"));
    assert_eq!(limited.header("retry-after"), "30");
    assert_eq!(shop.login("Alice", "x", "192.0.2.4").await.status, 429, "no second budget");
    assert_eq!(shop.login("bob", "bob-demo", "192.0.2.1").await.status, 200, "others go on");
    shop.clock.advance(Duration::from_secs(30));
    assert_eq!(shop.login("alice", "alice-demo", "192.0.2.4").await.status, 200);
}

#[tokio::test]
async fn after_some_failures_an_address_has_to_wait() {
    let shop = shop().await;
    for name in ["a", "b", "c", "d", "e"] {
        assert_eq!(shop.login(name, "guess", "evil, 192.0.2.1").await.status, 401);
    }
    assert_eq!(shop.login("bob", "bob-demo", "192.0.2.1").await.status, 429);
    assert_eq!(shop.login("bob", "bob-demo", "::ffff:192.0.2.1").await.status, 429, "the same");
    assert_eq!(shop.login("bob", "bob-demo", "192.0.2.9").await.status, 200);
    // Successes are not counted.
    for _ in 0..10 {
        assert_eq!(shop.login("bob", "bob-demo", "192.0.2.9").await.status, 200);
    }
}

/// Guesses that are sent at once do not slip through together.
#[tokio::test]
async fn guesses_at_once_are_counted_before_they_are_checked() {
    let shop = shop_with(Mood::Fine, 1).await;
    let guesses = (0..12).map(|it| {
        let from = format!("192.0.2.{it}");
        let shop = &shop;
        async move { shop.login("alice", "guess", &from).await.status }
    });
    let mut counts = BTreeMap::<u16, usize>::new();
    let mut guesses: Vec<_> = guesses.map(Box::pin).collect();
    for status in join(&mut guesses).await {
        *counts.entry(status).or_default() += 1;
    }
    assert_eq!(counts, BTreeMap::from([(401, 3), (429, 9)]));
}

/// The time of an answer does not tell whether the user exists: a password is checked either way.
/// Here the checking is out of order, and both notice.
#[tokio::test]
async fn a_password_is_checked_for_unknown_users_too() {
    let shop = shop().await;
    shop.hasher.close();
    for username in ["alice", "mallory"] {
        let reply = shop.login(username, "guess", "192.0.2.1").await;
        assert_eq!((reply.status, reply.problem().0.as_str()), (503, "order.login-busy"));
        assert_eq!(reply.header("retry-after"), "1");
    }
    for _ in 0..10 {
        let reply = shop.login("alice", "guess", "192.0.2.1").await;
        assert_eq!(reply.status, 503, "what was not looked at is no failure");
    }
}

/// Many honest attempts at once, of one user from one address, all get in.
#[tokio::test]
async fn honest_attempts_at_once_wait_for_their_turn() {
    let shop = shop().await;
    let mut all: Vec<_> = (0..20)
        .map(|_| Box::pin(async { shop.login("bob", "bob-demo", "192.0.2.1").await.status }))
        .collect();
    assert_eq!(join(&mut all).await, vec![200; 20]);
}

/// Polls all until all are done.
async fn join<F: Future<Output = u16> + Unpin>(all: &mut [F]) -> Vec<u16> {
    let mut done: Vec<Option<u16>> = vec![None; all.len()];
    std::future::poll_fn(|cx| {
        for (work, done) in all.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(it) = std::pin::Pin::new(work).poll(cx)
            {
                *done = Some(it);
            }
        }
        if done.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test]
async fn bad_credentials_name_their_fields() {
    let shop = shop().await;
    let long = "x".repeat(257);
    let cases = [
        ("", 400, vec!["body"]),
        ("{", 400, vec!["body"]),
        ("[]", 400, vec!["body"]),
        ("{}", 400, vec!["password", "username"]),
        (r#"{"username":1,"password":null}"#, 400, vec!["password", "username"]),
        (r#"{"username":"a","password":"b","otp":1}"#, 400, vec!["otp"]),
        (r#"{"username":"","password":""}"#, 422, vec!["password", "username"]),
        (r#"{"username":"a\nb","password":"b"}"#, 422, vec!["username"]),
        (&json!({"username": "a", "password": long}).to_string(), 422, vec!["password"]),
        (&json!({"username": "é".repeat(65), "password": "b"}).to_string(), 422, vec!["username"]),
    ];
    for (body, status, mut fields) in cases {
        let reply = shop.running.post("/login", &[], body).await;
        assert_eq!(reply.status, status, "{body}: {reply:?}");
        let mut named = reply.problem().1;
        named.sort_unstable();
        fields.sort_unstable();
        assert_eq!(named, fields, "{body}");
    }
}

#[tokio::test]
async fn a_basket_is_priced_line_by_line() {
    let shop = shop().await;
    let reply = shop.quote(&basket(&[(7, 2), (1, 999)])).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(
        reply.json(),
        json!({
            "currency": "CNY",
            "lines": [
                {"product_id": 7, "sku": "SKU-7", "name": "Thing 7", "quantity": 2,
                 "unit_price_cents": 700, "line_total_cents": 1400,
                 "available": 500, "sufficient": true},
                {"product_id": 1, "sku": "SKU-1", "name": "Thing 1", "quantity": 999,
                 "unit_price_cents": 100, "line_total_cents": 99_900,
                 "available": 500, "sufficient": false},
            ],
            "total_cents": 101_300,
            "sufficient": false,
        })
    );
    assert_eq!(shop.asked().len(), 1, "one question for the whole basket");
    assert_eq!(shop.quote(&lines(100)).await.status, 200);
}

/// Every bad basket is refused with the names of its fields, and nothing changes anywhere.
#[tokio::test]
async fn bad_baskets_name_every_wrong_field() {
    let shop = shop().await;
    let before = dump(&shop).await;
    let line = |text: &str| format!(r#"{{"items":[{{"product_id":1,"quantity":1}},{text}]}}"#);
    let q = "items[1].quantity";
    let p = "items[1].product_id";
    let cases: Vec<(String, u16, Vec<&str>)> = vec![
        (String::new(), 400, vec!["body"]),
        (r#"{"items":["#.into(), 400, vec!["body"]),
        ("{\"items\":[]} x".into(), 400, vec!["body"]),
        ("null".into(), 400, vec!["body"]),
        ("{}".into(), 400, vec!["items"]),
        (r#"{"items":{}}"#.into(), 400, vec!["items"]),
        (r#"{"items":[]}"#.into(), 422, vec!["items"]),
        (lines(101), 422, vec!["items"]),
        (line(r#"{"product_id":2,"quantity":0}"#), 422, vec![q]),
        (line(r#"{"product_id":2,"quantity":-1}"#), 422, vec![q]),
        (line(r#"{"product_id":2,"quantity":1000}"#), 422, vec![q]),
        (line(r#"{"product_id":2,"quantity":18446744073709551615}"#), 422, vec![q]),
        (line(r#"{"product_id":2,"quantity":99999999999999999999}"#), 400, vec![q]),
        (line(r#"{"product_id":2,"quantity":1e400}"#), 400, vec!["body"]),
        (line(r#"{"product_id":2,"quantity":1.0}"#), 400, vec![q]),
        (line(r#"{"product_id":2,"quantity":1.5}"#), 400, vec![q]),
        (line(r#"{"product_id":2,"quantity":"1"}"#), 400, vec![q]),
        (line(r#"{"product_id":2,"quantity":null}"#), 400, vec![q]),
        (line(r#"{"product_id":2}"#), 400, vec![q]),
        (line(r#"{"quantity":1}"#), 400, vec![p]),
        (line(r#"{"product_id":"2","quantity":1}"#), 400, vec![p]),
        (line(r#"{"product_id":0,"quantity":1}"#), 422, vec![p]),
        (line(r#"{"product_id":-2,"quantity":1}"#), 422, vec![p]),
        (line(r#"{"product_id":1,"quantity":1}"#), 422, vec![p]),
        (line(r#"{"product_id":201,"quantity":1}"#), 422, vec![p]),
        (
            line(r#"{"product_id":2,"quantity":1,"price_cents":1}"#),
            400,
            vec!["items[1].price_cents"],
        ),
        (line("7"), 400, vec!["items[1]"]),
        (r#"{"items":[{"product_id":1,"quantity":1}],"user":"bob"}"#.into(), 400, vec!["user"]),
    ];
    for (body, status, fields) in cases {
        let reply = shop.quote(&body).await;
        assert_eq!(reply.status, status, "{body}: {reply:?}");
        assert_eq!(reply.problem().1, fields, "{body}");
    }
    assert_eq!(dump(&shop).await, before);
}

#[tokio::test]
async fn unknown_products_are_named_beside_the_other_mistakes() {
    let shop = shop().await;
    let reply = shop.quote(&basket(&[(300, 1), (1, 0), (301, 1000), (301, 1)])).await;
    let expected = [
        "items[0].product_id",
        "items[1].quantity",
        "items[2].quantity",
        "items[2].product_id",
        "items[3].product_id",
    ];
    assert_eq!((reply.status, reply.problem().1), (422, expected.map(str::to_owned).to_vec()));
    let reply = shop.quote(&basket(&[(300, 1), (2, 1), (301, 1)])).await;
    let expected = ["items[0].product_id", "items[2].product_id"].map(str::to_owned).to_vec();
    assert_eq!((reply.status, reply.problem()), (422, ("order.unknown-product".into(), expected)));
}

/// Only the gateway's word counts on who asks.
#[tokio::test]
async fn nobody_without_the_gateways_word_gets_a_quote() {
    let shop = shop().await;
    let (name, sealed) = shop.running.user();
    let (payload, tag) = sealed.split_once('.').unwrap();
    let service = shop.running.caller("gateway").1;
    for value in [
        None,
        Some("alice".to_owned()),
        Some(String::new()),
        Some(format!("{payload}.AAAA")),
        Some(format!("{payload}x.{tag}")),
        Some(service),
    ] {
        let headers: Vec<_> = value.iter().map(|it| (name, it.clone())).collect();
        for (method, path) in [("POST", "/quotes"), ("GET", "/me")] {
            let json = ("content-type", "application/json".to_owned());
            let headers: Vec<_> = headers.iter().cloned().chain([json]).collect();
            let reply = shop.running.send(method, path, &headers, &lines(1)).await;
            assert_eq!(
                (reply.status, reply.problem().0.as_str()),
                (401, "identity.user"),
                "{value:?}"
            );
        }
    }
    assert_eq!(shop.asked(), [], "inventory was not even asked");
    let me = shop.running.send("GET", "/me", &[(name, sealed)], "").await;
    assert_eq!(me.json(), json!({"id": "usr_1", "name": "Alice", "roles": ["buyer"]}));
}

#[tokio::test]
async fn trouble_with_inventory_is_told_apart() {
    for (mood, status, code) in [
        (Mood::Away, 503, "order.inventory-unavailable"),
        (Mood::Slow, 504, "order.inventory-timeout"),
        (Mood::Confused, 502, "order.inventory-answer"),
    ] {
        let shop = shop_with(mood, 1).await;
        let reply = shop.quote(&lines(2)).await;
        assert_eq!((reply.status, reply.problem().0.as_str()), (status, code));
        assert_eq!(!reply.header("retry-after").is_empty(), mood == Mood::Away);
        let bad = shop.quote(&basket(&[(1, 0)])).await;
        let fields = vec!["items[0].quantity".to_owned()];
        assert_eq!((bad.status, bad.problem().1), (422, fields), "a mistake is one all the same");
    }
}

/// Everything that a request could have changed.
async fn dump(shop: &Shop) -> Vec<Option<crate::store::Account>> {
    let mut accounts = Vec::new();
    for it in demo::DEMO_USERS {
        accounts.push(shop.store.account(it.username.to_owned()).await.unwrap());
    }
    assert!(key(&shop.folder).is_file());
    accounts
}
