use serde_json::{Value, json};
use tradewind::audit::{self, Violation};
use tradewind::base::SystemClock;
use tradewind::host::testing::{Reply, Running};
use tradewind::sql::{self, DatabaseUrl, Options, Transaction, TransactionError, params};

use super::*;
use crate::audit::CHECKS;
use crate::schema::{MIGRATIONS, SET};
use crate::store::Store;

/// The branches over a database of their own. Product 41 is down to the last one, 37 sold out.
struct Shop {
    running: Running,
    database: Database,
    _tasks: Tasks,
    _folder: tempfile::TempDir,
}

async fn shop_at(url: &DatabaseUrl, lock: LockKind, folder: tempfile::TempDir) -> Shop {
    let database = Database::open(url, Options::default(), SET, MIGRATIONS).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    Store::new(database.clone()).load_first_day(clock.now()).await.unwrap();
    let tasks = Tasks::new();
    let branches = participants(&database, lock, &clock, &tasks).unwrap();
    let running = Running::start("inventory", branches.mount()).await;
    Shop { running, database, _tasks: tasks, _folder: folder }
}

async fn shop(lock: LockKind) -> Shop {
    let folder = tempfile::tempdir().unwrap();
    let url = DatabaseUrl::sqlite(&folder.path().join("inventory.db"));
    shop_at(&url, lock, folder).await
}

fn xid(number: u8) -> String {
    format!("txn_{number:032x}")
}

fn lines(lines: &[(i64, i64)]) -> Value {
    let line = |it: &(i64, i64)| json!({"product_id": it.0, "quantity": it.1});
    Value::Array(lines.iter().map(line).collect())
}

impl Shop {
    async fn call(&self, action: &str, step: &str, number: u8, payload: Option<Value>) -> Reply {
        let mut body = json!({"xid": xid(number), "branch": 1, "initiator": "order"});
        if let Some(payload) = payload {
            let deadline = SystemClock::new().now() + Duration::from_secs(30);
            body["deadline_ms"] = json!(deadline.millis());
            body["payload"] = payload;
        }
        let path = format!("/tcc/inventory.{action}/{step}");
        self.running.post(&path, &[self.running.caller("order")], &body.to_string()).await
    }

    async fn reserve(&self, number: u8, order: &str, items: &[(i64, i64)]) -> Reply {
        let payload = json!({"order_id": order, "items": lines(items)});
        self.call("reserve", "try", number, Some(payload)).await
    }

    async fn restock(&self, number: u8, order: &str) -> Reply {
        self.call("restock", "try", number, Some(json!({"order_id": order}))).await
    }

    async fn done(&self, action: &str, step: &str, number: u8) {
        let reply = self.call(action, step, number, None).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }

    /// On hand and frozen.
    async fn stock(&self, product: i64) -> (i64, i64) {
        let read = move |tx: &mut Transaction<'_>| {
            let sql = "SELECT on_hand, frozen FROM stock WHERE product_id = ?";
            tx.query_one(sql, params![product], |row| Ok((row.get(0)?, row.get(1)?)))
        };
        let read: Result<_, TransactionError<sql::Error>> = self.database.read("stock", read).await;
        read.unwrap().unwrap()
    }

    async fn violations(&self) -> Vec<Violation> {
        let now = SystemClock::new().now();
        let look = move |tx: &mut Transaction<'_>| audit::all(tx, CHECKS, now);
        let found: Result<_, TransactionError<sql::Error>> =
            self.database.read("audit", look).await;
        found.unwrap()
    }

    async fn write(&self, sql: &'static str) {
        let work = move |tx: &mut Transaction<'_>| tx.execute(sql, &[]);
        let done: Result<_, TransactionError<sql::Error>> =
            self.database.transaction("test", work).await;
        done.unwrap();
    }
}

