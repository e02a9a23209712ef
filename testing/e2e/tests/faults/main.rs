//! Real processes die at every step of an order, and the books agree afterwards.
//!
//! Each test arms points at which the next process that comes by is killed (`tradewind_base::fault`),
//! has buyers place or cancel orders who repeat themselves until they know, and waits until nothing
//! is left to do. Then every order that a buyer was told of exists exactly once, stock, points and
//! shipments say the same, and `tradewind audit` finds nothing.

mod initiator;
mod messages;
mod participants;
mod shop;
mod wire;

use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);
