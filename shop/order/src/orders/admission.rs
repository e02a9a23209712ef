//! Who may begin to place an order now, and who has to come again.

pub(crate) mod machine;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

pub(crate) use machine::End;
use machine::{Places, Queue};

/// The fewest orders in the making that are let in, however late they are.
const LEAST: u32 = 8;
/// How many are let in before anything is known.
const FIRST: u32 = 64;

/// The door. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    state: Arc<Mutex<State>>,
    most: usize,
    opened: Instant,
}

#[derive(Debug)]
struct State {
    places: Places,
    queue: Queue,
    waiting: VecDeque<oneshot::Sender<()>>,
}

/// An order that was let in. Dropped, it leaves and says nothing of the load.
#[derive(Debug)]
pub(crate) struct Entry {
    state: Arc<Mutex<State>>,
    end: End,
}

impl Admission {
    /// At most `most` orders in the making, and as many waiting.
    pub(crate) fn new(most: u32) -> Self {
        let places = Places::new(LEAST, FIRST, most);
        let (queue, waiting) = (Queue::default(), VecDeque::new());
        let state = Arc::new(Mutex::new(State { places, queue, waiting }));
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Self { state, most, opened: Instant::now() }
    }

    /// Waits for a place, in turn, and no longer than `patience`; in a queue that stands, a part of
    /// that. `None` when there is none.
    pub(crate) async fn enter(&self, patience: Duration) -> Option<Entry> {
        let (turn, patience) = {
            let mut state = lock(&self.state);
            // Those whose patience is over are gone, and no longer in anybody's way.
            state.waiting.retain(|it| !it.is_closed());
            if state.waiting.is_empty() {
                state.queue.emptied();
                if state.places.enter() {
                    return Some(self.entry());
                }
            }
            let patience = state.queue.join(self.opened.elapsed(), patience);
            if self.most <= state.waiting.len() {
                return None;
            }
            let (call, turn) = oneshot::channel();
            state.waiting.push_back(call);
            (turn, patience)
        };
        let mut turn = Turn { door: self, turn };
        timeout(patience, &mut turn.turn).await.ok()?.ok()?;
        Some(self.entry())
    }

    fn entry(&self) -> Entry {
        Entry { state: Arc::clone(&self.state), end: End::Other }
    }
}

/// A place in the queue. Its owner may leave at the moment it is called; then the next one is.
struct Turn<'a> {
    door: &'a Admission,
    turn: oneshot::Receiver<()>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turn.close();
        if self.turn.try_recv().is_ok() {
            lock(&self.door.state).leave(End::Other);
        }
    }
}

impl Entry {
    /// Leaves with what came of it.
    pub(crate) fn leave(mut self, end: End) {
        self.end = end;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.state).leave(self.end);
    }
}

impl State {
    fn leave(&mut self, end: End) {
        self.places.leave(end);
        while self.places.room() {
            let Some(next) = self.waiting.pop_front() else { return };
            // The place is taken for the one that is called, before it runs.
            if next.send(()).is_ok() {
                self.places.enter();
            }
        }
    }
}

/// Every change under this lock leaves the state whole.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_place_waits_in_turn_and_not_for_ever() {
        let door = Admission::new(LEAST);
        let mut inside = fill(&door).await;
        assert!(door.enter(SOON).await.is_none(), "nobody left");
        let (first, second) = tokio::join!(door.enter(SOON), async {
            let second = door.enter(SOON / 2);
            inside.pop().unwrap().leave(End::Timely);
            second.await
        });
        assert!(first.is_some() && second.is_none(), "one place, for the first in the queue");
        drop((first, inside));
        let again = fill(&door).await;
        assert_eq!(again.len(), 8, "no place was lost, and none came up twice");
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_has_an_end() {
        let door = Admission::new(LEAST);
        let mut inside = fill(&door).await;
        let mut queue: Vec<_> = (0..LEAST).map(|_| Box::pin(door.enter(SOON))).collect();
        for waiting in &mut queue {
            assert!(look(waiting).await.is_none());
        }
        let mut more = Box::pin(door.enter(SOON));
        assert!(look(&mut more).await.is_some_and(|it| it.is_none()), "at once, without waiting");
        inside.clear();
        for waiting in queue {
            assert!(waiting.await.is_some());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn in_a_queue_that_stands_nobody_waits_long() {
        let door = Admission::new(LEAST);
        let mut inside = fill(&door).await;
        let waits = async |door: &Admission| {
            let begun = Instant::now();
            assert!(door.enter(SOON).await.is_none(), "nobody leaves");
            begun.elapsed()
        };
        let later = async |after| {
            tokio::time::sleep(after).await;
            waits(&door).await
        };
        let (first, burst, late) =
            tokio::join!(waits(&door), later(SOON / 2), later(SOON + SOON / 4));
        assert!(first == SOON && burst == SOON, "{first:?} {burst:?}");
        assert!(late < SOON / 8, "{late:?}");
        // The queue is empty again at the latest when the last of them has gone.
        assert_eq!(waits(&door).await, SOON);
        inside.clear();
        assert!(door.enter(SOON).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_given_to_somebody_who_left_goes_to_the_next() {
        let door = Admission::new(LEAST);
        let mut inside = fill(&door).await;
        let mut gone = Box::pin(door.enter(SOON));
        assert!(look(&mut gone).await.is_none(), "it waits");
        let mut next = Box::pin(door.enter(SOON));
        assert!(look(&mut next).await.is_none(), "it waits behind");
        // Called, and gone before it could run.
        inside.pop();
        drop(gone);
        assert!(next.await.is_some());
    }

    /// Takes all places there are.
    async fn fill(door: &Admission) -> Vec<Entry> {
        let mut inside = Vec::new();
        while let Some(entry) = door.enter(Duration::ZERO).await {
            inside.push(entry);
        }
        inside
    }

    /// One look at a future.
    async fn look<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        tokio::select! {
            biased;
            done = future => Some(done),
            () = std::future::ready(()) => None,
        }
    }
}
