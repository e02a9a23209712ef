//! Orders that are answered as placed before that is written down.
//!
//! From the answer until then, a few milliseconds, their rows say *placing*. Whoever was answered
//! may ask at once, so what reads rows of an order or a user waits here first: with that, this
//! process shows everybody what it has answered, while its database works.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tradewind::base::Timestamp;

use super::OrderId;

/// The longest time that a reader waits; it takes a database that is stuck to reach it.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// The orders. Clones are handles to the same ones. Each keeps its place among those in the making,
/// so there are no more than may be.
#[derive(Clone, Debug, Default)]
pub(super) struct Deciding(Arc<Mutex<HashMap<OrderId, Answered>>>);

#[derive(Debug)]
struct Answered {
    user_id: String,
    since: Timestamp,
    /// Its sender goes when it is written down.
    written: watch::Receiver<()>,
}

/// An order that is being written down, until this is dropped.
#[derive(Debug)]
pub(super) struct Mark {
    all: Deciding,
    id: OrderId,
    _writing: watch::Sender<()>,
}

impl Deciding {
    /// An order of this user is about to be answered.
    pub(super) fn mark(&self, id: OrderId, user_id: &str, since: Timestamp) -> Mark {
        let (writing, written) = watch::channel(());
        self.lock().insert(id, Answered { user_id: user_id.to_owned(), since, written });
        Mark { all: self.clone(), id, _writing: writing }
    }

    /// Since when this order is placed, as it was answered; none when it is not being written down.
    pub(super) fn since(&self, id: OrderId) -> Option<Timestamp> {
        self.lock().get(&id).map(|it| it.since)
    }

    /// What is to be waited for before this order is read.
    pub(super) fn of_order(&self, id: OrderId) -> Wait {
        Wait(self.lock().get(&id).map(|it| it.written.clone()).into_iter().collect())
    }

    /// What is to be waited for before this user's orders are read.
    pub(super) fn of_user(&self, user_id: &str) -> Wait {
        let all = self.lock();
        let theirs = all.values().filter(|it| it.user_id == user_id);
        Wait(theirs.map(|it| it.written.clone()).collect())
    }

    /// Every change under this lock leaves the map whole.
    fn lock(&self) -> MutexGuard<'_, HashMap<OrderId, Answered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Orders that a reader waits for.
#[derive(Debug)]
pub(super) struct Wait(Vec<watch::Receiver<()>>);

impl Wait {
    /// Whether there is nothing to wait for.
    pub(super) const fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns when all of them are written down.
    pub(super) async fn ended(self) {
        for mut written in self.0 {
            while written.changed().await.is_ok() {}
        }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.all.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;
    use tradewind::base::{Clock as _, ManualClock, Rng};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_waits_for_what_was_answered_before_and_for_nothing_else() {
        let (clock, deciding) = (ManualClock::new(), Deciding::default());
        let mut rng = Rng::seeded(7);
        let [one, two] = [(); 2].map(|()| OrderId::generate(clock.now(), &mut rng));
        assert!(deciding.of_order(one).is_over() && deciding.of_user("alice").is_over());
        let first = deciding.mark(one, "alice", clock.now());
        assert!(deciding.of_order(two).is_over() && deciding.of_user("bob").is_over());
        let wait = deciding.of_user("alice");
        let _second = deciding.mark(two, "alice", clock.now());
        let ended = tokio::join!(timeout(PATIENCE, wait.ended()), async { drop(first) });
        assert!(ended.0.is_ok(), "what came after the question is no reason to wait");
        assert!(deciding.of_order(one).is_over());
        let waits = timeout(PATIENCE, deciding.of_order(two).ended()).await;
        assert!(waits.is_err(), "it is not written down");
    }
}
