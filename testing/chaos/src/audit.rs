//! Runs `tradewind audit`: again and again during the storm, and once when all is settled.

use std::convert::Infallible;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tradewind_e2e::{Estate, Settings};

/// Between two audits during the storm.
const PAUSE: Duration = Duration::from_secs(2);
/// No audit takes longer, also of many orders on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);
/// More false alarms than these say nothing new.
const ALARMS_MAX: usize = 5;

/// The audits of a storm.
#[derive(Debug, Default)]
pub struct Audits(Mutex<(usize, Vec<String>)>);

impl Audits {
    /// Audits until it is dropped. `accepted` are the orders that exist for sure.
    pub async fn repeat(&self, estate: &Estate, accepted: impl Fn() -> Vec<String>) -> Infallible {
        loop {
            let found = audit(estate, &accepted()).await;
            self.note(match found {
                Ok(found) => found,
                Err(error) => Some(format!("{error:#}")),
            });
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn note(&self, alarm: Option<String>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.0 += 1;
        if all.1.len() < ALARMS_MAX {
            all.1.extend(alarm.map(|it| format!("an audit during the storm: {it}")));
        }
    }

    /// How many there were and what they found.
    #[must_use]
    pub fn found(&self) -> (usize, Vec<String>) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (found.0, std::mem::take(&mut found.1))
    }
}

/// One audit; what it found if it found something.
///
/// # Errors
/// When it cannot be run.
pub async fn audit(estate: &Estate, accepted: &[String]) -> anyhow::Result<Option<String>> {
    let file = estate.data().join("accepted.txt");
    write(&file, accepted)?;
    let mut command = estate.command(&Settings::new());
    command.arg("audit").arg("--expect").arg(&file).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await;
    let output = output.context("the audit does not end")?.context("no audit can be started")?;
    if output.status.success() {
        return Ok(None);
    }
    let text = [output.stdout, output.stderr].concat();
    Ok(Some(format!("{}\n{}", output.status, String::from_utf8_lossy(&text))))
}

fn write(file: &Path, lines: &[String]) -> anyhow::Result<()> {
    let text: String = lines.iter().flat_map(|it| [it.as_str(), "\n"]).collect();
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
