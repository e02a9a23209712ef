//! The storm, on SQLite.

use tradewind_chaos::run::{Options, check};
use tradewind_e2e::Storage;

/// Orders survive crashes, frozen processes, lost and doubled messages: none is lost, none is
/// doubled, and what was refused left nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_order_is_lost_or_doubled_in_a_storm() {
    check(Options::of_environment(Storage::Sqlite)).await;
}