/// Everything the branches promise, on one shop, with transactions `first` and up.
async fn all(shop: &Shop) {
    let (one, two) = (shop.stock(1).await, shop.stock(2).await);
    // Frozen, sold.
    assert_eq!(shop.reserve(1, "ord_1", &[(2, 3), (1, 2)]).await.status, 200);
    assert_eq!(shop.reserve(1, "ord_1", &[(2, 3), (1, 2)]).await.status, 200, "a repeat");
    assert_eq!((shop.stock(1).await, shop.stock(2).await), ((one.0, 2), (two.0, 3)));
    let early = shop.restock(2, "ord_1").await;
    assert_eq!(early.status, 425, "the order is not confirmed: {early:?}");
    shop.done("reserve", "confirm", 1).await;
    shop.done("reserve", "confirm", 1).await;
    assert_eq!((shop.stock(1).await, shop.stock(2).await), ((one.0 - 2, 0), (two.0 - 3, 0)));
    // Frozen, released.
    assert_eq!(shop.reserve(3, "ord_3", &[(1, 5)]).await.status, 200);
    shop.done("reserve", "cancel", 3).await;
    assert_eq!(shop.stock(1).await, (one.0 - 2, 0));
    // Given back: a cancellation that is itself undone, then one that holds, then one too many.
    assert_eq!(shop.restock(4, "ord_1").await.status, 200);
    let second = shop.restock(5, "ord_1").await;
    assert_eq!(second.status, 425, "how the first ends is open: {second:?}");
    shop.done("restock", "cancel", 4).await;
    assert_eq!(shop.restock(6, "ord_1").await.status, 200);
    shop.done("restock", "confirm", 6).await;
    shop.done("restock", "confirm", 6).await;
    assert_eq!((shop.stock(1).await, shop.stock(2).await), (one, two));
    let again = shop.restock(7, "ord_1").await;
    assert!(again.body.contains("inventory.restocked"), "{again:?}");
    let never = shop.restock(8, "ord_3").await;
    assert!(never.body.contains("inventory.nothing-to-restock"), "{never:?}");
    // Of several lines that cannot be had, none is taken.
    let short = shop.reserve(9, "ord_9", &[(1, 1), (41, 2)]).await;
    assert_eq!((short.status, short.problem().0.as_str()), (409, "tcc.refused"));
    assert_eq!(short.problem().1, ["product:41"]);
    assert!(short.body.contains("inventory.insufficient"), "{short:?}");
    let unknown = shop.reserve(10, "ord_9", &[(1, 1), (900, 1)]).await;
    assert!(unknown.body.contains("inventory.unknown-product"), "{unknown:?}");
    assert_eq!(unknown.problem().1, ["product:900"]);
    assert_eq!(shop.stock(1).await, one);
    // Two orders for the last one.
    let (a, b) = tokio::join!(
        shop.reserve(11, "ord_11", &[(41, 1)]),
        shop.reserve(12, "ord_12", &[(41, 1)]),
    );
    let mut both = [a.status, b.status];
    both.sort_unstable();
    assert_eq!(both, [200, 409], "{a:?} {b:?}");
    assert_eq!(shop.stock(41).await, (1, 1));
    assert_eq!(shop.violations().await, []);
}

/// R5.1: stock is frozen, then sold or released, once; a cancelled order gives it back, once.
#[tokio::test]
async fn the_branches_keep_stock_right() {
    all(&shop(LockKind::None).await).await;
}

#[tokio::test]
async fn the_branches_keep_stock_right_under_locks() {
    let shop = shop(LockKind::Sql).await;
    all(&shop).await;
    let read = |tx: &mut Transaction<'_>| {
        let sql = "SELECT MAX(fence) FROM stock";
        tx.query_one(sql, &[], |row| row.get::<i64>(0))
    };
    let read: Result<_, TransactionError<sql::Error>> = shop.database.read("fence", read).await;
    assert!(0 < read.unwrap().unwrap(), "the token is in the row");
    let found = audit::run(&shop.database, CHECKS, SystemClock::new().now()).await.unwrap();
    let found = found.get("LOCK-1").unwrap();
    assert!(0 < found.checked && found.violations == 0, "the tokens are in the flow: {found:?}");
}

