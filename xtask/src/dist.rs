//! `cargo xtask dist`: the binary that ships, built with a profile of its own work.
//!
//! | step | what is made, in the target folder |
//! |---|---|
//! | build with counters | `profile/TRIPLE/dist/tradewind`: profile `dist`, `-C profile-generate` |
//! | let it work | `profile/raw/*`: each process writes its counts when it ends in order |
//! | merge | `profile/RELEASE-FIT-COMMIT-HASH.profdata` |
//! | build with the profile | `trained/tradewind`, and for benches `trained/bench` |
//!
//! A profile outlives the sources it was made from: a function that changed since is compiled as if
//! there were none. It does not outlive another compiler or other dependencies, which give all
//! functions other names: FIT is made of both. So a profile is made where none fits, or with
//! `--train`, as for a release.

use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::cargo::{self, cargo};

/// The profile of Cargo that both builds have: it is part of the names of functions, by which a
/// compiler's profile is read.
const PROFILE: &str = "dist";

/// What ships: the package, and its program.
const SHIPS: (&str, &str) = ("tradewind-cli", "tradewind");

/// What to build.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Dist {
    /// Make a new profile even where there is one.
    #[arg(long)]
    train: bool,
    /// The benches too.
    #[arg(long)]
    bench: bool,
}

/// Builds it, and says where it is.
pub(crate) fn run(root: &Path, options: Dist) -> anyhow::Result<()> {
    let compiler = Compiler::find()?;
    let places = Places::new(target_folder(root)?);
    let fit = compiler.fit(root)?;
    let profile = match newest(&places.profiles, &fit)? {
        Some(profile) if !options.train => profile,
        _ => train(root, &compiler, &places, &fit)?,
    };
    let name = profile.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    println!("building with the profile {name}: minutes");
    let mut used = OsString::from("-Cprofile-use=");
    used.push(&profile);
    // One for each function that changed since the profile was made: see above.
    let quiet = OsString::from("-Cllvm-args=-no-pgo-warn-mismatch");
    let mut packages = vec![SHIPS.0];
    let mut programs = vec![SHIPS.1];
    if options.bench {
        packages.push("bench");
        programs.push("bench");
    }
    build(root, &compiler, &places.target, &packages, &[used, quiet])?;
    std::fs::create_dir_all(&places.trained)?;
    for program in programs {
        put(&places.target.join(&compiler.host).join(PROFILE).join(program), &places.trained)?;
    }
    std::fs::write(places.trained.join("profile"), name)?;
    println!("{}", places.trained.join(SHIPS.1).display());
    Ok(())
}

/// Makes a new profile, and removes those before it.
fn train(root: &Path, compiler: &Compiler, places: &Places, fit: &str) -> anyhow::Result<PathBuf> {
    let merger = compiler.profdata(root)?;
    println!("building with counters: minutes");
    let counting = OsString::from("-Cprofile-generate");
    build(root, compiler, &places.profiles, &[SHIPS.0], &[counting])?;
    let counting = places.profiles.join(&compiler.host).join(PROFILE).join(SHIPS.1);

    let raw = places.profiles.join("raw");
    let old = std::fs::remove_dir_all(&raw);
    ensure!(old.is_ok() || !raw.exists(), "cannot remove {}", raw.display());
    std::fs::create_dir_all(&raw)?;
    let begun = Instant::now();
    println!("letting it work: a minute, after a build of the benches");
    cargo::run(
        cargo(root)
            .args(["run", "--quiet", "--release", "--package", "bench", "--", "train"])
            .arg(&counting)
            .arg("--folder")
            .arg(&raw)
            // A file for each process.
            .env("LLVM_PROFILE_FILE", raw.join("%p.profraw")),
    )?;
    let counts = files(&raw, "profraw")?;
    ensure!(!counts.is_empty(), "nothing was counted: {} is empty", raw.display());
    let merged = raw.join("merged");
    cargo::run(Command::new(merger).arg("merge").arg("-o").arg(&merged).args(&counts))?;

    // The name holds what is inside: Cargo builds anew when the name changes, and only then.
    let hash = hash(&[&std::fs::read(&merged)?]);
    let profile = places.profiles.join(format!("{fit}-{}-{hash}.profdata", commit(root)));
    for old in files(&places.profiles, "profdata")? {
        std::fs::remove_file(old)?;
    }
    std::fs::rename(&merged, &profile)?;
    std::fs::remove_dir_all(&raw)?;
    println!("{} processes counted for {:.0} s", counts.len(), begun.elapsed().as_secs_f64());
    Ok(profile)
}

