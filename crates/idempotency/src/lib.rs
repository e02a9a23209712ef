//! One effect and one answer for each idempotency key.
//!
//! A client that repeats a request (its answer was lost, its user clicked twice) sends the same
//! key. The first attempt *claims* the key, does its work and stores its answer; every other gets
//! that answer, or is told to come back while the first is at work.
//!
//! # In one transaction
//! The functions of [`store`] take a [`tradewind_sql::Transaction`], so that claim and effect, or
//! effect and stored answer, commit together. Work that takes several durable steps fixes what must
//! not differ between attempts (ids) in the claim, and resumes with it:
//!
//! ```
//! use serde_json::json;
//! use tradewind_idempotency::{Attempt, Claim, Fingerprint, Key, Scope, StoredAnswer, Terms, store};
//! use tradewind_sql::{Database, DatabaseUrl, Options};
//!
//! # let folder = tempfile::tempdir()?;
//! # let url = DatabaseUrl::sqlite(&folder.path().join("shop.db"));
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! # let database =
//! #     Database::open(&url, Options::default(), "idempotency", tradewind_idempotency::MIGRATIONS)?;
//! let attempt = Attempt {
//!     scope: Scope::new("user-7", "order.place")?,
//!     key: Key::parse("8e03978e-40d5-43dd-bc93-6894a57f9324")?,
//!     fingerprint: Fingerprint::of_json(&json!({"items": [{"product_id": 1, "quantity": 2}]})),
//! };
//! let (first, terms) = (attempt.clone(), Terms::default());
//! let claimed = database
//!     .transaction("place", move |tx| {
//!         let now = store::now(tx)?;
//!         let fixed = json!({"order": "ord_1", "xid": "txn_1"});
//!         // … and the order's own first step, in the same transaction.
//!         store::claim(tx, &first, &fixed, now, &terms)
//!     })
//!     .await?;
//! let Claim::Mine { fence } = claimed else { panic!("a new key") };
//! // … the remote steps …
//! let done = attempt.clone();
//! database
//!     .transaction("decide", move |tx| {
//!         let now = store::now(tx)?;
//!         let answer = StoredAnswer::json(201, &json!({"order": "ord_1"}));
//!         // An attempt that was overtaken gets an error here, which undoes this transaction.
//!         store::finish(tx, &done, fence, &answer, now, &terms)
//!     })
//!     .await?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # As a layer
//! [`IdempotencyLayer`] does this around a handler whose effect is one transaction in the same
//! database; the handler takes [`Claimed`] and calls [`Claimed::finish`] in that transaction.
//!
//! # Promises
//! - While the row lives (7 days by default), the effect in this database happens once for each
//!   scope and key, also when processes die at any point: claim, effect and answer are bound by a
//!   fence that is compared in the same transaction.
//! - The same key with another content is refused, whatever became of the first.
//! - An answer is given to nobody outside its scope: the user is part of it.
//! - Effects elsewhere happen once only if the other side honours a key derived from this one
//!   ([`Key::child`]).
//!
//! Nothing is promised for a key after its row expired.

mod answer;
mod claimed;
mod fingerprint;
mod key;
mod layer;
pub mod machine;
mod schema;
pub mod store;

pub use answer::{AnswerError, StoredAnswer};
pub use claimed::Claimed;
pub use fingerprint::Fingerprint;
pub use key::{Key, KeyError, Scope, ScopeError};
pub use layer::{Idempotency, IdempotencyLayer, KEY_HEADER, REPLAYED_HEADER};
pub use machine::{Fence, Terms};
pub use schema::{MIGRATIONS, migrations};
pub use store::{Attempt, Claim, StoreError};