/// A row of the flow of product 1 that changes nothing, with this token and this fence after it.
macro_rules! write_with {
    ($token:literal, $fence:literal) => {
        concat!(
            "INSERT INTO stock_flow (product_id, kind, on_hand_change, frozen_change, \
             on_hand_after, frozen_after, reference, at_ms, token, fence_after) \
             SELECT product_id, 'initial', 0, 0, on_hand, frozen, 'test', 0, ",
            $token,
            ", ",
            $fence,
            " FROM stock WHERE product_id = 1"
        )
    };
}

/// LOCK-1: the audit sees a write with an overtaken token, and a fence that went back.
#[tokio::test]
async fn the_audit_finds_an_overtaken_token() {
    const STOCK_BACK: &str = "UPDATE stock SET fence = 1 WHERE product_id = 1";
    const STOCK_ON: &str = "UPDATE stock SET fence = 9 WHERE product_id = 1";
    let cases: &[(&[&str], usize)] = &[
        (&[], 0),
        (&[write_with!("9", "9"), STOCK_ON], 0),
        // Of a process that does not know of tokens yet.
        (&[write_with!("NULL", "NULL"), STOCK_ON], 0),
        (&[STOCK_BACK], 1),
        (&[write_with!("1", "1"), STOCK_BACK], 1),
        (&[write_with!("1", "3")], 1),
        (&[write_with!("NULL", "1"), STOCK_BACK], 1),
        (&[write_with!("1", "1")], 2),
    ];
    for (damage, violations) in cases {
        let shop = shop(LockKind::Sql).await;
        for order in 1..=3 {
            assert_eq!(shop.reserve(order, "ord_1", &[(1, 1)]).await.status, 200);
            shop.done("reserve", "confirm", order).await;
        }
        for it in *damage {
            shop.write(it).await;
        }
        let found = shop.violations().await;
        assert!(found.iter().all(|it| it.invariant == "LOCK-1"), "{damage:?} {found:?}");
        assert_eq!(found.len(), *violations, "{damage:?} {found:?}");
    }
}

#[cfg(feature = "services")]
#[tokio::test]
async fn the_branches_keep_stock_right_on_mysql() {
    for (name, lock) in
        [("tradewind_test_reserve", LockKind::None), ("tradewind_test_reserve_l", LockKind::Sql)]
    {
        let url = tradewind::host::testing::fresh_mysql(name);
        all(&shop_at(&url, lock, tempfile::tempdir().unwrap()).await).await;
    }
}

/// R7.4, LOCK-1: a write whose token was overtaken changes nothing and is no refusal.
#[tokio::test]
async fn an_overtaken_token_writes_nothing() {
    let shop = shop(LockKind::Sql).await;
    shop.write("UPDATE stock SET fence = 1000 WHERE product_id = 1").await;
    let before = shop.stock(1).await;
    let late = shop.reserve(1, "ord_1", &[(1, 1)]).await;
    assert_eq!(late.status, 425, "{late:?}");
    assert_eq!(shop.stock(1).await, before);
}

#[tokio::test]
async fn a_payload_that_is_no_reservation_is_refused() {
    let shop = shop(LockKind::None).await;
    let many: Vec<_> = (1..=101).map(|it| (it, 1)).collect();
    let cases: [&[(i64, i64)]; 5] =
        [&[], &[(1, 0)], &[(1, -1)], &[(1, 1), (1, 1)], &[(1, i64::MAX)]];
    for (number, items) in (20..).zip(cases.into_iter().chain([&many[..]])) {
        let reply = shop.reserve(number, "ord_1", items).await;
        assert!(reply.body.contains("inventory.bad-reservation"), "{items:?}: {reply:?}");
    }
    assert_eq!(shop.violations().await, []);
}

