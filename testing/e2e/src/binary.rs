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
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("TRADEWIND_BINARY") {
            return PathBuf::from(path);
        }
        build(&[]);
        target().join("debug").join("tradewind")
    })
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
        if let Some(path) = std::env::var_os("TRADEWIND_FAULTY_BINARY") {
            return PathBuf::from(path);
        }
        let folder = target().join("faults");
        std::fs::create_dir_all(&folder).expect("a folder for the binary");
        // Both builds end at one path: whoever is here leaves the plain one there.
        let lock = File::create(folder.join("lock")).expect("a lock file");
        lock.lock().expect("the lock of the folder");
        let (built, copy) = (target().join("debug").join("tradewind"), folder.join("tradewind"));
        let old = std::fs::read(&copy).unwrap_or_default();
        let with_faults = || {
            build(&["--features", "faults"]);
            let program = std::fs::read(&built).expect("the binary was built");
            // Somebody else's build may have put the plain one there since.
            let fits = program == old || contains(&program, FOLDER.as_bytes());
            fits.then_some(program)
        };
        let new = (0..5).find_map(|_| with_faults()).expect("a binary with faults");
        // Another test may be running the one that is there.
        if new != old {
            let fresh = folder.join("tradewind.new");
            std::fs::write(&fresh, &new).expect("the binary can be copied");
            let mode = std::fs::metadata(&built).expect("the binary was built").permissions();
            std::fs::set_permissions(&fresh, mode).expect("a program can be run");
            std::fs::rename(&fresh, &copy).expect("the copy can be put in place");
        }
        build(&[]);
        copy
    })
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
