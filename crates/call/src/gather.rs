//! Questions that wait for each other's exchange, sent together.
//!
//! A service that is asked small things by the thousand spends most of its time on the exchanges.
//! A [`Gather`] lets a few exchanges be under way; what comes meanwhile waits, and whoever gets the
//! next place takes along what waits. Nobody waits for company: below a few questions at a time
//! each goes at once and alone, and the more there are, the more one exchange carries. Questions
//! whose answers nobody waits for may wait for company ([`Gather::patient`]). Where two exchanges
//! at a time only get in each other's way, a second may be for those who have waited too long for
//! the first ([`Gather::reluctant`]).

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit, oneshot};

/// How long a place is waited for; then a question goes alone: those under way may have met an
/// instance that does not answer.
const WAIT_MAX: Duration = Duration::from_millis(250);

/// Gathers questions of the type `Q`, whose answers are an `A` each.
pub struct Gather<Q, A> {
    /// One place for whoever comes, the others for who has waited `reluctance`.
    first: Semaphore,
    others: Semaphore,
    reluctance: Duration,
    most: usize,
    patience: Duration,
    waiting: Mutex<Waiting<Q, A>>,
}

struct Waiting<Q, A> {
    next: u64,
    queue: VecDeque<One<Q, A>>,
}

struct One<Q, A> {
    ticket: u64,
    question: Q,
    tell: oneshot::Sender<Option<A>>,
}

/// What became of a question.
#[derive(Debug)]
#[must_use = "a question that goes alone has not been asked"]
pub enum Asked<'a, A> {
    /// It went with others; this is its answer.
    Answered(A),
    /// Ask it alone, holding the place meanwhile if there is one.
    Alone(Option<SemaphorePermit<'a>>),
}

impl<Q, A> Gather<Q, A> {
    /// At most `places` exchanges at a time, and at least one, with at most `most` questions each.
    #[must_use]
    pub const fn new(places: usize, most: usize) -> Self {
        Self::with(places, most, Duration::ZERO, Duration::ZERO)
    }

    /// The same, but whoever has a place waits so long for others to come.
    #[must_use]
    pub const fn patient(places: usize, most: usize, patience: Duration) -> Self {
        Self::with(places, most, patience, Duration::ZERO)
    }

    /// The same as [`Gather::new`], but while one exchange is under way, another is only for those
    /// who have waited `reluctance`.
    #[must_use]
    pub const fn reluctant(places: usize, most: usize, reluctance: Duration) -> Self {
        Self::with(places, most, Duration::ZERO, reluctance)
    }

    const fn with(places: usize, most: usize, patience: Duration, reluctance: Duration) -> Self {
        let waiting = Mutex::new(Waiting { next: 0, queue: VecDeque::new() });
        let first = Semaphore::const_new(1);
        let others = Semaphore::const_new(places.saturating_sub(1));
        Self { first, others, reluctance, most, patience, waiting }
    }