/// An audit that never fires proves nothing.
#[tokio::test]
async fn the_audit_finds_what_is_wrong() {
    let shop = shop(LockKind::None).await;
    assert_eq!(shop.reserve(1, "ord_1", &[(1, 2)]).await.status, 200);
    shop.done("reserve", "confirm", 1).await;
    assert_eq!(shop.violations().await, []);
    shop.write("UPDATE stock SET on_hand = on_hand + 1 WHERE product_id = 2").await;
    let found = |all: &[Violation]| all.iter().map(|it| it.invariant).collect::<Vec<_>>();
    assert_eq!(found(&shop.violations().await), ["STOCK-3"]);
    shop.write("UPDATE stock SET on_hand = on_hand - 1, frozen = 1 WHERE product_id = 2").await;
    assert_eq!(found(&shop.violations().await), ["STOCK-2", "STOCK-3"]);
    shop.write("UPDATE stock SET frozen = 0 WHERE product_id = 2").await;
    shop.write("UPDATE reservation SET state = 'released'").await;
    let all = found(&shop.violations().await);
    assert_eq!(all, ["STOCK-4", "STOCK-4"], "the flow and the fence both say sold");
    shop.write("UPDATE reservation SET state = 'confirmed'").await;
    shop.write("UPDATE reservation SET quantity = quantity + 1").await;
    assert_eq!(found(&shop.violations().await), ["STOCK-4"]);
    shop.write("DELETE FROM reservation").await;
    assert_eq!(found(&shop.violations().await), ["STOCK-3", "STOCK-3"], "freeze and sale");
}

/// STOCK-4: what is cancelled days after it was placed has no fence of its placing any more.
#[tokio::test]
async fn the_audit_is_quiet_about_an_old_order_that_is_cancelled() {
    let shop = shop(LockKind::None).await;
    assert_eq!(shop.reserve(1, "ord_1", &[(1, 2)]).await.status, 200);
    shop.done("reserve", "confirm", 1).await;
    shop.write("DELETE FROM tradewind_fence").await;
    let all = shop.violations().await;
    let found: Vec<_> = all.iter().map(|it| it.invariant).collect();
    assert_eq!(found, ["STOCK-4"], "so young an order has its fence");
    shop.write("UPDATE reservation SET created_at_ms = 0, updated_at_ms = 0").await;
    assert_eq!(shop.violations().await, []);
    assert_eq!(shop.restock(2, "ord_1").await.status, 200);
    assert_eq!(shop.violations().await, []);
    shop.done("restock", "confirm", 2).await;
    assert_eq!(shop.violations().await, []);
}

/// R7.5: without any lock, many orders at once never take more than there is.
#[tokio::test]
async fn many_orders_at_once_never_oversell() {
    let shop = shop(LockKind::None).await;
    shop.write("UPDATE stock SET on_hand = 7 WHERE product_id = 1").await;
    shop.write(
        "INSERT INTO stock_flow (product_id, kind, on_hand_change, frozen_change, on_hand_after, \
         frozen_after, reference, at_ms) SELECT 1, 'initial', 7 - SUM(on_hand_change), 0, 7, 0, \
         'test', 0 FROM stock_flow WHERE product_id = 1",
    )
    .await;
    let mut taken = 0;
    for batch in 0..4_u8 {
        let order = |it: u8| {
            let number = batch * 4 + it + 1;
            let shop = &shop;
            async move { shop.reserve(number, "ord_1", &[(1, 1)]).await.status }
        };
        let (a, b, c, d) = tokio::join!(order(0), order(1), order(2), order(3));
        taken += [a, b, c, d].iter().filter(|it| **it == 200).count();
    }
    assert_eq!((taken, shop.stock(1).await), (7, (7, 7)));
    assert_eq!(shop.violations().await, []);
}

#[test]
fn a_lock_is_none_or_sql() {
    for kind in [LockKind::None, LockKind::Sql] {
        assert_eq!(LockKind::parse(&kind.show()), Ok(kind));
    }
    assert!(LockKind::parse("redis").unwrap_err().contains("redis"));
}
