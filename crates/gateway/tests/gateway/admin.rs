//! Routes: edited through the admin API and by plain SQL, under load, and without a database.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tradewind_sql::{Database, DatabaseUrl, Error, Migration, Options, params};

use tokio::time::Instant;

use super::rig::{Raw, Rig, until};

const GATE: &str = "GET /order/x HTTP/1.1\r\nHost: shop\r\n\r\n";

/// The statement of the source document, word for word.
const DOCUMENT: &str = "INSERT INTO gateway_api_route (id, path, service_id, retryable, strip_prefix, url, enabled) VALUES ('order-service', '/order/**', 'order-service',0,1, NULL, 1);";

async fn run(database: &Database, sql: &'static str) {
    let done = database.transaction("foreign", move |tx| tx.execute(sql, params![]));
    let done: Result<u64, tradewind_sql::TransactionError<Error>> = done.await;
    done.unwrap();
}

/// Another program's connection to the gateway's database.
fn foreign(url: &DatabaseUrl) -> Database {
    Database::open(url, Options::default(), "foreign", &[]).unwrap()
}

fn sqlite(rig: &Rig) -> DatabaseUrl {
    DatabaseUrl::sqlite(&rig.folder.path().join("gateway.db"))
}

async fn revision(rig: &Rig) -> u64 {
    rig.admin("GET", "/routes/status", None).await.json()["revision"].as_u64().unwrap()
}

/// Waits, within a second, until a path answers with a status.
async fn answers(rig: &Rig, path: &str, status: u16) {
    let start = Instant::now();
    while rig.get(path).await.status != status {
        assert!(start.elapsed() < Duration::from_secs(1), "{path} does not answer {status}");
    }
}

/// Runs a statement that only migrations may.
fn rename(rig: &Rig, set: &'static str, sql: &'static str) {
    let migration = Migration { version: 1, name: "rename", sqlite: sql, mysql: sql };
    drop(Database::open(&sqlite(rig), Options::default(), set, &[migration]).unwrap());
}

#[tokio::test]
async fn a_table_that_was_dropped_is_an_outage_of_the_edits_alone() {
    let rig = Rig::start().await;
    rename(&rig, "away", "ALTER TABLE gateway_api_route RENAME TO gone");
    let row = json!({"id": "shop", "path": "/shop/**", "service_id": "order"});
    for (method, body) in [("GET", None), ("POST", Some(row.clone()))] {
        let answer = rig.admin(method, "/routes", body).await;
        assert_eq!((answer.status, &*answer.problem()), (503, "routes.database"), "{method}");
    }
    assert_eq!(rig.get("/order/x").await.status, 200, "what was in force stays in force");
    rename(&rig, "back", "ALTER TABLE gone RENAME TO gateway_api_route");
    assert_eq!(rig.admin("POST", "/routes", Some(row)).await.status, 201);
    answers(&rig, "/shop/x", 200).await;
    rig.stop().await;
}

#[tokio::test]
async fn the_token_is_needed() {
    let rig = Rig::start().await;
    for header in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic eDp5\r\n"] {
        for path in ["/routes", "/routes/status", "/routes/metrics", "/routes/order-service"] {
            let mut client = Raw::connect(rig.gateway.admin_addr()).await;
            let text = format!("GET {path} HTTP/1.1\r\nHost: admin\r\n{header}\r\n");
            client.send(text.as_bytes()).await;
            let answer = client.answer().await.unwrap();
            assert_eq!((answer.status, &*answer.problem()), (401, "admin.token"), "{path}");
        }
    }
    let mode = std::fs::metadata(rig.folder.path().join("admin.token")).unwrap().permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
    rig.stop().await;
}

