//! The trade chain on real processes: place, ship, cancel; what fails, fails cleanly.

use tradewind_e2e::Storage::Sqlite;
use tradewind_e2e::trade::{cancelling, locking, outages, placing};

/// R0.1, R5.1, R6.3: an order is placed, the stock is taken, points are credited, it ships.
#[tokio::test]
async fn an_order_is_placed_and_shipped_and_its_ids_join() {
    placing::an_order_is_placed_and_shipped_and_its_ids_join(Sqlite).await;
}

/// R4.2: one key, one order, one answer.
#[tokio::test]
async fn the_same_key_gives_the_same_order() {
    placing::the_same_key_gives_the_same_order(Sqlite).await;
}

/// R5.1: points down, the order fails with a clear error and everything is as before.
#[tokio::test]
async fn an_order_without_points_changes_nothing_and_works_again_later() {
    outages::an_order_without_points_changes_nothing_and_works_again_later(Sqlite).await;
}

/// R0.1: an order that is cancelled before it ships never ships; stock and points come back.
#[tokio::test]
async fn a_cancelled_order_never_ships_and_gives_everything_back() {
    cancelling::a_cancelled_order_never_ships_and_gives_everything_back(Sqlite).await;
}

/// R7.5: two want the last one; one gets it.
#[tokio::test]
async fn the_last_unit_is_sold_once() {
    placing::the_last_unit_is_sold_once(Sqlite).await;
}

/// R6.3: the warehouse is away; orders succeed all the same and ship when it is back.
#[tokio::test]
async fn orders_wait_for_a_warehouse_that_is_away() {
    outages::orders_wait_for_a_warehouse_that_is_away(Sqlite).await;
}

/// The broker is away: an order fails cleanly, and orders work again once it is back.
#[tokio::test]
async fn orders_fail_cleanly_without_the_broker() {
    outages::orders_fail_cleanly_without_the_broker(Sqlite).await;
}

/// SHIP-2: cancelled while `order.placed` is on its way: the late message is absorbed.
#[tokio::test]
async fn a_message_that_comes_after_the_cancel_ships_nothing() {
    cancelling::a_message_that_comes_after_the_cancel_ships_nothing(Sqlite).await;
}

/// R7.4, LOCK-1: two processes under locks sell what there is, and tokens only grow.
#[tokio::test]
async fn locked_products_are_sold_once_by_two_processes() {
    locking::locked_products_are_sold_once_by_two_processes(Sqlite).await;
}
