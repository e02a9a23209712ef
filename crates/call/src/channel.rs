//! A channel to one service: picks instances, makes attempts, keeps connections warm.

mod attempt;
mod pick;
mod warm;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tradewind_base::{Clock, Context, Deadline, Monotonic, Rng, SystemClock};
use tradewind_discovery::{Discovery, Instance, ServiceName, View};
use tradewind_http::Client;

use crate::machine::schedule::{Failure, Schedule, Situation, Step, Stop};
use crate::request::Ready;
use crate::stats::{Counters, add};
use crate::{CallError, Identity, Policy, Request, Stats};
use attempt::{Failed, Headers, Sent};
use pick::State;
pub use warm::WarmError;
use warm::Warmth;

/// Calls one service. Clones share everything: turn, ejections, budget, counts, connections.
#[derive(Clone)]
pub struct Channel {
    inner: Arc<Inner>,
}

struct Inner {
    service: ServiceName,
    view: View,
    discovery: Discovery,
    client: Client,
    policy: Policy,
    caller: Option<Identity>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    counters: Counters,
    warmth: watch::Sender<Option<Warmth>>,
    /// A call has met a doubtful instance: whoever keeps connections warm looks after it.
    lost: Notify,
}

/// What is done with the body of a success.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Wanted,
    Ignored,
}

impl Channel {
    /// A channel to `service`, which is followed from now on. `caller` is who we are; without it,
    /// services that ask who calls refuse. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(
        discovery: &Discovery,
        client: Client,
        service: ServiceName,
        policy: Policy,
        caller: Option<Identity>,
    ) -> Self {
        let clock = Arc::new(SystemClock::new());
        Self::with(discovery, client, service, policy, caller, clock, Rng::from_entropy())
    }

    /// The same with a clock and random numbers of one's own, for tests and simulation.
    #[must_use]
    pub fn with(
        discovery: &Discovery,
        client: Client,
        service: ServiceName,
        policy: Policy,
        caller: Option<Identity>,
        clock: Arc<dyn Clock>,
        rng: Rng,
    ) -> Self {
        let inner = Inner {
            view: discovery.view(&service),
            service,
            discovery: discovery.clone(),
            client,
            state: Mutex::new(State::new(&policy, rng)),
            policy,
            caller,
            clock,
            counters: Counters::new(),
            warmth: watch::Sender::new(None),
            lost: Notify::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The service that is called.
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        &self.inner.service
    }

    /// The policy, as it is in effect.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.inner.policy
    }

    /// What was counted since the channel was made.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.counters.snapshot()
    }

    /// Calls and reads the answer's body as JSON.
    ///
    /// Reads [`Context::current`] and passes on deadline, trace, request id, user and transaction.
    ///
    /// # Errors
    /// See [`CallError`].
    ///
    /// # Cancel safety
    /// Dropping the future gives the call up; a request that was sent may still be carried out.
    pub async fn call<T: DeserializeOwned>(&self, request: Request) -> Result<T, CallError> {
        let ending = Ending::new(&self.inner);
        let result = Box::pin(self.inner.answer(request, Content::Wanted)).await;
        ending.end(result.and_then(|(endpoint, body)| {
            serde_json::from_slice(&body).map_err(|source| {
                let service = self.service().clone();
                CallError::Decode { service, endpoint, source }
            })
        }))
    }

    /// Calls and ignores the answer's body.
    ///
    /// # Errors
    /// See [`CallError`].
    ///
    /// # Cancel safety
    /// As [`Channel::call`].
    pub async fn run(&self, request: Request) -> Result<(), CallError> {
        let ending = Ending::new(&self.inner);
        let result = Box::pin(self.inner.answer(request, Content::Ignored)).await;
        ending.end(result.map(drop))
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("service", self.service())
            .field("policy", &self.inner.policy)
            .field("caller", &self.inner.caller)
            .finish_non_exhaustive()
    }
}

/// Counts the end of a call, also when its future is dropped.
struct Ending<'a> {
    inner: &'a Inner,
    start: Monotonic,
    ended: bool,
}

impl<'a> Ending<'a> {
    fn new(inner: &'a Inner) -> Self {
        Self { inner, start: inner.clock.monotonic(), ended: false }
    }

    fn end<T>(mut self, result: Result<T, CallError>) -> Result<T, CallError> {
        self.ended = true;
        self.inner.counters.ended(&result, self.inner.clock.monotonic() - self.start);
        result
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.inner.counters.cancelled();
        }
    }
}

/// One call on its way.
struct Call {
    request: Ready,
    headers: Headers,
    deadline: Deadline,
    schedule: Schedule,
    rng: Rng,
    /// The instances that were tried, each once, in order.
    tried: Vec<Arc<Instance>>,
    /// Whether any attempt may have reached a server and had no answer.
    sent: bool,
}

