//! The layer around handlers, driven as a tower service.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use tower::ServiceExt as _;
use tradewind_base::Problem;
use tradewind_base::context::Context;
use tradewind_base::identity::User;
use tradewind_idempotency::{Claimed, Idempotency, StoreError, StoredAnswer, Terms};
use tradewind_service::Failure;
use tradewind_sql::{Database, TransactionError, params};

use crate::support::{Place, spawn};

/// What the handlers of a test do, and when.
struct Shop {
    database: Database,
    /// How often a handler ran.
    runs: AtomicU32,
    /// A handler of `/gate` says that it came, and waits for a permit.
    came: mpsc::Sender<()>,
    gate: Semaphore,
}

struct Fixture {
    place: Place,
    shop: Arc<Shop>,
    came: mpsc::Receiver<()>,
    router: Router,
}

/// What came back.
#[derive(Debug, PartialEq)]
struct Reply {
    status: u16,
    replayed: bool,
    headers: HeaderMap,
    body: Value,
}

impl Reply {
    fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}

fn fixture(place: Place, change: impl FnOnce(Idempotency) -> Idempotency) -> Fixture {
    let (report, came) = mpsc::channel(64);
    let database = place.database.clone();
    let shop = Shop {
        database: database.clone(),
        runs: AtomicU32::new(0),
        came: report,
        gate: Semaphore::new(0),
    };
    let shop = Arc::new(shop);
    let act = {
        let shop = Arc::clone(&shop);
        move |claimed: Claimed, body: String| act(Arc::clone(&shop), claimed, body)
    };
    let plain = {
        let shop = Arc::clone(&shop);
        move |body: String| plain(Arc::clone(&shop), body)
    };
    let layer = change(Idempotency::new(database, "demo.act")).layer();
    let router = Router::new()
        .route("/act", post(act.clone()))
        .route("/act/{id}", post(act))
        .route("/plain", post(plain).get(get_it).delete(get_it))
        .route("/other", get(get_it))
        .layer(layer);
    Fixture { place, shop, came, router }
}

async fn get_it() -> &'static str {
    "got"
}

/// Has an effect, whose answer it stores with it. The body tells what else to do.
async fn act(shop: Arc<Shop>, claimed: Claimed, body: String) -> Response {
    let run = shop.runs.fetch_add(1, Ordering::SeqCst);
    let wish: Value = serde_json::from_str(&body).unwrap_or_default();
    if wish["wait"] == json!(true) {
        shop.came.send(()).await.unwrap();
        shop.gate.acquire().await.unwrap().forget();
    }
    if wish["fail_first"] == json!(true) && run == 0 {
        return Failure::from(Problem::unavailable("demo.away", "try later")).into_response();
    }
    let content = json!({ "run": run, "key": claimed.key().as_str() });
    let answer = StoredAnswer::json(201, &content).located("/act/1");
    let stored = answer.clone();
    let done = shop.database.transaction("act", move |tx| {
        tx.execute("INSERT INTO effect (what) VALUES (?)", params!["act"])?;
        claimed.finish(tx, &stored)
    });
    match done.await {
        Err(TransactionError::Refused(StoreError::Superseded)) => {
            Failure::from(Problem::unavailable("demo.overtaken", "try again")).into_response()
        }
        done => {
            done.unwrap();
            if wish["lose_answer"] == json!(true) && run == 0 {
                return Failure::from(Problem::internal()).into_response();
            }
            let (headers, body) = (answer.headers(), answer.body().to_vec());
            (answer.status(), headers, body).into_response()
        }
    }
}

/// Has no effect, and leaves the claim to the layer.
async fn plain(shop: Arc<Shop>, body: String) -> Response {
    let run = shop.runs.fetch_add(1, Ordering::SeqCst);
    let wish: Value = serde_json::from_str(&body).unwrap_or_default();
    let status = wish["status"].as_u64().and_then(|it| u16::try_from(it).ok()).unwrap_or(200);
    let headers = [("set-cookie", "secret"), ("content-type", "application/json")];
    let status = StatusCode::from_u16(status).unwrap();
    (status, headers, json!({ "run": run }).to_string()).into_response()
}

