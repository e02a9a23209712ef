//! Who decides dies: the order service itself, or the coordinator that decides for it.

use http::StatusCode;
use serde_json::json;
use tradewind_e2e::trade::{available, basket};
use tradewind_e2e::{Client, alive, eventually, insist_on_placing, wanted};

use crate::LIMIT;
use crate::shop::{PRODUCT, Shop, ask, id, placed};

/// R4.2, R5.1: whoever places the order dies between any two of its durable steps.
#[tokio::test]
async fn an_order_is_placed_once_however_its_initiator_dies() {
    let shop = Shop::open("600s").await;
    let orders = shop
        .place_through(&[
            "tcc.order.place.begun",
            "tcc.order.place.tried",
            "tcc.order.place.answered",
            "tcc.order.place.decided",
            "tcc.order.place.before-send",
            "tcc.order.place.after-send",
            "tcc.order.place.before-finish",
        ])
        .await;
    shop.agrees(&orders, 0).await;
}

/// R4.2, R5.1: whoever cancels the order dies between any two durable steps.
#[tokio::test]
async fn an_order_is_cancelled_once_however_its_initiator_dies() {
    let shop = Shop::open("600s").await;
    let mut orders = shop.orders(7).await;
    let deaths = [
        "tcc.order.cancel.begun",
        "tcc.order.cancel.tried",
        "tcc.order.cancel.decided",
        "tcc.order.cancel.before-send",
        "tcc.order.cancel.after-send",
        "tcc.order.cancel.before-finish",
    ];
    shop.cancel_through(&deaths, &orders).await;
    shop.agrees(&orders.split_off(6), 6).await;
}

/// R5.1: it dies before all is tried, and once more around the time-out that ends what nobody went
/// on with.
#[tokio::test]
async fn what_nobody_decides_is_undone_however_its_initiator_dies() {
    // The dead process's lease on the log must end before the broker asks what became of the
    // order: to be asked after the deadline is another way to end it.
    let shop = Shop::open_with(&[("order.place_limit", "3s")]).await;
    let (mut buyer, basket) = (shop.buyer(), basket(PRODUCT, 1));
    for (number, end) in ["before-timeout", "after-timeout"].into_iter().enumerate() {
        // The first order of a process begins before it is tried.
        dies_alone(&shop, &mut buyer, number, ("begun", end)).await;
    }
    shop.estate.settled().await;
    assert_eq!(available(&shop.estate, PRODUCT).await, shop.stock, "all is undone");
    let calm = shop.orders(1).await;
    let (tried, end) = ("tcc.order.cancel.tried", "tcc.order.cancel.after-timeout");
    shop.estate.arm(tried);
    shop.estate.arm(end);
    let path = format!("/order/orders/{}/cancel", id(&calm[0]));
    eventually("it dies undecided", LIMIT, async || {
        let answer = buyer.post(&path, &json!({})).await;
        wanted(format!("{answer:?}"), |_| shop.estate.has_died(tried))
    })
    .await;
    shop.estate.died(end).await;
    shop.estate.settled().await;
    // The buyers come back, and get an order each.
    let mut orders = calm;
    for number in 0..2 {
        let key = format!("undecided-{number}");
        orders.push(placed(insist_on_placing(&mut buyer, &key, &basket).await));
    }
    shop.agrees(&orders, 0).await;
}

/// R5.1: it dies when all is tried, so that somebody may have been answered, and once more around the
/// time-out that finds out.
#[tokio::test]
async fn what_was_answered_is_placed_however_its_initiator_dies() {
    let shop = Shop::open_with(&[("order.place_limit", "3s")]).await;
    let mut buyer = shop.buyer();
    let deaths = [
        ("tried", "before-timeout"),
        ("tried", "after-timeout"),
        ("answered", "before-timeout"),
        ("answered", "after-timeout"),
    ];
    for (number, death) in deaths.into_iter().enumerate() {
        dies_alone(&shop, &mut buyer, number, death).await;
    }
    shop.estate.settled().await;
    let left = shop.stock - i64::try_from(deaths.len()).unwrap();
    assert_eq!(available(&shop.estate, PRODUCT).await, left, "without a repeat");
    let (mut orders, basket) = (Vec::new(), basket(PRODUCT, 1));
    for number in 0..deaths.len() {
        let key = format!("undecided-{number}");
        orders.push(placed(insist_on_placing(&mut buyer, &key, &basket).await));
    }
    shop.agrees(&orders, 0).await;
}

/// The order service dies while it places an order that nobody repeats, and again around the order's
/// time-out.
async fn dies_alone(shop: &Shop, buyer: &mut Client, number: usize, (first, second): (&str, &str)) {
    let [first, second] = [first, second].map(|it| format!("tcc.order.place.{it}"));
    shop.estate.arm(&first);
    shop.estate.arm(&second);
    let (key, basket) = (format!("undecided-{number}"), basket(PRODUCT, 1));
    // Until it dies, and not again: a buyer who repeats would have the order go on.
    eventually("it dies undecided", LIMIT, async || {
        let answer = ask(buyer, &key, &basket).await;
        wanted(format!("{answer:?}"), |_| shop.estate.has_died(&first))
    })
    .await;
    shop.estate.died(&second).await;
}

