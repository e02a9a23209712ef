//! Locks over any store of leases.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tradewind_base::{Clock, Rng, Tasks};
use tradewind_sql::Database;

use crate::config::{ConfigError, LockConfig};
use crate::error::{AcquireError, StoreError};
use crate::guard::{Guard, Held};
use crate::keeper::{self, Keeper};
use crate::machine::lease::{Hold, Terms};
use crate::machine::poll;
use crate::name::{LockName, Names};
use crate::place::{Place, Queue};
use crate::sql::SqlStore;
use crate::store::{LeaseStore, Take};

/// An acquisition on its way.
pub type Pending<'a> = Pin<Box<dyn Future<Output = Result<Guard, AcquireError>> + Send + 'a>>;

/// Locks by name, whatever keeps them.
pub trait Locks: Send + Sync + fmt::Debug + 'static {
    /// Takes all `names`, waiting for at most `limit` until they are free.
    ///
    /// A limit of zero still asks once. The store may take up to a second longer than the limit to
    /// answer; what it grants after that is given back.
    ///
    /// # Errors
    /// When they are not free in time, too many wait, or the store fails; see [`AcquireError`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line; what the store grants all the same is given back.
    fn acquire(&self, names: Names, limit: Duration) -> Pending<'_>;

    /// Takes all `names` if they are free and nobody of this process waits for one of them.
    ///
    /// # Errors
    /// [`AcquireError::Held`] when they are not; otherwise as [`Locks::acquire`].
    ///
    /// # Cancel safety
    /// As [`Locks::acquire`].
    fn try_acquire(&self, names: Names) -> Pending<'_>;
}

/// [`Locks`] over a [`LeaseStore`]. Clones are handles to the same: one process has one for each
/// store, so that its waiters stand in one line.
pub struct Leased<S> {
    shared: Arc<Shared<S>>,
}

pub(crate) struct Shared<S> {
    pub(crate) store: S,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) terms: Terms,
    config: LockConfig,
    tasks: Tasks,
    queue: Arc<Queue>,
    rng: Mutex<Rng>,
}

/// How long an answer of the store is waited for beyond the limit of the wait.
const ANSWER_GRACE: Duration = Duration::from_secs(1);

/// What one question to the store came to.
enum Asked {
    Granted(Guard),
    Held {
        place: Place,
        name: LockName,
        remaining: Duration,
    },
    Failed {
        place: Place,
        error: StoreError,
    },
    /// The grant came when its lease was all but over, and was given back.
    Late(Place),
}

impl Leased<SqlStore> {
    /// Locks in `database`, which has the tables of [`crate::MIGRATIONS`]. Its renewals and
    /// releases are tasks of `tasks`.
    ///
    /// # Errors
    /// When a setting cannot work.
    pub fn new(
        database: Database,
        config: LockConfig,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Result<Self, ConfigError> {
        Self::over(SqlStore::new(database), config, clock, tasks)
    }
}

impl<S: LeaseStore> Leased<S> {
    /// Locks over any store.
    ///
    /// # Errors
    /// When a setting cannot work.
    pub fn over(
        store: S,
        config: LockConfig,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Result<Self, ConfigError> {
        let terms = config.terms()?;
        let queue = Queue::new(config.entries_max);
        let (tasks, rng) = (tasks.clone(), Mutex::new(Rng::from_entropy()));
        Ok(Self { shared: Arc::new(Shared { store, clock, terms, config, tasks, queue, rng }) })
    }

    /// Holds and waiters of this process.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.shared.queue.len()
    }

    async fn wait(&self, names: Names, limit: Duration) -> Result<Guard, AcquireError> {
        let shared = &self.shared;
        let begun = Instant::now();
        let deadline = begun + limit.min(shared.config.wait_max);
        let mut place = shared.queue.join(&names).ok_or(AcquireError::Busy)?;
        let too_long = |name| AcquireError::WaitLimit { name, waited: begun.elapsed() };
        let stopped = shared.tasks.cancelled();
        let mut attempt = 0;
        loop {
            let turn = tokio::time::timeout_at(deadline, place.turn());
            match stopped.run_until_cancelled(turn).await {
                None => return Err(AcquireError::Closed),
                Some(Err(_)) => {
                    if let Some(name) = place.blocked() {
                        return Err(too_long(name));
                    }
                }
                Some(Ok(())) => {}
            }
            let answer = shared.ask(place);
            let Ok(asked) = tokio::time::timeout_at(deadline + ANSWER_GRACE, answer).await else {
                let Some(name) = names.first() else { return Err(AcquireError::Closed) };
                return Err(too_long(name.clone()));
            };
            let remaining;
            let name = match asked? {
                Asked::Granted(guard) => return Ok(guard),
                Asked::Held { place: back, name, remaining: left } => {
                    (place, remaining) = (back, left);
                    Some(name)
                }
                Asked::Failed { place: back, error } if error.transient => {
                    if deadline <= Instant::now() {
                        return Err(error.into());
                    }
                    (place, remaining) = (back, shared.config.poll_max);
                    None
                }
                Asked::Failed { error, .. } => return Err(error.into()),
                Asked::Late(back) => {
                    (place, remaining) = (back, shared.config.poll_max);
                    None
                }
            };
            let pause = shared.pause(attempt, remaining);
            attempt += 1;
            if deadline < Instant::now() + pause {
                // Until the limit, and then one last look would come too late for sure only if
                // nothing is left: the others get the turn.
                if deadline <= Instant::now() {
                    let first = || names.first().cloned();
                    let Some(name) = name.or_else(first) else { return Err(AcquireError::Closed) };
                    return Err(too_long(name));
                }
                tokio::time::sleep_until(deadline).await;
            } else {
                tokio::time::sleep(pause).await;
            }
        }
    }

