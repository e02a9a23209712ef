//! What a broker or its subscribers that stand still do to orders, and how a backlog drains.
//!
//! The message about an order is a branch of the order's transaction: while the broker is away no
//! order is placed, each fails cleanly. A backlog grows all the same: with each order that was
//! placed before and ships now ([`broker`]). While the warehouses are away orders go on, and the
//! broker keeps what it cannot deliver ([`warehouses`]).

mod books;
mod broker;
mod warehouses;

use std::process::Command;
use std::time::Duration;

use tradewind_load::{Arrivals, Plan};

use super::estate::Process;

/// How long a backlog may take to drain.
const DRAIN_MAX: Duration = Duration::from_secs(90);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Processes that stand still until this is dropped.
struct Frozen<'a> {
    processes: &'a [&'a Process],
}

impl<'a> Frozen<'a> {
    fn freeze(processes: &'a [&'a Process]) -> anyhow::Result<Self> {
        let frozen = Self { processes };
        frozen.tell("-STOP")?;
        Ok(frozen)
    }

    /// They go on.
    fn thaw(self) -> anyhow::Result<()> {
        self.tell("-CONT")
    }

    fn tell(&self, signal: &str) -> anyhow::Result<()> {
        for it in self.processes {
            let told = Command::new("kill").args([signal, &it.pid.to_string()]).status()?;
            anyhow::ensure!(told.success(), "cannot signal {}", it.name);
        }
        Ok(())
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        // A process that stands still would not even end with its estate.
        drop(self.tell("-CONT"));
    }
}

fn steady(rate: f64, span: Duration) -> Plan {
    Plan { arrivals: Arrivals::Poisson { seed: 11 }, ..Plan::flat(rate, span) }
}
