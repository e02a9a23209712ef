//! The decisions of a call, as values: which instance, whether again, whether the budget allows
//! it, which instances to leave out for a while. No sockets, no clock, no randomness of their own:
//! time and random numbers are arguments.
//!
//! # Which instance ([`balancer`])
//! | among the instances that are UP | taken |
//! |---|---|
//! | some neither ejected nor tried by this call | the next of them in turn |
//! | else some not tried | the next of them in turn (panic floor: an ejected one beats none) |
//! | else some | the next in turn |
//! | none | no choice |
//!
//! - BAL-1: a choice is one of the instances; there is one exactly if there is an instance.
//! - BAL-2: a worse standing is never taken while there is a better one.
//! - BAL-3: in turn means: while standings stay as they are, every `n` choices take each of the `n`
//!   best once.
//!
//! With [`balancer::Balance::LeastOutstanding`] it is, instead of the next in turn, the one with the
//! fewest calls under way, and of several the one that was taken last:
//! - BAL-4: none is taken that has more calls under way than another of the same standing.
//! - BAL-5: the choice stays as it was unless another has a better standing, or as good a one and
//!   fewer calls under way.
//!
//! # Whether again ([`schedule`])
//! | the attempt failed | idempotent | not idempotent |
//! |---|---|---|
//! | nothing was sent | next untried instance, else same again while `retries_same` lasts; free | the same |
//! | sent, no answer | same while `retries_same` lasts, then next while `retries_next` lasts; from the budget | stop |
//! | answer 503 that asks to come again | next untried while `retries_next` lasts; from the budget | stop |
//! | any other answer | not asked: an answer ends the call | not asked |
//!
//! - SCH-1: a call that is not idempotent is never attempted again once something may have been
//!   sent.
//! - SCH-2: at most `(retries_same + 1) * (retries_next + 1)` attempts reach a server, and at most
//!   `attempts_max` are made.
//! - SCH-3: no attempt starts with less than `floor` left of the total time, waits included.
//! - SCH-4: each attempt after one that may have reached a server is paid from the budget, once.
//!
//! # Retry budget ([`budget`])
//! A window of `ttl` in ten slots. Every call pays in `percent` hundredths of a retry, and the
//! window holds a reserve of `min_per_second` retries for each of its seconds.
//! - BUD-1: when a retry is taken, the retries of the window, with it, are at most the window's
//!   reserve and `percent` of its calls.
//! - BUD-2: after a window without retries the whole reserve is there again.
//!
//! # Ejection ([`ejection`])
//! | state | event | then |
//! |---|---|---|
//! | fit | failed to connect | out for `first` |
//! | out | failed (a call that was already under way) | unchanged |
//! | out, time over | chosen | on trial for `trial`, still left out by others |
//! | on trial | failed | out, twice as long as before, at most `longest` |
//! | on trial, `trial` over without an end | chosen | on trial again |
//! | any | succeeded, or registered anew, or gone from the list | fit |
//!
//! - EJE-1: an instance without a failure is never out.
//! - EJE-2: one stay out lasts at most `longest`.
//! - EJE-3: a burst of failures counts as one.
//! - EJE-4: at most `entries_max` instances are remembered.

pub mod balancer;
pub mod budget;
pub mod ejection;
pub mod schedule;
