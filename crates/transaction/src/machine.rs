//! What is decided without IO: the life of one global transaction ([`global`]), the cells of the
//! fence table ([`fence`]), when a branch is asked again ([`backoff`]), who drives which part of
//! the log ([`shares`]) and what an answer of the coordinator means ([`asked`]).
//!
//! # Invariants
//! - **TX-1** All branches agree with the decision: a Confirm is only ever sent after Committing
//!   is durable, a Cancel only after Aborting is, and neither phase is ever left for the other.
//! - **TX-2** Every transaction ends within its limit or is on the list for a human: Trying ends
//!   at the deadline (when it is implied, as soon as every branch has said whether it is tried, which
//!   is asked then), the second phase is repeated until each branch has answered, and a branch
//!   that keeps failing is listed with reason, attempts and next attempt.
//! - **TX-3** No branch is both confirmed and cancelled: a fence row leaves TRIED once, to one of
//!   two final states.
//! - **TX-4** No TRIED row without a live transaction: Cancels go to every declared branch, also
//!   to those that never answered; a Try that comes after its Cancel, or after the deadline, is
//!   refused; a participant asks for the outcome of rows past their deadline, and what is in no
//!   log is aborted there before it is told. (A Try may be faster than the begin of its transaction:
//!   one that is lost is such a row.)
//! - **TX-5** What was answered as committed is committed, also when it was answered before that
//!   was written down: an implied transaction is aborted only by who began it, before it answers,
//!   or after a branch was closed that was not tried.
//!
//! The property test (`machine/property.rs`) drives initiator, participants and a network
//! that loses, repeats and reorders through crashes at every step, with clocks that jump.

pub mod asked;
pub mod backoff;
pub mod fence;
pub mod global;
#[cfg(test)]
mod property;
pub mod shares;
