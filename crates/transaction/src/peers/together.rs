//! Confirms of one action that wait for each other's exchange travel together.
//!
//! At most [`PLACES`] exchanges are under way for an action. What comes meanwhile waits, and
//! whoever gets the next place takes along all that waits: nobody waits for company, but under load
//! one exchange carries many Confirms. A place is never waited for longer than [`WAIT_MAX`]. One
//! Confirm alone goes the ordinary way, and so does each that had no success in a batch: its own
//! answer says why.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tradewind_base::Context;
use tradewind_call::{CallError, Request};

use super::{PeerError, Peers, Step};
use crate::wire::{Confirmed, Confirms, Second};

/// Exchanges under way for one action.
const PLACES: usize = 2;
/// How long a place is waited for.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// The Confirms of one action.
pub(super) struct Lane {
    places: Semaphore,
    waiting: Mutex<VecDeque<Waiting>>,
    /// The service does not take several at once.
    alone: AtomicBool,
}

struct Waiting {
    body: Second,
    told: oneshot::Sender<Told>,
}

/// What becomes of one that was taken along.
enum Told {
    Done,
    /// Go alone: there was no success, and the batch does not say why.
    Alone,
    /// The exchange failed.
    Failed(Arc<PeerError>),
}

/// How one goes.
enum Ride<'lane> {
    /// With others; this came of it.
    Along(Told),
    /// Alone, with a place of its own.
    Alone(SemaphorePermit<'lane>),
}

impl Lane {
    pub(super) fn new() -> Self {
        Self {
            places: Semaphore::new(PLACES),
            waiting: Mutex::default(),
            alone: AtomicBool::new(false),
        }
    }

    fn wait(&self, body: Second) -> oneshot::Receiver<Told> {
        let (told, hear) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push_back(Waiting { body, told });
        hear
    }

    /// The oldest that still wait, as many as one exchange carries.
    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::with_capacity(waiting.len().min(Confirms::MAX));
        while taken.len() < Confirms::MAX {
            let Some(next) = waiting.pop_front() else { break };
            // Who does not listen any more went another way.
            if !next.told.is_closed() {
                taken.push(next);
            }
        }
        taken
    }
}

impl Peers {
    /// Sends a Confirm, together with others that wait.
    pub(crate) async fn confirm(
        &self,
        (service, action): (&str, &str),
        body: Second,
        limit: Duration,
    ) -> Result<(), PeerError> {
        let lane = self.lane(service, action)?;
        // The place is held through the one exchange, so that others gather meanwhile.
        let mut _place = None;
        if !lane.alone.load(Ordering::Relaxed) {
            match self.ride(&lane, (service, action), &body, limit).await {
                Ride::Along(Told::Done) => return Ok(()),
                Ride::Along(Told::Failed(error)) => return Err(PeerError::Together(error)),
                Ride::Along(Told::Alone) => {}
                Ride::Alone(place) => _place = Some(place),
            }
        }
        self.branch(service, action, Step::Confirm, (body.xid, &body), limit).await
    }

    /// Waits for a place or to be taken along.
    async fn ride<'lane>(
        &self,
        lane: &'lane Lane,
        to: (&str, &str),
        body: &Second,
        limit: Duration,
    ) -> Ride<'lane> {
        let mut hear = lane.wait(body.clone());
        let place = tokio::select! {
            biased;
            told = &mut hear => return Ride::Along(told.unwrap_or(Told::Alone)),
            place = tokio::time::timeout(WAIT_MAX, lane.places.acquire()) => place,
        };
        let Ok(Ok(place)) = place else {
            // From here on nobody takes it along; what was told already counts.
            hear.close();
            return Ride::Along(hear.try_recv().unwrap_or(Told::Alone));
        };
        loop {
            let taken = lane.take();
            match &taken[..] {
                // Somebody else has it: the place is for others.
                [] => {
                    drop(place);
                    return Ride::Along(hear.await.unwrap_or(Told::Alone));
                }
                [one] if one.body == *body => return Ride::Alone(place),
                _ => self.send(lane, to, taken, limit).await,
            }
            if let Ok(told) = hear.try_recv() {
                return Ride::Along(told);
            }
        }
    }

    async fn send(
        &self,
        lane: &Lane,
        (service, action): (&str, &str),
        taken: Vec<Waiting>,
        limit: Duration,
    ) {
        let branches: Vec<_> = taken.iter().map(|it| it.body.clone()).collect();
        let answer = self.confirms((service, action), &Confirms { branches }, limit).await;
        match answer {
            Ok(answer) => {
                for (index, it) in taken.into_iter().enumerate() {
                    let done = answer.done.get(index).copied().unwrap_or(false);
                    drop(it.told.send(if done { Told::Done } else { Told::Alone }));
                }
            }
            Err(PeerError::Call(error)) if unknown_there(&error) => {
                lane.alone.store(true, Ordering::Relaxed);
                for it in taken {
                    drop(it.told.send(Told::Alone));
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for it in taken {
                    drop(it.told.send(Told::Failed(Arc::clone(&error))));
                }
            }
        }
    }

    async fn confirms(
        &self,
        (service, action): (&str, &str),
        body: &Confirms,
        limit: Duration,
    ) -> Result<Confirmed, PeerError> {
        let channel = self.channel(service)?;
        let request = Request::new(Method::POST, "/tcc/{action}/confirms")
            .literal("/tcc/")
            .segment("action", &action)
            .literal("/confirms")
            .json(body)
            .idempotent()
            .timeout(limit);
        let context = Context { xid: None, ..Context::current() };
        Ok(Box::pin(context.scope(channel.call(request))).await?)
    }
}

/// Whether the answer says that there is no such request: an older service, or a foreign one.
fn unknown_there(error: &CallError) -> bool {
    let refused = [
        StatusCode::BAD_REQUEST,
        StatusCode::FORBIDDEN,
        StatusCode::NOT_FOUND,
        StatusCode::METHOD_NOT_ALLOWED,
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        StatusCode::UNPROCESSABLE_ENTITY,
    ];
    error.status().is_some_and(|it| refused.contains(&it))
}