    /// A place for an exchange, when there is one.
    async fn place(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        match tokio::time::timeout(self.reluctance, self.first.acquire()).await {
            Ok(place) => place,
            Err(_) => tokio::select! {
                place = self.first.acquire() => place,
                place = self.others.acquire() => place,
            },
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<Q, A>> {
        // Every change is one push or pop.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, question: Q) -> (u64, oneshot::Receiver<Option<A>>) {
        let (tell, hear) = oneshot::channel();
        let mut waiting = self.waiting();
        // Nobody waits longer than WAIT_MAX, so what is left over lies in front.
        while waiting.queue.pop_front_if(|it| it.tell.is_closed()).is_some() {}
        let ticket = waiting.next;
        waiting.next += 1;
        waiting.queue.push_back(One { ticket, question, tell });
        (ticket, hear)
    }

    /// The oldest that still wait, as many as one exchange carries.
    fn take(&self) -> Vec<One<Q, A>> {
        let mut waiting = self.waiting();
        let mut taken = Vec::with_capacity(waiting.queue.len().min(self.most));
        while taken.len() < self.most {
            let Some(one) = waiting.queue.pop_front() else { break };
            // Who does not listen any more went another way.
            if !one.tell.is_closed() {
                taken.push(one);
            }
        }
        taken
    }

    /// Asks `question` together with others through `together`, whose answers come in the order of
    /// the questions; where one is missing or `None`, its question is asked alone.
    ///
    /// # Cancel safety
    /// Dropping the future gives the question up. Others that it carried are asked alone.
    pub async fn ask<F, W>(&self, question: Q, together: F) -> Asked<'_, A>
    where
        F: Fn(Vec<Q>) -> W,
        W: Future<Output = Vec<Option<A>>>,
    {
        let (ticket, mut hear) = self.wait(question);
        let place = tokio::select! {
            biased;
            told = &mut hear => return Asked::of(told.ok()),
            place = tokio::time::timeout(WAIT_MAX, self.place()) => place,
        };
        let Ok(Ok(place)) = place else {
            // From here on nobody takes it along; what was told already counts.
            hear.close();
            return Asked::of(hear.try_recv().ok());
        };
        if !self.patience.is_zero() {
            tokio::time::sleep(self.patience).await;
        }
        loop {
            let taken = self.take();
            match &taken[..] {
                // Somebody else has it: the place is for others.
                [] => {
                    drop(place);
                    return Asked::of(hear.await.ok());
                }
                [one] if one.ticket == ticket => return Asked::Alone(Some(place)),
                _ => {}
            }
            let (questions, tellers): (Vec<_>, Vec<_>) =
                taken.into_iter().map(|it| (it.question, it.tell)).unzip();
            // On the heap: all who ask hold a place for it, and few of them need it.
            let mut answers = Box::pin(together(questions)).await.into_iter();
            for tell in tellers {
                // Whoever went away meanwhile needs no answer.
                let _gone = tell.send(answers.next().flatten());
            }
            match hear.try_recv() {
                Ok(told) => return Asked::of(Some(told)),
                // Who carried it went away.
                Err(TryRecvError::Closed) => return Asked::Alone(Some(place)),
                Err(TryRecvError::Empty) => {}
            }
        }
    }
}

impl<A> Asked<'_, A> {
    fn of(told: Option<Option<A>>) -> Self {
        told.flatten().map_or(Self::Alone(None), Self::Answered)
    }
}

impl<Q, A> fmt::Debug for Gather<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gather")
            .field("free", &(self.first.available_permits() + self.others.available_permits()))
            .field("waiting", &self.waiting().queue.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn one_alone_goes_alone_and_keeps_its_place() {
        let gather = Gather::<u32, u32>::new(1, 8);
        let asked = gather.ask(1, |_| async { Vec::new() }).await;
        assert!(matches!(asked, Asked::Alone(Some(_))));
        assert_eq!(gather.first.available_permits(), 0);
        drop(asked);
        assert_eq!(gather.first.available_permits(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_carries_others_while_its_own_carrier_goes_away_asks_alone() {
        let ms = Duration::from_millis;
        let gather = Gather::<u32, u32>::patient(2, 2, ms(4));
        let never = |_: Vec<u32>| std::future::pending::<Vec<Option<u32>>>();
        // Takes the first two at 4 ms, and leaves.
        let leaves = async { tokio::time::timeout(ms(8), gather.ask(1, never)).await.is_err() };
        // Takes the third at 6 ms, for 10 ms.
        let second = async {
            tokio::time::sleep(ms(2)).await;
            let together = |all: Vec<u32>| async move {
                tokio::time::sleep(ms(10)).await;
                all.into_iter().map(|it| Some(it * 10)).collect()
            };
            gather.ask(2, together).await
        };
        let third = async {
            tokio::time::sleep(ms(3)).await;
            gather.ask(3, never).await
        };
        let (left, second, third) = tokio::join!(leaves, second, third);
        assert!(left && matches!(second, Asked::Alone(Some(_))), "{second:?}");
        assert!(matches!(third, Asked::Answered(30)), "{third:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_a_place_goes_together_in_order() {
        let (gather, calls) = (Arc::new(Gather::<u32, u32>::new(1, 4)), AtomicUsize::new(0));
        let held = gather.first.acquire().await.unwrap();
        let one = |number: u32| {
            let (gather, calls) = (Arc::clone(&gather), &calls);
            async move {
                let together = |all: Vec<u32>| {
                    calls.fetch_add(1, Ordering::SeqCst);
                    async move { all.into_iter().map(|it| (it != 3).then_some(it * 10)).collect() }
                };
                match gather.ask(number, together).await {
                    Asked::Answered(answer) => Some(answer),
                    Asked::Alone(_) => None,
                }
            }
        };
        let free = async {
            tokio::task::yield_now().await;
            drop(held);
        };
        let (a, b, c, d, e, f, ()) =
            tokio::join!(one(0), one(1), one(2), one(3), one(4), one(5), free);
        assert_eq!((a, b, c), (Some(0), Some(10), Some(20)));
        assert_eq!(d, None, "what has no answer is asked alone");
        assert_eq!((e, f), (Some(40), Some(50)));
        assert_eq!(calls.load(Ordering::SeqCst), 2, "four and two");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_patient_takes_along_what_comes_meanwhile() {
        let patience = Duration::from_millis(10);
        let gather = Gather::<u32, u32>::patient(1, 8, patience);
        let together = |all: Vec<u32>| async move { all.into_iter().map(Some).collect() };
        let later = async {
            tokio::time::sleep(patience / 2).await;
            gather.ask(2, together).await
        };
        let (first, second) = tokio::join!(gather.ask(1, together), later);
        assert!(matches!((first, second), (Asked::Answered(1), Asked::Answered(2))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_further_exchange_is_for_who_has_waited_and_takes_along_who_waits() {
        let (ms, start) = (Duration::from_millis, tokio::time::Instant::now());
        let gather = Gather::<u32, u32>::reluctant(2, 8, ms(20));
        // The first exchange takes 50 ms.
        let first = async {
            let place = gather.ask(1, |_| async { Vec::new() }).await;
            assert!(matches!(place, Asked::Alone(Some(_))), "at once: {place:?}");
            tokio::time::sleep(ms(50)).await;
        };
        let one = |number: u32, after| {
            let gather = &gather;
            async move {
                tokio::time::sleep(ms(after)).await;
                let together = |all: Vec<u32>| async move { all.into_iter().map(Some).collect() };
                let asked = gather.ask(number, together).await;
                (matches!(asked, Asked::Answered(it) if it == number), start.elapsed())
            }
        };
        let ((), second, third) = tokio::join!(first, one(2, 5), one(3, 20));
        // Timers are of whole milliseconds.
        assert!(second.0 && ms(25) <= second.1 && second.1 < ms(30), "{second:?}");
        assert_eq!(third, second, "it goes with it");
        assert_eq!(gather.first.available_permits() + gather.others.available_permits(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_carrier_that_goes_away_leaves_the_others_to_go_alone() {
        let gather = Arc::new(Gather::<u32, u32>::new(1, 8));
        let held = gather.first.acquire().await.unwrap();
        let carrier = gather.ask(1, |_| std::future::pending::<Vec<Option<u32>>>());
        let other = gather.ask(2, |_| std::future::pending::<Vec<Option<u32>>>());
        let carried = async {
            tokio::select! {
                _ = carrier => {}
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        };
        let free = async {
            tokio::task::yield_now().await;
            drop(held);
        };
        let ((), asked, ()) = tokio::join!(carried, other, free);
        assert!(matches!(asked, Asked::Alone(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_long_for_a_place_and_leaves_nothing_behind() {
        let gather = Gather::<u32, u32>::new(1, 8);
        let _held = gather.first.acquire().await.unwrap();
        for number in 0..3 {
            let asked = gather.ask(number, |_| async { Vec::new() }).await;
            assert!(matches!(asked, Asked::Alone(None)));
            assert_eq!(gather.waiting().queue.len(), 1, "the last, until somebody comes");
        }
    }
}
