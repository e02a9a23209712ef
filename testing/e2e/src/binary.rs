//! The binary under test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tradewind_base::fault::FOLDER;

/// The path of the `tradewind` binary, built first if it is not up to date.
///
/// The variable `TRADEWIND_BINARY` names another one, which is then taken as it is.
///
/// # Panics
/// When it cannot be built.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| named("TRADEWIND_BINARY").unwrap_or_else(|| copy("plain", &[])))
}

/// The path of a `tradewind` binary with the points and bugs of `tradewind_base::fault`, built
/// first if it is not up to date.
///
/// The variable `TRADEWIND_FAULTY_BINARY` names another one, which is then taken as it is.
///
/// # Panics
/// When it cannot be built.
pub fn faulty() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let build = || copy("faults", &["--features", "faults"]);
        named("TRADEWIND_FAULTY_BINARY").unwrap_or_else(build)
    })
}

fn named(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from)
}

/// Builds it and puts a copy into a folder of its own: both builds end at one path, from which the
/// other would take it away while an estate starts its processes from it.
fn copy(name: &str, features: &[&str]) -> PathBuf {
    let folder = target().join("e2e").join(name);
    std::fs::create_dir_all(&folder).expect("a folder for the binary");
    // Whoever builds has the path for itself until it has its copy.
    let lock = File::create(target().join("e2e").join("lock")).expect("a lock file");
    lock.lock().expect("the lock of the folder");
    let (built, copy) = (target().join("debug").join("tradewind"), folder.join("tradewind"));
    let old = std::fs::read(&copy).unwrap_or_default();
    let one = || {
        build(features);
        let program = std::fs::read(&built).expect("the binary was built");
        // Somebody else's build may have put the other one there since.
        let fits = program == old || contains(&program, FOLDER.as_bytes()) != features.is_empty();
        fits.then_some(program)
    };
    let new = (0..5).find_map(|_| one()).expect("a binary");
    // Another test may be running the one that is there.
    if new != old {
        let fresh = folder.join("tradewind.new");
        std::fs::write(&fresh, &new).expect("the binary can be copied");
        let mode = std::fs::metadata(&built).expect("the binary was built").permissions();
        std::fs::set_permissions(&fresh, mode).expect("a program can be run");
        std::fs::rename(&fresh, &copy).expect("the copy can be put in place");
    }
    if !features.is_empty() {
        // Who looks for it there expects the plain one.
        build(&[]);
    }
    copy
}

fn build(features: &[&str]) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--package", "tradewind-cli", "--bin", "tradewind"])
        .args(features)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo can be started");
    assert!(status.success(), "the binary cannot be built");
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|it| it == part)
}

/// The target folder: test binaries live in `target/PROFILE/deps`.
fn target() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its path");
    let target = test.ancestors().find(|it| it.ends_with("deps")).and_then(|it| it.parent());
    let target = target.and_then(Path::parent).expect("a test runs from target/PROFILE/deps");
    target.to_owned()
}
