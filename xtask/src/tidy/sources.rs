//! Source files: size, layout, machines without IO, words that do not belong here.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Finding;

/// A longer file is refused; half of it is wanted.
const LINES_MAX: usize = 800;

/// What a module named `machine` must not name: IO, clocks and randomness of its own. Addresses
/// are in `core::net`, which holds nothing else.
const FORBIDDEN_IN_MACHINES: &[&str] = &[
    "tokio::",
    "std::net::",
    "std::fs::",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "rand::",
    "fastrand",
    "Rng::from_entropy",
    "SystemClock",
    ".await",
];

/// What no file may contain. In two parts each, so that this file does not contain it either.
const FORBIDDEN_ANYWHERE: &[(&str, &str)] =
    &[("todo", "!("), ("unimplemented", "!("), ("#[ign", "ore"), ("FIX", "ME")];

pub(super) fn check(root: &Path, files: &[PathBuf]) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for path in files.iter().filter(|it| it.extension().is_some_and(|it| it == "rs")) {
        let text = std::fs::read_to_string(root.join(path))
            .with_context(|| format!("cannot read {}", path.display()))?;
        findings.extend(of_file(path, &text));
    }
    for path in files.iter().filter(|it| it.ends_with("Cargo.toml")) {
        let text = std::fs::read_to_string(root.join(path))?;
        if text.contains("[package]") && !text.contains("[lints") {
            findings.push(format!("{}: no lint table", path.display()));
        }
    }
    Ok(findings)
}

fn of_file(path: &Path, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = text.lines().count();
    if LINES_MAX < lines {
        let path = path.display();
        findings.push(format!("{path}: {lines} lines, split it ({LINES_MAX} at most)"));
    }
    if path.ends_with("mod.rs") {
        findings.push(format!("{}: name the file after the module", path.display()));
    }
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
    if is_machine(path) {
        for (number, line) in code.lines().enumerate() {
            let line = line.split("//").next().unwrap_or(line);
            for word in FORBIDDEN_IN_MACHINES.iter().filter(|it| line.contains(**it)) {
                let place = format!("{}:{}", path.display(), number + 1);
                findings.push(format!("{place}: a machine has no `{word}`"));
            }
        }
    }
    for (start, end) in FORBIDDEN_ANYWHERE {
        if text.contains(&format!("{start}{end}")) {
            findings.push(format!("{}: contains `{start}{end}`", path.display()));
        }
    }
    findings
}

/// `machine.rs` and everything below a folder `machine`, but its tests.
fn is_machine(path: &Path) -> bool {
    let tests = path.file_stem().is_some_and(|it| it.to_string_lossy().contains("test"));
    let inside = path.components().any(|it| it.as_os_str() == "machine");
    !tests && (inside || path.file_stem().is_some_and(|it| it == "machine"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_with_a_clock_is_found_but_not_in_comments_and_tests() {
        let path = Path::new("crates/x/src/machine/lease.rs");
        assert_eq!(of_file(path, "fn f() { std::time::Instant::now(); }\n").len(), 1);
        let fine = "// tokio::spawn\n#[cfg(test)]\nmod tests {\n    use tokio::time;\n}\n";
        assert!(of_file(path, fine).is_empty());
        assert!(of_file(Path::new("crates/x/src/io.rs"), "use tokio::net;\n").is_empty());
    }

    #[test]
    fn a_long_file_is_found() {
        let text = "\n".repeat(LINES_MAX + 1);
        assert_eq!(of_file(Path::new("a.rs"), &text).len(), 1);
    }
}
