//! The trade chain on real processes with every database on MariaDB.

use mysql::prelude::Queryable as _;
use tradewind_e2e::Storage::MariaDb;
use tradewind_e2e::trade::{LIMIT, basket, cancelling, locking, outages, place, placing, reaches};
use tradewind_e2e::{Estate, eventually, wanted};

/// R0.1, R5.1, R6.3: an order is placed, the stock is taken, points are credited, it ships.
#[tokio::test]
async fn an_order_is_placed_and_shipped_and_its_ids_join() {
    placing::an_order_is_placed_and_shipped_and_its_ids_join(MariaDb).await;
}

/// R4.2: one key, one order, one answer.
#[tokio::test]
async fn the_same_key_gives_the_same_order() {
    placing::the_same_key_gives_the_same_order(MariaDb).await;
}

/// R5.1: points down, the order fails with a clear error and everything is as before.
#[tokio::test]
async fn an_order_without_points_changes_nothing_and_works_again_later() {
    outages::an_order_without_points_changes_nothing_and_works_again_later(MariaDb).await;
}

/// R0.1: an order that is cancelled before it ships never ships; stock and points come back.
#[tokio::test]
async fn a_cancelled_order_never_ships_and_gives_everything_back() {
    cancelling::a_cancelled_order_never_ships_and_gives_everything_back(MariaDb).await;
}

/// R7.5: two want the last one; one gets it.
#[tokio::test]
async fn the_last_unit_is_sold_once() {
    placing::the_last_unit_is_sold_once(MariaDb).await;
}

/// R6.3: the warehouse is away; orders succeed all the same and ship when it is back.
#[tokio::test]
async fn orders_wait_for_a_warehouse_that_is_away() {
    outages::orders_wait_for_a_warehouse_that_is_away(MariaDb).await;
}

/// The broker is away: an order fails cleanly, and orders work again once it is back.
#[tokio::test]
async fn orders_fail_cleanly_without_the_broker() {
    outages::orders_fail_cleanly_without_the_broker(MariaDb).await;
}

/// SHIP-2: cancelled while `order.placed` is on its way: the late message is absorbed.
#[tokio::test]
async fn a_message_that_comes_after_the_cancel_ships_nothing() {
    cancelling::a_message_that_comes_after_the_cancel_ships_nothing(MariaDb).await;
}

/// What the other tests here say, they say of MariaDB: no server keeps anything in a file.
#[tokio::test]
async fn every_row_is_on_the_server() {
    let estate = Estate::start_on(MariaDb, vec![("warehouse.ship_after", "1s".to_owned())]).await;
    let mut alice = estate.alice().await;
    let placed = place(&mut alice, "rows", &basket(1, 1)).await;
    let id = placed.json()["id"].as_str().unwrap().to_owned();
    reaches(&mut alice, &id, "shipped").await;
    let databases = estate.databases().unwrap();
    for (server, table) in [
        ("order", "order_header"),
        ("inventory", "reservation"),
        ("points", "ledger"),
        ("warehouse", "outbound"),
        ("broker", "message"),
    ] {
        let sql = format!("SELECT COUNT(*) FROM {table}");
        eventually(&format!("{table} has rows"), LIMIT, async || {
            let count: Option<i64> =
                databases.connect(server).query_first(&sql).map_err(|it| it.to_string())?;
            wanted(count, |it| Some(0) < *it)
        })
        .await;
    }
    let files = std::fs::read_dir(estate.data()).unwrap().map(|it| it.unwrap().file_name());
    let files: Vec<_> = files.filter(|it| it.to_string_lossy().contains(".db")).collect();
    assert!(files.is_empty(), "{files:?}");
}

/// R7.4, LOCK-1: two processes under locks sell what there is, and tokens only grow.
#[tokio::test]
async fn locked_products_are_sold_once_by_two_processes() {
    locking::locked_products_are_sold_once_by_two_processes(MariaDb).await;
}

/// R7.4, R7.5: two owners of one lock, made by force, and no unit is sold twice.
#[tokio::test]
async fn a_process_that_stands_still_with_the_lock_sells_nothing_twice() {
    locking::a_process_that_stands_still_with_the_lock_sells_nothing_twice(MariaDb).await;
}
