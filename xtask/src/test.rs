//! `cargo xtask test`: everything CI runs.

use std::path::Path;
use std::time::Instant;

use anyhow::bail;

use crate::cargo::{self, Tally, cargo};
use crate::services::Services;
use crate::tidy;

/// Packages with tests behind the feature `services`.
const WITH_SERVICES: &[&str] = &[
    "tradewind-sql",
    "tradewind-gateway",
    "tradewind-inventory",
    "tradewind-interop",
    "tradewind-order",
    "tradewind-points",
    "tradewind-warehouse",
    "tradewind-transaction",
    "tradewind-broker",
    "tradewind-message",
    "tradewind-idempotency",
    "tradewind-lock",
];

/// Test targets that need servers, and which of their tests; the rest of their package has run
/// without.
const SERVICE_SUITES: &[(&str, &str, &str)] = &[
    ("tradewind-e2e", "trade_mariadb", ""),
    ("tradewind-e2e", "audit", "mariadb"),
    ("tradewind-chaos", "chaos_mariadb", ""),
];

/// Runs all checks and all tests, and prints the sum at the end.
pub(crate) fn run(root: &Path, plain: bool) -> anyhow::Result<()> {
    step("format", || cargo::run(cargo(root).args(["fmt", "--all", "--check"])))?;
    step("tidy", || tidy::run(root, false))?;
    step("lints", || {
        let clippy = ["clippy", "--quiet", "--workspace", "--all-targets", "--all-features"];
        cargo::run(cargo(root).args(clippy).args(["--", "--deny", "warnings"]))
    })?;
    step("docs", || {
        let doc = ["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"];
        cargo::run(cargo(root).args(doc).env("RUSTDOCFLAGS", "--deny warnings"))
    })?;
    let mut sum = Tally::default();
    let mut whole = true;
    let mut count = |(tally, success): (Tally, bool)| {
        sum += tally;
        whole &= success;
    };
    count(step("plain tests", || {
        cargo::test(cargo(root).args(["test", "--workspace", "--no-fail-fast"]))
    })?);
    if !plain {
        let services = step("servers and clients", || Services::start(root))?;
        count(step("tests with servers", || {
            let mut command = cargo(root);
            command.args(["test", "--no-fail-fast", "--features", "services"]);
            for package in WITH_SERVICES {
                command.args(["--package", package]);
            }
            command.envs(services.environment());
            cargo::test(&mut command)
        })?);
        for (package, suite, tests) in SERVICE_SUITES {
            count(step(&format!("{suite} with servers"), || {
                let mut command = cargo(root);
                command.args(["test", "--no-fail-fast", "--features", "services"]);
                command.args(["--package", package, "--test", suite, tests]);
                cargo::test(command.envs(services.environment()))
            })?);
        }
    }
    println!("\n{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.ignored);
    if !whole || sum.failed != 0 {
        bail!("not all tests passed");
    }
    Ok(())
}

fn step<T>(name: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    println!("\n=== {name}");
    let start = Instant::now();
    let done = work()?;
    println!("=== {name}: {:.0} s", start.elapsed().as_secs_f64());
    Ok(done)
}
