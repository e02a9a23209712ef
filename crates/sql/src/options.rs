//! Bounds and habits of a database, all with a default.

use std::time::Duration;

/// What to do when SQLite cannot say whether a commit reached the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnknownCommit {
    /// Abort the process. What is on disk after recovery is the truth; memory is not.
    Abort,
    /// Refuse everything from now on. For tests, and for a process with other duties.
    Poison,
}

/// The settings of one [`crate::Database`]. A zero where at least one is needed counts as one.
#[derive(Clone, Debug)]
pub struct Options {
    /// Transactions that may wait; one more is answered [`crate::TransactionError::Busy`].
    pub queue: usize,
    /// Reads that may wait; one more is answered [`crate::TransactionError::Busy`].
    pub read_queue: usize,
    /// Threads, each with its own connection, that serve reads.
    pub readers: usize,
    /// MySQL: threads, each with its own connection, that run transactions.
    pub connections: usize,
    /// SQLite: transactions that are committed together, at most.
    pub batch_max: usize,
    /// SQLite: no further transaction joins a batch that has run for this long.
    pub batch_time: Duration,
    /// SQLite: how long a transaction that nobody waits for may wait for another's commit.
    pub leisure: Duration,
    /// A statement that is still running when its transaction is this old is stopped.
    pub run_time_max: Duration,
    /// Rows one query may answer with.
    pub rows_max: usize,
    /// How long to wait for a lock: of another program on the SQLite file, of a row in MySQL.
    pub lock_wait: Duration,
    /// MySQL: how long to wait for a connection.
    pub connect_time_max: Duration,
    /// MySQL: how long to wait for an answer of the server before the connection counts as lost.
    pub answer_time_max: Duration,
    /// MySQL: how often one transaction is run when deadlocks or lost connections end it.
    pub attempts_max: u32,
    /// SQLite: pages in the write-ahead log from which a checkpoint is made beside the writer.
    pub wal_pages_checkpoint: u32,
    /// SQLite: pages in the write-ahead log from which the writer waits while it is emptied.
    pub wal_pages_max: u32,
    /// SQLite: an upper bound of the file in pages of 4 KiB; `None` is the engine's own.
    pub pages_max: Option<u32>,
    /// SQLite: what to do when the outcome of a commit is unknown. (On MySQL the caller is told.)
    pub on_unknown_commit: OnUnknownCommit,
    /// How long [`crate::Database::close`] waits for what is queued.
    pub close_limit: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queue: 4096,
            read_queue: 4096,
            readers: 2,
            connections: 8,
            // Enough to spread one fsync over; a batch beyond it only adds waiting.
            batch_max: 256,
            // About ten fsyncs' worth: longer batches no longer pay and delay the first in it.
            batch_time: Duration::from_millis(4),
            // At a few hundred transactions a second company nearly always comes sooner.
            leisure: Duration::from_millis(25),
            run_time_max: Duration::from_secs(5),
            rows_max: 100_000,
            lock_wait: Duration::from_secs(5),
            connect_time_max: Duration::from_secs(3),
            answer_time_max: Duration::from_secs(30),
            attempts_max: 10,
            // 16 MiB. After each checkpoint the writer reads its hot pages anew, and a page that
            // was written ten times before it is moved once: four times what SQLite itself uses.
            wal_pages_checkpoint: 4000,
            // 64 MiB: a reader that holds an old snapshot for a moment does not stop the writer.
            wal_pages_max: 16_384,
            pages_max: None,
            on_unknown_commit: OnUnknownCommit::Abort,
            close_limit: Duration::from_secs(30),
        }
    }
}
