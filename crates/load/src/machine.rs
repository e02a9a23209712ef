//! The schedule and the accounting of a run.
//!
//! Times are since the start of the run. The driver calls [`Machine::advance`] with the present
//! time, starts what [`Machine::take`] gives, says with [`Machine::finish`] how each went, and
//! comes back at [`Machine::wake`] at the latest.
//!
//! | state of a request | enters by | leaves by |
//! |---|---|---|
//! | scheduled | the plan | `advance`, once it is due: *offered* |
//! | waiting | `advance`, while there is room | `take`, in order; `end`: *unfinished* |
//! | dropped | `advance`, without room | — |
//! | in flight | `take` | `finish`: *served* or *failed*; `end`: *unfinished* |
//!
//! 1. The arrivals do not depend on anything the server does.
//! 2. Every request that came due is exactly one of served, failed, dropped, waiting, in flight.
//! 3. At most `in_flight_max` are in flight and at most `queue_max` wait after everything that
//!    may start was taken.
//! 4. A response time counts from the scheduled instant and is never shorter than the service
//!    time.
//! 5. The sums over all ticks are the sums of the run.

mod schedule;
mod tally;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

pub use schedule::Schedule;

use crate::{Outcome, Plan, Report, Tick};
use tally::Tally;

/// One request that came due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its number, from zero.
    pub sequence: u64,
    /// When it was due.
    pub due: Duration,
}

/// The schedule and the accounting of a run.
#[derive(Debug)]
pub struct Machine {
    schedule: Schedule,
    next: Option<Duration>,
    sequence: u64,
    in_flight_max: usize,
    queue_max: usize,
    queue: VecDeque<Arrival>,
    in_flight: usize,
    ends: Duration,
    drain: Duration,
    stopped: bool,
    tally: Tally,
}

impl Machine {
    /// How long a tick is.
    pub const TICK: Duration = Duration::from_secs(1);

    /// A run that has not begun.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let mut schedule = Schedule::new(&plan.stages, plan.arrivals);
        let next = schedule.next();
        Self {
            schedule,
            next,
            sequence: 0,
            in_flight_max: plan.in_flight_max.max(1),
            queue_max: plan.queue_max,
            queue: VecDeque::new(),
            in_flight: 0,
            ends: plan.lasts(),
            drain: plan.drain,
            stopped: false,
            tally: Tally::new(plan.warm_up),
        }
    }

    /// Takes in what came due.
    pub fn advance(&mut self, now: Duration) {
        while let Some(due) = self.next.filter(|it| *it <= now) {
            let arrival = Arrival { sequence: self.sequence, due };
            self.sequence += 1;
            self.next = self.schedule.next();
            let room = (self.in_flight_max - self.in_flight).saturating_add(self.queue_max);
            let accepted = self.queue.len() < room;
            self.tally.offered(arrival, now, accepted);
            if accepted {
                self.queue.push_back(arrival);
            }
        }
        self.tally.backlog(self.queue.len() + self.in_flight);
    }

    /// The next request to start, if one is due and may be in flight.
    pub fn take(&mut self) -> Option<Arrival> {
        if self.in_flight_max <= self.in_flight {
            return None;
        }
        let arrival = self.queue.pop_front()?;
        self.in_flight += 1;
        Some(arrival)
    }

    /// A request that was taken has ended at `now`; it was sent at `sent`.
    pub fn finish(&mut self, arrival: Arrival, sent: Duration, now: Duration, outcome: Outcome) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let within = now <= self.ends;
        self.tally.ended(arrival, sent, now, outcome, within);
    }

    /// No further arrivals, and nothing that waits is started any more; what is in flight may end.
    pub fn stop(&mut self, now: Duration) {
        if !self.stopped && now < self.ends {
            self.ends = now;
        }
        self.stopped = true;
        self.next = None;
        self.abandon();
    }

    /// When the driver must come back, even if no request ends: the next arrival, tick or end.
    #[must_use]
    pub fn wake(&self, now: Duration) -> Duration {
        let end = if now < self.ends { self.ends } else { self.ends.saturating_add(self.drain) };
        self.next.unwrap_or(end).min(end).min(self.tally.next_tick())
    }

    /// The tick that is due, if one is. It covers all time since the tick before.
    pub fn tick(&mut self, now: Duration) -> Option<Tick> {
        if now < self.tally.next_tick() {
            return None;
        }
        Some(self.tally.tick(now, self.queue.len(), self.in_flight))
    }

    /// Whether the run is over: everything has ended, or the time to drain has.
    #[must_use]
    pub fn is_over(&self, now: Duration) -> bool {
        let idle = self.queue.is_empty() && self.in_flight == 0;
        let done = self.next.is_none() && (self.ends <= now || self.stopped);
        done && (idle || self.ends.saturating_add(self.drain) <= now)
    }

    /// Ends the run: what waits or is in flight stays unfinished. The last tick, if it has any
    /// length, is in the report.
    #[must_use]
    pub fn end(mut self, now: Duration) -> (Report, Option<Tick>) {
        let last = self.tally.open(now).then(|| {
            let (waiting, in_flight) = (self.queue.len(), self.in_flight);
            self.tally.tick(now, waiting, in_flight)
        });
        self.abandon();
        (self.tally.report(self.ends, self.stopped), last)
    }

    fn abandon(&mut self) {
        self.queue.clear();
    }
}
