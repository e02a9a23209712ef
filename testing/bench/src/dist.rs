//! Both measured sides and the generator come from the profile `dist`, as what is shipped does.
//!
//! `cargo run --release -p bench` is the convenient way in; what it starts is not what measures. It
//! builds binary and bench with fat LTO and becomes that bench, which finds the binary beside
//! itself and starts the services of the comparison from its own file.
#![expect(clippy::print_stdout, reason = "a build of minutes is announced")]

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::machine_facts::target_folder;

const PROFILE: &str = "dist";

/// Whether the program at this path was built with the profile.
fn is_dist(executable: &Path) -> bool {
    executable.parent().and_then(Path::file_name).is_some_and(|it| it == PROFILE)
}

/// Returns in a bench of the profile; in any other, builds that one and becomes it.
pub(crate) fn enter() -> anyhow::Result<()> {
    if is_dist(&std::env::current_exe()?) {
        return Ok(());
    }
    build()?;
    let bench = folder().join("bench");
    let error: io::Error = Command::new(&bench).args(std::env::args_os().skip(1)).exec();
    Err(error).with_context(|| format!("cannot start {}", bench.display()))
}

fn build() -> anyhow::Result<()> {
    println!("building binary and bench with the profile {PROFILE}: minutes the first time");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--profile", PROFILE, "--package", "tradewind-cli", "--package", "bench"])
        .arg("--target-dir")
        .arg(target_folder())
        .status()
        .context("cannot start cargo")?;
    anyhow::ensure!(built.success(), "the profile {PROFILE} does not build");
    Ok(())
}

fn folder() -> PathBuf {
    target_folder().join(PROFILE)
}

/// The binary that is measured.
pub(crate) fn binary() -> anyhow::Result<PathBuf> {
    let binary = folder().join("tradewind");
    anyhow::ensure!(binary.is_file(), "{} is missing: start with cargo run", binary.display());
    Ok(binary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bench_of_the_profile_measures_by_itself() {
        assert!(is_dist(Path::new("/somewhere/target/dist/bench")));
        assert!(!is_dist(Path::new("/somewhere/target/release/bench")));
        assert!(!is_dist(Path::new("/somewhere/dist/debug/bench")));
        assert!(!is_dist(Path::new("bench")));
    }
}
