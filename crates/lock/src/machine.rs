//! The rules of locks, without IO, clocks and chance.
//!
//! - [`lease`]: what a row of the store becomes when it is claimed, renewed or released, and what
//!   a holder may believe.
//! - [`line`](mod@line): in which order the waiters of one process go.
//! - [`poll`]: how long to wait before asking again.
//!
//! A row, seen by a contender at `now` of the store's clock:
//!
//! | row | claim | renew (owner and token are the row's) | release (owner is the row's) |
//! |---|---|---|---|
//! | absent | granted, token 1 | refused | nothing |
//! | free | granted, token + 1 | refused | nothing |
//! | mine | granted again, same token | longer | free, token kept |
//! | another's, lease ended | granted, token + 1 | refused | nothing |
//! | another's, lease runs | held | refused | nothing |
//! | another's, lease ends later than its length allows | held, end corrected | refused | nothing |
//!
//! Invariants, each with a property test:
//!
//! - LOCK-2: the tokens granted for a name strictly increase.
//! - LOCK-3: two owners never both believe that they hold a name, while the rates of their clocks
//!   and of the store's differ by at most [`lease::DRIFT_MAX_PERCENT`] and no clock steps.
//! - LOCK-4: a hold that was lost is lost for ever, whatever answers arrive later.
//! - LOCK-5: a name is free at the latest one lease after the last renewal, also when the store's
//!   clock stepped back in between and then runs on.
//! - LOCK-6: who stands in line is served before everybody who came later and wants one of the
//!   same names; who leaves lets others pass at once.
//!
//! (LOCK-1, that no resource accepts a lower token than one it has seen, is the resource's.)

pub mod lease;
pub mod line;
pub mod poll;
#[cfg(test)]
mod tests;
