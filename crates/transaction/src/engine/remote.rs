//! The other kind of engine: a coordinator decides and drives, and is asked over HTTP.
//!
//! | step | embedded | coordinator |
//! |---|---|---|
//! | begin | the log's row | a fence row: the Try of the own branch |
//! | Trys | sent from here | one request begins there and tries all |
//! | decision | in the caller's local transaction | one request; then the caller may go on |
//! | own Confirm, Cancel | in that local transaction | through the fence: here, or at the coordinator's call |
//! | the others' | driven here | driven there |
//!
//! What an answer means, and what none does, is the table of [`crate::machine::asked`].

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tradewind_base::id::Xid;
use tradewind_base::{Problem, fault};
use tradewind_call::CallError;

use super::decide::{Decided, MayAbort, MayCommit};
use super::declaration::{Coordinated, Declaration};
use super::tries::{FLOOR, PAUSES, Tried, late, told};
use super::{Engine, lock};
use crate::machine::asked::{Asked, Heard, Meaning, meaning, must_ask};
use crate::peers::PeerError;
use crate::wire::coordinator::{self as wire, OWN_BRANCH, Outcome};

/// Of the time for the Trys, what the way to the coordinator and back may take at most.
const WAY: Duration = Duration::from_millis(100);

impl Engine {
    /// Begins at the coordinator and has all branches tried there.
    pub(super) async fn try_there(&self, it: &Declaration, to: &Coordinated) -> Tried {
        let body = |left| wire::Try { begin: to.begins.then(|| begin(it, left)) };
        let (means, said) = self.ask(it.xid, to, (Asked::Trys, body), it.until).await;
        match (means, said) {
            (Meaning::Told, Ok(told)) => tried(told, &to.service),
            (Meaning::Committed, _) => Tried::Reserved,
            (Meaning::Aborted, _) => {
                let detail = "the transaction was aborted meanwhile";
                unavailable(&to.service, Problem::unavailable("tcc.aborted", detail))
            }
            (_, Err(problem)) => unavailable(&to.service, problem),
            (_, Ok(_)) => unavailable(&to.service, Problem::internal()),
        }
    }

    pub(super) async fn commit_there(&self, it: &Declaration, to: &Coordinated) -> Decided {
        let body = |_| serde_json::json!({});
        let until = Instant::now() + self.inner.settings.decide;
        match self.ask::<_, wire::View>(it.xid, to, (Asked::Commit, body), until).await.0 {
            Meaning::Committed => {
                fault::point(format_args!("tcc.{}.coordinated", it.name));
                Decided::Commit(MayCommit::after(it.xid))
            }
            Meaning::Aborted => Decided::Abort(MayAbort::after(it.xid)),
            Meaning::Lost => self.abort_there(it, to, "cannot be committed any more").await,
            Meaning::Told | Meaning::Again => Decided::Unknown,
        }
    }

    pub(super) async fn abort_there(
        &self,
        it: &Declaration,
        to: &Coordinated,
        reason: &str,
    ) -> Decided {
        if !must_ask(to.sent()) {
            return Decided::Abort(MayAbort::after(it.xid));
        }
        let body = |_| wire::Abort { reason: reason.to_owned() };
        let until = Instant::now() + self.inner.settings.decide;
        match self.ask::<_, wire::View>(it.xid, to, (Asked::Abort, body), until).await.0 {
            Meaning::Committed => Decided::Commit(MayCommit::after(it.xid)),
            Meaning::Aborted => Decided::Abort(MayAbort::after(it.xid)),
            Meaning::Told | Meaning::Lost | Meaning::Again => Decided::Unknown,
        }
    }

    /// Asks the coordinator until its answer means something, or the time is up.
    async fn ask<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        xid: Xid,
        to: &Coordinated,
        (asked, body): (Asked, impl Fn(Duration) -> B),
        until: Instant,
    ) -> (Meaning, Result<T, Problem>) {
        let (inner, service) = (&self.inner, &*to.service);
        let mut problem = late(service);
        let mut attempts = 0;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left < FLOOR {
                return (Meaning::Again, Err(problem));
            }
            let body = body(left);
            let call = inner.peers.coordinator(service, xid, (asked, &body), left);
            let mut leaving = Leaving { to, stayed: false };
            let answer = tokio::time::timeout(left, call).await;
            leaving.stayed = matches!(&answer, Ok(Err(error)) if !left_here(error));
            drop(leaving);
            let error = match answer {
                Ok(Ok(said)) => return (meaning(asked, Heard::Success), Ok(said)),
                Ok(Err(error)) => error,
                Err(_) => continue,
            };
            problem = told(&error, service);
            let heard = match &error {
                PeerError::Call(error) => error.problem().map(|it| it.code.as_str()),
                PeerError::Name { .. } | PeerError::TooMany | PeerError::Together(_) => None,
            };
            let means = meaning(asked, heard.map_or(Heard::Noise, Heard::Problem));
            if means != Meaning::Again {
                return (means, Err(problem));
            }
            attempts += 1;
            let jitter = lock(&inner.rng).unit();
            tracing::debug!(%xid, service, attempts, %error, "the coordinator is asked again");
            tokio::time::sleep(PAUSES.pause(attempts, jitter).min(left)).await;
        }
    }
}

/// A call under way. Unless it is certain that nothing of it left, something has: also when whoever
/// waits for it goes away.
struct Leaving<'a> {
    to: &'a Coordinated,
    stayed: bool,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if !self.stayed {
            self.to.leaves();
        }
    }
}

/// Whether anything of a call that failed may have left this process.
const fn left_here(error: &PeerError) -> bool {
    match error {
        PeerError::Name { .. } | PeerError::TooMany => false,
        PeerError::Together(_) => true,
        PeerError::Call(error) => match error {
            CallError::NoInstance { .. } | CallError::Invalid { .. } => false,
            CallError::Transport { sent, .. }
            | CallError::Timeout { sent, .. }
            | CallError::DeadlineExceeded { sent, .. } => *sent,
            _ => true,
        },
    }
}

fn begin(it: &Declaration, left: Duration) -> wire::Begin {
    let limit = left - (left / 8).min(WAY);
    let branches = it.branches.iter().map(|it| wire::Branch {
        service: it.service.clone(),
        action: it.action.clone(),
        payload: it.payload.value(),
    });
    wire::Begin {
        xid: None,
        name: it.name.clone().into_owned(),
        limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1),
        branches: branches.collect(),
        own: Some(it.name.clone().into_owned()),
    }
}

fn tried(told: wire::Tried, coordinator: &str) -> Tried {
    let branch = told.branch.unwrap_or(OWN_BRANCH);
    let service = told.service.unwrap_or_else(|| coordinator.to_owned());
    let problem = told.problem.unwrap_or_else(|| Box::new(Problem::internal()));
    match told.outcome {
        Outcome::Reserved => Tried::Reserved,
        Outcome::Refused => Tried::Refused { branch, service, problem },
        Outcome::Unavailable => Tried::Unavailable { branch, service, problem },
    }
}

fn unavailable(service: &str, problem: Problem) -> Tried {
    let problem = Box::new(problem);
    Tried::Unavailable { branch: OWN_BRANCH, service: service.to_owned(), problem }
}