    async fn once(&self, names: Names) -> Result<Guard, AcquireError> {
        let place = self.shared.queue.join(&names).ok_or(AcquireError::Busy)?;
        if let Some(name) = place.blocked() {
            return Err(AcquireError::Held { name });
        }
        match self.shared.ask(place).await? {
            Asked::Granted(guard) => Ok(guard),
            Asked::Held { name, .. } => Err(AcquireError::Held { name }),
            Asked::Failed { error, .. } => Err(error.into()),
            Asked::Late(place) => match place.names.first() {
                Some(name) => Err(AcquireError::Held { name: name.clone() }),
                None => Err(AcquireError::Closed),
            },
        }
    }
}

impl<S: LeaseStore> Shared<S> {
    fn pause(&self, attempt: u32, remaining: Duration) -> Duration {
        let chance = self.rng.lock().unwrap_or_else(PoisonError::into_inner).unit();
        let bounds = (self.config.poll_min, self.config.poll_max);
        poll::pause(attempt, remaining, bounds, chance)
    }

    /// Asks the store once, in a task of its own: who asked may leave at any time, and what comes
    /// then is given back by the drop of the answer.
    async fn ask(self: &Arc<Self>, place: Place) -> Result<Asked, AcquireError> {
        let (sender, receiver) = oneshot::channel();
        let shared = Arc::clone(self);
        self.tasks.spawn("lock.ask", |stop| async move {
            if stop.is_cancelled() {
                return;
            }
            drop(sender.send(shared.take(place).await));
        });
        receiver.await.map_err(|_| AcquireError::Closed)
    }

    async fn take(self: Arc<Self>, place: Place) -> Asked {
        let bits = self.rng.lock().unwrap_or_else(PoisonError::into_inner).u128();
        let owner = format!("{bits:032x}");
        let sent = self.clock.monotonic();
        match self.store.take(&owner, &place.names, self.terms.lease()).await {
            Ok(Take::Held { name, remaining }) => Asked::Held { place, name, remaining },
            Ok(Take::Granted(tokens)) => {
                let hold = Hold::granted(self.terms, sent, self.config.hold_max);
                if hold.stale(self.clock.monotonic()) {
                    // What it could not tell the store ends by itself.
                    drop(keeper::release(&self, &owner, &place.names).await);
                    return Asked::Late(place);
                }
                let clock = Arc::clone(&self.clock);
                let lost = CancellationToken::new();
                let held = Arc::new(Held { clock, hold: Mutex::new(hold), lost });
                let (sender, end) = oneshot::channel();
                let names = place.names.clone();
                let guard = Guard::new(names, tokens.clone(), Arc::clone(&held), sender);
                let tasks = self.tasks.clone();
                let keeper = Keeper { shared: self, place, owner, tokens, held, end };
                tasks.spawn("lock.keep", |stop| keeper.keep(stop));
                Asked::Granted(guard)
            }
            Err(error) => {
                if error.uncertain {
                    // It may be ours without our knowing.
                    drop(keeper::release(&self, &owner, &place.names).await);
                }
                Asked::Failed { place, error }
            }
        }
    }
}

impl<S: LeaseStore> Locks for Leased<S> {
    fn acquire(&self, names: Names, limit: Duration) -> Pending<'_> {
        Box::pin(self.wait(names, limit))
    }

    fn try_acquire(&self, names: Names) -> Pending<'_> {
        Box::pin(self.once(names))
    }
}

impl<S> Clone for Leased<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<S> fmt::Debug for Leased<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leased").field("config", &self.shared.config).finish_non_exhaustive()
    }
}
