//! One setting moves the shop's orders from the embedded engine to the coordinator:
//! `order.transactions = "coordinator"`. What a buyer sees stays as it is.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tradewind_e2e::trade::{LIMIT, available, basket, place, points, reaches};
use tradewind_e2e::{Answer, Client, Estate, Settings, eventually, wanted};

fn settings(ship_after: &str) -> Settings {
    vec![
        ("order.transactions", "coordinator".to_owned()),
        ("warehouse.ship_after", ship_after.to_owned()),
    ]
}

/// Repeats a request under its key until the answer is an order, and returns it.
async fn ordered(client: &mut Client, key: &str, body: &Value) -> Value {
    eventually("an order", LIMIT, async || {
        let answer = place(client, key, body).await;
        let passing = [
            StatusCode::CREATED,
            StatusCode::ACCEPTED,
            StatusCode::CONFLICT,
            StatusCode::BAD_GATEWAY,
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::GATEWAY_TIMEOUT,
        ];
        assert!(passing.contains(&answer.status), "{} {}", answer.status, answer.text());
        wanted((answer.status, answer.json()), |it| it.0 == StatusCode::CREATED)
    })
    .await
    .1
}

fn id(order: &Value) -> String {
    order["id"].as_str().unwrap().to_owned()
}

/// Nothing is left to do, every invariant holds, and the orders that were answered exist.
async fn all_is_well(estate: &Estate, orders: &[String]) {
    estate.settled().await;
    eventually("the coordinator has nothing left to do", LIMIT, async || {
        let sql = "SELECT COUNT(*) FROM tradewind_tcc WHERE phase NOT IN (4, 5)";
        wanted(estate.count("coordinator", sql).map_err(|it| it.to_string())?, |it| *it == 0)
    })
    .await;
    let sql = "SELECT COUNT(*) FROM tradewind_fence WHERE status = 1";
    assert_eq!(estate.count("order", sql).unwrap(), 0, "own branches in limbo");
    estate.audit(orders).await.is_clean();
}

/// R5.2, R0.1: placed, cancelled, shipped, with the coordinator deciding each transaction.
#[tokio::test]
async fn orders_are_placed_shipped_and_cancelled() {
    let estate = Estate::start_with(settings("4s")).await;
    let mut alice = estate.alice().await;
    let (stock, credit) = (available(&estate, 1).await, points(&mut alice).await);

    let regret = place(&mut alice, "regret", &basket(1, 1)).await;
    assert_eq!(regret.status, StatusCode::CREATED, "{}", regret.text());
    let path = format!("/order/orders/{}", id(&regret.json()));
    let read = alice.get(&path).await.unwrap();
    assert_eq!(read.json()["state"], "placed", "the buyer reads the own write");
    let cancelled = alice.post(&format!("{path}/cancel"), &json!({})).await.unwrap();
    assert_eq!(cancelled.status, StatusCode::OK, "{}", cancelled.text());
    eventually("all is given back", LIMIT, async || {
        let now = (available(&estate, 1).await, points(&mut alice).await);
        wanted(now, |it| *it == (stock, credit))
    })
    .await;

    let placed = place(&mut alice, "first", &basket(1, 2)).await;
    let again = place(&mut alice, "first", &basket(1, 2)).await;
    assert_eq!((placed.status, &placed.body), (StatusCode::CREATED, &again.body));
    let first = id(&placed.json());
    reaches(&mut alice, &first, "shipped").await;
    assert_eq!(available(&estate, 1).await, stock - 2);
    let trail = alice.get(&format!("/order/orders/{first}/trail")).await.unwrap().json();
    assert_eq!(trail["phase"], "committed", "{trail}");

    // It is the coordinator indeed.
    let sql = "SELECT COUNT(*) FROM tradewind_tcc WHERE name LIKE 'order/order.%'";
    assert_eq!(estate.count("coordinator", sql).unwrap(), 3);
    assert_eq!(estate.count("order", "SELECT COUNT(*) FROM tradewind_tcc").unwrap(), 0);
    let mut order = Client::new(format!("127.0.0.1:{}", estate.ports.order));
    let health = order.get("/health/ready").await.unwrap();
    assert!(health.text().contains("coordinator"), "{}", health.text());
    all_is_well(&estate, &[id(&regret.json()), first]).await;
}

