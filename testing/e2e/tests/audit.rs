//! `tradewind audit`: quiet over a shop that is right, at work or not; loud about every damage.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use http::StatusCode;
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tradewind_e2e::trade::{basket, place, reaches};
use tradewind_e2e::{Client, Estate, binary, eventually, wanted};

/// How long buyers order and cancel while the audit looks.
const LOAD: Duration = Duration::from_secs(15);
const BUYERS: usize = 8;
/// No audit of a small shop takes longer.
const LIMIT: Duration = Duration::from_secs(60);
/// One that has nothing to read ends at once, as far as anything does on a busy machine.
const QUICK: Duration = Duration::from_secs(10);

/// What an audit said.
struct Said {
    code: Option<i32>,
    report: Value,
    errors: String,
}

impl Said {
    /// The numbers of the invariants that are broken.
    fn broken(&self) -> BTreeSet<String> {
        let findings = self.report["findings"].as_array().cloned().unwrap_or_default();
        let broken = findings.into_iter().filter(|it| it["violations"] != 0);
        broken.map(|it| it["invariant"].as_str().unwrap().to_owned()).collect()
    }

    fn checked(&self, number: &str) -> u64 {
        let findings = self.report["findings"].as_array().unwrap();
        let found = findings.iter().find(|it| it["invariant"] == number);
        found.and_then(|it| it["checked"].as_u64()).unwrap_or(0)
    }
}

async fn audit(data: &Path, more: &[&str]) -> Said {
    audit_within(LIMIT, data, more).await
}

async fn audit_within(limit: Duration, data: &Path, more: &[&str]) -> Said {
    let mut command = Command::new(binary());
    // A folder without a configuration of its own.
    command.current_dir(data).arg("--data").arg(data).args(["audit", "--json"]).args(more);
    let output = tokio::time::timeout(limit, command.kill_on_drop(true).output()).await;
    let output = output.expect("the audit ends").expect("the audit can be started");
    let report = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    Said { code: output.status.code(), report, errors }
}

/// Orders, repeats and cancels until `end`; says which orders were placed.
async fn buy(mut client: Client, number: usize, end: Instant) -> Vec<String> {
    let mut placed = Vec::new();
    for round in 0.. {
        if end <= Instant::now() {
            break;
        }
        let product = 1 + i64::try_from((number + round) % 12).unwrap();
        let key = format!("buyer-{number}-{round}");
        let answer = place(&mut client, &key, &basket(product, 1)).await;
        if answer.status != StatusCode::CREATED {
            continue;
        }
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        match round % 3 {
            0 => drop(client.post(&format!("/order/orders/{id}/cancel"), &json!({})).await),
            1 => drop(place(&mut client, &key, &basket(product, 1)).await),
            _ => {}
        }
        placed.push(id);
    }
    placed
}

