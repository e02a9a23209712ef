//! The store and the layer on both engines.
//!
//! The suite always runs on SQLite. With the feature `services` it also runs on the server that
//! `TRADEWIND_TEST_MYSQL_URL` names; `cargo xtask test` starts one.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that meets the unexpected fails")]

#[path = "conformance/layer.rs"]
mod layer;
#[path = "conformance/store.rs"]
mod store;
#[path = "conformance/support.rs"]
mod support;

/// Each scenario becomes a test on each engine.
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
    store::a_key_goes_from_claim_to_answer,
    store::another_content_is_a_mismatch_in_every_state,
    store::one_of_many_claims_at_once_wins,
    store::claim_effect_and_answer_in_one_transaction_happen_once,
    store::an_abandoned_claim_is_resumed_with_what_it_fixed,
    store::the_transaction_of_an_overtaken_owner_is_undone,
    store::a_released_key_can_be_used_for_anything,
    store::finishing_twice_undoes_the_second_effect,
    store::keys_of_other_users_and_operations_are_apart,
    store::answers_that_are_not_final_or_too_large_are_not_stored,
    store::what_is_fixed_has_a_bound,
    store::a_claim_can_be_extended_by_its_owner_alone,
    store::cleaning_takes_what_expired_and_never_what_runs,
    layer::a_repeat_gets_the_same_answer_and_no_second_effect,
    layer::the_same_key_at_once_has_one_effect_and_one_answer,
    layer::another_body_or_path_is_refused,
    layer::a_missing_or_malformed_key_is_refused,
    layer::only_writing_methods_need_a_key,
    layer::a_repeat_in_flight_is_told_to_come_back,
    layer::a_failure_is_not_stored_and_can_be_repeated,
    layer::an_effect_whose_answer_was_lost_is_not_repeated,
    layer::a_deterministic_refusal_is_replayed,
    layer::cookies_are_not_replayed,
    layer::a_user_never_gets_the_answer_of_another,
    layer::work_after_a_dead_attempt_begins_anew_without_a_second_effect,
    layer::a_late_handler_leaves_no_effect,
    layer::a_large_body_is_refused,
}
