//! Trys and Confirms of one action that wait for each other's exchange travel together.
//!
//! Each stands and falls for itself: one that had no success in a batch goes the ordinary way
//! afterwards, where its own answer says why; the fence makes repeats harmless. So does each of a
//! batch that is refused as a whole; a service that does not know batches is asked one by one from
//! then on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use serde::Serialize;
use tradewind_base::Context;
use tradewind_call::{Asked, CallError, Gather, Request};

use super::{PeerError, Peers, Step};
use crate::wire::{Confirms, DoneTogether, Payload, Second, Trys};

type Try = crate::wire::Try<Payload>;

/// Exchanges under way for the Trys of one action, and for its Confirms. A third would arrive while
/// the participant commits what the first two brought, and wait there instead.
const PLACES: usize = 2;
/// How long a Try waits for the exchange that is under way before it takes the second place: longer
/// than a participant with a database of its own needs. Those that come meanwhile go with it.
const TRY_RELUCTANCE: Duration = Duration::from_millis(20);
/// How long a Confirm waits for others: those of transactions that set out together.
const CONFIRM_PATIENCE: Duration = Duration::from_millis(2);

/// The Trys and Confirms of one action.
pub(super) struct Lane {
    trys: Gather<(Try, String), Result<(), Arc<PeerError>>>,
    confirms: Gather<Second, Result<(), Arc<PeerError>>>,
    /// The service does not take several at once.
    alone: AtomicBool,
}

impl Lane {
    pub(super) const fn new() -> Self {
        Self {
            trys: Gather::reluctant(PLACES, Trys::<Payload>::MAX, TRY_RELUCTANCE),
            confirms: Gather::patient(PLACES, Confirms::MAX, CONFIRM_PATIENCE),
            alone: AtomicBool::new(false),
        }
    }

    fn gathers(&self) -> bool {
        !self.alone.load(Ordering::Relaxed)
    }
}

/// Where several go at once.
struct Batch {
    endpoint: &'static str,
    tail: &'static str,
}

const TRYS: Batch = Batch { endpoint: "/tcc/{action}/trys", tail: "/trys" };
const CONFIRMS: Batch = Batch { endpoint: "/tcc/{action}/confirms", tail: "/confirms" };

impl Peers {
    /// Sends a Try, together with others that wait.
    pub(crate) async fn reserve(
        &self,
        to: (&str, &str),
        body: &Try,
        limit: Duration,
    ) -> Result<(), PeerError> {
        let lane = self.lane(to.0, to.1);
        let mut _place = None;
        if let Some(lane) = lane.as_ref().filter(|it| it.gathers()) {
            let together = |all: Vec<(Try, String)>| {
                let count = all.len();
                let (branches, traces) = all.into_iter().unzip();
                self.together(lane, to, (TRYS, Trys { branches, traces }, count), limit)
            };
            let trace = Context::current().trace.map(|it| it.to_string()).unwrap_or_default();
            match lane.trys.ask((body.clone(), trace), together).await {
                Asked::Answered(result) => return result.map_err(PeerError::Together),
                Asked::Alone(place) => _place = place,
            }
        }
        self.branch(to.0, to.1, Step::Try, (body.xid, body), limit).await
    }

    /// Sends a Confirm, together with others that wait.
    pub(crate) async fn confirm(
        &self,
        to: (&str, &str),
        body: Second,
        limit: Duration,
    ) -> Result<(), PeerError> {
        let lane = self.lane(to.0, to.1);
        // The place is held through the one exchange, so that others gather meanwhile.
        let mut _place = None;
        if let Some(lane) = lane.as_ref().filter(|it| it.gathers()) {
            let together = |branches: Vec<Second>| {
                let count = branches.len();
                self.together(lane, to, (CONFIRMS, Confirms { branches }, count), limit)
            };
            match lane.confirms.ask(body.clone(), together).await {
                Asked::Answered(result) => return result.map_err(PeerError::Together),
                Asked::Alone(place) => _place = place,
            }
        }
        self.branch(to.0, to.1, Step::Confirm, (body.xid, &body), limit).await
    }

    /// One exchange for `count` branches.
    async fn together<B: Serialize + Sync>(
        &self,
        lane: &Lane,
        to: (&str, &str),
        (batch, body, count): (Batch, B, usize),
        limit: Duration,
    ) -> Vec<Option<Result<(), Arc<PeerError>>>> {
        match self.send(to, &batch, &body, limit).await {
            Ok(answer) => answer.done.iter().map(|done| done.then_some(Ok(()))).collect(),
            Err(PeerError::Call(error)) if not_there(&error) => {
                lane.alone.store(true, Ordering::Relaxed);
                Vec::new()
            }
            Err(PeerError::Call(error)) if not_taken(&error) => Vec::new(),
            Err(error) => {
                let error = Arc::new(error);
                (0..count).map(|_| Some(Err(Arc::clone(&error)))).collect()
            }
        }
    }

    async fn send<B: Serialize + Sync>(
        &self,
        (service, action): (&str, &str),
        batch: &Batch,
        body: &B,
        limit: Duration,
    ) -> Result<DoneTogether, PeerError> {
        let channel = self.channel(service)?;
        let request = Request::new(Method::POST, batch.endpoint)
            .literal("/tcc/")
            .segment("action", &action)
            .literal(batch.tail)
            .json(body)
            .idempotent()
            .timeout(limit);
        // Of several requests' contexts only the time that is left for this one is theirs all.
        let context = Context { xid: None, user: None, request_id: None, ..Context::current() };
        Ok(Box::pin(context.scope(channel.call(request))).await?)
    }
}

/// Whether the answer says that there is no such request: an older service, or a foreign one.
fn not_there(error: &CallError) -> bool {
    let refused = [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];
    error.status().is_some_and(|it| refused.contains(&it))
}

/// Whether these would not be taken together another time either: one of them cannot be read or
/// broke the service, or all are too large for one body. Alone each has an answer of its own.
fn not_taken(error: &CallError) -> bool {
    let refused = [
        StatusCode::BAD_REQUEST,
        StatusCode::FORBIDDEN,
        StatusCode::PAYLOAD_TOO_LARGE,
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        StatusCode::UNPROCESSABLE_ENTITY,
        StatusCode::INTERNAL_SERVER_ERROR,
    ];
    error.status().is_some_and(|it| refused.contains(&it))
}

#[cfg(test)]
mod tests;
