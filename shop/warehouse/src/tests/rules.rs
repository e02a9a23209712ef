//! The rules, on any engine. `a` and `b` are two instances on one database; the clock is common.

use std::time::Duration;

use serde_json::json;
use tradewind::audit;
use tradewind::base::Clock as _;
use tradewind::sql::{Error, Transaction, TransactionError};

use super::support::{SHIP_AFTER, Warehouse, message, not_yet, ok, placed, refusal};
use crate::audit::CHECKS;

/// SHIP-1: one outbound order per order, whichever instance gets which copy.
pub(super) async fn an_order_is_received_once(a: &Warehouse, b: &Warehouse) {
    let id = message();
    for warehouse in [a, a, b] {
        let reply = warehouse.deliver(id, "once").await;
        assert_eq!(reply.status, 204, "{reply:?}");
    }
    let (first, second) = tokio::join!(a.deliver(message(), "race"), b.deliver(message(), "race"));
    assert_eq!((first.status, second.status), (204, 204), "{first:?} {second:?}");
    let mut other = placed("once");
    other["address"] = json!("elsewhere");
    assert_eq!(b.deliver_data(message(), &other).await.status, 204, "another message, absorbed");
    let view = b.outbound("once").await.json();
    assert_eq!((&view["state"], &view["user_id"]), (&json!("received"), &json!("usr_1")));
    assert_eq!((&view["address"], &view["lines"]), (&placed("")["address"], &placed("")["lines"]));
    assert_eq!((&view["total_cents"], &view["shipped_at"]), (&json!(1998), &json!(null)));
    assert_eq!(view["message_id"], id.to_string());
    assert_eq!(view["xid"], tradewind::base::id::Xid::from_u128(77).to_string());
    let wait = view["ship_after"].as_i64().unwrap() - view["received_at"].as_i64().unwrap();
    assert_eq!(u128::try_from(wait).unwrap(), SHIP_AFTER.as_millis());
}

/// Nothing ships early; then two shippers at once ship each order once and tell so once.
pub(super) async fn each_order_ships_once(a: &Warehouse, b: &Warehouse) {
    let orders: Vec<String> = (0..40).map(|it| format!("ship-{it:02}")).collect();
    for (order, warehouse) in orders.iter().zip([a, b].into_iter().cycle()) {
        warehouse.receive(order).await;
    }
    let early = a.shipper.turn().await.unwrap();
    assert_eq!(early.shipped, 0);
    assert!(early.next.is_some_and(|it| a.clock.now() < it));
    a.clock.advance(SHIP_AFTER);
    let mut shipped = 0;
    loop {
        let (first, second) = tokio::join!(a.shipper.turn(), b.shipper.turn());
        let (first, second) = (first.unwrap(), second.unwrap());
        shipped += first.shipped + second.shipped;
        if first.next.is_none() && second.next.is_none() {
            break;
        }
    }
    assert_eq!(shipped, 40 + 2, "with those of the test before");
    for order in orders.iter().map(String::as_str).chain(["once", "race"]) {
        assert_eq!((b.state(order).await.as_str(), a.told(order).await), ("shipped", 1));
    }
    let view = a.outbound("ship-00").await.json();
    assert_eq!(view["shipped_at"], a.clock.now().millis());
    assert_eq!(a.deliver(message(), "ship-00").await.status, 204);
    assert_eq!(a.ship().await, 0, "a late copy ships nothing");
}

pub(super) async fn a_voided_order_never_ships(a: &Warehouse, b: &Warehouse) {
    a.receive("void").await;
    let void = b.void();
    ok(&void.reserve("void").await);
    ok(&void.reserve("void").await);
    assert_eq!((a.state("void").await.as_str(), a.ship().await), ("voiding", 0), "it is held back");
    for _ in 0..2 {
        ok(&void.confirm().await);
        assert_eq!(a.state("void").await, "void");
    }
    assert_eq!(void.cancel().await.problem().0, "tcc.conflict");
    assert_eq!(a.deliver(message(), "void").await.status, 204);
    assert_eq!((a.ship().await, a.told("void").await), (0, 0));
    let again = a.void().reserve("void").await;
    assert_eq!(refusal(&again), "warehouse.already-void");
    assert_eq!(a.outbound("void").await.json()["void_xid"], void.xid.to_string());
}

