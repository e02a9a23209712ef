//! Invariants over a database: stated once, and checked by tests, by an audit from outside and by
//! the running server itself.
//!
//! An [`Invariant`] is a number and a sentence. A [`Check`] looks for rows that break one, in one
//! database, a window of rows at a time: each window is one short read on its own snapshot, so
//! that no check holds back the emptying of a write-ahead log, however large the table. What a
//! check compares must therefore lie within one window: a row and what hangs on it.
//!
//! - [`all`] runs checks in one snapshot of the caller's: for tests.
//! - [`run`] runs them window by window and hands back a [`Finding`] for each invariant.
//! - [`fn@watch`] does so for ever in the background of a server, a bounded number of windows each
//!   time, and shows `tradewind_invariant_violations` and `tradewind_invariant_checked`, both by
//!   `invariant` and `database`. Rows that break an invariant are logged as errors.
//!
//! ```
//! use tradewind_audit::{Check, Columns, First, Invariant, Look, all};
//! use tradewind_sql::{Database, DatabaseUrl, Error, Migration, Options};
//!
//! const STOCK_1: Invariant =
//!     Invariant { number: "STOCK-1", statement: "there is never less than nothing" };
//! const CHECKS: &[Check] = &[Check {
//!     invariant: &STOCK_1,
//!     what: "is less than nothing",
//!     window: 1000,
//!     look: Look::Rows(Columns {
//!         first: First::Number,
//!         columns: &["product", "on_hand"],
//!         bound: "SELECT MAX(k), COUNT(*) FROM (SELECT product AS k FROM stock \
//!             WHERE ? < product ORDER BY product LIMIT ?) w",
//!         broken: "SELECT product, on_hand FROM stock \
//!             WHERE ? < product AND product <= ? AND on_hand < 0",
//!         recent: None,
//!     }),
//! }];
//! # const MIGRATIONS: &[Migration] = &[Migration {
//! #     version: 1,
//! #     name: "create stock",
//! #     sqlite: "CREATE TABLE stock (product INTEGER PRIMARY KEY, on_hand INTEGER NOT NULL)",
//! #     mysql: "CREATE TABLE stock (product BIGINT PRIMARY KEY, on_hand BIGINT NOT NULL)",
//! # }];
//! # let folder = tempfile::tempdir()?;
//! # let url = DatabaseUrl::sqlite(&folder.path().join("shop.db"));
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! # let database = Database::open(&url, Options::default(), "shop", MIGRATIONS)?;
//! # let sql = "INSERT INTO stock VALUES (7, -1)";
//! # database.transaction("put", move |tx| tx.execute(sql, &[])).await.map_err(|_: tradewind_sql::TransactionError<Error>| "sql")?;
//! let now = tradewind_base::Timestamp::from_millis(0);
//! let broken = database.read("audit", move |tx| all(tx, CHECKS, now)).await
//!     .map_err(|it: tradewind_sql::TransactionError<Error>| it.to_string())?;
//! assert_eq!(broken[0].invariant, "STOCK-1");
//! assert_eq!(broken[0].row, "product=7 on_hand=-1: is less than nothing");
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # Limits
//! A finding keeps [`ROWS_MAX`] rows and counts the others. What several databases say about one
//! thing is not looked at here: they cannot be read at one moment, and who compares them must know
//! which of them tells first.

mod check;
pub mod estate;
mod finding;
mod watch;

pub use check::{Check, Columns, First, Look, Page, Window, all, run};
pub use finding::{Finding, Findings, Invariant, ROWS_MAX, Violation};
pub use watch::watch;

#[cfg(test)]
mod tests;
