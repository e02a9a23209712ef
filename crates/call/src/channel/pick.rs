//! Which instance is called, and what its failures and successes mean for the next choice.

use std::sync::Arc;

use tradewind_base::Rng;
use tradewind_discovery::{Instance, List, Suspicion};
use tradewind_http::{ErrorKind, Phase, SendError};

use super::{Inner, Warnings};
use crate::Policy;
use crate::machine::balancer::{Balancer, Standing};
use crate::machine::budget::Budget;
use crate::machine::ejection::Ejections;
use crate::stats::add;

/// What the calls of a channel share. Held for the length of a choice, never across a wait.
pub(super) struct State {
    balancer: Balancer,
    ejections: Ejections<Registered>,
    pub(super) budget: Budget,
    pub(super) rng: Rng,
    pub(super) warnings: Warnings,
    /// Whether the task that keeps connections warm was started.
    pub(super) followed: bool,
    roster: Roster,
}

/// One registration of an instance: the next has another allocation, also with the same content.
#[derive(Clone, Debug)]
struct Registered(Arc<Instance>);

impl PartialEq for Registered {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The instances that are UP in the list that was seen last.
#[derive(Debug, Default)]
struct Roster {
    list: Option<Arc<List>>,
    up: Vec<Up>,
}

#[derive(Debug)]
struct Up {
    it: Registered,
    /// Shared with each call that it has under way.
    calls: Arc<()>,
}

impl Up {
    fn outstanding(&self) -> usize {
        Arc::strong_count(&self.calls) - 1
    }
}

/// The instance that takes a call, which counts as under way while this is there.
#[derive(Debug)]
pub(super) struct Picked {
    pub(super) instance: Arc<Instance>,
    _call: Arc<()>,
}

impl State {
    pub(super) fn new(policy: &Policy, mut rng: Rng) -> Self {
        let offset = usize::try_from(rng.u64() >> 33).unwrap_or(0);
        Self {
            balancer: Balancer::starting_at(policy.balance, offset),
            ejections: Ejections::new(policy.ejection),
            budget: Budget::new(policy.budget),
            rng,
            warnings: Warnings::default(),
            followed: false,
            roster: Roster::default(),
        }
    }

    /// Takes note of the present list.
    fn see(&mut self, list: &Arc<List>) {
        if self.roster.list.as_ref().is_some_and(|it| Arc::ptr_eq(it, list)) {
            return;
        }
        let before = std::mem::take(&mut self.roster.up);
        let up = list.up().map(|it| {
            // What is under way goes on when an instance is listed anew.
            let same = before.iter().find(|other| other.it.0.id == it.id);
            let calls = same.map_or_else(Arc::default, |other| Arc::clone(&other.calls));
            Up { it: Registered(Arc::clone(it)), calls }
        });
        self.roster.up = up.collect();
        self.roster.list = Some(Arc::clone(list));
        if !self.ejections.is_empty() {
            let up = &self.roster.up;
            let listed = |id: &str| up.iter().map(|it| &it.it).find(|it| it.0.id.as_str() == id);
            self.ejections.listed(listed);
        }
    }
}

impl Inner {
    /// The instance to call next: [`crate::machine`] says which.
    pub(super) fn pick(&self, tried: &[Arc<Instance>]) -> Option<Picked> {
        let list = self.view.load();
        let now = self.clock.monotonic();
        let mut state = self.lock();
        state.see(&list);
        let State { balancer, ejections, roster, .. } = &mut *state;
        let any_out = !ejections.is_empty();
        // The balancer asks for places below the length it was given.
        let at = |index: usize| roster.up.get(index);
        let standing = |index| {
            let Some(Up { it: Registered(it), .. }) = at(index) else { return Standing::Tried };
            if tried.iter().any(|other| other.id == it.id) {
                Standing::Tried
            } else if any_out && ejections.is_out(it.id.as_str(), now)
                || self.view.suspected(&it.id)
            {
                Standing::Ejected
            } else {
                Standing::Free
            }
        };
        let outstanding = |index| at(index).map_or(0, Up::outstanding);
        let up = at(balancer.choose(roster.up.len(), standing, outstanding)?)?;
        let Registered(instance) = &up.it;
        if any_out {
            ejections.chosen(instance.id.as_str(), now);
        }
        Some(Picked { instance: Arc::clone(instance), _call: Arc::clone(&up.calls) })
    }

    /// Whether there is an instance that was not tried.
    pub(super) fn any_untried(&self, tried: &[Arc<Instance>]) -> bool {
        self.view.load().up().any(|it| tried.iter().all(|other| other.id != it.id))
    }

    /// It answered: whatever was held against it is over.
    pub(super) fn fit(&self, instance: &Arc<Instance>) {
        let mut state = self.lock();
        if !state.ejections.is_empty() {
            state.ejections.succeeded(instance.id.as_str());
        }
        drop(state);
        self.view.trust(&instance.id);
    }

    /// It failed: left out at once if it could not be reached, and the registry is told of
    /// whatever makes it doubtful. `true` if that is news.
    pub(super) fn suspect(&self, instance: &Arc<Instance>, error: &SendError) -> bool {
        let Some(suspicion) = suspicion(error) else { return false };
        if matches!(error.phase(), Phase::Connect | Phase::Send) {
            let stamp = Registered(Arc::clone(instance));
            let now = self.clock.monotonic();
            if !self.lock().ejections.failed(instance.id.as_str(), &stamp, now) {
                return false;
            }
            add(&self.counters.ejections, 1);
            self.client.forget(&instance.target());
        }
        self.discovery.report(instance, suspicion);
        true
    }
}

/// What the failure of an attempt says about its instance; nothing if the fault is on this side,
/// or the instance is merely slow to answer.
fn suspicion(error: &SendError) -> Option<Suspicion> {
    if error.is_local() {
        return None;
    }
    match (error.phase(), error.kind()) {
        (_, ErrorKind::Refused) => Some(Suspicion::Refused),
        (Phase::Connect, ErrorKind::TimedOut) => Some(Suspicion::Timeout),
        (Phase::Connect | Phase::Send, _) | (Phase::Head | Phase::Body, ErrorKind::Broken) => {
            Some(Suspicion::Reset)
        }
        (Phase::Head | Phase::Body, _) => None,
    }
}
