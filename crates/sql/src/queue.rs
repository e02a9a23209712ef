//! A bounded queue between callers, who never wait to put work in, and the threads that do it.
//!
//! Work that nobody waits for lies in a line of its own. It is done with the next work that
//! somebody waits for, after it, or when its own time has come, before any other then.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

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
    /// With the time at which each has waited long enough: the same span for all, so in order.
    leisurely: VecDeque<(Instant, Box<dyn Job>)>,
    closed: bool,
}

impl State {
    fn len(&self) -> usize {
        self.jobs.len() + self.leisurely.len()
    }

    /// What is done next when something is done anyway. What has waited long enough is first, or
    /// whoever keeps coming would keep it waiting.
    fn next(&mut self) -> Option<Box<dyn Job>> {
        if self.jobs.is_empty() || self.rest() == Some(Duration::ZERO) {
            return self.leisurely.pop_front().map(|it| it.1);
        }
        self.jobs.pop_front()
    }

    /// How long the thread may sleep unless somebody comes; `None` for ever.
    fn rest(&self) -> Option<Duration> {
        self.leisurely.front().map(|it| it.0.saturating_duration_since(Instant::now()))
    }
}

impl Queue {
    pub(crate) fn new(bound: usize) -> Self {
        let state = State { jobs: VecDeque::new(), leisurely: VecDeque::new(), closed: false };
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
        let mut state = self.room()?;
        state.jobs.push_back(job);
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// The same for work that may wait so long for company.
    pub(crate) fn push_leisurely(&self, job: Box<dyn Job>, wait: Duration) -> Result<(), Full> {
        let mut state = self.room()?;
        // Only the first: the thread knows from it when to wake up.
        let first = state.leisurely.is_empty();
        state.leisurely.push_back((Instant::now() + wait, job));
        drop(state);
        if first {
            self.filled.notify_one();
        }
        Ok(())
    }

    fn room(&self) -> Result<MutexGuard<'_, State>, Full> {
        let state = self.state();
        if state.closed {
            return Err(Full::Closed);
        }
        if self.bound <= state.len() {
            return Err(Full::Busy);
        }
        Ok(state)
    }

    /// Waits for work. `None` once the queue is closed and empty.
    pub(crate) fn pop(&self) -> Option<Box<dyn Job>> {
        let mut state = self.state();
        loop {
            let rest = state.rest();
            if state.closed || !state.jobs.is_empty() || rest == Some(Duration::ZERO) {
                return state.next();
            }
            state = match rest {
                None => self.filled.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(rest) => {
                    let woken = self.filled.wait_timeout(state, rest);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Work that waits already, also what could wait longer.
    pub(crate) fn try_pop(&self) -> Option<Box<dyn Job>> {
        self.state().next()
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
        let jobs = std::iter::from_fn(|| state.next()).collect();
        drop(state);
        self.filled.notify_all();
        self.ended.notify_all();
        jobs
    }

    pub(crate) fn len(&self) -> usize {
        self.state().len()
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

    struct Named(&'static str);
    const NOTHING: Named = Named("nothing");
    impl Job for Named {
        fn name(&self) -> &'static str {
            self.0
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
        queue.push(Box::new(NOTHING)).unwrap();
        queue.push(Box::new(NOTHING)).unwrap();
        assert_eq!(queue.push(Box::new(NOTHING)), Err(Full::Busy));
        assert!(queue.pop().is_some());
        queue.push(Box::new(NOTHING)).unwrap();
        queue.close();
        assert_eq!(queue.push(Box::new(NOTHING)), Err(Full::Closed));
        assert!(queue.pop().is_some() && queue.try_pop().is_some());
        assert!(queue.pop().is_none(), "closed and empty");
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn what_has_time_comes_after_what_is_waited_for() {
        let queue = Queue::new(8);
        queue.push_leisurely(Box::new(Named("at leisure")), LONG).unwrap();
        queue.push(Box::new(Named("waited for"))).unwrap();
        assert_eq!(queue.pop().unwrap().name(), "waited for");
        assert_eq!(queue.len(), 1);
        assert_eq!(queue.try_pop().unwrap().name(), "at leisure", "in the same batch");
    }

    #[test]
    fn what_had_time_is_not_kept_waiting_by_those_who_keep_coming() {
        let queue = Queue::new(8);
        queue.push(Box::new(Named("waited for"))).unwrap();
        queue.push_leisurely(Box::new(Named("at leisure")), Duration::ZERO).unwrap();
        let next = [queue.pop(), queue.try_pop()].map(|it| it.unwrap().name());
        assert_eq!(next, ["at leisure", "waited for"]);
    }

    #[test]
    fn what_has_time_goes_alone_when_its_time_has_come() {
        let queue = Queue::new(8);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.pop());
            queue.push_leisurely(Box::new(NOTHING), Duration::from_millis(1)).unwrap();
            assert!(waiting.join().unwrap().is_some());
        });
    }

    #[test]
    fn what_has_time_counts_and_is_done_at_the_end() {
        let queue = Queue::new(1);
        queue.push_leisurely(Box::new(NOTHING), LONG).unwrap();
        assert_eq!(queue.push(Box::new(NOTHING)), Err(Full::Busy));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.pop());
            queue.close();
            assert!(waiting.join().unwrap().is_some());
        });
        assert!(queue.pop().is_none());
        assert_eq!(queue.push_leisurely(Box::new(NOTHING), LONG), Err(Full::Closed));
    }

    #[test]
    fn a_pause_ends_when_the_queue_is_closed() {
        let queue = Queue::new(1);
        std::thread::scope(|scope| {
            let pausing = scope.spawn(|| queue.pause(LONG));
            queue.close();
            pausing.join().unwrap();
        });
    }
}