/// R3.1
#[tokio::test]
async fn edits_are_in_force_when_they_are_answered() {
    let rig = Rig::start().await;
    assert_eq!(rig.get("/shop/x").await.status, 404);
    let row = json!({"id": "shop", "path": "/shop/**", "service_id": "order"});
    let answer = rig.admin("POST", "/routes", Some(row.clone())).await;
    assert_eq!((answer.status, answer.one("location")), (201, Some("/routes/shop")));
    assert_eq!(rig.get("/shop/x").await.status, 200);
    assert_eq!(rig.backend().recorded.targets(), ["/x"]);
    let changed = json!({"path": "/shop/**", "service_id": "order", "strip_prefix": false, "api_name": "Shop"});
    assert_eq!(rig.admin("PUT", "/routes/shop", Some(changed)).await.status, 200);
    assert_eq!(rig.get("/shop/x").await.status, 200);
    assert_eq!(rig.backend().recorded.targets(), ["/x", "/shop/x"]);
    let read = rig.admin("GET", "/routes/shop", None).await.json();
    assert_eq!((&read["api_name"], &read["strip_prefix"]), (&json!("Shop"), &json!(false)));
    assert_eq!(rig.admin("GET", "/routes", None).await.json().as_array().unwrap().len(), 2);
    let off = json!({"path": "/shop/**", "service_id": "order", "enabled": false});
    assert_eq!(rig.admin("PUT", "/routes/shop", Some(off)).await.status, 200);
    assert_eq!(rig.get("/shop/x").await.status, 404);
    assert_eq!(rig.admin("DELETE", "/routes/shop", None).await.status, 204);
    let gone = rig.admin("DELETE", "/routes/shop", None).await;
    assert_eq!((gone.status, &*gone.problem()), (404, "routes.unknown"));
    assert_eq!(rig.admin("GET", "/routes/shop", None).await.status, 404);
    rig.stop().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_its_field() {
    let rig = Rig::start().await;
    let before = revision(&rig).await;
    let table = [
        (json!({"id": "a", "path": "nonsense", "service_id": "order"}), 422, "path"),
        (json!({"id": "a", "path": "/a/{id}", "service_id": "order"}), 422, "path"),
        (
            json!({"id": "a", "path": format!("/{}", "x".repeat(255)), "service_id": "order"}),
            422,
            "path",
        ),
        (json!({"id": "a", "path": "/a/**"}), 422, "service_id"),
        (json!({"id": "a", "path": "/a/**", "service_id": "no good"}), 422, "service_id"),
        (json!({"id": "a", "path": "/a/**", "url": "ftp://x"}), 422, "url"),
        (json!({"id": "a", "path": "/a/**", "service_id": "order", "auth": "maybe"}), 422, "auth"),
        (json!({"id": "x".repeat(51), "path": "/a/**", "service_id": "order"}), 422, "id"),
        (json!({"id": "status", "path": "/a/**", "service_id": "order"}), 422, "id"),
        (json!({"path": "/a/**", "service_id": "order"}), 422, "id"),
        (json!({"id": "order-service", "path": "/a/**", "service_id": "order"}), 409, "id"),
        (json!({"id": "a", "path": "/order/**", "service_id": "order"}), 409, "path"),
        (json!({"id": "a", "path": "/a/**", "service_id": "order", "oops": 1}), 400, "oops"),
        (json!({"id": "a", "path": 7, "service_id": "order"}), 400, "path"),
    ];
    for (row, status, field) in table {
        let answer = rig.admin("POST", "/routes", Some(row.clone())).await;
        assert_eq!(answer.status, status, "{row} {}", answer.text());
        answer.problem();
        let fields = answer.json()["errors"].to_string();
        assert!(fields.contains(field), "{field} in {fields}");
    }
    let other = json!({"id": "b", "path": "/b/**", "service_id": "order"});
    assert_eq!(rig.admin("PUT", "/routes/a", Some(other)).await.status, 422);
    assert_eq!(revision(&rig).await, before, "nothing changed");
    rig.stop().await;
}

/// R3.1: routes come, change and go under load, and no request of another route notices.
#[tokio::test]
async fn no_request_fails_while_routes_change() {
    let rig = Rig::start().await;
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let loads = futures_util::future::join_all((0..8).map(|_| load(&rig, &stop, &asked)));
    let edits = async {
        for at in 0..30 {
            let id = format!("r{at}");
            let row = json!({"id": id, "path": format!("/r{at}/**"), "service_id": "order"});
            assert_eq!(rig.admin("POST", "/routes", Some(row)).await.status, 201);
            assert_eq!(rig.get(&format!("/r{at}/x")).await.status, 200);
            let own = json!({"path": "/order/**", "service_id": "order", "api_name": id, "strip_prefix": true});
            assert_eq!(rig.admin("PUT", "/routes/order-service", Some(own)).await.status, 200);
            assert_eq!(rig.admin("DELETE", &format!("/routes/{id}"), None).await.status, 204);
        }
        stop.store(true, Ordering::SeqCst);
    };
    tokio::join!(loads, edits);
    assert!(100 < asked.load(Ordering::SeqCst));
    assert!(90 <= revision(&rig).await);
    rig.stop().await;
}

async fn load(rig: &Rig, stop: &AtomicBool, asked: &AtomicUsize) {
    let mut client = rig.client().await;
    while !stop.load(Ordering::SeqCst) {
        client.send(GATE.as_bytes()).await;
        assert_eq!(client.answer().await.expect("the connection stays").status, 200);
        asked.fetch_add(1, Ordering::SeqCst);
    }
}

/// R3.1: rows written by others are in force within a second; bad ones are reported, the rest
/// works.
async fn foreign_edits(rig: &Rig, database: &Database) {
    run(database, "INSERT INTO gateway_api_route (id, path, service_id, enabled) VALUES ('f', '/f/**', 'order', 1)").await;
    answers(rig, "/f/x", 200).await;
    run(database, "UPDATE gateway_api_route SET path = '/g/**' WHERE id = 'f'").await;
    answers(rig, "/g/x", 200).await;
    assert_eq!(rig.get("/f/x").await.status, 404);
    run(database, "INSERT INTO gateway_route_policy (route_id, auth) VALUES ('f', 'required')")
        .await;
    answers(rig, "/g/x", 401).await;
    run(database, "DELETE FROM gateway_route_policy").await;
    answers(rig, "/g/x", 200).await;
    // Nonsense: the row serves as before and is reported, a new bad one is left out.
    run(database, "UPDATE gateway_api_route SET path = 'oops' WHERE id = 'f'").await;
    run(database, "INSERT INTO gateway_api_route (id, path, enabled) VALUES ('bad', '/bad/**', 1)")
        .await;
    let start = Instant::now();
    let status = loop {
        let status = rig.admin("GET", "/routes/status", None).await.json();
        if status["rejected"].as_array().is_some_and(|it| it.len() == 2) {
            break status;
        }
        assert!(start.elapsed() < Duration::from_secs(2), "{status}");
    };
    let rejected = status["rejected"].as_array().unwrap();
    let find = |id: &str| rejected.iter().find(|it| it["id"] == id).unwrap();
    assert_eq!((&find("f")["field"], &find("f")["kept_previous"]), (&json!("path"), &json!(true)));
    assert_eq!(find("bad")["field"], "service_id");
    assert_eq!(rig.get("/g/x").await.status, 200);
    run(database, "DELETE FROM gateway_api_route WHERE id = 'f'").await;
    answers(rig, "/g/x", 404).await;
}

#[tokio::test]
async fn edits_of_others_are_noticed() {
    let rig = Rig::start().await;
    let database = foreign(&sqlite(&rig));
    foreign_edits(&rig, &database).await;
    database.close().await.unwrap();
    rig.stop().await;
}

/// SQLite keeps any type in any column: such a row is left out, the others work.
#[tokio::test]
async fn a_row_with_columns_of_other_types_harms_no_other() {
    let rig = Rig::start().await;
    let database = foreign(&sqlite(&rig));
    run(&database, "INSERT INTO gateway_api_route (id, path, service_id, enabled) VALUES ('odd', '/odd/**', 'order', 'yes')").await;
    run(&database, "INSERT INTO gateway_api_route (id, path, service_id, enabled) VALUES ('blob', x'ff00', 'order', 1)").await;
    run(&database, "INSERT INTO gateway_api_route (id, path, service_id, enabled) VALUES ('good', '/good/**', 'order', 1)").await;
    answers(&rig, "/good/x", 200).await;
    let status = rig.admin("GET", "/routes/status", None).await.json();
    let rejected = status["rejected"].as_array().unwrap();
    let fields: Vec<_> = rejected.iter().map(|it| (&it["id"], &it["field"])).collect();
    assert_eq!(fields, [(&json!("blob"), &json!("path")), (&json!("odd"), &json!("enabled"))]);
    // The admin API can mend it.
    let row = json!({"path": "/odd/**", "service_id": "order"});
    assert_eq!(rig.admin("PUT", "/routes/odd", Some(row)).await.status, 200);
    assert_eq!(rig.get("/odd/x").await.status, 200);
    database.close().await.unwrap();
    rig.stop().await;
}

/// R3.1a: the document's own INSERT on the gateway's table.
#[tokio::test]
async fn the_insert_of_the_document_makes_a_route() {
    let rig = Rig::with(1, |it| it.seed_routes.clear()).await;
    let service = super::rig::instance("order-service", rig.backend().address);
    rig.discovery.replace(vec![service]);
    let database = foreign(&sqlite(&rig));
    run(&database, DOCUMENT).await;
    answers(&rig, "/order/orders/7", 200).await;
    assert_eq!(rig.backend().recorded.last().target, "/orders/7");
    database.close().await.unwrap();
    rig.stop().await;
}

#[tokio::test]
async fn seeds_come_once_and_stay_deleted() {
    let rig = Rig::start().await;
    assert_eq!(rig.admin("DELETE", "/routes/order-service", None).await.status, 204);
    let folder = std::sync::Arc::clone(&rig.folder);
    rig.stop().await;
    let rig = Rig::on(folder, 1, |_| ()).await;
    let answer = rig.get("/order/x").await;
    assert_eq!((answer.status, &*answer.problem()), (404, "gateway.no-route"));
    rig.stop().await;
}

#[tokio::test]
async fn without_its_database_the_gateway_serves_the_last_routes() {
    let rig = Rig::start().await;
    assert_eq!(rig.get("/order/x").await.status, 200);
    let folder = std::sync::Arc::clone(&rig.folder);
    rig.stop().await;
    // A folder where the file should be: it cannot be opened.
    let lost = folder.path().join("lost.db");
    std::fs::create_dir(&lost).unwrap();
    let rig = Rig::on(std::sync::Arc::clone(&folder), 1, |it| {
        it.database = Some(DatabaseUrl::sqlite(&lost));
        it.watch_interval = Duration::from_millis(50);
    })
    .await;
    assert_eq!(rig.get("/order/x").await.status, 200);
    let refused = rig.admin("DELETE", "/routes/order-service", None).await;
    assert_eq!((refused.status, &*refused.problem()), (503, "routes.database"));
    // It comes back, empty: the seeds are put in and edits work again.
    std::fs::remove_dir(&lost).unwrap();
    let start = Instant::now();
    while rig.admin("GET", "/routes", None).await.status != 200 {
        assert!(start.elapsed() < Duration::from_secs(10), "the database is not found again");
    }
    assert_eq!(rig.get("/order/x").await.status, 200);
    rig.stop().await;
}

/// R3.5
#[tokio::test]
async fn numbers_per_route_are_served_as_json_and_for_prometheus() {
    let rig = Rig::start().await;
    for _ in 0..20 {
        assert_eq!(rig.get("/order/x").await.status, 200);
    }
    assert_eq!(rig.get("/order/garbage").await.status, 502);
    let numbers = rig.admin("GET", "/routes/metrics", None).await.json();
    let route =
        numbers.as_array().unwrap().iter().find(|it| it["route"] == "order-service").unwrap();
    assert_eq!((&route["count"], &route["in_flight"]), (&json!(21), &json!(0)));
    let success = route["success_percent"].as_f64().unwrap();
    assert!((success - 100.0 * 20.0 / 21.0).abs() < 0.1, "{route}");
    assert!(0.0 < route["p50_ms"].as_f64().unwrap(), "{route}");
    let text = rig.admin("GET", "/metrics", None).await.text();
    for name in [
        "gw_http_requests_total",
        "gw_http_request_duration_seconds",
        "gw_upstream_attempts_total",
        "gw_config_revision",
    ] {
        assert!(text.contains(name), "{name} in {text}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn the_gateway_is_ready_with_its_routes_and_lists() {
    let rig = Rig::start().await;
    until("it to be ready", || rig.gateway.health().ready()).await;
    let answer = rig.admin("GET", "/health/ready", None).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    rig.stop().await;
}

/// `url` routes go to a fixed address, with its base path.
#[tokio::test]
async fn a_fixed_url_is_forwarded_to() {
    let rig = Rig::start().await;
    let url = format!("http://{}/base/", rig.backend().address);
    let row: Value = json!({"id": "u", "path": "/u/**", "url": url});
    assert_eq!(rig.admin("POST", "/routes", Some(row)).await.status, 201);
    assert_eq!(rig.get("/u/x?q=1").await.status, 200);
    let seen = rig.backend().recorded.last();
    assert_eq!(seen.target, "/base/x?q=1");
    rig.stop().await;
}

#[cfg(feature = "services")]
mod mysql_server {
    use super::*;
    use mysql::prelude::Queryable as _;

    /// A database of its own on the test server, dropped at the end.
    struct Schema {
        connection: mysql::Conn,
        name: String,
        url: String,
    }

    impl Schema {
        fn create(name: &str) -> Self {
            let variable = "TRADEWIND_TEST_MYSQL_URL";
            let server = std::env::var(variable)
                .unwrap_or_else(|_| panic!("{variable} names no server: run `cargo xtask test`"));
            let mut url: url::Url = server.parse().unwrap();
            let name = format!("gateway_{name}_{}", std::process::id());
            let builder = mysql::OptsBuilder::new()
                .ip_or_hostname(url.host_str().map(ToOwned::to_owned))
                .tcp_port(url.port().unwrap_or(3306))
                .user(Some(url.username()))
                .pass(url.password())
                .prefer_socket(false);
            let socket =
                url.query_pairs().find(|(key, _)| key == "socket").map(|it| it.1.into_owned());
            let builder = match &socket {
                Some(path) => builder.socket(Some(path.clone())).prefer_socket(true),
                None => builder,
            };
            let mut connection = mysql::Conn::new(builder).unwrap();
            connection.query_drop(format!("DROP DATABASE IF EXISTS {name}")).unwrap();
            connection.query_drop(format!("CREATE DATABASE {name}")).unwrap();
            url.set_path(&name);
            Self { connection, name, url: url.to_string() }
        }
    }

    impl Drop for Schema {
        fn drop(&mut self) {
            drop(self.connection.query_drop(format!("DROP DATABASE {}", self.name)));
        }
    }

    /// R3.1, R3.1a: the document's own table and statement on MySQL, and edits by others.
    #[tokio::test]
    async fn the_table_of_the_document_works_on_mysql() {
        let mut schema = Schema::create("document");
        let table = "CREATE TABLE `gateway_api_route` (`id` varchar(50) NOT NULL, `path` varchar(255) NOT NULL, \
            `service_id` varchar(50) DEFAULT NULL, `url` varchar(255) DEFAULT NULL, `retryable` tinyint(1) DEFAULT NULL, \
            `enabled` tinyint(1) NOT NULL, `strip_prefix` int(11) DEFAULT NULL, `api_name` varchar(255) DEFAULT NULL, \
            PRIMARY KEY (`id`)) ENGINE=InnoDB DEFAULT CHARSET=utf8";
        schema.connection.query_drop(format!("USE {}", schema.name)).unwrap();
        schema.connection.query_drop(table).unwrap();
        schema.connection.query_drop(DOCUMENT.trim_end_matches(';')).unwrap();
        let url = DatabaseUrl::parse(&schema.url).unwrap();
        let rig = Rig::with(1, |it| it.database = Some(url.clone())).await;
        let address = rig.backend().address;
        rig.discovery.replace(vec![
            super::super::rig::instance("order-service", address),
            super::super::rig::instance("order", address),
        ]);
        assert_eq!(rig.get("/order/orders/7").await.status, 200);
        assert_eq!(rig.backend().recorded.last().target, "/orders/7");
        let database = foreign(&url);
        foreign_edits(&rig, &database).await;
        let row = json!({"id": "m", "path": "/m/**", "service_id": "order", "retryable": true});
        assert_eq!(rig.admin("POST", "/routes", Some(row)).await.status, 201);
        assert_eq!(rig.get("/m/x").await.status, 200);
        database.close().await.unwrap();
        rig.stop().await;
    }
}