/// SHIP-2: the cancellation is faster than `order.placed`, in all its steps.
pub(super) async fn a_void_row_absorbs_what_comes_late(a: &Warehouse, b: &Warehouse) {
    let void = a.void();
    ok(&void.reserve("late").await);
    ok(&void.confirm().await);
    let empty = a.outbound("late").await.json();
    assert_eq!((&empty["state"], &empty["received_at"]), (&json!("void"), &json!(null)));
    let id = message();
    for _ in 0..2 {
        assert_eq!(b.deliver(id, "late").await.status, 204);
    }
    assert_eq!((b.ship().await, b.state("late").await.as_str()), (0, "void"));
    assert_eq!(b.outbound("late").await.json()["message_id"], id.to_string(), "it is on record");
    // In between Try and Confirm.
    let void = a.void();
    ok(&void.reserve("between").await);
    b.receive("between").await;
    assert_eq!((b.ship().await, b.state("between").await.as_str()), (0, "voiding"));
    ok(&void.confirm().await);
    assert_eq!((b.ship().await, b.told("between").await), (0, 0));
    assert_eq!(a.state("between").await, "void");
}

pub(super) async fn a_cancelled_void_lets_the_order_ship(a: &Warehouse, b: &Warehouse) {
    for (order, before, between) in
        [("back", true, false), ("gap", false, true), ("gone", false, false)]
    {
        if before {
            a.receive(order).await;
        }
        let void = a.void();
        ok(&void.reserve(order).await);
        if between {
            b.receive(order).await;
        }
        not_yet(&b.void().reserve(order).await);
        for _ in 0..2 {
            ok(&void.cancel().await);
        }
        assert_eq!(void.confirm().await.problem().0, "tcc.conflict");
        let expected = if before || between { "received" } else { "none" };
        assert_eq!(b.state(order).await, expected, "{order}");
        if expected == "none" {
            b.receive(order).await;
        }
        assert_eq!((b.ship().await, b.told(order).await), (1, 1), "{order}");
        assert_eq!(a.state(order).await, "shipped");
    }
}

pub(super) async fn what_shipped_is_not_voided(a: &Warehouse, b: &Warehouse) {
    a.receive("far").await;
    assert_eq!(b.ship().await, 1);
    let void = a.void();
    assert_eq!(refusal(&void.reserve("far").await), "warehouse.already-shipped");
    ok(&void.cancel().await);
    assert_eq!((a.state("far").await.as_str(), a.told("far").await), ("shipped", 1));
    let bad = a.void().reserve("").await;
    assert_eq!(refusal(&bad), "warehouse.bad-void");
    assert_eq!(bad.problem().1, ["order_id"]);
}

pub(super) async fn calls_out_of_order_change_nothing(a: &Warehouse, b: &Warehouse) {
    b.receive("order").await;
    let late = a.void();
    ok(&late.cancel().await);
    let refused = late.reserve("order").await;
    assert_eq!((refused.status, refused.problem().0.as_str()), (409, "tcc.suspended"));
    assert_eq!(a.void().confirm().await.problem().0, "tcc.no-try");
    assert_eq!(b.state("order").await, "received");
    assert_eq!((b.ship().await, b.told("order").await), (1, 1));
}

/// A shipment and a cancellation at once: one of them wins, and the other one knows.
pub(super) async fn a_shipment_and_a_void_do_not_both_win(a: &Warehouse, b: &Warehouse) {
    for turn in 0..10 {
        let order = format!("duel-{turn}");
        a.receive(&order).await;
        a.clock.advance(SHIP_AFTER);
        let void = b.void();
        let (shipped, voided) = tokio::join!(a.shipper.turn(), void.reserve(&order));
        if shipped.unwrap().shipped == 1 {
            assert_eq!(refusal(&voided), "warehouse.already-shipped");
        } else {
            ok(&voided);
            ok(&void.confirm().await);
        }
        let told = i64::from(a.state(&order).await == "shipped");
        assert_eq!(a.told(&order).await, told);
    }
}

