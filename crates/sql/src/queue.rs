//! A bounded queue between callers, who never wait to put work in, and the threads that do it.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::job::Job;

/// Why work was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// As many wait as may wait.
    Busy,
    /// No more work is taken.
    Closed,
}

pub(crate) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    ended: Condvar,
    bound: usize,
}

struct State {
    jobs: VecDeque<Box<dyn Job>>,
    closed: bool,
}

impl Queue {
    pub(crate) fn new(bound: usize) -> Self {
        let state = State { jobs: VecDeque::new(), closed: false };
        Self {
            state: Mutex::new(state),
            filled: Condvar::new(),
            ended: Condvar::new(),
            bound: bound.max(1),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts work in, unless the queue is full or closed; then the work is dropped unrun.
    pub(crate) fn push(&self, job: Box<dyn Job>) -> Result<(), Full> {
        let mut state = self.state();
        if state.closed {
            return Err(Full::Closed);
        }
        if self.bound <= state.jobs.len() {
            return Err(Full::Busy);
        }
        state.jobs.push_back(job);
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Waits for work. `None` once the queue is closed and empty.
    pub(crate) fn pop(&self) -> Option<Box<dyn Job>> {
        let mut state = self.state();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Work that waits already.
    pub(crate) fn try_pop(&self) -> Option<Box<dyn Job>> {
        self.state().jobs.pop_front()
    }

    /// Takes no more work. What waits is still done.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.filled.notify_all();
        self.ended.notify_all();
    }

    /// Takes no more work and gives back what waits.
    pub(crate) fn close_and_drain(&self) -> Vec<Box<dyn Job>> {
        let mut state = self.state();
        state.closed = true;
        let jobs = state.jobs.drain(..).collect();
        drop(state);
        self.filled.notify_all();
        self.ended.notify_all();
        jobs
    }

    pub(crate) fn len(&self) -> usize {
        self.state().jobs.len()
    }

    /// Waits for `span`, or less when the queue is closed meanwhile.
    pub(crate) fn pause(&self, span: Duration) {
        // On a condition of its own: a thread that pauses must not swallow the wake-up that tells
        // another one of new work.
        let state = self.state();
        drop(self.ended.wait_timeout_while(state, span, |state| !state.closed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::job::{Fate, Ran};
    use crate::transaction::Transaction;

    struct Nothing;
    impl Job for Nothing {
        fn name(&self) -> &'static str {
            "nothing"
        }
        fn run(&mut self, _: &mut Transaction<'_>) -> Ran {
            Ran::Kept
        }
        fn answer(self: Box<Self>, _: Fate) {}
        fn note(&mut self, _: Error) {}
        fn abandoned(&self) -> bool {
            false
        }
    }

    #[test]
    fn it_takes_no_more_than_its_bound_and_nothing_once_closed() {
        let queue = Queue::new(2);
        queue.push(Box::new(Nothing)).unwrap();
        queue.push(Box::new(Nothing)).unwrap();
        assert_eq!(queue.push(Box::new(Nothing)), Err(Full::Busy));
        assert!(queue.pop().is_some());
        queue.push(Box::new(Nothing)).unwrap();
        queue.close();
        assert_eq!(queue.push(Box::new(Nothing)), Err(Full::Closed));
        assert!(queue.pop().is_some() && queue.try_pop().is_some());
        assert!(queue.pop().is_none(), "closed and empty");
    }

    #[test]
    fn a_pause_ends_when_the_queue_is_closed() {
        let queue = Queue::new(1);
        std::thread::scope(|scope| {
            let pausing = scope.spawn(|| queue.pause(Duration::from_secs(3600)));
            queue.close();
            pausing.join().unwrap();
        });
    }
}
