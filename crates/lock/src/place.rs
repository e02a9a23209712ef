//! A place in the lines of this process, which is left when it is dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::machine::line::{Line, Ticket};
use crate::name::{LockName, Names};

/// The lines, and how to wake who stands in them.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    line: Line,
    bells: HashMap<Ticket, Arc<Notify>>,
}

/// One entry of the lines.
#[derive(Debug)]
pub(crate) struct Place {
    queue: Arc<Queue>,
    ticket: Ticket,
    bell: Arc<Notify>,
    pub(crate) names: Names,
}

impl Queue {
    pub(crate) fn new(entries_max: usize) -> Arc<Self> {
        let state = State { line: Line::new(entries_max), bells: HashMap::new() };
        Arc::new(Self { state: Mutex::new(state) })
    }

    pub(crate) fn join(self: &Arc<Self>, names: &Names) -> Option<Place> {
        let mut state = self.lock();
        let ticket = state.line.join(names)?;
        let bell = Arc::new(Notify::new());
        state.bells.insert(ticket, Arc::clone(&bell));
        Some(Place { queue: Arc::clone(self), ticket, bell, names: names.clone() })
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().line.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The name for which somebody is before this one, if there is one.
    pub(crate) fn blocked(&self) -> Option<LockName> {
        self.queue.lock().line.blocked(self.ticket).cloned()
    }

    /// Waits for its turn.
    pub(crate) async fn turn(&self) {
        // The bell keeps one ring, so none between the look and the wait is lost.
        while self.blocked().is_some() {
            self.bell.notified().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.bells.remove(&self.ticket);
        for next in state.line.leave(self.ticket) {
            if let Some(bell) = state.bells.get(&next) {
                bell.notify_one();
            }
        }
    }
}
