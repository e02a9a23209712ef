//! TCC transactions: what a service begins, what it takes part in, and the engine that decides.
//!
//! A transaction has branches in several services. **Try** reserves in each, the initiator decides
//! once, then **Confirm** uses the reservations or **Cancel** releases them, repeated until every
//! branch has answered.
//!
//! - [`engine`]: initiating. The log lies in the initiating service's own database, so begin and
//!   decision are part of the caller's local transactions: an order costs the caller three durable
//!   steps (begin with the own Try; the remote Trys, all at once; decision with the own Confirm), of
//!   which the first two can be taken beside each other ([`Engine::try_beside`]), and the third
//!   after the answer ([`Declaration::implied`]). With [`Setup::coordinator`] a server of the estate decides and drives instead, and the same calls
//!   mean a branch of the initiator's own: two more durable steps, and nothing to drive here.
//! - [`mod@participant`]: taking part. A [`Participant`] says what its three steps do; the library
//!   mounts them, and writes [the fence](fence) row in the same local transaction as their effect,
//!   so that repeats, late Trys and Cancels without a Try have the right effect, or none.
//! - [`machine`]: the rules, without IO: tables, invariants TX-1 to TX-5, property tests.
//! - [`wire`]: what the two say to each other.
//!
//! # Taking part
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use tradewind_base::Problem;
//! use tradewind_service::axum::http::StatusCode;
//! use tradewind_sql::{Migration, Transaction, params};
//! use tradewind_transaction::{BranchError, Call, fence, participant};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Reserve { product_id: i64, quantity: u32 }
//!
//! struct Stock;
//!
//! #[participant(action = "stock")]
//! impl Stock {
//!     fn reserve(&self, tx: &mut Transaction<'_>, _: &Call, it: &Reserve)
//!         -> Result<(), BranchError>
//!     {
//!         let sql = "UPDATE stock SET available = available - ?, frozen = frozen + ?
//!             WHERE product_id = ? AND available >= ?";
//!         let values = params![it.quantity, it.quantity, it.product_id, it.quantity];
//!         if tx.execute(sql, values)? == 1 {
//!             return Ok(());
//!         }
//!         let detail = "fewer are left than were ordered";
//!         Err(Problem::new(StatusCode::CONFLICT, "stock.short", detail).into())
//!     }
//!
//!     fn confirm(&self, tx: &mut Transaction<'_>, _: &Call, it: &Reserve)
//!         -> Result<(), BranchError>
//!     {
//!         let sql = "UPDATE stock SET frozen = frozen - ? WHERE product_id = ?";
//!         tx.execute(sql, params![it.quantity, it.product_id])?;
//!         Ok(())
//!     }
//!
//!     fn cancel(&self, tx: &mut Transaction<'_>, _: &Call, it: &Reserve)
//!         -> Result<(), BranchError>
//!     {
//!         let sql = "UPDATE stock SET frozen = frozen - ?, available = available + ?
//!             WHERE product_id = ?";
//!         tx.execute(sql, params![it.quantity, it.quantity, it.product_id])?;
//!         Ok(())
//!     }
//! }
//!
//! // The fence is part of the service's own migrations, here numbers 2 and 3:
//! const FENCE: [Migration; fence::MIGRATIONS] = fence::migrations(2);
//! # const _: Migration = FENCE[0];
//! // Participants::new(database, clock).with(Stock).mount() is the router;
//! // .start(peers, &tasks) asks about what nobody settles.
//! ```
//!
//! # Initiating
//!
//! ```no_run
//! use std::time::Duration;
//! use tradewind_base::Problem;
//! use tradewind_sql::Database;
//! use tradewind_transaction::{Decided, Engine, Tried};
//!
//! # async fn place(engine: Engine, database: Database)
//! # -> Result<Option<Problem>, Box<dyn std::error::Error>> {
//! let declaration = engine
//!     .declare("place", Duration::from_secs(2))
//!     .own(&serde_json::json!({ "order": 7 }))?
//!     .branch("inventory", "stock", &serde_json::json!({ "product_id": 1, "quantity": 2 }))?
//!     .branch("points", "credit", &serde_json::json!({ "account": 3, "points": 20 }))?;
//! let xid = declaration.xid();
//!
//! // Durable step 1: begin, with whatever else the caller writes.
//! let (log, begun) = (engine.clone(), declaration.clone());
//! database.transaction("begin", move |tx| log.begin(tx, &begun)).await?;
//!
//! // Durable step 2: all Trys, at once.
//! match engine.try_all(&declaration).await {
//!     Tried::Reserved => {
//!         // Asks the coordinator, if one decides. Otherwise step 3 will.
//!         let Decided::Commit(leave) = engine.decide_commit(&declaration).await else {
//!             return Err("aborted meanwhile, or nobody knows: say so, and look later".into());
//!         };
//!         // Durable step 3: the decision, with the own Confirm and the stored answer.
//!         let log = engine.clone();
//!         database.transaction("commit", move |tx| log.commit(tx, leave)).await?;
//!         engine.settle(xid);
//!         Ok(None)
//!     }
//!     Tried::Refused { problem, .. } | Tried::Unavailable { problem, .. } => {
//!         engine.give_up(&declaration, &problem.code).await?;
//!         Ok(Some(*problem))
//!     }
//! }
//! # }
//! ```
//!
//! An answer to the commit that got lost ([`tradewind_sql::TransactionError::Unknown`]) is looked
//! up with [`Engine::outcome`]; nobody needs to guess.
//!
//! # Promises
//! - Commit, abort and time-out are one compare-and-set; after the deadline only an abort wins,
//!   unless it is implied: then what its participants hold decides.
//! - A begin is durable before its decision, and a decision before anything of it is sent. Every
//!   declared branch hears of it, also those whose Try was never answered. What was tried beside a
//!   begin that is lost is given back when its participants ask.
//! - Any instance of the initiating service drives the log, by leases of its shards; who lost the
//!   lease changes nothing. What a dead instance left is taken over within
//!   [`engine::Settings::lease`].
//! - With a coordinator, the own branch is confirmed or cancelled once and as the coordinator
//!   decided, whoever died when. What the coordinator was not heard to say is told as unknown.
//! - What keeps failing is listed with reason, attempts and next attempt ([`Engine::stuck`]), and
//!   is repeated all the same.
//!
//! # Limits
//! At most 32 remote branches and an hour of trying. Wall clocks of the estate may differ by
//! [`participant::Settings::skew`]; a larger difference makes Trys fail, never branches disagree.
//! A final fence row and a finished transaction are kept for a day by default. A log that was lost
//! (a database restored from an old backup) is told by conflicts and by Confirms without a Try;
//! nothing here repairs it. One list shows at most 100 transactions.

pub mod engine;
pub mod fence;
pub mod machine;
pub mod participant;
mod peers;
#[cfg(test)]
mod tests;
pub mod wire;

pub use crate::participant::{BranchError, Call, Entered, Participant, Participants};
pub use engine::{Decided, Declaration, Engine, LogError, Setup, Tried};
pub use peers::{PeerError, Peers};

/// Makes a [`Participant`] of an impl block with the methods `reserve`, `confirm` and `cancel` (and
/// `enter`, if a lock is to be taken around the Try), with the trait's signatures.
///
/// - `action = "stock"`: the name in the paths `/tcc/stock/try`, `/confirm` and `/cancel`, under
///   which [`Participants::with`] and [`Participants::mount`] make it an endpoint. Parts of a name
///   are joined by dots: `inventory.reserve`.
/// - `crate = "path"`: where this crate is found, if it is neither `::tradewind_transaction` nor,
///   through the facade, `::tradewind::transaction`.
///
/// The reservation is the type that `reserve` takes last.
pub use tradewind_transaction_macros::participant;

/// For the facade alone.
#[doc(hidden)]
pub mod __facade {
    pub use tradewind_transaction_macros::participant_of_facade as participant;
}