/// Copies of one message and a cancellation, all at once, on both instances.
pub(super) async fn a_message_and_a_void_at_once_agree(a: &Warehouse, b: &Warehouse) {
    for turn in 0..10 {
        let (order, id) = (format!("meet-{turn}"), message());
        let void = b.void();
        let (first, second, tried) =
            tokio::join!(a.deliver(id, &order), b.deliver(id, &order), void.reserve(&order));
        assert_eq!((first.status, second.status), (204, 204), "{first:?} {second:?}");
        ok(&tried);
        let keep = turn % 2 == 0;
        ok(&if keep { void.cancel().await } else { void.confirm().await });
        assert_eq!(a.state(&order).await, if keep { "received" } else { "void" });
        assert_eq!(a.outbound(&order).await.json()["message_id"], id.to_string());
        assert_eq!(a.ship().await, usize::from(keep));
    }
}

pub(super) async fn what_is_no_order_is_a_dead_letter(a: &Warehouse) {
    let mut cases = vec![json!({}), json!([]), json!({"order_id": "bad"})];
    for (field, value) in [
        ("order_id", json!("")),
        ("order_id", json!("ä")),
        ("user_id", json!("x".repeat(65))),
        ("address", json!("x".repeat(1001))),
        ("lines", json!([])),
        ("lines", json!([{"product_id": 1, "sku": "s", "name": "n", "quantity": 0}])),
    ] {
        let mut data = placed("bad");
        data[field] = value;
        cases.push(data);
    }
    for data in cases {
        let id = message();
        let reply = a.deliver_data(id, &data).await;
        assert_eq!((reply.status, reply.problem().0.as_str()), (422, "message.refused"), "{data}");
    }
    assert_eq!(a.state("bad").await, "none");
    let unsigned = a.running.post(crate::PLACED_PATH, &[], &placed("bad").to_string()).await;
    assert_eq!(unsigned.status, 401);
}

/// TX-3: by then the fence of the void is cleaned away, and the audit misses nothing.
pub(super) async fn a_message_days_after_its_void_breaks_nothing(a: &Warehouse) {
    let void = a.void();
    ok(&void.reserve("days").await);
    ok(&void.confirm().await);
    let broken = async || {
        let now = a.clock.now();
        let look = move |tx: &mut Transaction<'_>| audit::all(tx, CHECKS, now);
        let found: Result<_, TransactionError<Error>> = a.database.read("audit", look).await;
        let mut found = found.unwrap();
        found.retain(|it| it.row.contains("order=days "));
        found.into_iter().map(|it| it.invariant).collect::<Vec<_>>()
    };
    assert!(broken().await.is_empty());
    let sql = "DELETE FROM tradewind_fence \
        WHERE xid = (SELECT void_xid FROM outbound WHERE order_id = 'days')";
    assert_eq!(a.write(sql).await.unwrap(), 1);
    assert_eq!(broken().await, ["TX-3"], "so young a void has its fence");
    a.clock.advance(Duration::from_secs(25 * 3600));
    assert!(broken().await.is_empty());
    a.receive("days").await;
    assert_eq!(a.state("days").await, "void");
    assert!(broken().await.is_empty());
}

pub(super) async fn the_schema_keeps_its_promises(a: &Warehouse) {
    for bad in [
        "UPDATE outbound SET state = 'shipped' WHERE order_id = 'void'",
        "UPDATE outbound SET state = 'lost' WHERE order_id = 'void'",
        "UPDATE outbound SET state = 'void', void_xid = 'x' WHERE order_id = 'far'",
        "UPDATE outbound SET received_ms = NULL WHERE order_id = 'far'",
        "INSERT INTO outbound (order_id, state, changed_ms) VALUES ('new', 'received', 0)",
        "INSERT INTO outbound (order_id, state, changed_ms) VALUES ('new', 'void', 0)",
    ] {
        a.write(bad).await.expect_err(bad);
    }
}
