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

use std::fs::File;
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
            super::private_file().open(&path).map_err(|source| super::file_error(&path, source))
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

    use tokio::time::Instant;

    use super::*;

    /// Whether somebody waits in front, seen from outside.
    fn somebody_waits(turn: &Turn) -> bool {
        match flock(&turn.next, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                flock(&turn.next, FlockOperation::Unlock).unwrap();
                false
            }
            Err(_) => true,
        }
    }

    #[test]
    fn who_waits_is_served_before_who_just_had_its_turn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it.db");
        let (mut greedy, outside) = (Turn::open(&path).unwrap(), Turn::open(&path).unwrap());
        for _ in 0..50 {
            let served = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let held = greedy.take().unwrap();
                scope.spawn(|| {
                    let mut patient = Turn::open(&path).unwrap();
                    let held = patient.take().unwrap();
                    served.store(true, Ordering::SeqCst);
                    drop(held);
                });
                let limit = Instant::now() + Duration::from_secs(30);
                while !somebody_waits(&outside) {
                    assert!(Instant::now() < limit, "nobody waits in front");
                    std::thread::yield_now();
                }
                drop(held);
                let again = greedy.take().unwrap();
                assert!(served.load(Ordering::SeqCst), "overtaken");
                drop(again);
            });
        }
    }

    #[test]
    fn there_is_one_holder_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it.db");
        let (inside, turns) = (AtomicBool::new(false), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut turn = Turn::open(&path).unwrap();
                    for _ in 0..200 {
                        let held = turn.take().unwrap();
                        assert!(!inside.swap(true, Ordering::SeqCst), "two at once");
                        std::thread::yield_now();
                        turns.fetch_add(1, Ordering::SeqCst);
                        inside.store(false, Ordering::SeqCst);
                        drop(held);
                    }
                });
            }
        });
        assert_eq!(turns.load(Ordering::SeqCst), 600);
    }
}
