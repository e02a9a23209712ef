//! What an audit answers.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use tradewind::audit::{Finding, Findings};
use tradewind::sql::{Row, Transaction};

use crate::databases::{Databases, ReadError};
use crate::invariants::{JOIN_4, NOT_COVERED};
use crate::transactions::OpenTransactions;

/// What an audit found. Shown as text; [`Report::json`] for programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which databases were read.
    pub databases: Vec<DatabaseName>,
    /// One for each invariant that was looked at.
    pub findings: Vec<Finding>,
    /// What was not looked at.
    pub not_covered: Vec<NotCovered>,
    /// What is open in the logs.
    pub transactions: OpenTransactions,
    /// What waits in the broker.
    pub messages: Waiting,
    /// How long it took.
    pub took: Duration,
}

/// A database that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DatabaseName {
    /// Whose.
    pub service: &'static str,
    /// Where, without a password.
    pub url: String,
}

/// An invariant that was not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct NotCovered {
    /// Which.
    pub invariant: &'static str,
    /// Why not.
    pub reason: &'static str,
}

/// What waits in the broker: no violation, and worth knowing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// Deliveries on their way or in retry.
    pub deliveries: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Messages that nobody subscribes to, or whose producer never answered.
    pub parked: u64,
}

const WAITING: &str = "SELECT (SELECT COUNT(*) FROM delivery), (SELECT COUNT(*) FROM dead_letter), \
     (SELECT COUNT(*) FROM message WHERE state IN (4, 5))";

pub(crate) async fn waiting(databases: &Databases) -> Result<Waiting, ReadError> {
    let read = |tx: &mut Transaction<'_>| {
        let columns = |row: &Row| {
            Ok(Waiting { deliveries: row.get(0)?, dead_letters: row.get(1)?, parked: row.get(2)? })
        };
        Ok(tx.query_one(WAITING, &[], columns)?.unwrap_or_default())
    };
    databases.broker.read("audit: waiting", read).await
}

impl Report {
    pub(crate) fn new(
        databases: &Databases,
        findings: Findings,
        transactions: OpenTransactions,
        messages: Waiting,
        expected: bool,
        took: Duration,
    ) -> Self {
        let name = |it: &crate::databases::Place| DatabaseName {
            service: it.service,
            url: it.url.to_string(),
        };
        let mut not_covered: Vec<_> = NOT_COVERED
            .iter()
            .map(|(invariant, reason)| NotCovered { invariant, reason })
            .collect();
        if !expected {
            let reason = "needs the callers' list of placed orders: --expect FILE";
            not_covered.push(NotCovered { invariant: JOIN_4.number, reason });
        }
        let databases = databases.all().map(name).collect();
        let findings = findings.into_vec();
        Self { databases, findings, not_covered, transactions, messages, took }
    }

    /// How many rows break something.
    #[must_use]
    pub fn violations(&self) -> u64 {
        self.findings.iter().map(|it| it.violations).sum()
    }

    /// One line about all of it.
    #[must_use]
    pub fn summary(&self) -> String {
        let checked: u64 = self.findings.iter().map(|it| it.checked).sum();
        let broken = self.findings.iter().filter(|it| 0 < it.violations);
        let broken: Vec<_> =
            broken.map(|it| format!("{} ({})", it.invariant.number, it.violations)).collect();
        let verdict = if broken.is_empty() {
            "clean".to_owned()
        } else {
            format!("BROKEN: {}", broken.join(", "))
        };
        let took = self.took.as_millis();
        let (open, stuck) = (self.transactions.open, self.transactions.stuck);
        let Waiting { deliveries, dead_letters, parked } = self.messages;
        format!(
            "{verdict}; {checked} checks in {took} ms; transactions open {open}, for a human \
             {stuck}; deliveries waiting {deliveries}, dead letters {dead_letters}, parked {parked}"
        )
    }

    /// As JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let finding = |it: &Finding| {
            serde_json::json!({
                "invariant": it.invariant.number, "statement": it.invariant.statement,
                "checked": it.checked, "violations": it.violations, "rows": it.rows,
            })
        };
        let took = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX);
        serde_json::json!({
            "clean": self.violations() == 0,
            "violations": self.violations(),
            "took_ms": took,
            "databases": self.databases,
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
            "not_covered": self.not_covered,
            "transactions": {"open": self.transactions.open, "stuck": self.transactions.stuck},
            "messages": self.messages,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for it in &self.databases {
            writeln!(f, "{:<12}{}", it.service, it.url)?;
        }
        writeln!(f)?;
        for it in &self.findings {
            let (number, statement) = (it.invariant.number, it.invariant.statement);
            let verdict = if it.violations == 0 { "ok" } else { "BROKEN" };
            writeln!(f, "{number:<10}{verdict:<8}{:>9} checked  {statement}", it.checked)?;
            for row in &it.rows {
                writeln!(f, "          - {row}")?;
            }
            let kept = u64::try_from(it.rows.len()).unwrap_or(u64::MAX);
            let more = it.violations.saturating_sub(kept);
            if 0 < more {
                writeln!(f, "          - and {more} more")?;
            }
        }
        for it in &self.not_covered {
            writeln!(f, "{:<10}not covered: {}", it.invariant, it.reason)?;
        }
        writeln!(f, "\n{}", self.summary())
    }
}
