//! The storm, on MariaDB.

use tradewind_chaos::run::{Options, check};
use tradewind_e2e::Storage;

/// How many orders are accepted at least; `TRADEWIND_CHAOS_ORDERS` is for those who want more.
const ORDERS: usize = 500;

/// The same storm over servers that keep their data in a database server, which stays up: what is
/// in the middle of a transaction when its process dies is rolled back by somebody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_order_is_lost_or_doubled_in_a_storm_on_mariadb() {
    check(Options::of_environment(ORDERS, Storage::MariaDb)).await;
}
