//! Calls as a network delivers them: late, twice, out of order, by the wrong one.

use std::time::Duration;

use serde_json::{Value, json};
use tradewind_base::Rng;
use tradewind_base::id::Xid;
use tradewind_sql::{Database, Error, Transaction, params};

use super::on_each_database;
use super::support::{Kind, World, until};
use crate::fence;

on_each_database! {
    /// R5.3
    a_try_after_its_cancel_reserves_nothing,
    /// R5.3
    a_cancel_without_a_try_is_remembered,
    /// R5.3
    every_call_repeated_has_its_effect_once,
    a_confirm_without_a_try_is_an_alarm,
    the_opposite_of_what_happened_is_an_alarm,
    a_try_past_its_deadline_is_refused,
    a_refused_try_leaves_no_row,
    only_the_initiator_drives_a_branch,
    one_xid_for_two_things_is_refused,
    racing_calls_of_one_branch_end_it_once,
    several_at_once_stand_each_for_itself,
    /// R5.3
    a_closed_branch_takes_no_try_and_keeps_what_it_holds,
    a_close_that_races_a_try_says_what_came_of_it,
    cleaning_deletes_old_final_rows_only,
    cleaning_keeps_up_with_what_is_done,
}

struct Branch<'a> {
    world: &'a World,
    xid: Xid,
}

impl<'a> Branch<'a> {
    fn new(world: &'a World) -> Self {
        let xid = Xid::generate(world.clock.now(), &mut Rng::from_entropy());
        Self { world, xid }
    }

    fn body(&self, count: i64, ahead_ms: i64) -> Value {
        let deadline = self.world.clock.now().millis() + ahead_ms;
        json!({"xid": self.xid, "branch": 1, "initiator": "order", "deadline_ms": deadline,
            "payload": {"id": 1, "count": count}})
    }

    /// Status, and the state or the problem's code.
    async fn send(&self, step: &str, body: &Value) -> (u16, String) {
        let reply = self.world.stock.send(step, "order", body).await;
        let json = reply.json();
        let text = if reply.status == 200 { &json["state"] } else { &json["code"] };
        (reply.status, text.as_str().unwrap().to_owned())
    }

    async fn try_(&self, count: i64) -> (u16, String) {
        self.send("try", &self.body(count, 5000)).await
    }

    async fn second(&self, step: &str) -> (u16, String) {
        self.send(step, &json!({"xid": self.xid, "branch": 1, "initiator": "order"})).await
    }

    async fn fence(&self) -> u8 {
        self.world.stock.fence(self.xid, 1).await
    }
}

fn is(status: u16, text: &str) -> (u16, String) {
    (status, text.to_owned())
}

async fn a_try_after_its_cancel_reserves_nothing(kind: Kind) {
    let world = World::new(kind).await;
    let branch = Branch::new(&world);
    assert_eq!(branch.second("cancel").await, is(200, "cancelled"));
    assert_eq!(branch.try_(2).await, is(409, "tcc.suspended"));
    assert_eq!(world.stock.goods().await, (10, 0, 0));
    assert_eq!(branch.fence().await, 4);
}

async fn a_cancel_without_a_try_is_remembered(kind: Kind) {
    let world = World::new(kind).await;
    let branch = Branch::new(&world);
    for _ in 0..3 {
        assert_eq!(branch.second("cancel").await, is(200, "cancelled"));
    }
    assert_eq!((branch.fence().await, world.stock.goods().await), (4, (10, 0, 0)));
}

