//! Which crate may depend on which: the table in ARCHITECTURE.md is the law.
//!
//! A row of the table is `| crate | may use | must not know |`, with crates as in the folder
//! names. A package with an edge that is not in its row, and a package without a row, are findings.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;

use super::{Finding, Metadata, Package};

const FILE: &str = "ARCHITECTURE.md";
const HEADER: &str = "| crate | may use |";
const ANYTHING: &str = "anything";

pub(super) fn check(root: &Path, metadata: &Metadata) -> anyhow::Result<Vec<Finding>> {
    let text = std::fs::read_to_string(root.join(FILE)).with_context(|| format!("no {FILE}"))?;
    let allowed = table(&text);
    let mut findings = Vec::new();
    if allowed.is_empty() {
        findings.push(format!("{FILE}: no table that starts with `{HEADER}`"));
    }
    for package in metadata.members() {
        let name = short(root, package);
        let Some(allowed) = allowed.get(&name) else {
            findings.push(format!("{FILE}: the table has no row for `{name}`"));
            continue;
        };
        if allowed.contains(ANYTHING) {
            continue;
        }
        for edge in inner_edges(root, metadata, package) {
            if !allowed.contains(&edge) {
                findings.push(format!(
                    "{}: {name} depends on {edge}, which the table in {FILE} does not allow",
                    package.manifest_path.display()
                ));
            }
        }
    }
    Ok(findings)
}

/// The rows of the table: crate → crates it may use.
fn table(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let rows = text.lines().skip_while(|it| !it.starts_with(HEADER)).skip(2);
    let rows = rows.take_while(|it| it.starts_with('|'));
    let cells = |row: &str| -> Vec<String> {
        row.trim_matches('|').split('|').map(|it| it.trim().replace('`', "")).collect()
    };
    let mut allowed = BTreeMap::new();
    for row in rows.map(cells) {
        let [name, uses, ..] = row.as_slice() else { continue };
        let uses = uses.split(',').map(|it| it.trim().to_owned()).filter(|it| it != "nothing");
        allowed.insert(name.clone(), uses.collect());
    }
    allowed
}

/// The packages of the workspace that this one uses in what it ships; tests may use more.
fn inner_edges(root: &Path, metadata: &Metadata, package: &Package) -> BTreeSet<String> {
    let shipped = package.dependencies.iter().filter(|it| it.kind.as_deref() != Some("dev"));
    let inner = shipped.filter(|it| it.path.is_some());
    let found = inner.filter_map(|it| metadata.members().find(|member| member.name == it.name));
    found.map(|it| short(root, it)).collect()
}

/// `crates/base` → `base`; everything else by its folder: `shop/order`, `bin/tradewind`.
fn short(root: &Path, package: &Package) -> String {
    let folder = package.manifest_path.parent().unwrap_or(&package.manifest_path);
    let folder = folder.strip_prefix(root).unwrap_or(folder).to_string_lossy();
    folder.strip_prefix("crates/").unwrap_or(&folder).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read() {
        let text = "text\n\n| crate | may use | must not know |\n|---|---|---|\n\
                    | `base` | nothing | HTTP |\n| `http` | `base`, `eureka` | x |\n\nmore | text |\n";
        let table = table(text);
        assert_eq!(table.len(), 2);
        assert!(table["base"].is_empty());
        assert_eq!(table["http"], BTreeSet::from(["base".into(), "eureka".into()]));
    }
}
