//! The rules over the real endpoints, on every engine.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tradewind::axum::http::StatusCode;
use tradewind::axum::routing::post;
use tradewind::axum::{Json, Router};
use tradewind::base::SystemClock;
use tradewind::base::id::Xid;
use tradewind::host::testing::{Running, exchange};
use tradewind::service::config::{Reader, Sources};
use tradewind::service::{Shared, Stop};
use tradewind::sql::DatabaseUrl;

use crate::Config;
use crate::branch::POINTS_MAX;
use support::{Points, not_yet, refusal};

async fn an_order_is_credited_when_it_is_placed(points: &Points) {
    assert_eq!(points.account("u-place").await, (0, 0, vec![]));
    let credit = points.begin("points.credit");
    assert_eq!(credit.reserve("u-place", "o-place", 20).await.status, 200);
    assert_eq!(credit.reserve("u-place", "o-place", 20).await.status, 200, "a repeat");
    assert_eq!(points.account("u-place").await, (0, 20, vec![]));
    for _ in 0..3 {
        assert_eq!(credit.confirm().await.status, 200);
        assert_eq!(points.account("u-place").await, (20, 0, vec![20]));
    }
    let (late, other) = (credit.cancel().await, points.begin("points.credit"));
    assert_eq!(late.problem().0, "tcc.conflict");
    let again = other.reserve("u-place", "o-place", 20).await;
    assert_eq!(refusal(&again), "points.already-credited");
    points.credited("u-place", "o-place-2", 0).await;
    assert_eq!(points.account("u-place").await, (20, 0, vec![0, 20]));
}

async fn what_was_cancelled_leaves_nothing(points: &Points) {
    let first = points.begin("points.credit");
    assert_eq!(first.reserve("u-drop", "o-drop", 7).await.status, 200);
    let second = points.begin("points.credit");
    not_yet(&second.reserve("u-drop", "o-drop", 7).await);
    for _ in 0..2 {
        assert_eq!(first.cancel().await.status, 200);
        assert_eq!(points.account("u-drop").await, (0, 0, vec![]));
    }
    assert_eq!(first.confirm().await.problem().0, "tcc.conflict");
    // A later attempt to place the same order.
    assert_eq!(second.reserve("u-drop", "o-drop", 7).await.status, 200);
    let take = "UPDATE pending SET xid = replace(xid, 'txn', 'not') WHERE order_id = 'o-drop'";
    points.write(take).await.unwrap();
    assert_eq!(second.confirm().await.status, 500, "a note of another's is not taken");
    assert_eq!(second.cancel().await.status, 500);
    let mend = "UPDATE pending SET xid = replace(xid, 'not', 'txn') WHERE order_id = 'o-drop'";
    points.write(mend).await.unwrap();
    assert_eq!(first.cancel().await.status, 200, "a repeat takes nothing of another's");
    assert_eq!(second.confirm().await.status, 200);
    assert_eq!(points.account("u-drop").await, (7, 0, vec![7]));
    // The Cancel came first.
    let late = points.begin("points.credit");
    assert_eq!(late.cancel().await.status, 200);
    let refused = late.reserve("u-drop", "o-late", 7).await;
    assert_eq!((refused.status, refused.problem().0.as_str()), (409, "tcc.suspended"));
    // Confirm without Try.
    assert_eq!(points.begin("points.credit").confirm().await.problem().0, "tcc.no-try");
    assert_eq!(points.account("u-drop").await, (7, 0, vec![7]));
}

async fn a_wrong_award_is_refused(points: &Points) {
    let long = "x".repeat(65);
    for (user, order, amount, fields) in [
        ("u", "o-bad", -1, vec!["points"]),
        ("u", "o-bad", POINTS_MAX + 1, vec!["points"]),
        ("", "o-bad", 1, vec!["user_id"]),
        ("u", &long, 1, vec!["order_id"]),
        ("ü", "o 1", i64::MIN, vec!["user_id", "order_id", "points"]),
    ] {
        for action in ["points.credit", "points.revoke"] {
            let reply = points.begin(action).reserve(user, order, amount).await;
            assert_eq!(refusal(&reply), "points.bad-award");
            assert_eq!(reply.problem().1, fields, "{user} {order} {amount}");
        }
    }
    let body = json!({"xid": points.begin("").xid, "branch": 1, "initiator": "order",
        "deadline_ms": points.clock.now().millis() + 1000, "payload": {"points": 1}});
    let reply = points.begin("points.credit").send("try", &body).await;
    assert_eq!((reply.status, reply.problem().0.as_str()), (409, "tcc.refused"));
}