/// R0.1: the invariants hold at every moment, and the audit says so at every moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_is_quiet_at_work_and_loud_about_damage() {
    let settings = vec![
        ("warehouse.ship_after", "1s".to_owned()),
        ("inventory.audit_every", "1s".to_owned()),
        ("inventory.lock", "sql".to_owned()),
    ];
    let mut estate = Estate::start_with(settings).await;
    let data = estate.data();
    let before = audit(&data, &[]).await;
    assert_eq!(before.code, Some(0), "{} {}", before.report, before.errors);

    let token = estate.token().await;
    let end = Instant::now() + LOAD;
    let mut buyers = JoinSet::new();
    for number in 0..BUYERS {
        buyers.spawn(buy(estate.gateway().bearer(&token), number, end));
    }
    let mut rounds = 0;
    while Instant::now() < end {
        let said = audit(&data, &[]).await;
        assert_eq!(said.code, Some(0), "round {rounds}: {:#} {}", said.report, said.errors);
        rounds += 1;
    }
    let placed = buyers.join_all().await.concat();
    assert!(10 < placed.len() && 3 < rounds, "{} orders, {rounds} rounds", placed.len());

    let mut alice = estate.gateway().bearer(&token);
    let shipped = place(&mut alice, "shipped", &basket(14, 2)).await;
    reaches(&mut alice, shipped.json()["id"].as_str().unwrap(), "shipped").await;
    let gone = place(&mut alice, "gone", &basket(15, 2)).await;
    let gone = gone.json()["id"].as_str().unwrap().to_owned();
    alice.post(&format!("/order/orders/{gone}/cancel"), &json!({})).await.unwrap();
    reaches(&mut alice, &gone, "cancelled").await;
    estate.settled().await;

    let list = data.join("placed.txt");
    std::fs::write(&list, format!("# what callers saw\n{}\n", placed.join("\n"))).unwrap();
    let list = list.to_str().unwrap().to_owned();
    let settled = audit(&data, &["--expect", &list]).await;
    assert_eq!(settled.code, Some(0), "{:#} {}", settled.report, settled.errors);
    let orders = u64::try_from(placed.len()).unwrap();
    assert_eq!(settled.checked("JOIN-4"), orders);
    for it in
        ["STOCK-4", "ORDER-1", "ORDER-2", "POINTS-2", "SHIP-1", "TX-1", "MSG-2", "LOCK-1", "JOIN-2"]
    {
        assert!(orders <= settled.checked(it), "{it}: {:#}", settled.report);
    }
    // The servers look at their own databases with the same checks.
    let mut inventory = Client::new(format!("127.0.0.1:{}", estate.ports.inventory[0]));
    eventually("inventory shows what it checks", LIMIT, async || {
        let text = inventory.get("/metrics").await.map_err(|it| it.to_string())?.text();
        let lines: Vec<_> = text.lines().filter(|it| it.contains("tradewind_invariant_")).collect();
        let has = |name: &str, end: &str| {
            let it = |line: &&str| line.starts_with(name) && line.contains("\"STOCK-4\"");
            lines.iter().filter(|line| it(line)).any(|line| line.ends_with(end))
        };
        let shown = has("tradewind_invariant_violations", " 0");
        let checked =
            has("tradewind_invariant_checked", "") && !has("tradewind_invariant_checked", " 0");
        wanted(lines.join("\n"), |_| shown && checked).map(drop)
    })
    .await;
    estate.interrupt().await;
    let stopped = audit(&data, &[]).await;
    assert_eq!(stopped.code, Some(0), "{:#} {}", stopped.report, stopped.errors);
    let order = shipped.json()["id"].as_str().unwrap().to_owned();
    every_damage_is_seen(&data, &order, &gone).await;
    what_cannot_be_read_is_told(&data).await;
}