impl Fixture {
    async fn send(&self, user: &str, request: Request<Body>) -> Reply {
        send(self.router.clone(), user, request).await
    }

    async fn post(&self, path: &str, key: &str, body: &Value) -> Reply {
        self.send("user", request("POST", path, Some(key), &body.to_string())).await
    }

    fn runs(&self) -> u32 {
        self.shop.runs.load(Ordering::SeqCst)
    }
}

fn request(method: &str, path: &str, key: Option<&str>, body: &str) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    request.body(Body::from(body.to_owned())).unwrap()
}

async fn send(router: Router, user: &str, request: Request<Body>) -> Reply {
    let user = User { id: user.to_owned(), name: String::new(), roles: Vec::new() };
    let user = (!user.id.is_empty()).then(|| (user, String::new()));
    let context = Context { user, ..Context::default() };
    let response = context.scope(router.oneshot(request)).await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let replayed = headers.get("idempotency-replayed").is_some_and(|it| it == "true");
    Reply { status, replayed, headers, body }
}

pub(crate) async fn a_repeat_gets_the_same_answer_and_no_second_effect(place: Place) {
    let it = fixture(place, |it| it);
    let first = it.post("/act", "key", &json!({"a": 1, "b": 2})).await;
    assert_eq!((first.status, first.replayed), (201, false));
    // Quoted, and with the members in another order: the same key and the same content.
    let text = "{ \"b\": 2, \"a\": 1.0 }";
    let repeat = it.send("user", request("POST", "/act", Some("\"key\""), text)).await;
    assert_eq!((repeat.status, repeat.replayed), (201, true));
    assert_eq!(repeat.body, first.body);
    assert_eq!(repeat.headers.get("location"), first.headers.get("location"));
    assert_eq!(repeat.headers.get("content-type"), first.headers.get("content-type"));
    assert_eq!((it.runs(), it.place.effects().await), (1, 1));
    let next = it.post("/act", "another", &json!({"a": 1, "b": 2})).await;
    assert_eq!((next.status, next.replayed), (201, false), "two equal intents are two");
}

pub(crate) async fn the_same_key_at_once_has_one_effect_and_one_answer(place: Place) {
    let it = fixture(place, |it| it.patience(Duration::from_secs(20)));
    let replies: Vec<_> = (0..12)
        .map(|_| {
            let router = it.router.clone();
            let request = request("POST", "/act", Some("key"), "{}");
            spawn(async move { send(router, "user", request).await })
        })
        .collect();
    let mut firsts = 0;
    for reply in replies {
        let reply = reply.await.unwrap();
        assert_eq!((reply.status, &reply.body["run"]), (201, &json!(0)), "{reply:?}");
        firsts += u32::from(!reply.replayed);
    }
    assert_eq!((firsts, it.runs(), it.place.effects().await), (1, 1, 1));
}

pub(crate) async fn another_body_or_path_is_refused(place: Place) {
    let it = fixture(place, |it| it);
    assert_eq!(it.post("/act/1", "key", &json!({"a": 1})).await.status, 201);
    for (path, body) in [("/act/1", json!({"a": 2})), ("/act/2", json!({"a": 1}))] {
        let refused = it.post(path, "key", &body).await;
        assert_eq!((refused.status, refused.code()), (422, "idempotency.mismatch"));
    }
    assert_eq!(it.runs(), 1);
}

