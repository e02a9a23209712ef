//! `cargo xtask tidy`: the rules of this repository that no lint knows.

mod dependencies;
mod edges;
mod readme;
mod requirements;
mod sources;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde::Deserialize;

/// One thing that is not as it should be: where, and what to do.
pub(crate) type Finding = String;

/// Checks everything; `fix` rewrites what is generated instead of complaining about it.
pub(crate) fn run(root: &Path, fix: bool) -> anyhow::Result<()> {
    let metadata = Metadata::load(root)?;
    let files = files(root)?;
    let mut findings = Vec::new();
    findings.extend(edges::check(root, &metadata)?);
    findings.extend(dependencies::check(root, &metadata)?);
    findings.extend(sources::check(root, &files)?);
    findings.extend(requirements::check(root, &files, fix)?);
    findings.extend(readme::check(root)?);
    if findings.is_empty() {
        println!("tidy: {} files, nothing to complain about", files.len());
        return Ok(());
    }
    for finding in &findings {
        println!("tidy: {finding}");
    }
    bail!("{} findings", findings.len())
}

/// The files git knows, and those it would take, relative to the root.
fn files(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let arguments = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(arguments).current_dir(root).output();
    let output = output.context("cannot start git")?;
    if !output.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    let exists = |it: &PathBuf| root.join(it).is_file();
    Ok(text.lines().map(PathBuf::from).filter(exists).collect())
}

/// What `cargo metadata` says, as far as it is looked at.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    /// Name and version of everything that is really built, tests included.
    #[serde(skip)]
    built: BTreeSet<(String, String)>,
}

/// A package of the workspace or from outside.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    path: Option<PathBuf>,
}

impl Metadata {
    fn load(root: &Path) -> anyhow::Result<Self> {
        let arguments = ["metadata", "--format-version", "1", "--locked", "--all-features"];
        let mut command = crate::cargo::cargo(root);
        // Only what is built for this kind of machine is in the tree that is looked at.
        command.args(arguments).args(["--filter-platform", &host(root)?]);
        let output = command.output().context("cannot start cargo metadata")?;
        if !output.status.success() {
            bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        let metadata: Self = serde_json::from_slice(&output.stdout)
            .context("cannot read what cargo metadata says")?;
        Ok(Self { built: built(root)?, ..metadata })
    }

    /// The packages of this workspace.
    fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|it| self.workspace_members.contains(&it.id))
    }

    /// The packages from outside that are really built.
    fn foreign(&self) -> impl Iterator<Item = &Package> {
        let built = |it: &&Package| self.built.contains(&(it.name.clone(), it.version.clone()));
        self.packages.iter().filter(built).filter(|it| !self.workspace_members.contains(&it.id))
    }
}

/// Name and version of every package that is built. `cargo metadata` also names optional ones
/// that no feature turns on; `cargo tree` does not.
fn built(root: &Path) -> anyhow::Result<BTreeSet<(String, String)>> {
    let arguments = ["tree", "--workspace", "--all-features", "--locked", "--prefix", "none"];
    let mut command = crate::cargo::cargo(root);
    let output = command.args(arguments).output().context("cannot start cargo tree")?;
    if !output.status.success() {
        bail!("cargo tree failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout).context("a package name is not UTF-8")?;
    let pair = |line: &str| {
        let (name, rest) = line.split_once(" v")?;
        Some((name.to_owned(), rest.split_whitespace().next()?.to_owned()))
    };
    Ok(text.lines().filter_map(pair).collect())
}

fn host(root: &Path) -> anyhow::Result<String> {
    let output = Command::new("rustc").arg("-vV").current_dir(root).output();
    let text = String::from_utf8(output.context("cannot start rustc")?.stdout)?;
    let host = text.lines().find_map(|it| it.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not say its host")
}
