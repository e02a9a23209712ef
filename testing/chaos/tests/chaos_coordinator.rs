//! The storm, with the coordinator deciding.

use tradewind_chaos::run::{Options, check};
use tradewind_e2e::Storage;

/// How many orders are accepted at least; `TRADEWIND_CHAOS_ORDERS` is for those who want more.
const ORDERS: usize = 250;

/// R5.2: the same storm when the log of transactions is another server's, which dies too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_order_is_lost_or_doubled_in_a_storm_with_a_coordinator() {
    check(Options::of_environment(ORDERS, Storage::Sqlite).with_coordinator()).await;
}
