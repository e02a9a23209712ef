//! Every spawned task has an owner, a name, a span and an end.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

/// The owner of a set of tasks. Clones are handles to the same set.
///
/// A task learns of its end through the token it is given; it is never aborted, so it can always
/// finish what it holds. Dropping all handles does not end the tasks: call [`Tasks::shutdown`].
#[derive(Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    cancel: CancellationToken,
    running: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

/// Tasks that had not ended when the time was up, with how many of each name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("still running: {}", .names.iter().map(|(name, count)| format!("{name} x{count}")).collect::<Vec<_>>().join(", "))]
pub struct Unfinished {
    /// The names and counts.
    pub names: Vec<(&'static str, usize)>,
}

impl Tasks {
    /// An owner with no tasks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An owner of its own whose tasks also learn of this owner's end.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { cancel: self.cancel.child_token(), ..Self::default() }
    }

    /// The token that is cancelled when these tasks are to end.
    #[must_use]
    pub fn cancelled(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Starts `work` with the token that tells it to end. After [`Tasks::shutdown`] began, the
    /// token is already cancelled when the work starts.
    pub fn spawn<F>(&self, name: &'static str, work: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let span = tracing::info_span!("task", name);
        self.spawn_plain(name, |cancel| work(cancel).instrument(span));
    }

    /// The same without a span of its own in the log: for tasks that come with each request or
    /// message, where a span costs more than it tells.
    pub fn spawn_plain<F>(&self, name: &'static str, work: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let work = work(self.cancel.clone());
        let entry = Entry::enter(Arc::clone(&self.running), name);
        self.tracker.spawn(async move {
            let _entry = entry;
            work.await;
        });
    }

    /// How many tasks are running.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether no task is running.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Tells every task to end and waits for that, at most `limit`.
    ///
    /// # Errors
    /// When some have not ended by then; they go on until the runtime ends.
    pub async fn shutdown(&self, limit: Duration) -> Result<(), Unfinished> {
        self.cancel.cancel();
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait()).await.map_err(|_| {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            Unfinished { names: running.iter().map(|(name, count)| (*name, *count)).collect() }
        })
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("Tasks").field("running", &*running).finish_non_exhaustive()
    }
}

/// One running task in the list of names; leaves it when dropped, also by a panic.
struct Entry {
    running: Arc<Mutex<BTreeMap<&'static str, usize>>>,
    name: &'static str,
}

impl Entry {
    fn enter(running: Arc<Mutex<BTreeMap<&'static str, usize>>>, name: &'static str) -> Self {
        *running.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
        Self { running, name }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                running.remove(self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn shutdown_tells_every_task_and_waits_for_it() {
        let tasks = Tasks::new();
        for _ in 0..3 {
            tasks.spawn("worker", |cancel| async move { cancel.cancelled().await });
        }
        assert_eq!(tasks.len(), 3);
        tasks.shutdown(Duration::from_secs(5)).await.unwrap();
        assert!(tasks.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_is_named() {
        let tasks = Tasks::new();
        tasks.spawn("deaf", |_| std::future::pending());
        let error = tasks.shutdown(Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(error.to_string(), "still running: deaf x1");
    }

    #[tokio::test]
    async fn a_child_ends_with_its_parent_but_not_the_other_way() {
        let parent = Tasks::new();
        let child = parent.child();
        child.shutdown(Duration::from_secs(1)).await.unwrap();
        assert!(!parent.cancelled().is_cancelled());
        let other = parent.child();
        parent.shutdown(Duration::from_secs(1)).await.unwrap();
        assert!(other.cancelled().is_cancelled());
    }

    #[tokio::test]
    async fn a_task_that_panics_leaves_the_list() {
        let tasks = Tasks::new();
        tasks.spawn("broken", |_| async { panic!("on purpose") });
        tasks.shutdown(Duration::from_secs(5)).await.unwrap();
        assert_eq!(format!("{tasks:?}"), "Tasks { running: {}, .. }");
    }
}
