//! What a run was, in words and numbers.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::ledger::Sums;
use crate::proxy::Done;
use crate::run::Options;
use crate::weather::Suffered;

/// What happened in a run.
#[derive(Debug)]
pub struct Report {
    options: Options,
    /// What the buyers were told.
    pub ledger: Sums,
    /// Indefinite answers.
    pub unknown: BTreeMap<String, u64>,
    /// If a server answered 500, which says that it did not understand itself what went wrong: what
    /// the servers logged as errors.
    pub errors: Vec<String>,
    /// What was done to the processes.
    pub suffered: BTreeMap<&'static str, Suffered>,
    /// What was done to the messages.
    pub links: Vec<(&'static str, Done)>,
    /// Audits during the storm.
    pub audits: usize,
    /// What they found.
    pub false_alarms: Vec<String>,
    /// How long the storm lasted.
    pub storm: Duration,
    /// How long everything took to settle after it.
    pub settling: Duration,
    /// What was left to do meanwhile, whenever that changed.
    pub left: Vec<(Duration, String)>,
}

impl Report {
    /// Of a run that begins.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            ledger: Sums::default(),
            unknown: BTreeMap::new(),
            errors: Vec::new(),
            suffered: BTreeMap::new(),
            links: Vec::new(),
            audits: 0,
            false_alarms: Vec::new(),
            storm: Duration::ZERO,
            settling: Duration::ZERO,
            left: Vec::new(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { seed, storage, decider, .. } = self.options;
        let it = self.ledger;
        writeln!(f, "chaos: seed {} on {storage:?}, decided by {decider:?}", seed.0)?;
        writeln!(
            f,
            "  storm {:.1} s, settled {:.1} s after it; {} audits meanwhile",
            self.storm.as_secs_f64(),
            self.settling.as_secs_f64(),
            self.audits,
        )?;
        writeln!(
            f,
            "  orders: {} accepted, {} refused, {} unknown; {} unknown at first, then definite; \
             {} requests",
            it.accepted, it.refused, it.unknown, it.resolved, it.requests,
        )?;
        writeln!(f, "  cancelled {}, shipped before {}", it.cancelled, it.too_late)?;
        for (kind, it) in &self.suffered {
            let Suffered { kills, freezes, ends } = it;
            writeln!(f, "  {kind:<12} killed {kills}, frozen {freezes}, ended {ends}")?;
        }
        for (link, it) in &self.links {
            let Done { requests, lost, unanswered, doubled, held, broken } = it;
            writeln!(
                f,
                "  to {link:<12} {requests} requests: {lost} lost, {unanswered} answers lost, \
                 {doubled} doubled, {held} held back, {broken} broken",
            )?;
        }
        for (since, what) in &self.left {
            writeln!(f, "  left after {:.1} s: {what}", since.as_secs_f64())?;
        }
        for (what, count) in &self.unknown {
            writeln!(f, "  indefinite: {count} x {what}")?;
        }
        for it in &self.errors {
            writeln!(f, "  error: {it}")?;
        }
        Ok(())
    }
}
