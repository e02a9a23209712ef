//! `cargo xtask soak`: the suites that take too long for every change.

use std::path::Path;

use anyhow::bail;

use crate::cargo::{self, Tally, cargo};
use crate::services::Services;

/// Cases per property, instead of the 256 of every day.
const CASES: &str = "20000";

/// Orders that survive a storm, instead of the 500 of every day.
const ORDERS: &str = "10000";

/// Runs the long suites.
pub(crate) fn run(root: &Path, seconds: u32) -> anyhow::Result<()> {
    let (mut sum, mut whole) = (Tally::default(), true);
    let services = Services::start(root)?;
    // Whoever looks for something asks for other numbers: those of the environment stand.
    let orders = std::env::var("TRADEWIND_CHAOS_ORDERS").unwrap_or_else(|_| ORDERS.to_owned());
    for command in [
        cargo(root)
            .args(["test", "--workspace", "--no-fail-fast", "--lib", "machine"])
            .env("PROPTEST_CASES", CASES),
        cargo(root)
            .args(["test", "--package", "tradewind-e2e", "--test", "crowd"])
            .env("TRADEWIND_CROWD_SECONDS", seconds.to_string()),
        cargo(root)
            .args(["test", "--package", "tradewind-chaos", "--features", "services"])
            .args(["--no-fail-fast", "--test", "*", "--", "--nocapture"])
            .env("TRADEWIND_CHAOS_ORDERS", orders)
            .envs(services.environment()),
    ] {
        let (tally, success) = cargo::test(command)?;
        sum += tally;
        whole &= success;
    }
    println!("\n{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.ignored);
    if !whole {
        bail!("not all tests passed");
    }
    Ok(())
}