pub(crate) async fn a_missing_or_malformed_key_is_refused(place: Place) {
    let it = fixture(place, |it| it);
    let refused = it.send("user", request("POST", "/act", None, "{}")).await;
    assert_eq!((refused.status, refused.code()), (400, "idempotency.key-required"));
    for bad in ["", "\"open", "a b", &"x".repeat(256)] {
        let refused = it.send("user", request("POST", "/act", Some(bad), "{}")).await;
        assert_eq!((refused.status, refused.code()), (400, "idempotency.key"), "{bad}");
    }
    let mut twice = request("POST", "/act", Some("a"), "{}");
    twice.headers_mut().append("idempotency-key", "b".parse().unwrap());
    assert_eq!(it.send("user", twice).await.code(), "idempotency.key");
    let nobody = it.send("", request("POST", "/act", Some("a"), "{}")).await;
    assert_eq!((nobody.status, nobody.code()), (401, "idempotency.subject"));
    assert_eq!(it.runs(), 0);
}

pub(crate) async fn only_writing_methods_need_a_key(place: Place) {
    let it = fixture(place, |it| it);
    for (method, key) in [("GET", None), ("GET", Some("key")), ("DELETE", Some("key"))] {
        let reply = it.send("user", request(method, "/plain", key, "")).await;
        assert_eq!((reply.status, reply.replayed), (200, false), "{method}");
    }
    assert_eq!(it.post("/plain", "key", &json!({})).await.status, 200, "its key is untouched");
    let Fixture { place, .. } = it;
    let optional = fixture(place, Idempotency::optional);
    for _ in 0..2 {
        let reply = optional.send("user", request("POST", "/plain", None, "{}")).await;
        assert_eq!((reply.status, reply.replayed), (200, false));
    }
    assert_eq!(optional.runs(), 2);
}

pub(crate) async fn a_repeat_in_flight_is_told_to_come_back(place: Place) {
    let mut it = fixture(place, |it| it);
    let (router, body) = (it.router.clone(), json!({"wait": true}));
    let first = request("POST", "/act", Some("key"), &body.to_string());
    let first = spawn(async move { send(router, "user", first).await });
    it.came.recv().await.unwrap();
    let refused = it.post("/act", "key", &body).await;
    assert_eq!((refused.status, refused.code()), (409, "idempotency.in-flight"));
    let after: u32 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=5).contains(&after));
    // What is refused while in flight is refused for another body as well, and as such.
    assert_eq!(it.post("/act", "key", &json!({})).await.status, 422);
    it.shop.gate.add_permits(1);
    let first = first.await.unwrap();
    let repeat = it.post("/act", "key", &body).await;
    assert!(repeat.replayed);
    assert_eq!((repeat.status, repeat.body), (first.status, first.body));
    assert_eq!(it.place.effects().await, 1);
}

pub(crate) async fn a_failure_is_not_stored_and_can_be_repeated(place: Place) {
    let it = fixture(place, |it| it);
    let body = json!({"fail_first": true});
    assert_eq!(it.post("/act", "key", &body).await.status, 503);
    assert_eq!(it.place.effects().await, 0);
    let second = it.post("/act", "key", &body).await;
    assert_eq!((second.status, second.replayed), (201, false));
    for (key, status) in [("a", 500), ("b", 401), ("c", 409), ("d", 429)] {
        for _ in 0..2 {
            let reply = it.post("/plain", key, &json!({ "status": status })).await;
            assert_eq!((u64::from(reply.status), reply.replayed), (status, false));
        }
    }
}

/// The effect was committed and the handler failed after it.
pub(crate) async fn an_effect_whose_answer_was_lost_is_not_repeated(place: Place) {
    let it = fixture(place, |it| it);
    let body = json!({"lose_answer": true});
    assert_eq!(it.post("/act", "key", &body).await.status, 500);
    let repeat = it.post("/act", "key", &body).await;
    assert_eq!((repeat.status, repeat.replayed), (201, true));
    assert_eq!((it.runs(), it.place.effects().await), (1, 1));
}

pub(crate) async fn a_deterministic_refusal_is_replayed(place: Place) {
    let it = fixture(place, |it| it);
    let body = json!({"status": 404});
    let first = it.post("/plain", "key", &body).await;
    let repeat = it.post("/plain", "key", &body).await;
    assert_eq!((first.status, first.replayed), (404, false));
    assert_eq!((repeat.status, repeat.replayed, repeat.body), (404, true, first.body));
    assert_eq!(it.runs(), 1);
}