async fn a_cancelled_order_gives_its_points_back_once(points: &Points) {
    points.credited("u-back", "o-back", 30).await;
    points.credited("u-back", "o-kept", 5).await;
    let revoke = points.begin("points.revoke");
    assert_eq!(revoke.reserve("u-back", "o-back", 30).await.status, 200);
    assert_eq!(points.account("u-back").await, (35, 0, vec![5, 30]));
    not_yet(&points.begin("points.revoke").reserve("u-back", "o-back", 30).await);
    assert_eq!(revoke.cancel().await.status, 200);
    assert_eq!(points.account("u-back").await, (35, 0, vec![5, 30]), "a Cancel takes nothing");

    let revoke = points.begin("points.revoke");
    assert_eq!(revoke.reserve("u-back", "o-back", 30).await.status, 200);
    for _ in 0..2 {
        assert_eq!(revoke.confirm().await.status, 200);
        assert_eq!(points.account("u-back").await, (5, 0, vec![-30, 5, 30]));
    }
    let again = points.begin("points.revoke").reserve("u-back", "o-back", 30).await;
    assert_eq!(refusal(&again), "points.already-revoked");
    let again = points.begin("points.credit").reserve("u-back", "o-back", 30).await;
    assert_eq!(refusal(&again), "points.already-credited", "the order does not earn twice");
}

async fn a_revocation_waits_for_the_credit(points: &Points) {
    let reply = points.begin("points.revoke").reserve("u-wait", "o-wait", 9).await;
    assert_eq!(refusal(&reply), "points.never-credited");
    let credit = points.begin("points.credit");
    assert_eq!(credit.reserve("u-wait", "o-wait", 9).await.status, 200);
    let revoke = points.begin("points.revoke");
    not_yet(&revoke.reserve("u-wait", "o-wait", 9).await);
    assert_eq!(credit.confirm().await.status, 200);
    for (user, amount) in [("u-wait", 8), ("u-wait", 0), ("u-else", 9)] {
        let reply = points.begin("points.revoke").reserve(user, "o-wait", amount).await;
        assert_eq!(refusal(&reply), "points.mismatch");
    }
    assert_eq!(revoke.reserve("u-wait", "o-wait", 9).await.status, 200, "now it may");
    assert_eq!(revoke.confirm().await.status, 200);
    assert_eq!(points.account("u-wait").await, (0, 0, vec![-9, 9]));
}

/// Everything twice and at once: one credit per order, and no update of the balance is lost.
async fn many_at_once_lose_nothing(points: &Points) {
    let orders: Vec<String> = (0..12).map(|it| format!("o-many-{it}")).collect();
    let mut running = tokio::task::JoinSet::new();
    let credits: Vec<_> = orders.iter().map(|_| points.begin("points.credit")).collect();
    for (credit, order) in credits.iter().zip(&orders) {
        assert_eq!(credit.reserve("u-many", order, 3).await.status, 200);
        let body = credit.second().to_string();
        for _ in 0..2 {
            let (address, header) = (points.running.address(), points.running.caller("order"));
            let body = body.clone();
            let json = ("content-type", "application/json".to_owned());
            running.spawn(async move {
                let path = "/tcc/points.credit/confirm";
                let headers = [header, json];
                tradewind::host::testing::exchange(address, "POST", path, &headers, &body).await
            });
        }
    }
    while let Some(reply) = running.join_next().await {
        assert_eq!(reply.unwrap().status, 200);
    }
    assert_eq!(points.account("u-many").await, (36, 0, vec![3; 12]));
}

