//! What happens to messages and deliveries, without IO.
//!
//! # A message
//!
//! | state | commit | roll back | checks exhausted | subscriber appears | last acknowledgement |
//! |---|---|---|---|---|---|
//! | prepared | committed, or parked-unrouted without a subscriber | cancelled | parked-undecided | – | – |
//! | parked-undecided | as prepared | cancelled | – | – | – |
//! | committed | stays | conflict | – | – | done |
//! | parked-unrouted | stays | conflict | – | committed | – |
//! | done | stays | conflict | – | – | – |
//! | cancelled | conflict | stays | – | – | – |
//!
//! # A delivery
//!
//! | state | claim | ack | not yet | unreachable | failed | refused, gone | lease over | replay |
//! |---|---|---|---|---|---|---|---|---|
//! | ready | in flight when due | done | – | – | – | – | – | – |
//! | in flight | when its lease is over | done | ready, not counted | ready, not counted | ready, or dead when attempts are used up | dead | claimable | – |
//! | dead | – | done | – | – | – | – | – | ready, attempts from 0 |
//! | done | – | stays | – | – | – | – | – | – |
//!
//! Every word but an acknowledgement carries the token of its claim and counts only while that is
//! the latest: a slow attempt whose lease ran out cannot undo what a later one did. An
//! acknowledgement counts whenever it comes, since the effect has happened.
//!
//! Deliveries of one lane may travel in one request, whose answer has the status of each. What an
//! answer to the whole says:
//!
//! | answer to the whole | each delivery |
//! |---|---|
//! | 200 with a result for each | as its own result says |
//! | 3xx, 408, 425, 429, 5xx | as this status says |
//! | none, or nothing sent | as this says |
//! | everything else, 2xx without results too | is sent alone within the same attempt, and so is what comes in the minute after |
//!
//! # A branch
//!
//! | fence | try | confirm | cancel |
//! |---|---|---|---|
//! | none | tried (refused as expired past its deadline) | no-try, nothing written | suspended |
//! | tried | stays | confirmed: the message commits | cancelled: the message is discarded |
//! | confirmed | stays | stays | conflict |
//! | cancelled | suspended | conflict | stays |
//! | suspended | suspended | conflict | stays |
//!
//! # Invariants
//! - MSG-1 A committed message is, for each of its subscribers, delivered, in retry or a dead
//!   letter; without subscribers it is parked. None is dropped.
//! - MSG-2 Its effect happens once: deliveries repeat, ids do not change, consumers remember them.
//! - MSG-3 No message that was rolled back is ever delivered.

pub mod circuit;
pub mod company;
pub mod delivery;
pub mod fence;
pub mod message;
pub mod schedule;

#[cfg(test)]
mod tests;