async fn every_call_repeated_has_its_effect_once(kind: Kind) {
    let world = World::new(kind).await;
    let (used, released) = (Branch::new(&world), Branch::new(&world));
    let (first, second) = (used.body(2, 5000), released.body(3, 5000));
    for _ in 0..3 {
        assert_eq!(used.send("try", &first).await, is(200, "tried"));
        assert_eq!(released.send("try", &second).await, is(200, "tried"));
    }
    assert_eq!(world.stock.goods().await, (5, 5, 0));
    for _ in 0..3 {
        assert_eq!(used.second("confirm").await, is(200, "confirmed"));
        assert_eq!(released.second("cancel").await, is(200, "cancelled"));
    }
    assert_eq!(world.stock.goods().await, (8, 0, 2));
    assert_eq!(used.send("try", &first).await, is(409, "tcc.ended"));
    assert_eq!(released.send("try", &second).await, is(409, "tcc.ended"));
    assert_eq!(world.stock.goods().await, (8, 0, 2));
}

async fn a_confirm_without_a_try_is_an_alarm(kind: Kind) {
    let world = World::new(kind).await;
    let branch = Branch::new(&world);
    assert_eq!(branch.second("confirm").await, is(409, "tcc.no-try"));
    assert_eq!((branch.fence().await, world.stock.goods().await), (0, (10, 0, 0)));
}

async fn the_opposite_of_what_happened_is_an_alarm(kind: Kind) {
    let world = World::new(kind).await;
    let (used, released, empty) = (Branch::new(&world), Branch::new(&world), Branch::new(&world));
    used.try_(2).await;
    used.second("confirm").await;
    assert_eq!(used.second("cancel").await, is(409, "tcc.conflict"));
    released.try_(2).await;
    released.second("cancel").await;
    assert_eq!(released.second("confirm").await, is(409, "tcc.conflict"));
    empty.second("cancel").await;
    assert_eq!(empty.second("confirm").await, is(409, "tcc.conflict"));
    assert_eq!(world.stock.goods().await, (8, 0, 2));
}

async fn a_try_past_its_deadline_is_refused(kind: Kind) {
    let world = World::new(kind).await;
    let branch = Branch::new(&world);
    let late = branch.body(2, -101);
    assert_eq!(branch.send("try", &late).await, is(409, "tcc.expired"));
    assert_eq!(branch.send("try", &branch.body(2, 4_000_000)).await, is(409, "tcc.expired"));
    assert_eq!((branch.fence().await, world.stock.goods().await), (0, (10, 0, 0)));
    // What was taken in time is still answered when its answer was lost.
    let in_time = branch.body(2, 5000);
    assert_eq!(branch.send("try", &in_time).await, is(200, "tried"));
    assert_eq!(branch.send("try", &late).await, is(200, "tried"));
}

async fn a_refused_try_leaves_no_row(kind: Kind) {
    let world = World::new(kind).await;
    let branch = Branch::new(&world);
    assert_eq!(branch.try_(11).await, is(409, "tcc.refused"));
    let wrong = json!({"xid": branch.xid, "branch": 1, "initiator": "order",
        "deadline_ms": world.clock.now().millis() + 5000, "payload": {"id": "one"}});
    assert_eq!(branch.send("try", &wrong).await, is(409, "tcc.refused"));
    assert_eq!((branch.fence().await, world.stock.goods().await), (0, (10, 0, 0)));
    assert_eq!(branch.second("cancel").await, is(200, "cancelled"));
}

async fn only_the_initiator_drives_a_branch(kind: Kind) {
    let world = World::new(kind).await;
    let branch = Branch::new(&world);
    assert_eq!(branch.try_(2).await, is(200, "tried"));
    let body = json!({"xid": branch.xid, "branch": 1, "initiator": "order"});
    assert_eq!(world.stock.send("confirm", "points", &body).await.status, 403);
    let nobody = world.stock.running.post("/tcc/take/cancel", &[], &body.to_string()).await;
    assert_eq!(nobody.status, 403);
    let own = json!({"xid": branch.xid, "branch": 1, "initiator": "points"});
    let reply = world.stock.send("cancel", "points", &own).await;
    assert_eq!((reply.status, reply.problem().0.as_str()), (409, "tcc.mismatch"));
    assert_eq!(world.stock.goods().await, (8, 2, 0));
}

