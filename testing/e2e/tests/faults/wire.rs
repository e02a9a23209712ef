//! The wire loses, delays and doubles: the branch protocol, spoken to real participants.

use http::StatusCode;
use serde_json::{Value, json};
use tradewind_e2e::branch::{Said, done, refused};
use tradewind_e2e::trade::{available, basket};
use tradewind_e2e::{eventually, wanted};

use crate::LIMIT;
use crate::shop::{PRODUCT, Shop, ask, id};

/// R5.3: what the wire can do to a branch: a Try after its Cancel, a Cancel without Try, a doubled
/// Confirm, a Confirm without Try. Each real participant answers by the fence table, and nothing of
/// it stays.
#[tokio::test]
async fn participants_answer_by_the_fence_whatever_the_wire_does() {
    let shop = Shop::open("600s").await;
    let order = shop.orders(1).await.remove(0);
    let (ports, order_id) = (shop.estate.ports, id(&order));
    let made_up = "ord_made-up";
    let items = json!([{"product_id": PRODUCT, "quantity": 1}]);
    let award = |points: i64| json!({"user_id": "made-up", "order_id": made_up, "points": points});
    let message = json!({
        "topic": "nobody.listens", "key": made_up, "type": "test", "source": "test", "data": {},
    });
    for (port, action, payload) in [
        (ports.inventory[0], "inventory.reserve", json!({"order_id": made_up, "items": items})),
        (ports.inventory[1], "inventory.restock", json!({"order_id": order_id})),
        (ports.points, "points.credit", award(7)),
        (
            ports.points,
            "points.revoke",
            json!({
                "user_id": "u", "order_id": order_id, "points": order["points"],
            }),
        ),
        (ports.warehouse[0], "warehouse.void", json!({"order_id": order_id})),
        (ports.broker, "message", message),
    ] {
        let branch = || shop.estate.branch("order", port, action, payload.clone());
        // A Cancel without a Try, twice; then the late Try. The initiator has given up by then.
        let mut suspended = branch();
        assert_eq!(suspended.outcome(ports.order).await, "aborted");
        assert_eq!(suspended.cancel().await, done("cancelled"), "{action}");
        assert_eq!(suspended.cancel().await, done("cancelled"), "{action}");
        let late = suspended.reserve().await;
        assert!(is_refused(&late), "{action}: {late:?}");
        let conflict = suspended.confirm().await;
        assert!(is_refused(&conflict), "{action}: {conflict:?}");
        // A Confirm without a Try.
        let nothing = branch().confirm().await;
        assert!(is_refused(&nothing), "{action}: {nothing:?}");
        // A Try whose time is over.
        let mut expired = branch();
        expired.deadline_ms -= 60_000;
        let expired = expired.reserve().await;
        assert!(is_refused(&expired), "{action}: {expired:?}");
    }
    shop.agrees(&[order], 0).await;
}

/// R5.3: doubled Trys, Confirms and Cancels of the branches of real orders have one effect.
#[tokio::test]
async fn doubled_calls_of_a_branch_have_one_effect() {
    let shop = Shop::open_with(&[("order.place_limit", "3s")]).await;
    let ports = shop.estate.ports;
    let [one, two] = ports.inventory;
    let text = |column: &str| {
        let sql = format!("SELECT {column} FROM order_header WHERE state IN ('placing', 'failed')");
        shop.estate.text("order", &sql)
    };
    // An order that waits for points: its branch in inventory is tried, and open.
    let points = shop.running("points").await;
    points.freeze();
    let mut buyer = shop.buyer();
    let basket = basket(PRODUCT, 2);
    let waiting = ask(&mut buyer, "waits", &basket);
    let meanwhile = async {
        let taken =
            async || wanted(available(&shop.estate, PRODUCT).await, |it| *it == shop.stock - 2);
        eventually("inventory has reserved", LIMIT, taken).await;
        let items = json!([{"product_id": PRODUCT, "quantity": 2}]);
        let payload = json!({"order_id": text("id").unwrap(), "items": items});
        let branch = shop.estate.branch("order", one, "inventory.reserve", payload.clone());
        let mut branch = branch.of(&text("xid").unwrap(), 1);
        for port in [one, two, one] {
            branch = branch.at(port);
            assert_eq!(branch.reserve().await, done("tried"));
        }
        assert_eq!(available(&shop.estate, PRODUCT).await, shop.stock - 2);
        // Another service than the initiator has no say, whomever it speaks for.
        for initiator in ["points", "order"] {
            let foreign = shop.estate.branch("points", one, "inventory.reserve", payload.clone());
            let mut foreign = foreign.of(&text("xid").unwrap(), 1).on_behalf_of(initiator);
            let said = foreign.cancel().await;
            assert!(!said.status.is_success(), "{initiator}: {said:?}");
        }
        branch
    };
    let (answer, mut branch) = tokio::join!(waiting, meanwhile);
    points.thaw();
    assert_eq!(answer.unwrap().status, StatusCode::SERVICE_UNAVAILABLE);
    shop.estate.settled().await;
    for port in [one, two] {
        branch = branch.at(port);
        assert_eq!(branch.cancel().await, done("cancelled"));
        assert_eq!(branch.confirm().await, refused("tcc.conflict"));
        let late = branch.reserve().await;
        assert!(is_refused(&late), "{late:?}");
    }
    assert_eq!(available(&shop.estate, PRODUCT).await, shop.stock);
    // A real order's Confirms, once more: the driver has sent them already.
    let order = shop.orders(1).await.remove(0);
    let xid = order["xid"].as_str().unwrap();
    for (port, action, branch) in [
        (one, "inventory.reserve", 1),
        (two, "inventory.reserve", 1),
        (ports.points, "points.credit", 2),
        (ports.broker, "message", 3),
    ] {
        let mut branch = shop.estate.branch("order", port, action, Value::Null).of(xid, branch);
        assert_eq!(branch.confirm().await, done("confirmed"), "{action}");
        assert_eq!(branch.confirm().await, done("confirmed"), "{action}");
        let cancel = branch.cancel().await;
        assert_eq!(cancel.status, StatusCode::CONFLICT, "{action}: {cancel:?}");
    }
    eventually("the alarm is in the log", LIMIT, async || {
        wanted(shop.estate.logs(), |it| it.contains("a branch call that must not be"))
    })
    .await;
    shop.agrees(&[order], 0).await;
}

fn is_refused(said: &Said) -> bool {
    said.status == StatusCode::CONFLICT
}
