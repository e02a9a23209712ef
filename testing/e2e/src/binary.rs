//! The binary under test.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The path of the `tradewind` binary, built first if it is not up to date.
///
/// The variable `TRADEWIND_BINARY` names another one, which is then taken as it is.
///
/// # Panics
/// When it cannot be built.
pub fn binary() -> &'static PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("TRADEWIND_BINARY") {
            return PathBuf::from(path);
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(["build", "--quiet", "--package", "tradewind-cli", "--bin", "tradewind"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("cargo can be started");
        assert!(status.success(), "the binary cannot be built");
        // Test binaries live in target/PROFILE/deps; what `cargo build` makes, one folder above.
        let test = std::env::current_exe().expect("a test knows its path");
        let target = test
            .ancestors()
            .find(|it| it.ends_with("deps"))
            .and_then(|it| it.parent()?.parent())
            .expect("a test runs from target/PROFILE/deps");
        target.join("debug").join("tradewind")
    })
}
