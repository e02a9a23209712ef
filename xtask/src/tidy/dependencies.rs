//! Foreign packages against deny.toml: licences, bans, sources, second versions.
//!
//! The file is in the form cargo-deny reads, so that its full check can be run by whoever has it;
//! this part of it needs nothing but cargo.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

use super::{Finding, Metadata};

const FILE: &str = "deny.toml";

#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Named>,
    skip: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

pub(super) fn check(root: &Path, metadata: &Metadata) -> anyhow::Result<Vec<Finding>> {
    let text = std::fs::read_to_string(root.join(FILE)).with_context(|| format!("no {FILE}"))?;
    let deny: Deny = toml::from_str(&text).with_context(|| format!("cannot read {FILE}"))?;
    Ok(findings(&deny, metadata))
}

fn findings(deny: &Deny, metadata: &Metadata) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in metadata.foreign() {
        let name = format!("{} {}", package.name, package.version);
        versions.entry(&package.name).or_default().insert(&package.version);
        if let Some(ban) = deny.bans.deny.iter().find(|it| it.name == package.name) {
            findings.push(format!("{name} is banned: {}", ban.reason));
        }
        let source = package.source.as_deref().unwrap_or("a path");
        if !deny.sources.allow_registry.iter().any(|it| source.ends_with(it.as_str())) {
            findings.push(format!("{name} comes from {source}, which {FILE} does not allow"));
        }
        let licence = package.license.as_deref().unwrap_or("none");
        if !satisfied(licence, &deny.licenses.allow) {
            findings.push(format!("{name} has the licence {licence}, which {FILE} does not allow"));
        }
    }
    for (name, versions) in &versions {
        let skipped = deny.bans.skip.iter().any(|it| base_name(&it.name) == *name);
        if 1 < versions.len() && !skipped {
            let versions: Vec<_> = versions.iter().copied().collect();
            findings.push(format!("{name} is there more than once: {}", versions.join(", ")));
        }
    }
    for skip in &deny.bans.skip {
        if versions.get(base_name(&skip.name)).is_none_or(|it| it.len() < 2) {
            findings.push(format!("{FILE}: the skip of {} is not needed any more", skip.name));
        }
    }
    findings
}

/// `syn@2` → `syn`.
fn base_name(name: &str) -> &str {
    name.split('@').next().unwrap_or(name)
}

/// Whether a licence expression can be satisfied with the allowed ones. `A/B` is the old way to
/// write `A OR B`. AND binds closer than OR; brackets are flattened by trying both readings.
fn satisfied(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let expression = expression.replace('/', " OR ");
    let mut parser = Parser { words: words(&expression), next: 0, allowed };
    parser.any()
}

fn words(expression: &str) -> Vec<String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ");
    let mut words: Vec<String> = Vec::new();
    let mut joins = false;
    for word in spaced.split_whitespace() {
        match words.last_mut() {
            // `Apache-2.0 WITH LLVM-exception` is one licence.
            Some(last) if joins || word == "WITH" => {
                last.push(' ');
                last.push_str(word);
                joins = word == "WITH";
            }
            _ => words.push(word.to_owned()),
        }
    }
    words
}

struct Parser<'a> {
    words: Vec<String>,
    next: usize,
    allowed: &'a BTreeSet<String>,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&str> {
        self.words.get(self.next).map(String::as_str)
    }

    fn any(&mut self) -> bool {
        let mut value = self.all();
        while self.peek() == Some("OR") {
            self.next += 1;
            value |= self.all();
        }
        value
    }

    fn all(&mut self) -> bool {
        let mut value = self.one();
        while self.peek() == Some("AND") {
            self.next += 1;
            value &= self.one();
        }
        value
    }

    fn one(&mut self) -> bool {
        if self.peek() == Some("(") {
            self.next += 1;
            let value = self.any();
            self.next += 1;
            return value;
        }
        let value = self.peek().is_some_and(|it| self.allowed.contains(it));
        self.next += 1;
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licence_expressions_are_understood() {
        let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "ISC"];
        let allowed = allowed.map(str::to_owned).into();
        for good in [
            "MIT",
            "MIT OR GPL-3.0",
            "GPL-3.0/MIT",
            "MIT AND ISC",
            "(MIT OR GPL-3.0) AND ISC",
            "Apache-2.0 WITH LLVM-exception OR GPL-3.0",
        ] {
            assert!(satisfied(good, &allowed), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0", "none"] {
            assert!(!satisfied(bad, &allowed), "{bad}");
        }
    }
}
