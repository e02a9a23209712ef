//! README.md and README.zh-CN.md say the same: as many headings of each level, the same commands,
//! the same tables.

use std::path::Path;

use anyhow::Context as _;

use super::Finding;

pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let read =
        |name: &str| std::fs::read_to_string(root.join(name)).with_context(|| format!("no {name}"));
    let (english, chinese) = (read("README.md")?, read("README.zh-CN.md")?);
    let mut findings = Vec::new();
    if headings(&english) != headings(&chinese) {
        findings.push("README.zh-CN.md: not the headings of README.md".to_owned());
    }
    if commands(&english) != commands(&chinese) {
        findings.push("README.zh-CN.md: not the commands of README.md".to_owned());
    }
    if rows(&english) != rows(&chinese) {
        findings.push("README.zh-CN.md: not as many table rows as README.md".to_owned());
    }
    Ok(findings)
}

fn headings(text: &str) -> Vec<usize> {
    let mut fenced = false;
    let mut levels = Vec::new();
    for line in text.lines() {
        fenced ^= line.starts_with("```");
        if !fenced && line.starts_with('#') {
            levels.push(line.bytes().take_while(|it| *it == b'#').count());
        }
    }
    levels
}

/// The shell blocks, without their comments.
fn commands(text: &str) -> Vec<String> {
    let mut inside = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            inside = line.starts_with("```sh");
        } else if inside {
            let code = line.split(" # ").next().unwrap_or(line).trim_end();
            if !code.is_empty() && !code.starts_with('#') {
                lines.push(code.to_owned());
            }
        }
    }
    lines
}

fn rows(text: &str) -> usize {
    text.lines().filter(|it| it.starts_with('|')).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_compared_without_their_comments() {
        let english = "# A\n```sh\ncurl x # get\n# note\n```\n```text\nfree\n```\n";
        let chinese = "# 甲\n```sh\ncurl x # 取\n```\n";
        assert_eq!(commands(english), commands(chinese));
        assert_eq!(headings(english), headings(chinese));
    }
}