async fn one_xid_for_two_things_is_refused(kind: Kind) {
    let world = World::new(kind).await;
    let branch = Branch::new(&world);
    assert_eq!(branch.try_(2).await, is(200, "tried"));
    assert_eq!(branch.try_(3).await, is(409, "tcc.mismatch"));
    assert_eq!(world.stock.goods().await, (8, 2, 0));
}

async fn racing_calls_of_one_branch_end_it_once(kind: Kind) {
    let world = World::new(kind).await;
    for round in 0..10 {
        let branch = Branch::new(&world);
        if round % 2 == 0 {
            branch.try_(1).await;
        }
        let (body, cancel) = (branch.body(1, 5000), || branch.second("cancel"));
        let late = branch.send("try", &body);
        let (one, two, three, _) = tokio::join!(cancel(), cancel(), cancel(), late);
        assert_eq!(
            [one, two, three],
            [is(200, "cancelled"), is(200, "cancelled"), is(200, "cancelled")]
        );
        assert!([3, 4].contains(&branch.fence().await));
    }
    assert_eq!(world.stock.goods().await, (10, 0, 0));
}

async fn cleaning_deletes_old_final_rows_only(kind: Kind) {
    let world = World::new(kind).await;
    let (tried, done, empty) = (Branch::new(&world), Branch::new(&world), Branch::new(&world));
    tried.try_(1).await;
    done.try_(1).await;
    done.second("confirm").await;
    empty.second("cancel").await;
    let clean = async |later: Duration| {
        let (now, zero) = (world.clock.now() + later, Duration::ZERO);
        let work =
            move |tx: &mut tradewind_sql::Transaction<'_>| fence::clean(tx, now, zero, zero, 100);
        world.stock.database.transaction("clean", work).await.unwrap()
    };
    assert_eq!(clean(Duration::from_secs(3599)).await, 0, "a late Try may still come");
    assert_eq!(clean(Duration::from_secs(3601 * 2)).await, 2);
    assert_eq!([tried.fence().await, done.fence().await, empty.fence().await], [1, 0, 0]);
    until(async || world.stock.goods().await == (8, 1, 1)).await;
}

/// Every branch leaves a row here and every transaction one in the log: what is old enough goes,
/// however much of it there is, without anybody asking.
async fn cleaning_keeps_up_with_what_is_done(kind: Kind) {
    let world = World::new(kind).await;
    let old = world.clock.now().millis() - 48 * 3600 * 1000;
    let mut rng = Rng::from_entropy();
    let xids: Vec<String> =
        (0..6000).map(|_| Xid::generate(world.clock.now(), &mut rng).to_string()).collect();
    let fence = "INSERT INTO tradewind_fence (xid, branch, action, initiator, status, deadline_ms,
        changed_ms, reservation) VALUES (?, 1, 'take', 'order', 2, ?, ?, '{}')";
    let log = "INSERT INTO tradewind_tcc (xid, name, shard, phase, version, deadline_ms, begun_ms,
        finished_ms, stuck, declared, branches) VALUES (?, 'place', 0, 4, 1, ?, ?, ?, 0, '[]', '[]')";
    for part in xids.chunks(500).map(<[String]>::to_vec) {
        let of_log = part.clone();
        let write = move |tx: &mut Transaction<'_>| {
            part.iter().try_for_each(|it| tx.execute(fence, params![it, old, old]).map(drop))
        };
        world.stock.database.transaction::<_, Error, _>("old rows", write).await.unwrap();
        let write = move |tx: &mut Transaction<'_>| {
            of_log.iter().try_for_each(|it| tx.execute(log, params![it, old, old, old]).map(drop))
        };
        world.orders.transaction::<_, Error, _>("old rows", write).await.unwrap();
    }
    world.resolvers();
    let count = async |database: &Database, sql: &'static str| {
        let read = move |tx: &mut Transaction<'_>| tx.query_one(sql, &[], |row| row.get::<i64>(0));
        database.read::<_, Error, _>("left", read).await.unwrap()
    };
    until(async || {
        count(&world.stock.database, "SELECT COUNT(*) FROM tradewind_fence").await == Some(0)
    })
    .await;
    until(async || count(&world.orders, "SELECT COUNT(*) FROM tradewind_tcc").await == Some(0))
        .await;
}

