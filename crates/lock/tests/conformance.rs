//! What every back end of locks has to keep, as scenarios over the trait.
//!
//! A back end takes part with a [`support::Place`] that starts processes on it: the suite always
//! runs on SQLite, and with the feature `services` on the server that `TRADEWIND_TEST_MYSQL_URL`
//! names; `cargo xtask test` starts one.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets the unexpected fails"
)]

#[path = "conformance/exclusion.rs"]
mod exclusion;
#[path = "conformance/failure.rs"]
mod failure;
#[path = "conformance/support.rs"]
mod support;
#[path = "conformance/waiting.rs"]
mod waiting;

/// Each scenario becomes a test on each back end.
macro_rules! suite {
    ($($area:ident :: $name:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$area::$name(super::support::Place::sqlite()).await;
                }
            )*
        }
        #[cfg(feature = "services")]
        mod mysql {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$area::$name(super::support::Place::mysql()).await;
                }
            )*
        }
    };
}

suite! {
    exclusion::only_one_holds_at_a_time,
    exclusion::tokens_increase_over_releases_and_processes,
    exclusion::several_names_in_opposite_orders_do_not_deadlock,
    exclusion::several_names_are_taken_all_or_none,
    exclusion::the_write_of_a_late_owner_is_refused,
    failure::a_dead_holder_is_replaced_when_its_lease_is_over,
    failure::renewal_keeps_a_hold_for_many_leases,
    failure::a_release_beside_a_renewal_frees_the_names,
    failure::a_frozen_owner_learns_that_it_lost,
    failure::a_hold_ends_when_it_is_too_old,
    failure::a_server_that_ends_tells_its_holders,
    waiting::who_waits_in_a_process_is_served_in_order,
    waiting::nobody_waits_for_ever_between_processes,
    waiting::a_wait_ends_at_its_limit,
    waiting::what_is_held_is_refused_at_once_on_wish,
    waiting::a_cancelled_wait_leaves_no_trace,
    waiting::a_dropped_guard_frees_its_names,
    waiting::too_many_entries_are_refused,
}
