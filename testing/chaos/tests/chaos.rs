//! The storm, on SQLite.

use tradewind_chaos::run::{Options, check};
use tradewind_e2e::Storage;

/// How many orders are accepted at least; `TRADEWIND_CHAOS_ORDERS` is for those who want more.
const ORDERS: usize = 500;

/// R4.2, R5.1, R5.3, R6.3, R7.5: orders survive crashes, frozen processes, lost and doubled
/// messages: none is lost, none is doubled, and what was refused left nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_order_is_lost_or_doubled_in_a_storm() {
    check(Options::of_environment(ORDERS, Storage::Sqlite)).await;
}