pub(crate) async fn cookies_are_not_replayed(place: Place) {
    let it = fixture(place, |it| it);
    let first = it.post("/plain", "key", &json!({})).await;
    assert!(first.headers.contains_key("set-cookie"));
    let repeat = it.post("/plain", "key", &json!({})).await;
    assert!(repeat.replayed && !repeat.headers.contains_key("set-cookie"));
}

pub(crate) async fn a_user_never_gets_the_answer_of_another(place: Place) {
    let it = fixture(place, |it| it);
    let first = it.send("one", request("POST", "/act", Some("key"), "{}")).await;
    let other = it.send("two", request("POST", "/act", Some("key"), "{}")).await;
    assert_eq!((other.status, other.replayed), (201, false));
    assert_ne!(first.body, other.body);
}

fn brief(it: Idempotency) -> Idempotency {
    it.terms(Terms { lease: Duration::from_millis(50), life: Duration::from_secs(60) })
}

/// The process of the first attempt died before its effect: its request was cut off.
pub(crate) async fn work_after_a_dead_attempt_begins_anew_without_a_second_effect(place: Place) {
    let mut it = fixture(place, brief);
    let (router, body) = (it.router.clone(), json!({"wait": true}));
    let dead = request("POST", "/act", Some("key"), &body.to_string());
    let dead = spawn(async move { send(router, "user", dead).await });
    it.came.recv().await.unwrap();
    dead.abort();
    // Aborting takes effect when the task is next looked at: before the gate opens.
    assert!(dead.await.unwrap_err().is_cancelled());
    it.shop.gate.add_permits(1);
    let waiting = async {
        loop {
            let reply = it.post("/act", "key", &body).await;
            if reply.status != 409 {
                return reply;
            }
        }
    };
    let reply = tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
    assert_eq!((reply.status, reply.replayed), (201, false));
    assert_eq!(it.place.effects().await, 1);
}

/// The first attempt is alive but slower than its lease.
pub(crate) async fn a_late_handler_leaves_no_effect(place: Place) {
    let mut it = fixture(place, brief);
    let (router, body) = (it.router.clone(), json!({"wait": true}));
    let late = request("POST", "/act", Some("key"), &body.to_string());
    let late = spawn(async move { send(router, "user", late).await });
    it.came.recv().await.unwrap();
    let (router, text) = (it.router.clone(), body.to_string());
    let next = spawn(async move {
        loop {
            let next = request("POST", "/act", Some("key"), &text);
            let reply = send(router.clone(), "user", next).await;
            if reply.status != 409 {
                return reply;
            }
        }
    });
    // The second one is in the handler too: it has taken over. Both go on at once.
    tokio::time::timeout(Duration::from_secs(20), it.came.recv()).await.unwrap().unwrap();
    it.shop.gate.add_permits(2);
    let (late, next) = (late.await.unwrap(), next.await.unwrap());
    assert_eq!((late.status, late.code()), (503, "demo.overtaken"));
    assert_eq!(next.status, 201);
    assert_eq!(it.place.effects().await, 1);
    let repeat = it.post("/act", "key", &body).await;
    assert_eq!((repeat.replayed, &repeat.body), (true, &next.body));
}

pub(crate) async fn a_large_body_is_refused(place: Place) {
    let it = fixture(place, |it| it);
    let large = "x".repeat(1024 * 1024 + 1);
    let refused = it.send("user", request("POST", "/act", Some("key"), &large)).await;
    assert_eq!(refused.status, 413);
    let broken = futures_util::stream::iter([Err::<bytes::Bytes, _>(std::io::Error::other("x"))]);
    let request = Request::builder().method("POST").uri("/act").header("idempotency-key", "key");
    let refused = it.send("user", request.body(Body::from_stream(broken)).unwrap()).await;
    assert_eq!((refused.status, refused.code()), (400, "request.body"));
    assert_eq!(it.runs(), 0);
}