impl Call {
    /// The error of a call whose last attempt ended with this one. An answer to a repeat says
    /// nothing of the attempt before it; where nothing is changed, that does not matter.
    fn settle(&self, error: CallError) -> CallError {
        let answered = error.status().is_some();
        if answered && self.sent && !self.request.method.is_safe() {
            return CallError::Unsettled { source: Box::new(error) };
        }
        error
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The whole call: attempts until one has an answer, or no further one is allowed.
    async fn answer(
        &self,
        request: Request,
        content: Content,
    ) -> Result<(&'static str, Bytes), CallError> {
        let mut call = self.begin(request.finish()?);
        let mut picked = self.pick(&call.tried).ok_or_else(|| self.no_instance())?;
        loop {
            let instance = &picked.instance;
            if !call.tried.iter().any(|it| it.id == instance.id) {
                call.tried.push(Arc::clone(instance));
            }
            if self.out_of_time(&call) {
                return Err(self.too_late(&call, call.schedule.attempts() - 1));
            }
            let left = call.deadline.left();
            let failed = match self.attempt(&mut call, instance, left, content).await {
                Ok(body) => return Ok((call.request.endpoint, body)),
                Err(Failed::Finally(error)) => return Err(call.settle(error)),
                Err(Failed::Perhaps(failure, error)) => (failure, error),
            };
            let step = self.step(&mut call, failed.0);
            match step {
                Step::Same(wait) => tokio::time::sleep(wait).await,
                Step::Next(wait) => {
                    if !wait.is_zero() {
                        tokio::time::sleep(wait).await;
                    }
                    // All may have left meanwhile. What this call knows of its attempts says more than
                    // that nobody is there now: one of them may have been carried out.
                    let Some(next) = self.pick(&call.tried) else {
                        return Err(self.give_up(&call, Stop::Exhausted, failed.1));
                    };
                    picked = next;
                }
                Step::Stop(why) => return Err(self.give_up(&call, why, failed.1)),
            }
        }
    }

    fn begin(&self, request: Ready) -> Call {
        let context = Context::current();
        let total = request.timeout.unwrap_or(self.policy.total);
        let mut rng = {
            let mut state = self.lock();
            state.budget.deposit(self.clock.monotonic());
            state.rng.split()
        };
        let headers = Headers::new(&context, self.clock.now(), &mut rng);
        Call {
            schedule: Schedule::new(self.policy.rules(), request.idempotent),
            request,
            headers,
            deadline: Deadline::after(context.time_left(total)),
            rng,
            tried: Vec::new(),
            sent: false,
        }
    }

    fn step(&self, call: &mut Call, failure: Failure) -> Step {
        let untried = self.any_untried(&call.tried);
        let situation = Situation { left: call.deadline.left(), untried };
        let step = call.schedule.after(failure, situation, &mut call.rng, || {
            self.lock().budget.withdraw(self.clock.monotonic())
        });
        match step {
            Step::Same(_) | Step::Next(_) => add(&self.counters.retries, 1),
            Step::Stop(Stop::Budget) => add(&self.counters.retries_denied, 1),
            Step::Stop(Stop::NotIdempotent | Stop::Exhausted | Stop::Deadline) => {}
        }
        step
    }

    /// No further attempt: says so in the log if attempts were made in vain, once a second at
    /// most, and gives the error of the last.
    fn give_up(&self, call: &Call, why: Stop, error: CallError) -> CallError {
        let service = self.service.as_str();
        let (endpoint, attempts) = (call.request.endpoint, call.schedule.attempts());
        if why == Stop::NotIdempotent {
            tracing::debug!(service, endpoint, attempts, "no retry: not idempotent");
        } else if let Some(suppressed) = self.lock().warnings.admit(self.clock.monotonic()) {
            tracing::warn!(
                service,
                endpoint,
                attempts,
                reason = why.as_str(),
                suppressed,
                error = %Chain(&error),
                "retries exhausted"
            );
        }
        match error {
            // The limit of its phase was what was left of the whole.
            CallError::Timeout { attempts, .. } if self.out_of_time(call) => {
                self.too_late(call, attempts)
            }
            other => call.settle(other),
        }
    }

    fn out_of_time(&self, call: &Call) -> bool {
        call.deadline.left() < self.policy.rules().floor
    }

    fn no_instance(&self) -> CallError {
        CallError::NoInstance { service: self.service.clone() }
    }

    fn too_late(&self, call: &Call, attempts: u32) -> CallError {
        let service = self.service.clone();
        CallError::DeadlineExceeded { service, attempts, sent: call.sent }
    }

    /// The outcome of an attempt, for turn and ejections.
    fn settle(&self, instance: &Arc<Instance>, sent: &Sent<'_>) {
        match sent {
            Sent::Answered => self.fit(instance),
            Sent::Failed(error) => {
                if self.suspect(instance, error) {
                    self.lost.notify_one();
                }
            }
        }
    }
}

/// An error with its causes, on one line.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Lets one warning a second through and counts the rest.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    next: Monotonic,
    suppressed: u64,
}

impl Warnings {
    const EVERY: Duration = Duration::from_secs(1);

    /// The number of warnings that were kept back since the last, if this one may be written.
    pub(crate) fn admit(&mut self, now: Monotonic) -> Option<u64> {
        if now < self.next {
            self.suppressed += 1;
            return None;
        }
        self.next = now + Self::EVERY;
        Some(std::mem::take(&mut self.suppressed))
    }
}
