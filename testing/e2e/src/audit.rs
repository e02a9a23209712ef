//! The verdict on the data of an estate.

use std::time::Duration;

use crate::{Estate, Settings};

/// An audit of a small estate takes no longer.
const LIMIT: Duration = Duration::from_secs(60);

/// What `tradewind audit` said.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// 0 all invariants hold, 1 some do not, 2 it could not look.
    pub code: Option<i32>,
    /// What it printed.
    pub text: String,
}

impl Estate {
    /// Runs `tradewind audit` on the data of this estate, as they are now.
    ///
    /// # Panics
    /// When it cannot be started or does not end.
    pub async fn audit(&self) -> Verdict {
        let output = self.command(&Settings::new()).arg("audit").kill_on_drop(true).output();
        let output = tokio::time::timeout(LIMIT, output).await;
        let output = output.expect("the audit ends").expect("the audit can be started");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        Verdict { code: output.status.code(), text }
    }
}
