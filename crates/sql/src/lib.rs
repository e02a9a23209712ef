//! The storage seam: one transaction closure over SQLite and MySQL.
//!
//! A service opens a [`Database`] and runs synchronous closures in it. The same closures, with the
//! same `?` placeholders, run on a SQLite file beside the process and on a MySQL or MariaDB server;
//! only the schema ([`Migration`]) is written twice.
//!
//! ```
//! use tradewind_sql::{Database, DatabaseUrl, Error, Migration, Options, params};
//!
//! const MIGRATIONS: &[Migration] = &[Migration {
//!     version: 1,
//!     name: "create stock",
//!     sqlite: "CREATE TABLE stock (product INTEGER PRIMARY KEY, available INTEGER NOT NULL)",
//!     mysql: "CREATE TABLE stock (product BIGINT PRIMARY KEY, available BIGINT NOT NULL)",
//! }];
//!
//! # let folder = tempfile::tempdir()?;
//! # let url = DatabaseUrl::sqlite(&folder.path().join("shop.db"));
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let database = Database::open(&url, Options::default(), "shop", MIGRATIONS)?;
//! let taken = database
//!     .transaction("take", |tx| {
//!         tx.execute("INSERT INTO stock VALUES (?, ?)", params![1, 10])?;
//!         // The condition is part of the write: right on both engines, under any concurrency.
//!         let sql = "UPDATE stock SET available = available - ? WHERE product = ? AND available >= ?";
//!         Ok::<_, Error>(tx.execute(sql, params![3, 1, 3])? == 1)
//!     })
//!     .await?;
//! assert!(taken);
//! database.close().await?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # Promises
//! - An answered transaction is durable: SQLite runs with `synchronous=FULL`, MySQL as its server
//!   is configured (high availability asks for flush at commit, `sync_binlog=1` and lossless
//!   replication).
//! - A closure's writes stand or fall together. Its error or panic undoes them and nobody else's.
//! - No error is ambiguous but [`TransactionError::Unknown`], which says that it is.
//! - Queues, batches, rows, running times, reruns and waits have bounds ([`Options`]).
//!
//! # SQLite
//! One thread writes. It runs what waits in one transaction and commits that, so one fsync serves
//! up to [`Options::batch_max`] closures. When a closure refuses that has written something, the
//! batch is run again with a savepoint for each, and so are the next few; otherwise there are none.
//! What nobody waits for ([`Database::transaction_at_leisure`]) joins the next commit that somebody
//! waits for. The write-ahead log is begun anew in place after each checkpoint: a commit that
//! writes over what is there waits only for its own pages, one that makes the file longer also for
//! the journal of the file system. Errors that end the whole transaction (a full disk, an
//! interrupted statement) would take neighbours along; then the batch is run again one by one.
//! Several processes on one file take turns, batch by batch.
//! The rules are in a pure [machine], the only place where they are decided.
//! A commit that fails without telling whether it reached the disk aborts the process
//! ([`OnUnknownCommit`]): after recovery the disk tells. Do not declare deferred constraints: they
//! would fail at the COMMIT of a whole batch, which then runs one by one.
//!
//! # MySQL
//! A few threads with a connection each run one transaction each at READ COMMITTED: under
//! conditional writes the snapshot of REPEATABLE READ protects nothing (an UPDATE sees the newest
//! row all the same), while its gap locks make unrelated inserts wait and deadlock. Deadlocks,
//! lock time-outs and connections lost before COMMIT run the closure again, with jitter and a
//! bound. A connection lost during COMMIT is [`TransactionError::Unknown`]. Sessions use a strict
//! `sql_mode` with `ANSI_QUOTES`, `PIPES_AS_CONCAT` and `NO_BACKSLASH_ESCAPES`, so that literals,
//! quoted names and `||` mean what they mean on SQLite. TLS is not offered: see [`DatabaseUrl`].
//!
//! # Limits
//! Floating point, dates and decimals with a fraction are not values here. `RETURNING` works on
//! SQLite and MariaDB but not on MySQL. Schema changes happen in migrations only.

mod database;
mod error;
mod job;
pub mod machine;
mod migration;
mod mysql;
mod options;
mod queue;
mod sqlite;
mod stats;
mod transaction;
mod url;
mod value;

pub use database::Database;
pub use error::{CloseError, Error, ErrorKind, OpenError, Retry, TransactionError};
pub use migration::{Migration, MigrationError};
pub use options::{OnUnknownCommit, Options};
pub use stats::Stats;
pub use transaction::{Dialect, Transaction};
pub use url::{DatabaseUrl, UrlError};
pub use value::{FromValue, Row, Value};