/// POINTS-1 and POINTS-2 hold after all of it, and an audit sees it when they do not.
async fn the_audit_tells(points: &Points) {
    assert_eq!(points.violations().await, []);
    for (break_it, mend, expected) in [
        (
            "UPDATE account SET balance = balance + 1 WHERE user_id = 'u-place'",
            "UPDATE account SET balance = balance - 1 WHERE user_id = 'u-place'",
            ("POINTS-1", "user=u-place "),
        ),
        (
            "UPDATE account SET user_id = 'u-gone' WHERE user_id = 'u-drop'",
            "UPDATE account SET user_id = 'u-drop' WHERE user_id = 'u-gone'",
            ("POINTS-1", "user=u-drop "),
        ),
        (
            "INSERT INTO pending VALUES ('o-place', 'credit', 'u-place', 1, 'x', 0)",
            "DELETE FROM pending WHERE order_id = 'o-place'",
            ("POINTS-2", "order=o-place "),
        ),
    ] {
        assert_eq!(points.write(break_it).await.unwrap(), 1);
        let found = points.violations().await;
        let (invariant, start) = expected;
        let hit = found.iter().any(|it| it.invariant == invariant && it.row.starts_with(start));
        assert!(hit, "{break_it}: {found:?}");
        assert_eq!(points.write(mend).await.unwrap(), 1);
    }
    assert_eq!(points.violations().await, []);
}

async fn the_schema_keeps_its_promises(points: &Points) {
    for bad in [
        "UPDATE account SET balance = -1 WHERE user_id = 'u-place'",
        "INSERT INTO ledger (user_id, order_id, kind, amount, xid, at_ms)
            VALUES ('u', 'o-place', 'credit', 1, 'x', 0)",
        "INSERT INTO ledger (user_id, order_id, kind, amount, xid, at_ms)
            VALUES ('u', 'o-x', 'credit', -1, 'x', 0)",
        "INSERT INTO ledger (user_id, order_id, kind, amount, xid, at_ms)
            VALUES ('u', 'o-x', 'revoke', 1, 'x', 0)",
        "INSERT INTO ledger (user_id, order_id, kind, amount, xid, at_ms)
            VALUES ('u', 'o-x', 'gift', 1, 'x', 0)",
        "INSERT INTO pending VALUES ('o-x', 'credit', 'u', -1, 'x', 0)",
    ] {
        points.write(bad).await.expect_err(bad);
    }
}

async fn a_revocation_without_credit_is_told(points: &Points) {
    let sql = "INSERT INTO ledger (user_id, order_id, kind, amount, xid, at_ms)
        VALUES ('u-place', 'o-orphan', 'revoke', 0, 'x', 0)";
    points.write(sql).await.unwrap();
    let found = points.violations().await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].invariant, "POINTS-2");
    assert!(found[0].row.starts_with("order=o-orphan "), "{found:?}");
}

async fn all(url: &DatabaseUrl) -> Points {
    let points = Points::start(url).await;
    an_order_is_credited_when_it_is_placed(&points).await;
    what_was_cancelled_leaves_nothing(&points).await;
    a_wrong_award_is_refused(&points).await;
    a_cancelled_order_gives_its_points_back_once(&points).await;
    a_revocation_waits_for_the_credit(&points).await;
    many_at_once_lose_nothing(&points).await;
    the_schema_keeps_its_promises(&points).await;
    the_audit_tells(&points).await;
    points
}

/// R0.1, R5.1, R5.3: points follow the order's transaction, whatever repeats or comes late.
#[tokio::test]
async fn points_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let points = all(&DatabaseUrl::sqlite(&folder.path().join("points.db"))).await;
    for bad in ["UPDATE ledger SET amount = 0", "DELETE FROM ledger"] {
        points.write(bad).await.expect_err(bad);
    }
    a_revocation_without_credit_is_told(&points).await;
}

/// The same on a real server. `TRADEWIND_TEST_MYSQL_URL` is set by `cargo xtask test`.
#[cfg(feature = "services")]
#[tokio::test]
async fn points_on_mysql() {
    let points = all(&tradewind::host::testing::fresh_mysql("tradewind_test_points")).await;
    a_revocation_without_credit_is_told(&points).await;
}

