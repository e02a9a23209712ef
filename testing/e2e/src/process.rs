//! Processes as the kernel shows them.

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde::Deserialize;

/// One row of `run.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Process {
    /// Its name: `registry`, `inventory-a`, …
    pub name: String,
    /// Its process id.
    pub pid: i32,
    /// Where it listens.
    pub address: String,
}

impl Process {
    /// Ends it as a crash would.
    pub fn kill(&self) {
        signal(self.pid, Signal::KILL);
    }

    /// Stops it where it stands, as a long pause would.
    pub fn freeze(&self) {
        signal(self.pid, Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        signal(self.pid, Signal::CONT);
    }
}

/// Sends a signal to a process that this test started.
///
/// # Panics
/// When it is not there any more.
pub(crate) fn signal(pid: i32, signal: Signal) {
    let pid = Pid::from_raw(pid).expect("a process id is positive");
    kill_process(pid, signal).expect("the process is there");
}

/// Whether a process with this id is there (a zombie counts as gone).
#[must_use]
pub fn alive(pid: i32) -> bool {
    let there = Pid::from_raw(pid).is_some_and(|it| test_kill_process(it).is_ok());
    there && state(pid) != Some('Z')
}

/// Whether a process is stopped.
pub(crate) fn stands_still(pid: i32) -> bool {
    state(pid) == Some('T')
}

/// The letter that stands for what a process does (proc(5)).
fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

/// The number of open descriptors of a process.
#[must_use]
pub fn descriptors(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// The resident memory of a process in bytes.
#[must_use]
pub fn resident_bytes(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|it| it.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|it| it.parse::<u64>().ok()).unwrap_or(0) * 1024
}
