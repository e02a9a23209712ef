//! One suite on both engines, and what only one of them can show.
//!
//! The suite always runs on SQLite. With the feature `services` it also runs on the server that
//! `TRADEWIND_TEST_MYSQL_URL` names; `cargo xtask test` starts one.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets the unexpected fails"
)]

#[path = "conformance/child.rs"]
mod child;
#[path = "conformance/disk.rs"]
mod disk;
#[path = "conformance/migrations.rs"]
mod migrations;
#[cfg(feature = "services")]
#[path = "conformance/mysql_only.rs"]
mod mysql_only;
#[path = "conformance/processes.rs"]
mod processes;
#[path = "conformance/sqlite_only.rs"]
mod sqlite_only;
#[path = "conformance/support.rs"]
mod support;
#[path = "conformance/transactions.rs"]
mod transactions;

/// Each scenario becomes a test on each engine.
macro_rules! suite {
    ($($area:ident :: $name:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$area::$name(&super::support::Place::sqlite()).await;
                }
            )*
        }
        #[cfg(feature = "services")]
        mod mysql {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$area::$name(&super::support::Place::mysql()).await;
                }
            )*
        }
    };
}

suite! {
    transactions::errors_and_panics_touch_nobody_else,
    transactions::conditional_updates_never_oversell,
    transactions::a_panic_is_an_error_and_the_next_transaction_works,
    transactions::a_result_that_panics_when_dropped_stops_nobody,
    transactions::errors_have_the_same_kind,
    transactions::reads_see_what_is_committed_and_nothing_else,
    transactions::a_read_cannot_write,
    transactions::a_full_queue_is_busy,
    transactions::an_update_counts_the_rows_it_matched,
    transactions::values_survive_the_way_in_and_out,
    transactions::sums_and_counts_are_integers,
    transactions::a_statement_that_takes_too_long_is_stopped_alone,
    transactions::statements_that_end_transactions_are_refused,
    transactions::answers_have_a_bound,
    transactions::dropping_the_future_does_not_stop_the_work,
    transactions::closing_does_what_is_queued_and_then_refuses,
    transactions::dropping_the_last_handle_ends_the_threads,
    migrations::opening_again_changes_nothing,
    migrations::many_open_at_once_and_migrate_once,
    migrations::later_migrations_are_added,
    migrations::a_changed_migration_refuses_to_open,
    migrations::a_newer_database_refuses_to_open,
    migrations::sets_are_numbered_apart,
    migrations::a_failing_migration_is_named_and_can_be_mended,
}