#[tokio::test]
async fn an_account_is_its_users_alone() {
    let folder = tempfile::tempdir().unwrap();
    let points = Points::start(&DatabaseUrl::sqlite(&folder.path().join("points.db"))).await;
    let xid = points.credited("alice", "o-1", 4).await;
    assert_eq!(points.account("bob").await, (0, 0, vec![]));
    let ledger = points.get("alice", "/accounts/me/ledger").await.json();
    assert_eq!((&ledger["total"], &ledger["size"]), (&json!(1), &json!(20)));
    let row = &ledger["items"][0];
    assert_eq!((&row["order_id"], &row["kind"]), (&json!("o-1"), &json!("credit")));
    assert_eq!(row["xid"], xid.to_string());
    for path in ["/accounts/me", "/accounts/me/ledger"] {
        assert_eq!(points.running.get(path).await.status, 401, "{path}");
        let service = [points.running.caller("order")];
        assert_eq!(points.running.send("GET", path, &service, "").await.status, 401, "{path}");
    }
    // Points move as branches of transactions only, and only by who initiated them.
    let user = [points.running.user()];
    let reply = points.running.post("/tcc/points.credit/try", &user, "{}").await;
    assert_eq!(reply.status, 403);
    let credit = points.begin("points.credit");
    assert_eq!(credit.reserve("alice", "o-2", 4).await.status, 200);
    let other = [points.running.caller("inventory")];
    let body = credit.second().to_string();
    let reply = points.running.post("/tcc/points.credit/confirm", &other, &body).await;
    assert_eq!(reply.status, 403);
    assert_eq!(points.account("alice").await, (4, 4, vec![4]));
}

#[tokio::test]
async fn a_ledger_is_paged_and_a_bad_page_named() {
    let folder = tempfile::tempdir().unwrap();
    let points = Points::start(&DatabaseUrl::sqlite(&folder.path().join("points.db"))).await;
    for it in 0..5 {
        points.credited("alice", &format!("o-{it}"), it).await;
    }
    let page = points.get("alice", "/accounts/me/ledger?page=2&size=2").await.json();
    let amounts: Vec<_> =
        page["items"].as_array().unwrap().iter().map(|it| &it["amount"]).collect();
    assert_eq!((amounts, &page["total"]), (vec![&json!(2), &json!(1)], &json!(5)));
    for (query, fields) in [
        ("page=0", vec!["query:page"]),
        ("size=101&page=x", vec!["query:page", "query:size"]),
        ("page=10001", vec!["query:page"]),
    ] {
        let reply = points.get("alice", &format!("/accounts/me/ledger?{query}")).await;
        assert_eq!(reply.status, 400, "{query}");
        let fields = fields.into_iter().map(str::to_owned).collect();
        assert_eq!(reply.problem(), ("points.bad-query".to_owned(), fields), "{query}");
    }
}

/// The whole service: it registers, answers, takes part, and ends when told to.
#[tokio::test]
async fn the_service_runs_and_stops() {
    let (told, mut registered) = tokio::sync::mpsc::channel(1);
    let register = async move |Json(body): Json<Value>| {
        let port = body["instance"]["port"]["$"].as_u64().unwrap();
        told.send(u16::try_from(port).unwrap()).await.unwrap();
        StatusCode::NO_CONTENT
    };
    let registry = Router::new().route("/eureka/apps/{app}", post(register));
    let registry = Running::start("registry", registry).await;
    let (folder, stop) = (tempfile::tempdir().unwrap(), Stop::manual());
    let clock = Arc::new(SystemClock::new());
    let url = format!("http://{}", registry.address());
    let shared = Shared::new(folder.path().to_owned(), registry.keys().clone(), clock, vec![url]);
    let mut config = Config::read(&mut Reader::new(Sources::default()));
    assert_eq!(config.bind().port(), 9003);
    config.host.edge.bind.set_port(0);
    let running = crate::run(config, shared, stop.clone());
    let meanwhile = async {
        let address = SocketAddr::from(([127, 0, 0, 1], registered.recv().await.unwrap()));
        let user = [registry.user()];
        let account = exchange(address, "GET", "/accounts/me", &user, "").await;
        let shown = json!({"user_id": "usr_1", "balance": 0, "pending": 0});
        assert_eq!((account.status, account.json()), (200, shown));
        let headers = [registry.caller("order"), ("content-type", "application/json".into())];
        for (branch, action) in [(1, "points.credit"), (2, "points.revoke")] {
            let body = json!({"xid": Xid::from_u128(1), "branch": branch, "initiator": "order"});
            let path = format!("/tcc/{action}/cancel");
            let reply = exchange(address, "POST", &path, &headers, &body.to_string()).await;
            assert_eq!(reply.status, 200, "{reply:?}");
        }
        stop.now();
    };
    let both = Box::pin(async { tokio::join!(running, meanwhile) });
    tokio::time::timeout(Duration::from_secs(20), both).await.unwrap().0.unwrap();
    assert!(folder.path().join("points.db").is_file());
}