/// R5.1: points down, the order fails with a clear error and everything is as before.
#[tokio::test]
async fn an_order_without_points_changes_nothing_and_works_again_later() {
    let estate = Estate::start_with(settings("1s")).await;
    let mut alice = estate.alice().await;
    let stock = available(&estate, 2).await;
    let points = estate.process("points");
    points.freeze();
    let failed = place(&mut alice, "without", &basket(2, 1)).await;
    points.thaw();
    assert_eq!(failed.status, StatusCode::SERVICE_UNAVAILABLE, "{}", failed.text());
    assert!(failed.text().contains("service:points"), "it names who is missing: {}", failed.text());
    eventually("the stock is free again", LIMIT, async || {
        wanted(available(&estate, 2).await, |it| *it == stock)
    })
    .await;
    let order = ordered(&mut alice, "without", &basket(2, 1)).await;
    assert_eq!(available(&estate, 2).await, stock - 1);
    all_is_well(&estate, &[id(&order)]).await;
}

/// A coordinator that dies right after an order was placed goes on with it when it is back; while
/// it is away orders fail, or wait for it, and never by halves.
#[tokio::test]
async fn the_coordinator_may_die_at_any_time() {
    let estate = Estate::start_with(settings("1s")).await;
    let mut alice = estate.alice().await;
    let stock = available(&estate, 1).await;
    let placed = place(&mut alice, "before", &basket(1, 1)).await;
    estate.process("coordinator").kill();
    assert_eq!(placed.status, StatusCode::CREATED, "{}", placed.text());
    let during = ordered(&mut alice, "during", &basket(1, 1)).await;

    let frozen = estate.process("coordinator");
    frozen.freeze();
    let unknown = place(&mut alice, "frozen", &basket(1, 1)).await;
    // It is away for a moment: nothing is late yet.
    let meanwhile = estate.audit(&[]).await;
    frozen.thaw();
    meanwhile.is_clean();
    let honest = [StatusCode::ACCEPTED, StatusCode::SERVICE_UNAVAILABLE];
    assert!(honest.contains(&unknown.status), "{} {}", unknown.status, unknown.text());
    let late = ordered(&mut alice, "frozen", &basket(1, 1)).await;

    let all = [id(&placed.json()), id(&during), id(&late)];
    reaches(&mut alice, &all[0], "shipped").await;
    assert_eq!(available(&estate, 1).await, stock - 3);
    all_is_well(&estate, &all).await;
}

async fn dies(estate: &Estate, client: &mut Client, point: &str) -> Answer {
    estate.arm(point);
    let answer = place(client, point, &basket(1, 1)).await;
    estate.died(point).await;
    answer
}

/// TX-1, JOIN-2: order service or coordinator die at the worst moments: one order for the key, and
/// both agree.
#[tokio::test]
async fn a_death_around_the_decision_leaves_one_order() {
    let estate = Estate::start_faulty(settings("1s")).await;
    let mut alice = estate.alice().await;
    let stock = available(&estate, 1).await;
    let mut orders = Vec::new();
    for point in [
        // The order service, between the coordinator's decision and its own Confirm.
        "tcc.order.place.coordinated",
        // The same before it says anything, and after the Trys.
        "tcc.order.place.begun",
        "tcc.order.place.tried",
        // The coordinator, having begun, tried, and decided.
        "coordinator.begun",
        "coordinator.tried",
        "coordinator.committed",
    ] {
        let first = dies(&estate, &mut alice, point).await;
        let order = ordered(&mut alice, point, &basket(1, 1)).await;
        if let Some(id) = first.json()["order_id"].as_str().filter(|_| point.ends_with("committed"))
        {
            assert_eq!(order["id"], id, "{point}: what was decided is that order");
        }
        orders.push(id(&order));
        let taken = i64::try_from(orders.len()).unwrap();
        eventually(&format!("{point}: one is taken"), Duration::from_secs(60), async || {
            wanted(available(&estate, 1).await, |it| *it == stock - taken)
        })
        .await;
        let page = alice.get("/order/orders?size=100").await.unwrap().json();
        let placed = page["items"].as_array().unwrap().iter();
        let placed = placed.filter(|it| it["state"] != "failed").count();
        assert_eq!(placed, orders.len(), "{point}: {page}");
    }
    all_is_well(&estate, &orders).await;
}
