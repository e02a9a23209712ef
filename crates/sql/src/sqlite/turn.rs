//! Turns of several processes on one file.
//!
//! SQLite's own lock is tried in a loop with sleeps: of two busy processes one starves. Here every
//! batch is bracketed by blocking file locks. Two are needed: with one alone, the process that
//! releases it would mostly take it again before the kernel has woken the other. With a *next*
//! lock in front, whoever waits longest holds `next` and gets the turn as soon as it is released;
//! the one that released it has to queue up behind. With two processes they alternate strictly;
//! with more, those behind `next` are served in the kernel's order, and nobody is overtaken by
//! the one that just had its turn.
//!
//! The kernel drops the locks of a process that dies. A process that is stopped (SIGSTOP) in its
//! turn stops the others' writes until it goes on, as any lock would; their queues fill and they
//! answer Busy.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::OpenError;

pub(crate) struct Turn {
    next: File,
    turn: File,
}

/// The turn is ours until this is dropped.
pub(crate) struct Held<'a>(&'a File);

impl Turn {
    pub(crate) fn open(database: &Path) -> Result<Self, OpenError> {
        let open = |suffix: &str| {
            let mut path = database.as_os_str().to_owned();
            path.push(suffix);
            let path = PathBuf::from(path);
            // The files stay: deleting a lock file while somebody waits on it makes two locks.
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(&path)
                .map_err(|source| super::file_error(&path, source))
        };
        Ok(Self { next: open("-next")?, turn: open("-turn")? })
    }

    /// Waits for the turn.
    pub(crate) fn take(&mut self) -> io::Result<Held<'_>> {
        lock(&self.next)?;
        let next = Held(&self.next);
        let taken = lock(&self.turn);
        drop(next);
        taken.map(|()| Held(&self.turn))
    }
}

fn lock(file: &File) -> io::Result<()> {
    loop {
        match flock(file, FlockOperation::LockExclusive) {
            Err(Errno::INTR) => {}
            other => return other.map_err(io::Error::from),
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // Unlocking a valid descriptor cannot fail; closing the file would unlock it too.
        if let Err(error) = flock(self.0, FlockOperation::Unlock) {
            tracing::error!(%error, "cannot release the turn on a database file");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn two_greedy_holders_get_equal_shares_and_never_hold_together() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it.db");
        let counts = [AtomicU32::new(0), AtomicU32::new(0)];
        let inside = AtomicBool::new(false);
        let start = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            for own in 0..2 {
                let (path, counts, inside, start) = (&path, &counts, &inside, &start);
                scope.spawn(move || {
                    let mut turn = Turn::open(path).unwrap();
                    start.wait();
                    while counts[own].load(Ordering::SeqCst) < 200 {
                        let held = turn.take().unwrap();
                        assert!(!inside.swap(true, Ordering::SeqCst), "two at once");
                        // Long enough for the other to arrive at the lock.
                        let until = tokio::time::Instant::now() + Duration::from_micros(300);
                        while tokio::time::Instant::now() < until {
                            std::thread::yield_now();
                        }
                        counts[own].fetch_add(1, Ordering::SeqCst);
                        inside.store(false, Ordering::SeqCst);
                        drop(held);
                        let other = counts[1 - own].load(Ordering::SeqCst);
                        let mine = counts[own].load(Ordering::SeqCst);
                        assert!(mine < 50 || other * 3 > mine, "{mine} turns against {other}");
                    }
                });
            }
        });
    }
}
