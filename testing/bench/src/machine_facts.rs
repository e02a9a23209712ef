//! What belongs beside every figure: the machine, the commit; and what a process used.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// The build's target folder.
pub(crate) fn target_folder() -> PathBuf {
    let executable = std::env::current_exe().ok();
    // target/FOLDER/bench
    let folder = executable.as_deref().and_then(|it| it.parent()?.parent());
    folder.map_or_else(|| PathBuf::from("target"), PathBuf::from)
}

/// The short commit when the bench began, with `+` when the work tree had changes.
pub(crate) fn commit() -> &'static str {
    static COMMIT: OnceLock<String> = OnceLock::new();
    COMMIT.get_or_init(|| {
        let git = |arguments: &[&str]| {
            let output = Command::new("git").args(arguments).output().ok()?;
            let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            output.status.success().then_some(text)
        };
        let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else {
            return "unknown".to_owned();
        };
        let changes = git(&["status", "--porcelain", "-uno"]).unwrap_or_default();
        if changes.is_empty() { commit } else { commit + "+" }
    })
}

/// One line about bench, commit, the compiler's profile and machine.
pub(crate) fn headline(name: &str) -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|it| it.strip_prefix("model name")?.split(": ").nth(1));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let (model, kernel) = (model.unwrap_or("unknown CPU"), kernel.trim());
    let profile = crate::dist::profile().unwrap_or_else(|| "none".to_owned());
    let commit = commit();
    format!("{name}: commit {commit}, profile {profile}, {cores} x {model}, Linux {kernel}")
}

/// CPU time (user and system) that a process has used; `self` is this one.
pub(crate) fn cpu_time(process: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name in parentheses may hold spaces; what follows is numbered from field 3.
    let fields = stat.rsplit_once(')').map_or("", |it| it.1);
    let ticks = |field: usize| -> u64 {
        fields.split_whitespace().nth(field - 3).and_then(|it| it.parse().ok()).unwrap_or(0)
    };
    // Linux reports in hundredths of a second to user space, on every architecture in use.
    Duration::from_millis((ticks(14) + ticks(15)) * 10)
}
