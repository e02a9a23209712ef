//! Ordered shutdown: leave the registry, stop accepting, finish what is in flight, flush, exit.
//!
//! A server adds its steps in the order in which it starts things and the sequence runs them in
//! that order of *ending*: the order they were added. Each step has a limit of its own; a step
//! that runs out of time is reported and the next one starts, so that one stuck part cannot keep
//! the others from ending well.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;

type Work = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

struct Step {
    name: &'static str,
    limit: Duration,
    work: Work,
}

/// The steps of a shutdown, in order.
#[derive(Default)]
pub struct Shutdown {
    steps: Vec<Step>,
}

/// How one step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it should.
    Done,
    /// It failed, with the reason.
    Failed(String),
    /// It was not done within its limit.
    OutOfTime,
}

/// One step, how it ended and how long it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What the step was.
    pub name: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

impl Shutdown {
    /// A shutdown without steps.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a step that runs after all steps added before it.
    #[must_use]
    pub fn step<F, E>(mut self, name: &'static str, limit: Duration, work: F) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        let work = Box::pin(async move { work.await.map_err(|error| error.to_string()) });
        self.steps.push(Step { name, limit, work });
        self
    }

    /// Runs all steps, one after the other, and logs each.
    pub async fn run(self) -> Vec<Report> {
        let mut reports = Vec::with_capacity(self.steps.len());
        for Step { name, limit, work } in self.steps {
            let start = Instant::now();
            let outcome = match tokio::time::timeout(limit, work).await {
                Ok(Ok(())) => Outcome::Done,
                Ok(Err(reason)) => Outcome::Failed(reason),
                Err(_) => Outcome::OutOfTime,
            };
            let report = Report { name, outcome, took: start.elapsed() };
            let took_ms = report.took.as_millis();
            match &report.outcome {
                Outcome::Done => tracing::info!(step = name, took_ms, "shutdown step done"),
                Outcome::Failed(error) => {
                    tracing::warn!(step = name, took_ms, error, "shutdown step failed");
                }
                Outcome::OutOfTime => {
                    tracing::warn!(step = name, took_ms, "shutdown step ran out of time");
                }
            }
            reports.push(report);
        }
        reports
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.steps.iter().map(|it| it.name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    #[tokio::test(start_paused = true)]
    async fn steps_run_in_order_and_a_stuck_one_does_not_stop_the_next() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let note = |name: &'static str| {
            let seen = Arc::clone(&seen);
            async move {
                seen.lock().unwrap().push(name);
                Ok::<(), Infallible>(())
            }
        };
        let limit = Duration::from_secs(2);
        let reports = Shutdown::new()
            .step("leave", limit, note("leave"))
            .step("stuck", limit, std::future::pending::<Result<(), Infallible>>())
            .step("refuse", limit, async { Err("no") })
            .step("flush", limit, note("flush"))
            .run()
            .await;
        assert_eq!(*seen.lock().unwrap(), ["leave", "flush"]);
        let outcomes: Vec<_> = reports.iter().map(|it| it.outcome.clone()).collect();
        let expected =
            [Outcome::Done, Outcome::OutOfTime, Outcome::Failed("no".into()), Outcome::Done];
        assert_eq!(outcomes, expected);
        assert_eq!(reports[1].took, limit);
    }
}