/// Builds packages for the host with more flags. Naming the host as target keeps them from build
/// scripts and macros, which have no part in this.
fn build(
    root: &Path,
    compiler: &Compiler,
    target: &Path,
    packages: &[&str],
    more: &[OsString],
) -> anyhow::Result<()> {
    let mut command = cargo(root);
    command.args(["build", "--profile", PROFILE, "--target", &compiler.host]);
    command.arg("--target-dir").arg(target);
    for package in packages {
        command.args(["--package", package]);
    }
    // The encoded form, since a folder may have a space in its name. It takes the place of what
    // configuration files say; what the environment says, in the order in which Cargo looks, stays.
    let own: Vec<OsString> = match std::env::var("CARGO_ENCODED_RUSTFLAGS") {
        Ok(flags) => flags.split('\u{1f}').filter(|it| !it.is_empty()).map(Into::into).collect(),
        Err(_) => {
            let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
            flags.split_whitespace().map(Into::into).collect()
        }
    };
    let flags: Vec<OsString> = own.into_iter().chain(more.iter().cloned()).collect();
    let flags = flags.join(OsStr::new("\u{1f}"));
    cargo::run(command.env("CARGO_ENCODED_RUSTFLAGS", flags))
}

/// Puts a program into a folder where an older one may be running.
fn put(program: &Path, folder: &Path) -> anyhow::Result<()> {
    let name = program.file_name().context("a program without a name")?;
    let new = folder.join(format!("{}.new", name.to_string_lossy()));
    std::fs::copy(program, &new).with_context(|| format!("cannot copy {}", program.display()))?;
    std::fs::rename(&new, folder.join(name)).context("cannot replace the program before it")
}

/// Where everything is.
struct Places {
    /// Cargo's, for the last build.
    target: PathBuf,
    /// Cargo's for the build with counters, and the profiles.
    profiles: PathBuf,
    /// What is made.
    trained: PathBuf,
}

impl Places {
    fn new(target: PathBuf) -> Self {
        Self { profiles: target.join("profile"), trained: target.join("trained"), target }
    }
}

/// The compiler in use.
struct Compiler {
    host: String,
    release: String,
    /// All that it says about itself.
    version: String,
    sysroot: PathBuf,
}

impl Compiler {
    fn find() -> anyhow::Result<Self> {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let ask = |arguments: &[&str]| -> anyhow::Result<String> {
            let output = Command::new(&rustc).args(arguments).output();
            let output = output.with_context(|| format!("cannot start {}", rustc.display()))?;
            ensure!(output.status.success(), "{} {arguments:?} failed", rustc.display());
            Ok(String::from_utf8(output.stdout)?)
        };
        let version = ask(&["-vV"])?;
        let (host, release) = host_and_release(&version).context("rustc -vV names no host")?;
        let sysroot = ask(&["--print", "sysroot"])?.trim().into();
        Ok(Self { host, release, version, sysroot })
    }

    /// What must be the same for a profile to be read: the names of functions hold the compiler,
    /// and the versions of their crate and of all that it depends on.
    fn fit(&self, root: &Path) -> anyhow::Result<String> {
        let lock = std::fs::read(root.join("Cargo.lock")).context("cannot read Cargo.lock")?;
        Ok(format!("{}-{}", self.release, hash(&[self.version.as_bytes(), &lock])))
    }

    /// The tool that merges counts: of exactly this compiler, since their format is its own.
    fn profdata(&self, root: &Path) -> anyhow::Result<PathBuf> {
        let path = self.sysroot.join("lib/rustlib").join(&self.host).join("bin/llvm-profdata");
        if path.is_file() {
            return Ok(path);
        }
        println!("llvm-profdata is missing: rustup component add llvm-tools");
        let mut rustup = Command::new("rustup");
        let added = rustup.args(["component", "add", "llvm-tools"]).current_dir(root).status();
        if !added.is_ok_and(|it| it.success()) || !path.is_file() {
            bail!(
                "there is no {}, which merges what was counted, and rustup did not bring it; \
                 without a profile: cargo build --profile {PROFILE} --package tradewind-cli, and \
                 for benches the flag --untrained",
                path.display()
            );
        }
        Ok(path)
    }
}

/// Half of a hash, in hexadecimal.
fn hash(parts: &[&[u8]]) -> String {
    let mut hasher = DefaultHasher::new();
    parts.iter().for_each(|it| hasher.write(it));
    format!("{:08x}", hasher.finish() >> 32)
}

