//! Both measured sides and the generator are built as what ships is. The compiler's profile is one of
//! the binary; the other two have of it what they share with the binary.
//!
//! `cargo run --release -p bench` is the convenient way in; what it starts is not what measures. It
//! has binary and bench built by `cargo xtask dist` and becomes that bench, which finds the binary
//! beside itself and starts the services of the comparison from its own file.
#![expect(clippy::print_stdout, reason = "a build of minutes is announced")]

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::machine_facts::target_folder;

/// Where `cargo xtask dist` puts what ships.
const TRAINED: &str = "trained";
/// Cargo's profile of the same settings, without a compiler's profile.
const UNTRAINED: &str = "dist";

/// Whether the program at this path is one that measures.
fn measures(executable: &Path) -> bool {
    let folder = executable.parent().and_then(Path::file_name);
    folder.is_some_and(|it| it == TRAINED || it == UNTRAINED)
}

/// Returns in a bench that measures; in any other, builds that one and becomes it.
pub(crate) fn enter(untrained: bool) -> anyhow::Result<()> {
    if measures(&std::env::current_exe()?) {
        return Ok(());
    }
    let task: &[&str] = if untrained {
        &["build", "--profile", UNTRAINED, "--package", "tradewind-cli", "--package", "bench"]
    } else {
        &["run", "--quiet", "--package", "xtask", "--", "dist", "--bench"]
    };
    println!("building binary and bench: minutes, and more the first time");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(task)
        .env("CARGO_TARGET_DIR", target_folder())
        .status()
        .context("cannot start cargo")?;
    anyhow::ensure!(built.success(), "what is to be measured does not build");
    let bench = target_folder().join(if untrained { UNTRAINED } else { TRAINED }).join("bench");
    let error: io::Error = Command::new(&bench).args(std::env::args_os().skip(1)).exec();
    Err(error).with_context(|| format!("cannot start {}", bench.display()))
}

/// The binary that is measured: the one beside this program.
pub(crate) fn binary() -> anyhow::Result<PathBuf> {
    let binary = std::env::current_exe()?.with_file_name("tradewind");
    anyhow::ensure!(binary.is_file(), "{} is missing: start with cargo run", binary.display());
    Ok(binary)
}

/// The profile that the compiler had, where there was one: what it fits, its commit, its hash.
pub(crate) fn profile() -> Option<String> {
    let written = std::env::current_exe().ok()?.with_file_name("profile");
    Some(std::fs::read_to_string(written).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bench_that_is_built_as_what_ships_measures_by_itself() {
        assert!(measures(Path::new("/somewhere/target/trained/bench")));
        assert!(measures(Path::new("/somewhere/target/dist/bench")));
        assert!(!measures(Path::new("/somewhere/target/release/bench")));
        assert!(!measures(Path::new("/somewhere/dist/debug/bench")));
        assert!(!measures(Path::new("bench")));
    }
}
