//! A server that looks at its own database.

use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use tradewind_base::{Clock, Tasks};
use tradewind_sql::{Database, Error, TransactionError, Value};

use crate::check::{Check, window};
use crate::finding::Findings;

/// The most windows of one check that one look reads; a larger table is looked at over several.
const WINDOWS_MAX: u32 = 4;

/// The most rows that one look logs.
const LOGGED_MAX: usize = 10;

/// How far a check is in its table.
struct Cycle {
    check: &'static Check,
    after: Value,
    /// Of this time round.
    findings: Findings,
    /// Of the last one.
    last: Option<Findings>,
}

impl Cycle {
    fn new(check: &'static Check) -> Self {
        Self { check, after: check.start(), findings: Findings::new(), last: None }
    }

    fn ended(&mut self) {
        self.after = self.check.start();
        self.last = Some(std::mem::take(&mut self.findings));
    }

    /// What is wrong shows at once, that nothing is wrong only when all was seen.
    fn shown(&self) -> Findings {
        match &self.last {
            Some(last) if self.findings.violations() <= last.violations() => last.clone(),
            _ => self.findings.clone(),
        }
    }

    fn tell(&self, database: &str) {
        let invariant = self.check.invariant;
        let Some(found) = self.findings.get(invariant.number) else { return };
        let (total, number) = (found.violations, invariant.number);
        let first = found.rows.len().saturating_sub(LOGGED_MAX);
        let rows = found.rows.get(first..).unwrap_or_default().join("; ");
        let statement = invariant.statement;
        tracing::error!(invariant = number, database, total, rows, "invariant broken: {statement}");
    }
}

/// Looks every so often, in the background, for rows of `name`'s database that break an invariant;
/// never when `every` is zero.
///
/// One look reads a few windows of each check and the next one goes on behind them, so that the
/// work of a look does not grow with the table. The numbers that are shown are those of the last
/// time round.
pub fn watch(
    name: &'static str,
    database: &Database,
    checks: &'static [Check],
    every: Duration,
    clock: Arc<dyn Clock>,
    tasks: &Tasks,
) {
    if every.is_zero() || checks.is_empty() {
        return;
    }
    let database = database.clone();
    tasks.spawn("audit", move |cancel| async move {
        let mut cycles: Vec<_> = checks.iter().map(Cycle::new).collect();
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
            match look(name, &database, &mut cycles, &*clock).await {
                Ok(()) | Err(TransactionError::Closed) => {}
                Err(error) => tracing::warn!(%error, "cannot look for broken invariants"),
            }
        }
    });
}

async fn look(
    name: &'static str,
    database: &Database,
    cycles: &mut [Cycle],
    clock: &dyn Clock,
) -> Result<(), TransactionError<Error>> {
    for cycle in cycles.iter_mut() {
        for _ in 0..WINDOWS_MAX {
            let before = cycle.findings.violations();
            let (after, findings) = (cycle.after.clone(), &mut cycle.findings);
            let last = window(database, cycle.check, after, clock.now(), findings).await?;
            if before < cycle.findings.violations() {
                cycle.tell(name);
            }
            match last {
                Some(last) => cycle.after = last,
                None => {
                    cycle.ended();
                    break;
                }
            }
        }
    }
    show(name, cycles);
    Ok(())
}

/// Several checks may look for one invariant: what is shown is the sum of them.
fn show(name: &'static str, cycles: &[Cycle]) {
    let mut all = Findings::new();
    for cycle in cycles {
        all.merge(cycle.shown());
    }
    for finding in all.as_slice() {
        let invariant = finding.invariant.number;
        let [violations, checked] =
            ["tradewind_invariant_violations", "tradewind_invariant_checked"]
                .map(|it| gauge!(it, "invariant" => invariant, "database" => name));
        violations.set(number(finding.violations));
        checked.set(number(finding.checked));
    }
}

fn number(it: u64) -> f64 {
    f64::from(u32::try_from(it).unwrap_or(u32::MAX))
}
