//! Moving the write-ahead log into the database file.
//!
//! Most of it is moved beside the writer. What it writes meanwhile is moved while it stands still
//! for a moment, so that the log then begins anew at its own first page. That matters more than it
//! looks: a log that only grows makes the file system write its journal at every commit, which
//! takes several times as long as overwriting what is there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

use super::turn::Turn;
use crate::database::Shared;
use crate::stats::add;

/// How long emptying the log may wait for readers of old snapshots while the writer stands still.
const STANDSTILL_MAX: Duration = Duration::from_millis(250);
/// The same for beginning the log anew, which can as well be done the next time.
const MOMENT_MAX: Duration = Duration::from_millis(10);

/// Tells the checkpoint thread that the log has grown, or that the writer has ended.
#[derive(Default)]
pub(super) struct Signal {
    state: Mutex<State>,
    changed: Condvar,
    /// Pages from which the next checkpoint is due.
    due_from: AtomicU64,
}

#[derive(Default)]
struct State {
    due: bool,
    ended: bool,
}

/// Ends the checkpoint thread when the writer thread ends, however that happens.
pub(super) struct Ending(Arc<Signal>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.0.changed.notify_one();
    }
}

impl Signal {
    pub(super) fn ending_on_drop(self: &Arc<Self>) -> Ending {
        Ending(Arc::clone(self))
    }

    /// Notes the length of the log after a commit; `step` new pages are worth a checkpoint. Each
    /// one costs two fsyncs that the writer feels, so not every commit gets one.
    pub(super) fn grown(&self, pages: u64, step: u32) {
        let step = u64::from(step);
        if pages < step {
            // The log began anew.
            self.due_from.store(step, Ordering::Relaxed);
        } else if self.due_from.load(Ordering::Relaxed) <= pages {
            self.due_from.store(u64::MAX, Ordering::Relaxed);
            self.state.lock().unwrap_or_else(PoisonError::into_inner).due = true;
            self.changed.notify_one();
        }
    }

    fn next_at(&self, pages: u64, step: u32) {
        self.due_from.store(pages.saturating_add(u64::from(step)), Ordering::Relaxed);
    }

    /// Waits for the next checkpoint; false when it is the last.
    fn wait(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self
            .changed
            .wait_while(state, |state| !state.due && !state.ended)
            .unwrap_or_else(PoisonError::into_inner);
        state.due = false;
        !state.ended
    }
}

pub(super) fn run(shared: &Shared, connection: &Connection, mut turn: Turn, signal: &Signal) {
    let pages_max = u64::from(shared.options.wal_pages_max);
    let lock_wait = shared.options.lock_wait;
    let mut truncate_from = pages_max;
    while signal.wait() {
        let pages = shared.counters.wal_pages.load(Ordering::Relaxed);
        let mut done = checkpoint(connection, Mode::Passive);
        if pages < truncate_from {
            standstill(connection, &mut turn, Mode::Restart, lock_wait);
        } else {
            done = standstill(connection, &mut turn, Mode::Truncate, lock_wait);
            // A reader with an old snapshot is in the way: let the log grow some more before the
            // writers have to stand still again for as long.
            truncate_from = if done { pages_max } else { pages + pages_max.div_ceil(2) };
            if !done {
                tracing::warn!(database = shared.set, pages, "write-ahead log not emptied yet");
            }
        }
        signal.next_at(pages, shared.options.wal_pages_checkpoint);
        if done {
            add(&shared.counters.checkpoints, 1);
        }
    }
    if standstill(connection, &mut turn, Mode::Truncate, lock_wait) {
        add(&shared.counters.checkpoints, 1);
    }
}

#[derive(Clone, Copy)]
enum Mode {
    /// Moves what no snapshot needs, beside writer and readers.
    Passive,
    /// Moves all and has the next commit write to the beginning of the log, which keeps its
    /// length; keeps writers out meanwhile.
    Restart,
    /// The same, and shortens the log to nothing.
    Truncate,
}

impl Mode {
    const fn patience(self) -> Duration {
        match self {
            Self::Passive => Duration::ZERO,
            Self::Restart => MOMENT_MAX,
            Self::Truncate => STANDSTILL_MAX,
        }
    }
}

/// A checkpoint with the turn held, so that the writers of all processes wait in their queue and
/// not in SQLite's polling, and only as long as [`Mode::patience`].
fn standstill(connection: &Connection, turn: &mut Turn, mode: Mode, lock_wait: Duration) -> bool {
    let Ok(held) = turn.take() else { return false };
    let short = connection.busy_timeout(mode.patience().min(lock_wait));
    let done = short.is_ok() && checkpoint(connection, mode);
    drop(held);
    connection.busy_timeout(lock_wait).is_ok() && done
}

/// Whether the checkpoint ran; a passive one may have left pages that snapshots still need.
fn checkpoint(connection: &Connection, mode: Mode) -> bool {
    let sql = match mode {
        Mode::Passive => "PRAGMA wal_checkpoint(PASSIVE)",
        Mode::Restart => "PRAGMA wal_checkpoint(RESTART)",
        Mode::Truncate => "PRAGMA wal_checkpoint(TRUNCATE)",
    };
    match (connection.query_row(sql, [], |row| row.get::<_, i64>(0)), mode) {
        (Ok(busy), Mode::Restart | Mode::Truncate) => busy == 0,
        // Busy means that another process is making one.
        (Ok(_), Mode::Passive) => true,
        (Err(error), _) => {
            tracing::warn!(%error, "checkpoint failed");
            false
        }
    }
}