impl Branch<'_> {
    /// Closes it: whether it is tried.
    async fn close(&self) -> bool {
        let body = json!({"xid": self.xid, "branch": 1, "initiator": "order"});
        let reply = self.world.stock.send("close", "order", &body).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["tried"].as_bool().unwrap()
    }
}

async fn a_closed_branch_takes_no_try_and_keeps_what_it_holds(kind: Kind) {
    let world = World::new(kind).await;
    let (early, tried) = (Branch::new(&world), Branch::new(&world));
    assert!(!early.close().await && !early.close().await);
    assert_eq!(early.try_(2).await, is(409, "tcc.suspended"));
    assert_eq!(early.second("confirm").await, is(409, "tcc.conflict"));
    assert_eq!(early.second("cancel").await, is(200, "cancelled"));
    assert_eq!(tried.try_(2).await, is(200, "tried"));
    assert!(tried.close().await && tried.close().await);
    assert_eq!((tried.try_(2).await, tried.fence().await), (is(200, "tried"), 1));
    assert_eq!(tried.second("confirm").await, is(200, "confirmed"));
    assert!(tried.close().await);
    assert_eq!(world.stock.goods().await, (8, 0, 2));
    let body = json!({"xid": tried.xid, "branch": 1, "initiator": "order"});
    assert_eq!(world.stock.send("close", "other", &body).await.status, 403);
    let other = Branch::new(&world);
    assert_eq!(other.try_(2).await, is(200, "tried"));
    assert_eq!(other.second("cancel").await, is(200, "cancelled"));
    assert!(!other.close().await, "what it held is given back");
}

async fn a_close_that_races_a_try_says_what_came_of_it(kind: Kind) {
    let world = World::new(kind).await;
    for _ in 0..20 {
        let branch = Branch::new(&world);
        let (tried, closed) = tokio::join!(branch.try_(1), branch.close());
        assert_eq!(closed, tried == is(200, "tried"), "{tried:?}");
        assert_eq!(closed, branch.fence().await == 1);
        assert_eq!(branch.second("cancel").await, is(200, "cancelled"));
    }
    assert_eq!(world.stock.goods().await, (10, 0, 0));
}

async fn several_at_once_stand_each_for_itself(kind: Kind) {
    let world = World::new(kind).await;
    let all = [Branch::new(&world), Branch::new(&world), Branch::new(&world)];
    let done = async |step: &str, caller: &str, branches: Vec<Value>| {
        let reply = world.stock.send(step, caller, &json!({"branches": branches})).await;
        (reply.status, reply.json()["done"].clone())
    };
    // The second wants more than there is.
    let trys = || [1, i64::MAX / 2, 1].iter().zip(&all).map(|it| it.1.body(*it.0, 5000)).collect();
    assert_eq!(done("trys", "other", trys()).await.0, 403);
    for _ in 0..2 {
        assert_eq!(done("trys", "order", trys()).await, (200, json!([true, false, true])));
    }
    let second = |it: &Branch<'_>| json!({"xid": it.xid, "branch": 1, "initiator": "order"});
    let confirms = || all.iter().map(second).collect::<Vec<_>>();
    assert_eq!(done("confirms", "other", confirms()).await.0, 403);
    for _ in 0..2 {
        assert_eq!(done("confirms", "order", confirms()).await, (200, json!([true, false, true])));
    }
    assert_eq!([all[0].fence().await, all[1].fence().await], [2, 0]);
    let many = vec![second(&all[0]); 65];
    assert_eq!(done("confirms", "order", many).await.0, 422);
}