/// A damage: which database, how, and what is broken by it at least.
type Damage = (&'static str, &'static str, &'static str);

const DAMAGES: &[Damage] = &[
    ("inventory", "UPDATE stock SET frozen = on_hand + 1 WHERE product_id = 1", "STOCK-1"),
    ("inventory", "UPDATE stock SET frozen = frozen + 1 WHERE product_id = 1", "STOCK-2"),
    ("inventory", "UPDATE stock SET on_hand = on_hand + 1 WHERE product_id = 1", "STOCK-3"),
    (
        "inventory",
        "UPDATE reservation SET state = 'released' WHERE order_id = 'SHIPPED'",
        "STOCK-4",
    ),
    ("inventory", "UPDATE reservation SET quantity = 1 WHERE order_id = 'SHIPPED'", "JOIN-1"),
    ("inventory", "UPDATE reservation SET restocked = 0 WHERE order_id = 'GONE'", "TX-1"),
    (
        "inventory",
        "INSERT INTO tradewind_fence VALUES ('txn_01990000000070008000000000000000', 1, \
         'inventory.reserve', 'order', 1, 0, 0, '{}')",
        "TX-4",
    ),
    (
        "inventory",
        "UPDATE tradewind_fence SET status = 3 WHERE xid = \
         (SELECT xid FROM reservation WHERE order_id = 'SHIPPED')",
        "TX-1",
    ),
    (
        "points",
        "INSERT INTO tradewind_fence SELECT xid, 1, action, initiator, 3, deadline_ms, changed_ms, \
         reservation FROM tradewind_fence WHERE status = 2 AND branch = 2 LIMIT 1",
        "TX-3",
    ),
    ("inventory", "UPDATE stock SET fence = fence - 1 WHERE 0 < fence", "LOCK-1"),
    (
        "inventory",
        "DROP TRIGGER stock_flow_no_update; UPDATE stock_flow SET token = 0 WHERE id = \
         (SELECT MAX(id) FROM stock_flow WHERE 1 < token)",
        "LOCK-1",
    ),
    ("points", "UPDATE account SET balance = balance + 1", "POINTS-1"),
    (
        "points",
        "DROP TRIGGER ledger_no_delete; DELETE FROM ledger WHERE order_id = 'SHIPPED'",
        "POINTS-2",
    ),
    (
        "points",
        "DROP TRIGGER ledger_no_delete; DELETE FROM ledger \
         WHERE order_id = 'GONE' AND kind = 'revoke'",
        "POINTS-2",
    ),
    ("points", "INSERT INTO pending VALUES ('SHIPPED', 'revoke', 'u', 1, 'txn_1', 0)", "TX-4"),
    ("order", "UPDATE order_header SET total_cents = total_cents + 1 WHERE id = 'GONE'", "ORDER-3"),
    ("order", "UPDATE order_header SET state = 'placed' WHERE id = 'SHIPPED'", "ORDER-2"),
    ("order", "DELETE FROM tradewind_idempotency WHERE idempotency_key = 'gone'", "ORDER-1"),
    (
        "order",
        "UPDATE tradewind_idempotency SET fixed = \
         REPLACE(fixed, 'txn_', 'txn_f') WHERE idempotency_key = 'gone'",
        "JOIN-2",
    ),
    (
        "order",
        "UPDATE tradewind_tcc SET phase = 5 WHERE xid = \
         (SELECT xid FROM order_header WHERE id = 'SHIPPED')",
        "TX-1",
    ),
    (
        "order",
        "INSERT INTO tradewind_tcc_driver VALUES ('somebody', 9000000000000); \
         UPDATE tradewind_tcc SET phase = 2, due_ms = 1, finished_ms = NULL WHERE xid = \
         (SELECT xid FROM order_header WHERE id = 'SHIPPED')",
        "TX-2",
    ),
    ("warehouse", "DELETE FROM outbound WHERE order_id = 'SHIPPED'", "SHIP-1"),
    (
        "warehouse",
        "UPDATE outbound SET state = 'shipped', shipped_ms = 1, void_xid = NULL \
         WHERE order_id = 'GONE'",
        "SHIP-2",
    ),
    ("warehouse", "UPDATE outbound SET order_id = 'ord_none' WHERE order_id = 'SHIPPED'", "SHIP-2"),
    ("warehouse", "DELETE FROM message_consumed", "MSG-2"),
    ("warehouse", "UPDATE outbound SET items = '[]' WHERE order_id = 'SHIPPED'", "JOIN-1"),
    ("broker", "UPDATE message SET state = 3 WHERE msg_key = 'SHIPPED'", "MSG-3"),
    ("broker", "UPDATE message SET state = 2 WHERE msg_key = 'SHIPPED'", "MSG-1"),
    (
        "broker",
        "DELETE FROM message WHERE msg_key = 'SHIPPED' AND topic = 'order.placed'",
        "JOIN-3",
    ),
];

/// A copy of the data with one damage more.
fn damaged(data: &Path, (database, sql): (&str, &str)) -> tempfile::TempDir {
    let copy = copied(data);
    damage(copy.path(), database, sql);
    copy
}

fn damage(data: &Path, database: &str, sql: &str) {
    let connection = Connection::open(data.join(format!("{database}.db"))).unwrap();
    connection.pragma_update(None, "ignore_check_constraints", 1).unwrap();
    connection.pragma_update(None, "foreign_keys", 0).unwrap();
    connection.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert!(0 < connection.changes(), "{sql}");
}

async fn every_damage_is_seen(data: &Path, shipped: &str, gone: &str) {
    let mut missed = Vec::new();
    for (database, sql, expected) in DAMAGES {
        let sql = sql.replace("SHIPPED", shipped).replace("GONE", gone);
        let copy = damaged(data, (database, &sql));
        let said = audit(copy.path(), &[]).await;
        let broken = said.broken();
        if said.code != Some(1) || !broken.contains(*expected) {
            missed.push(format!("{expected} {:?} {broken:?} {}: {sql}", said.code, said.errors));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
    let list = data.join("dreamt.txt");
    std::fs::write(&list, "ord_01990000000070008000000000000000\n").unwrap();
    let said = audit(data, &["--expect", list.to_str().unwrap()]).await;
    assert_eq!(said.code, Some(1), "{:#} {}", said.report, said.errors);
    assert_eq!(said.broken(), ["JOIN-4".to_owned()].into());
}

async fn what_cannot_be_read_is_told(data: &Path) {
    // A database of a coordinator is not needed, but not to be passed over either.
    for database in ["order", "inventory", "points", "warehouse", "broker", "coordinator"] {
        let copy = copied(data);
        let file = copy.path().join(format!("{database}.db"));
        drop(std::fs::remove_file(&file));
        for make in ["mkfifo", "mkdir"] {
            assert!(std::process::Command::new(make).arg(&file).status().unwrap().success());
            let said = audit_within(QUICK, copy.path(), &[]).await;
            assert_eq!(said.code, Some(2), "{database}: {:#} {}", said.report, said.errors);
            let clear = format!("{database}.db is not a regular file");
            assert!(said.errors.contains(&clear), "{}", said.errors);
            drop(std::fs::remove_file(&file));
        }
    }
    let pipe = data.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let said = audit_within(QUICK, data, &["--expect", pipe.to_str().unwrap()]).await;
    assert_eq!(said.code, Some(2), "{:#} {}", said.report, said.errors);
    assert!(said.errors.contains("not a regular file"), "{}", said.errors);
    for database in ["order", "inventory", "points", "warehouse", "broker"] {
        let copy = copied(data);
        let file = copy.path().join(format!("{database}.db"));
        for garbage in [true, false] {
            if garbage {
                std::fs::write(&file, "this is no database, and long enough to be none\n").unwrap();
            } else {
                std::fs::remove_file(&file).unwrap();
            }
            let said = audit(copy.path(), &[]).await;
            assert_eq!(said.code, Some(2), "{database}: {:#} {}", said.report, said.errors);
            assert!(said.errors.contains(&format!("database of {database}")), "{}", said.errors);
            assert_eq!(said.report, Value::Null, "nothing is known");
            // It only reads: what is not there is not made.
            assert_eq!(file.is_file(), garbage);
        }
    }
}

/// TX-2, R0.1: a coordinator that is gone is noticed by what it left undone, one whose database is
/// lost by what others have of its transactions.
#[tokio::test]
async fn the_audit_needs_the_log_of_a_coordinator() {
    let settings = vec![
        ("order.transactions", "coordinator".to_owned()),
        ("warehouse.ship_after", "1s".to_owned()),
    ];
    let mut estate = Estate::start_with(settings).await;
    let data = estate.data();
    let token = estate.token().await;
    let end = Instant::now() + Duration::from_secs(4);
    let mut buyers = JoinSet::new();
    for number in 0..3 {
        buyers.spawn(buy(estate.gateway().bearer(&token), number, end));
    }
    while Instant::now() < end {
        let said = audit(&data, &[]).await;
        assert_eq!(said.code, Some(0), "{:#} {}", said.report, said.errors);
    }
    assert!(!buyers.join_all().await.concat().is_empty());
    estate.settled().await;
    estate.interrupt().await;
    let stopped = audit(&data, &[]).await;
    assert_eq!(stopped.code, Some(0), "{:#} {}", stopped.report, stopped.errors);

    let past = now_ms() - 130_000;
    for (database, sql, expected) in [
        // Nobody drives anything in a stopped shop, and what is undecided is late all the same.
        (
            "coordinator",
            format!("UPDATE tradewind_tcc SET phase = 1, deadline_ms = {past}"),
            "TX-2",
        ),
        ("coordinator", "UPDATE tradewind_tcc SET phase = 2, due_ms = 1".to_owned(), "TX-2"),
        ("coordinator", "DELETE FROM tradewind_tcc".to_owned(), "TX-1"),
        ("order", "DELETE FROM tradewind_fence".to_owned(), "TX-1"),
    ] {
        let copy = damaged(&data, (database, &sql));
        let said = audit(copy.path(), &[]).await;
        assert_eq!(said.code, Some(1), "{sql}: {:#} {}", said.report, said.errors);
        assert!(said.broken().contains(expected), "{sql}: {:?}", said.broken());
    }
    // Within its limit, or the list for a human knows of it.
    for sql in [
        format!("UPDATE tradewind_tcc SET phase = 2, due_ms = {} WHERE phase = 4", now_ms()),
        "UPDATE tradewind_tcc SET phase = 2, stuck = 1, due_ms = 1 WHERE phase = 4".to_owned(),
    ] {
        let copy = damaged(&data, ("coordinator", &sql));
        let said = audit(copy.path(), &[]).await;
        assert_eq!(said.code, Some(0), "{sql}: {:#} {}", said.report, said.errors);
    }
    a_lost_log_is_told(&data).await;
}

/// How the database of the coordinator may be lost.
async fn a_lost_log_is_told(data: &Path) {
    let lost = || {
        let copy = copied(data);
        for it in ["", "-wal", "-shm"] {
            drop(std::fs::remove_file(copy.path().join(format!("coordinator.db{it}"))));
        }
        copy
    };
    for content in [None, Some(""), Some("this is no database, and long enough to be none\n")] {
        let copy = lost();
        if let Some(content) = content {
            std::fs::write(copy.path().join("coordinator.db"), content).unwrap();
        }
        let said = audit(copy.path(), &[]).await;
        assert_eq!(said.code, Some(2), "{content:?}: {:#} {}", said.report, said.errors);
        assert!(said.errors.contains("database of coordinator"), "{}", said.errors);
        assert_eq!(said.report, Value::Null, "nothing is known");
    }
    // Also when the order service has nothing of them any more.
    let copy = lost();
    damage(copy.path(), "order", "DELETE FROM tradewind_fence");
    let said = audit(copy.path(), &[]).await;
    assert_eq!(said.code, Some(2), "{:#} {}", said.report, said.errors);
    // A log keeps what has ended for a day: who looks later needs it for what is reserved alone.
    let copy = lost();
    let aged = "UPDATE tradewind_fence SET changed_ms = 1";
    for database in ["order", "points", "warehouse"] {
        damage(copy.path(), database, aged);
    }
    // The shop lived on for some minutes.
    damage(copy.path(), "inventory", "UPDATE tradewind_fence SET changed_ms = 300000");
    damage(copy.path(), "broker", "UPDATE branch_fence SET at_ms = 1");
    let said = audit(copy.path(), &[]).await;
    assert_eq!(said.code, Some(0), "{:#} {}", said.report, said.errors);
    let one = "SELECT xid FROM tradewind_fence LIMIT 1";
    let sql = format!("UPDATE tradewind_fence SET status = 1 WHERE xid = ({one})");
    damage(copy.path(), "points", &sql);
    let said = audit(copy.path(), &[]).await;
    assert_eq!(said.code, Some(2), "{:#} {}", said.report, said.errors);
    assert!(said.errors.contains("database of coordinator is missing"), "{}", said.errors);
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

fn copied(data: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(data).unwrap().flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().contains(".db") {
            std::fs::copy(entry.path(), copy.path().join(name)).unwrap();
        }
    }
    copy
}

/// R0.1: the same on a real server, with a damage in each database.
#[cfg(feature = "services")]
#[tokio::test]
async fn the_audit_reads_mariadb() {
    use mysql::prelude::Queryable as _;
    use tradewind_e2e::Storage::MariaDb;

    let settings = vec![("warehouse.ship_after", "1s".to_owned())];
    let estate = Estate::start_on(MariaDb, settings).await;
    let databases = estate.databases().unwrap();
    let urls = databases.settings();
    let more: Vec<String> = urls
        .iter()
        .filter(|it| !it.0.starts_with("coordinator"))
        .flat_map(|(key, value)| ["--set".to_owned(), format!("{key}={value}")])
        .collect();
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let data = estate.data();
    let token = estate.token().await;
    let end = Instant::now() + Duration::from_secs(4);
    let mut buyers = JoinSet::new();
    for number in 0..3 {
        buyers.spawn(buy(estate.gateway().bearer(&token), number, end));
    }
    while Instant::now() < end {
        let said = audit(&data, &more).await;
        assert_eq!(said.code, Some(0), "{:#} {}", said.report, said.errors);
    }
    assert!(!buyers.join_all().await.concat().is_empty());
    let mut alice = estate.gateway().bearer(&token);
    let shipped = place(&mut alice, "shipped", &basket(14, 2)).await;
    let shipped = shipped.json()["id"].as_str().unwrap().to_owned();
    reaches(&mut alice, &shipped, "shipped").await;
    eventually("nothing is open", LIMIT, async || {
        let report = audit(&data, &more).await.report;
        let open = (&report["transactions"]["open"], &report["messages"]["deliveries"]);
        wanted(open, |it| *it == (&json!(0), &json!(0))).map(drop)
    })
    .await;
    for (server, damage, mend, expected) in [
        (
            "inventory",
            "UPDATE stock SET on_hand = on_hand + 1 WHERE product_id = 1",
            "UPDATE stock SET on_hand = on_hand - 1 WHERE product_id = 1",
            "STOCK-3",
        ),
        (
            "points",
            "UPDATE account SET balance = balance + 1",
            "UPDATE account SET balance = balance - 1",
            "POINTS-1",
        ),
        (
            "order",
            "UPDATE order_header SET total_cents = total_cents + 1",
            "UPDATE order_header SET total_cents = total_cents - 1",
            "ORDER-3",
        ),
        (
            "warehouse",
            "UPDATE outbound SET order_id = CONCAT('x', order_id) WHERE order_id = 'SHIPPED'",
            "UPDATE outbound SET order_id = 'SHIPPED' WHERE order_id = 'xSHIPPED'",
            "SHIP-1",
        ),
        (
            "broker",
            "UPDATE message SET open_count = 1 WHERE msg_key = 'SHIPPED'",
            "UPDATE message SET open_count = 0 WHERE msg_key = 'SHIPPED'",
            "MSG-1",
        ),
    ] {
        let mut connection = databases.connect(server);
        connection.query_drop(damage.replace("SHIPPED", &shipped)).unwrap();
        let said = audit(&data, &more).await;
        assert_eq!(said.code, Some(1), "{damage}: {:#} {}", said.report, said.errors);
        assert!(said.broken().contains(expected), "{damage}: {:?}", said.broken());
        connection.query_drop(mend.replace("SHIPPED", &shipped)).unwrap();
    }
    let mended = audit(&data, &more).await;
    assert_eq!(mended.code, Some(0), "{:#} {}", mended.report, mended.errors);
}
