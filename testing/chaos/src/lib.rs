//! Chaos: buyers place, repeat and cancel orders through the gateway while processes are killed,
//! frozen and restarted and the network between them loses and doubles messages; then it calms
//! down, and the books must be right.
//!
//! 1. An estate starts with a [link](proxy) in front of every process but the registry.
//! 2. Sixteen [buyers](buyer) carry out what their [plan](machine) says. What has no definite
//!    answer (a time-out, a broken connection, 5xx, 202, a key in flight) is sent again with the
//!    same key until it has one. Each keeps a [ledger] of what it was told.
//! 3. Meanwhile the [storm](weather) goes over the processes, until every kind of process died
//!    twice and enough orders were accepted; the audit runs again and again and must not raise a
//!    false alarm.
//! 4. The buyers finish, the links become calm, everything settles.
//! 5. The [verdict]: every order that was accepted is there, in a state that fits what its buyer
//!    was told; one order for each key; no order that nobody was told of; the points are those of
//!    the orders that shipped; what is gone from the shelves is what shipped; no dead letter; the
//!    audit is clean.
//!
//! A run is made from a seed, which is printed. What a seed gives again and what not is told in
//! [machine].

pub mod audit;
pub mod books;
pub mod buyer;
pub mod ledger;
pub mod machine;
pub mod proxy;
pub mod reply;
pub mod report;
pub mod run;
pub mod verdict;
pub mod weather;
