//! What breaks an invariant that spans databases, given what each of them said.
//!
//! The databases cannot be read at one moment, so each question is asked in one of two ways:
//!
//! - **Nothing without its cause** (`unfounded`). The effect was read *before* the cause. What
//!   caused an effect was durable before it, and decisions are never taken back; so an effect whose
//!   cause is not there now never had one.
//! - **No cause without its effect** (`missing`). The cause was read *before* the effect. It counts
//!   only when nothing is on its way any more: the transaction is over (each branch has said that
//!   it did its part, which was durable before), the message is acknowledged. What is on its way
//!   explains everything.
//!
//! So the effects are read first, then the causes; where the second question has an answer, the
//! effects are read once more. Between a message and its outbound order it goes both ways (the
//! message makes the order outbound, its shipment makes another message): the warehouse is read
//! before the broker for the first question and after it for the second.
//!
//! # Orders
//!
//! | effect | needs the cause | else |
//! |---|---|---|
//! | anything; of what is only held, what is old | the order exists | the invariant of the effect |
//! | outbound order, received or shipped | order committed | SHIP-2 |
//! | outbound order, shipped | no cancellation committed | SHIP-2 |
//! | outbound order, void | cancellation committed | TX-1 |
//! | credit, revocation | order, cancellation committed; same user and amount | POINTS-2 |
//! | reservation confirmed, released | order committed, aborted, by the same transaction | TX-1 |
//! | reservation restocked | cancellation committed | TX-1 |
//! | message `order.placed`, committed; cancelled | order committed; aborted | MSG-3; TX-1 |
//! | held for a cancellation; a pending credit | one was begun; by the same transaction | TX-4 |
//! | a second committed message | never | JOIN-3 |
//! | other lines than the order's | never | JOIN-1 |
//! | order shipped | outbound order shipped (read again) | SHIP-2 |
//!
//! | cause, over | needs the effect | else |
//! |---|---|---|
//! | order committed | all lines reserved and confirmed | JOIN-1, TX-1 |
//! | order committed, points earned | a credit | POINTS-2 |
//! | order committed | a committed message, unless cleaned | JOIN-3 |
//! | its message acknowledged, or cleaned | an outbound order | SHIP-1 |
//! | order aborted | nothing frozen, noted, prepared | TX-4 |
//! | cancellation committed | everything restocked, revoked, void | TX-1, POINTS-2, SHIP-2 |
//! | outbound order shipped, its message acknowledged | order shipped | MSG-2 |
//! | outbound order shipped | the message in the outbox or the broker, unless cleaned | MSG-1 |
//!
//! # Transactions
//!
//! | fence | needs in the log | else |
//! |---|---|---|
//! | committed; rolled back, suspended | committed; aborted; or cleaned | TX-1 |
//! | committed here, cancelled there | never | TX-3 |
//! | tried (read again) | none, or one that is open and whose branch has not answered | TX-4 |
//! | tried, old | a transaction | TX-4 |
//!
//! | log | needs | else |
//! |---|---|---|
//! | branch answered (fences read again) | its fence, unless cleaned | TX-1 |
//! | undecided past its deadline, undone past its time | the list for a human; undone: the shop stands still | TX-2 |
//!
//! A Try may be sent beside the begin of its transaction, before that is durable. So for a while ([`transaction::UNHEARD_MS`]) something may be held for a transaction, and an order,
//! that is not there; if its begin is lost, it is given back when it is asked about. For that, time
//! goes on only while the shop is seen alive, and a shop that starts is looked at twice.
//!
//! A coordinator whose database is not there has an empty log. What the tables above say of a fence
//! that it decides over is then no finding but the proof that its log is lost.
//!
//! # Invariants of these checks
//! 1. Facts that were read while the shop did everything right break nothing, in whatever state of
//!    whatever transaction each database was read.
//! 2. Each row of the tables above is reported when its facts are given.

pub mod order;
pub mod transaction;

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;
