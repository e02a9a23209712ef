//! Counters that the edge exports. They only grow, but for the two queue lengths.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A reading of a database's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Commits that took closures: on SQLite a batch, on MySQL a transaction.
    pub batches: u64,
    /// Closures that were answered with their own result, refused ones included.
    pub closures: u64,
    /// Closures whose own result was an error or a panic.
    pub refused: u64,
    /// Runs beyond the first: a batch broken up, a deadlock, a lost connection.
    pub reruns: u64,
    /// The most closures one commit took.
    pub batch_size_max: u64,
    /// Time spent in closures.
    pub run_time: Duration,
    /// Time spent in COMMIT, which is where the disk is waited for.
    pub commit_time: Duration,
    /// The longest COMMIT.
    pub commit_time_max: Duration,
    /// SQLite: time spent waiting for other processes on the same file.
    pub turn_time: Duration,
    /// Reads that were answered.
    pub reads: u64,
    /// Transactions and reads that found their queue full.
    pub busy: u64,
    /// Transactions that wait now.
    pub queue: u64,
    /// Reads that wait now.
    pub read_queue: u64,
    /// SQLite: checkpoints made.
    pub checkpoints: u64,
    /// SQLite: pages in the write-ahead log after the last commit.
    pub wal_pages: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) batches: AtomicU64,
    pub(crate) closures: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) reruns: AtomicU64,
    pub(crate) batch_size_max: AtomicU64,
    pub(crate) run_nanos: AtomicU64,
    pub(crate) commit_nanos: AtomicU64,
    pub(crate) commit_nanos_max: AtomicU64,
    pub(crate) turn_nanos: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) busy: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) wal_pages: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

pub(crate) fn add_time(counter: &AtomicU64, by: Duration) {
    add(counter, nanos(by));
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

impl Counters {
    /// Notes one successful commit of `closures` closures.
    pub(crate) fn committed(&self, closures: usize, took: Duration) {
        let closures = u64::try_from(closures).unwrap_or(u64::MAX);
        add(&self.batches, 1);
        add_time(&self.commit_nanos, took);
        self.commit_nanos_max.fetch_max(nanos(took), Ordering::Relaxed);
        self.batch_size_max.fetch_max(closures, Ordering::Relaxed);
    }

    pub(crate) fn read(&self, queue: usize, read_queue: usize) -> Stats {
        let get = |it: &AtomicU64| it.load(Ordering::Relaxed);
        let time = |it: &AtomicU64| Duration::from_nanos(it.load(Ordering::Relaxed));
        Stats {
            batches: get(&self.batches),
            closures: get(&self.closures),
            refused: get(&self.refused),
            reruns: get(&self.reruns),
            batch_size_max: get(&self.batch_size_max),
            run_time: time(&self.run_nanos),
            commit_time: time(&self.commit_nanos),
            commit_time_max: time(&self.commit_nanos_max),
            turn_time: time(&self.turn_nanos),
            reads: get(&self.reads),
            busy: get(&self.busy),
            queue: u64::try_from(queue).unwrap_or(u64::MAX),
            read_queue: u64::try_from(read_queue).unwrap_or(u64::MAX),
            checkpoints: get(&self.checkpoints),
            wal_pages: get(&self.wal_pages),
        }
    }
}