/// R5.1: the Trys were faster than the begin, which dies with its process.
#[tokio::test]
async fn what_was_tried_for_a_begin_that_is_lost_is_given_back() {
    let shop = Shop::open("600s").await;
    let (mut buyer, basket, place) = (shop.buyer(), basket(PRODUCT, 1), "tcc.order.place.begin");
    // The first order of a process does not hurry.
    let mut orders = shop.orders(1).await;
    let process = shop.running("order").await;
    shop.estate.hold(place);
    let dies = async {
        eventually("everybody holds something for it", LIMIT, async || {
            let held = ["inventory", "points"].map(|it| {
                let sql = "SELECT COUNT(*) FROM tradewind_fence WHERE status = 1";
                shop.estate.count(it, sql).unwrap()
            });
            let sql = "SELECT COUNT(*) FROM branch_fence WHERE state = 1";
            let half = shop.estate.count("broker", sql).unwrap();
            wanted((held, half), |it| *it == ([1, 1], 1))
        })
        .await;
        let begun = shop.estate.count("order", "SELECT COUNT(*) FROM order_header").unwrap();
        assert_eq!(begun, 1, "the begin is not there");
        // Explained, for as long as it can be on its way.
        shop.estate.audit(&[]).await.is_clean();
        process.kill();
        eventually("it is gone", LIMIT, async || wanted((), |()| !alive(process.pid))).await;
        shop.estate.let_go(place);
    };
    let (answer, ()) = tokio::join!(ask(&mut buyer, "lost", &basket), dies);
    let answer = answer.unwrap();
    assert!(answer.status.is_server_error(), "{}", answer.text());
    // The key is free, and what the buyer gets under it is another order.
    orders.push(placed(insist_on_placing(&mut buyer, "lost", &basket).await));
    // And once more with luck: whatever was faster.
    orders.extend(shop.place_through(&["tcc.order.place.beside"]).await);
    shop.agrees(&orders, 0).await;
    let sql = "SELECT COUNT(*) FROM reservation WHERE state = 'released'";
    assert!(1 <= shop.estate.count("inventory", sql).unwrap(), "the lost one's");
}

/// R4.2, R5.1: a repeat that reaches a process which does not know its key has Trys set out for an
/// order that does not begin.
#[tokio::test]
async fn what_was_tried_for_a_repeat_is_given_back() {
    let shop = Shop::open("600s").await;
    let (mut buyer, basket) = (shop.buyer(), basket(PRODUCT, 1));
    let first = insist_on_placing(&mut buyer, "before", &basket).await;
    shop.estate.settled().await;
    let process = shop.running("order").await;
    process.kill();
    eventually("it is gone", LIMIT, async || wanted((), |()| !alive(process.pid))).await;
    // The first order of a process does not hurry.
    let other = placed(insist_on_placing(&mut buyer, "after", &basket).await);
    let again = insist_on_placing(&mut buyer, "before", &basket).await;
    assert_eq!((again.status, again.text()), (first.status, first.text()));
    let sql = "SELECT COUNT(*) FROM tradewind_tcc WHERE reason = 'it did not begin' AND phase = 5";
    eventually("it is aborted everywhere", LIMIT, async || {
        wanted(shop.estate.count("order", sql).unwrap(), |it| *it == 1)
    })
    .await;
    shop.agrees(&[placed(first), other], 0).await;
}

/// R5.2: a coordinator decides, and it or the order service that asks it dies between any two
/// steps.
#[tokio::test]
async fn an_order_is_placed_once_however_its_coordinator_dies() {
    let shop = Shop::open_with(&[("order.transactions", "coordinator")]).await;
    let orders = shop
        .place_through(&[
            "coordinator.begun",
            "tcc.order.place.tried",
            "coordinator.tried",
            "tcc.order.place.coordinated",
            "coordinator.committed",
            "tcc.order.place.decided",
            "tcc.order/order.place.before-send",
            "tcc.order/order.place.after-send",
            "tcc.order/order.place.before-finish",
        ])
        .await;
    shop.agrees(&orders, 0).await;
}

/// R5.2: the same for a cancelling, and for what the coordinator gives up.
#[tokio::test]
async fn an_order_is_cancelled_once_however_its_coordinator_dies() {
    let shop = Shop::open_with(&[("order.transactions", "coordinator")]).await;
    let deaths = [
        "coordinator.begun",
        "tcc.order.cancel.tried",
        "coordinator.tried",
        "tcc.order.cancel.coordinated",
        "coordinator.committed",
        "tcc.order.cancel.decided",
        "tcc.order/order.cancel.before-send",
        "tcc.order/order.cancel.after-send",
    ];
    let orders = shop.orders(deaths.len()).await;
    shop.cancel_through(&deaths, &orders).await;
    let (too_many, mut buyer) = (basket(PRODUCT, shop.stock + 1), shop.buyer());
    for point in ["coordinator.aborted", "tcc.order.place.aborted"] {
        shop.estate.arm(point);
        let answer = insist_on_placing(&mut buyer, point, &too_many).await;
        assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.text());
        shop.estate.died(point).await;
    }
    shop.agrees(&[], i64::try_from(deaths.len()).unwrap()).await;
}
