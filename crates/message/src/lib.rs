//! Reliable messages for services: what a producer writes and what a consumer does with it.
//!
//! - [`Outbox`]: the message is a row in the producer's own transaction, published afterwards. The
//!   cheapest way where the producer has a database.
//! - [`HalfMessages`]: the broker has the message first, undecided; the local transaction decides
//!   through its barrier row.
//! - As a branch of a distributed transaction: [`Draft::branch`] is the payload of the action
//!   `message` of the service `broker`; the message has the id [`MessageId::of_branch`].
//! - [`Consumer`]: a handler that acts once per message, because it remembers the message in the
//!   same local transaction as the effect.
//! - [`Subscription::declare`]: who gets what, told to the broker at the start.
//!
//! Under load the broker pushes several deliveries of one subscription in one request ([`batch`])
//! to whoever declared that it takes them, which [`Subscription::new`] does for a [`Consumer`];
//! each is still consumed, acknowledged and repeated for itself.
//!
//! Delivery is at least once; the effect is once. [`schema`] has the tables, [`wire`] the protocol.
//!
//! ```
//! use tradewind_message::{ConsumeError, Consumer, Event};
//! use tradewind_service::axum::Router;
//! use tradewind_sql::{Transaction, params};
//!
//! fn ship(tx: &mut Transaction<'_>, event: &Event) -> Result<(), ConsumeError> {
//!     let sql = "INSERT INTO outbound (order_id) VALUES (?)";
//!     tx.execute(sql, params![&event.key])?;
//!     Ok(())
//! }
//!
//! fn router(consumer: &Consumer) -> Router {
//!     Router::new().route("/messages/order-placed", consumer.handler(ship))
//! }
//! ```
//!
//! # Limits
//! Data up to 64 KiB; names up to 64, keys and sources up to 128 visible ASCII characters. What a
//! consumer remembers must be kept longer than a message can be redelivered, replays by a human
//! included ([`Consumer::clean`]). Messages have no order among each other: a consumer that needs
//! one answers [`ConsumeError::NotYet`] to what comes early.

pub mod batch;
mod client;
mod consumer;
mod draft;
mod event;
mod half;
mod outbox;
pub mod schema;
pub mod signature;
pub mod wire;

pub use client::{Broker, BrokerClient, Subscription};
pub use consumer::{ConsumeError, Consumer, Reply, Taken};
pub use draft::{Draft, DraftError};
pub use event::Event;
pub use half::{CHECK_PATH, HalfError, HalfMessages};
pub use outbox::{Outbox, Waiting};
pub use signature::SigningKey;
pub use wire::MessageId;