/// Host and release in the output of `rustc -vV`.
fn host_and_release(said: &str) -> Option<(String, String)> {
    let field = |name: &str| said.lines().find_map(|it| it.strip_prefix(name));
    Some((field("host: ")?.to_owned(), field("release: ")?.to_owned()))
}

/// The last profile that fits.
fn newest(folder: &Path, fit: &str) -> anyhow::Result<Option<PathBuf>> {
    let mut found: Option<(Duration, PathBuf)> = None;
    for path in files(folder, "profdata")? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.strip_prefix(fit).is_some_and(|it| it.starts_with('-')) {
            continue;
        }
        let age = path.metadata()?.modified()?.elapsed().unwrap_or_default();
        if found.as_ref().is_none_or(|it| age < it.0) {
            found = Some((age, path));
        }
    }
    Ok(found.map(|it| it.1))
}

/// The files with an ending; none where there is no folder.
fn files(folder: &Path, ending: &str) -> anyhow::Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == ending) {
            found.push(path);
        }
    }
    Ok(found)
}

/// The short commit of the sources, with `+` when they were changed.
fn commit(root: &Path) -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(root).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".to_owned() };
    let changed = git(&["status", "--porcelain", "-uno"]).is_none_or(|it| !it.is_empty());
    if changed { commit + "+" } else { commit }
}

/// The folder of what Cargo builds, wherever it was told to have it.
fn target_folder(root: &Path) -> anyhow::Result<PathBuf> {
    let mut command = cargo(root);
    command.args(["metadata", "--format-version", "1", "--no-deps"]);
    let output = command.output().context("cannot start cargo")?;
    ensure!(output.status.success(), "cargo metadata failed");
    let facts: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let folder = facts.get("target_directory").and_then(|it| it.as_str());
    Ok(folder.context("cargo metadata names no target folder")?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_release_are_read() {
        let said = "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\n\
                    host: x86_64-unknown-linux-gnu\nrelease: 1.95.0\nLLVM version: 22.1.2\n";
        let found = host_and_release(said).unwrap();
        assert_eq!(found, ("x86_64-unknown-linux-gnu".to_owned(), "1.95.0".to_owned()));
        assert_eq!(host_and_release("rustc 1.95.0"), None);
    }

    #[test]
    fn the_last_profile_that_fits_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let fit = "1.95.0-0000000f";
        assert_eq!(newest(&folder.path().join("none"), fit).unwrap(), None);
        let write = |name: &str, age: u64| {
            let file = std::fs::File::create(folder.path().join(name)).unwrap();
            file.set_modified(std::time::SystemTime::now() - Duration::from_secs(age)).unwrap();
        };
        write("1.95.0-0000000f-aaaaaaa-00000001.profdata", 300);
        write("1.95.0-0000000f-bbbbbbb-00000002.profdata", 200);
        write("1.95.0-0000000e-ccccccc-00000003.profdata", 100);
        write("1.95.0-nightly-0000000f-ddddddd-00000004.profdata", 50);
        write("1.95.0-0000000f-eeeeeee-00000005.other", 10);
        let found = newest(folder.path(), fit).unwrap().unwrap();
        assert!(found.ends_with("1.95.0-0000000f-bbbbbbb-00000002.profdata"), "{found:?}");
    }

    #[test]
    fn a_profile_fits_one_compiler_and_one_set_of_dependencies() {
        let root = tempfile::tempdir().unwrap();
        let fit = |version: &str, lock: &str| {
            std::fs::write(root.path().join("Cargo.lock"), lock).unwrap();
            let (host, release) = ("h".to_owned(), "1.95.0".to_owned());
            let version = version.to_owned();
            Compiler { host, release, version, sysroot: PathBuf::new() }.fit(root.path()).unwrap()
        };
        let one = fit("commit-hash: 1", "a 1.0");
        assert_eq!(one, fit("commit-hash: 1", "a 1.0"));
        assert_ne!(one, fit("commit-hash: 2", "a 1.0"));
        assert_ne!(one, fit("commit-hash: 1", "a 1.1"));
        assert!(one.starts_with("1.95.0-"), "{one}");
    }

    #[test]
    fn a_program_takes_the_place_of_the_one_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let (built, place) = (folder.path().join("program"), folder.path().join("place"));
        std::fs::create_dir(&place).unwrap();
        for content in ["old", "new"] {
            std::fs::write(&built, content).unwrap();
            put(&built, &place).unwrap();
        }
        assert_eq!(std::fs::read_to_string(place.join("program")).unwrap(), "new");
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 1);
        let error = put(&folder.path().join("absent"), &place).unwrap_err();
        assert!(error.to_string().contains("absent"), "{error}");
    }
}
