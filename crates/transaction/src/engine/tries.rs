//! The first phase: all branches at once, until each has answered or the time is up.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::StatusCode;
use tokio::time::Instant;
use tradewind_base::{Problem, fault};
use tradewind_call::CallError;

use super::declaration::{Declaration, Declared};
use super::{Engine, lock};
use crate::machine::backoff::Backoff;
use crate::peers::PeerError;
use crate::wire;

/// What came of trying.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a transaction that is not committed must be aborted"]
pub enum Tried {
    /// Every branch holds its reservation.
    Reserved,
    /// A branch said no. Abort.
    Refused {
        /// Its number.
        branch: u16,
        /// Its service.
        service: String,
        /// Why, in the participant's words and with its code. The status is 409 when the business
        /// refused; with another the call itself was wrong.
        problem: Box<Problem>,
    },
    /// A branch did not answer in time; whether it holds a reservation is unknown. Abort.
    Unavailable {
        /// Its number.
        branch: u16,
        /// Its service.
        service: String,
        /// What to tell the caller.
        problem: Box<Problem>,
    },
}

/// Between Trys of one branch: they are few and somebody waits.
pub(super) const PAUSES: Backoff =
    Backoff { first: Duration::from_millis(30), longest: Duration::from_millis(400) };

/// How much of the time must be left for one more Try.
pub(super) const FLOOR: Duration = Duration::from_millis(5);

/// Refusals that may pass.
const LATER: [StatusCode; 3] =
    [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];

const KIND: &str = "urn:tradewind:problem:";

impl Engine {
    /// Sends the Trys of a transaction that has begun, all at once, and repeats what is unknown,
    /// also on other instances, until the declared time is up. The first refusal ends it.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the transaction undecided: it is aborted at its deadline, or closed
    /// if it is [implied](Declaration::implied).
    pub async fn try_all(&self, declaration: &Declaration) -> Tried {
        let name = declaration.name.as_ref();
        fault::point(format_args!("tcc.{name}.begun"));
        let tried = match &declaration.coordinator {
            None => self.try_each(declaration).await,
            Some(to) => Box::pin(self.try_there(declaration, to)).await,
        };
        fault::point(format_args!("tcc.{name}.tried"));
        tried
    }

    pub(super) async fn try_each(&self, declaration: &Declaration) -> Tried {
        let mut open: FuturesUnordered<_> = declaration
            .branches
            .iter()
            .filter(|it| !it.reserved)
            .map(|it| self.try_one(declaration, it))
            .collect();
        while let Some(tried) = open.next().await {
            if tried != Tried::Reserved {
                return tried;
            }
        }
        Tried::Reserved
    }

    async fn try_one(&self, declaration: &Declaration, branch: &Declared) -> Tried {
        let inner = &self.inner;
        let body = wire::Try {
            xid: declaration.xid,
            branch: branch.index,
            initiator: inner.peers.own_name().to_owned(),
            deadline_ms: declaration.deadline.millis(),
            payload: branch.payload.clone(),
        };
        let (service, action) = (branch.service.as_str(), branch.action.as_str());
        let mut problem = late(service);
        let mut attempts = 0;
        loop {
            let left = declaration.until.saturating_duration_since(Instant::now());
            if left < FLOOR {
                let problem = Box::new(problem);
                return Tried::Unavailable {
                    branch: branch.index,
                    service: service.into(),
                    problem,
                };
            }
            let call = inner.peers.reserve((service, action), &body, left);
            // The limit again: a call that is stuck in itself must not hold the caller.
            let error = match tokio::time::timeout(left, call).await {
                Ok(Ok(())) => return Tried::Reserved,
                Ok(Err(error)) => error,
                Err(_) => continue,
            };
            if let Some(refusal) = definite(&error) {
                let problem = Box::new(refusal);
                return Tried::Refused { branch: branch.index, service: service.into(), problem };
            }
            problem = told(&error, service);
            attempts += 1;
            let jitter = lock(&inner.rng).unit();
            let pause = PAUSES.pause(attempts, jitter);
            tracing::debug!(xid = %declaration.xid, service, attempts, %error, "a Try is repeated");
            tokio::time::sleep(pause.min(left)).await;
        }
    }
}

/// The refusal in an answer that is definite, with the participant's own code. Taking more for
/// definite than must be is safe: the abort that follows goes to every branch.
fn definite(error: &PeerError) -> Option<Problem> {
    let PeerError::Call(error) = error else { return None };
    let problem = error.problem()?;
    let status = problem.status;
    if !status.is_client_error() || LATER.contains(&status) {
        return None;
    }
    let mut problem = problem.clone();
    problem.request_id = None;
    if let (wire::REFUSED, Some(code)) = (&*problem.code, problem.kind.strip_prefix(KIND)) {
        problem.code = code.to_owned();
    }
    Some(problem)
}

pub(super) fn told(error: &PeerError, service: &str) -> Problem {
    match error {
        PeerError::Call(error) if error.status() == Some(StatusCode::TOO_EARLY) => late(service),
        PeerError::Call(error @ CallError::DeadlineExceeded { .. }) => Problem::from(error),
        PeerError::Call(error) => Problem::from(error),
        PeerError::Together(error) => told(error, service),
        PeerError::Name { .. } | PeerError::TooMany => Problem::internal(),
    }
}

pub(super) fn late(service: &str) -> Problem {
    let detail = format!("{service} did not answer in time");
    Problem::new(StatusCode::GATEWAY_TIMEOUT, "tcc.late", detail)
}
