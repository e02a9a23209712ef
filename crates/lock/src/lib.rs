//! Locks over several processes: a lease by name, a fencing token, and a sign of loss.
//!
//! A lock shapes load; it does not keep anything right. Whoever holds one may be paused for longer
//! than its lease lasts, and then two believe that they hold it. So every hold carries a [`Token`]
//! that grows with each grant of its name, and the *resource* refuses what comes with an older one:
//!
//! ```sql
//! UPDATE stock SET available = available - ?, fence = ? WHERE product = ? AND available >= ? AND fence <= ?
//! ```
//!
//! Where the resource cannot check (a mail, a payment), use an idempotency key for each effect.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use tradewind_base::{SystemClock, Tasks};
//! use tradewind_lock::{LockConfig, Locks, Names, SqlLocks};
//! use tradewind_sql::{Database, DatabaseUrl, Options};
//!
//! # let folder = tempfile::tempdir()?;
//! # let url = DatabaseUrl::sqlite(&folder.path().join("shop.db"));
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let database = Database::open(&url, Options::default(), "lock", tradewind_lock::MIGRATIONS)?;
//! let (clock, tasks) = (Arc::new(SystemClock::new()), Tasks::new());
//! let locks = SqlLocks::new(database, LockConfig::default(), clock, &tasks)?;
//!
//! let names = Names::several(["stock:2", "stock:1"])?;
//! let guard = locks.acquire(names, Duration::from_secs(2)).await?;
//! for (name, token) in guard.tokens() {
//!     // The token goes into the predicate of the write.
//!     println!("{name} {token}");
//! }
//! guard.release().await?;
//! # tasks.shutdown(Duration::from_secs(1)).await?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # Promises
//! - At any instant at most one owner of a name is in the store, and its token is higher than all
//!   before it, also after a release.
//! - [`Guard::lost`] is cancelled, by the holder's own clock that never steps, before anybody else
//!   can own the name, as long as that clock and the store's run at rates that differ by less than
//!   5 % and neither steps. A hold that was lost never comes back.
//! - Several names are taken all or none, in one transaction and in sorted order: no deadlock.
//! - Within one process waiters of a name are served in the order they came, and only the first of
//!   them asks the store. Between processes there is no order; each asks again after at most
//!   [`LockConfig::poll_max`], so nobody is passed over for ever but by luck.
//! - A future that is dropped while it waits leaves nothing behind.
//!
//! # Time
//! A lease ends by the clock of the *database*, the one clock that all contenders share; the holder
//! counts from before it sent its request, so its own view always ends first. A database whose
//! clock steps back cannot make a lease longer than it was granted (the row knows its length); one
//! that steps forward ends leases early: the holder learns of it at its next renewal, and the token
//! keeps the resource right meanwhile. The alternative, timing a foreign row by one's own clock,
//! needs a full lease of watching before every takeover and helps only against such steps. A
//! machine that is suspended may stop its monotonic clock: again only the token helps.
//!
//! # Limits
//! Rows are kept, one for each name ever used, since the token must outlive the hold: use names of
//! things that exist, not random ones. No reentry (a second acquisition of a held name waits, also
//! in the same task), no shared locks.

mod config;
mod error;
mod guard;
mod keeper;
mod leased;
pub mod machine;
mod name;
mod place;
mod schema;
mod sql;
mod store;
#[cfg(test)]
mod tests;

pub use config::{ConfigError, LockConfig};
pub use error::{AcquireError, Lost, ReleaseError, StoreError};
pub use guard::{Guard, Released};
pub use leased::{Leased, Locks, Pending};
pub use machine::lease::Loss;
pub use name::{LockName, NameError, Names, Token};
pub use schema::{MIGRATIONS, migrations};
pub use sql::{SqlLocks, SqlStore};
pub use store::{LeaseStore, Take};
