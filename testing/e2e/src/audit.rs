//! The verdict on the data of an estate.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{Estate, Settings};

/// An audit of a small estate takes no longer.
const LIMIT: Duration = Duration::from_secs(60);

/// What `tradewind audit` said.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// 0 all invariants hold, 1 some do not, 2 it could not look.
    pub code: Option<i32>,
    /// The numbers of the invariants that do not hold, with the rows that break them.
    pub broken: BTreeMap<String, Vec<String>>,
    /// What it printed.
    pub text: String,
}

impl Estate {
    /// Runs `tradewind audit` on the data of this estate as they are now; `orders` are the ids that
    /// buyers were told of.
    ///
    /// # Panics
    /// When it cannot be started or does not end.
    pub async fn audit(&self, orders: &[String]) -> Verdict {
        let list = self.data().with_file_name("orders.txt");
        std::fs::write(&list, orders.join("\n")).expect("a list of orders");
        let mut command = self.command(&Settings::new());
        command.args(["audit", "--json", "--expect"]).arg(list).kill_on_drop(true);
        let output = tokio::time::timeout(LIMIT, command.output()).await;
        let output = output.expect("the audit ends").expect("the audit can be started");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let findings = report["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
        let broken = findings.iter().filter(|it| it["violations"] != 0).map(|it| {
            let number = it["invariant"].as_str().unwrap_or_default().to_owned();
            let rows = it["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
            (number, rows.iter().map(ToString::to_string).collect())
        });
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        Verdict { code: output.status.code(), broken: broken.collect(), text }
    }
}

impl Verdict {
    /// # Panics
    /// When it found something, or could not look.
    pub fn is_clean(&self) {
        assert_eq!(self.code, Some(0), "{:#?}\n{}", self.broken, self.text);
    }

    /// # Panics
    /// When it did not find that this invariant is broken.
    pub fn is_broken(&self, invariant: &str) {
        assert_eq!(self.code, Some(1), "{invariant} is broken, and nobody says so: {}", self.text);
        assert!(self.broken.contains_key(invariant), "{invariant}: {:#?}", self.broken);
    }
}
