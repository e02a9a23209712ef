//! Faults on demand in an estate of [`crate::faulty`] processes: see `tradewind_base::fault`.

use std::path::PathBuf;
use std::time::Duration;

use crate::process::stands_still;
use crate::{Estate, Process, alive, eventually};

/// A process reaches the point at which it dies or stops within this time, or not at all.
const REACH_LIMIT: Duration = Duration::from_secs(30);

impl Estate {
    fn fault(&self, name: &str) -> PathBuf {
        let file = self.data().with_file_name("faults").join(name);
        // The names of transactions at a coordinator have parts.
        let folder = file.parent().expect("a file in a folder");
        std::fs::create_dir_all(folder).expect("a folder for faults");
        file
    }

    /// Has the next process that passes `point` die there as by `kill -9`, once.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn arm(&self, point: &str) {
        let done = self.fault(&format!("{point}.done"));
        if done.exists() {
            std::fs::remove_file(done).expect("an old death can be forgotten");
        }
        std::fs::write(self.fault(point), "").expect("a point can be armed");
    }

    /// Has the next process that passes `point` stand still there as by `kill -STOP`, and waits for
    /// it; [`Estate::go_on`] continues it.
    ///
    /// # Panics
    /// When none passes.
    pub async fn stops(&self, point: &str) -> Process {
        std::fs::write(self.fault(&format!("stop.{point}")), "").expect("a point can be armed");
        let done = self.fault(&format!("stop.{point}.done"));
        let pid = eventually(&format!("a process stops at {point}"), REACH_LIMIT, async || {
            let victim = std::fs::read_to_string(&done).ok().and_then(|it| it.parse().ok());
            victim.filter(|pid| stands_still(*pid)).ok_or_else(|| "none did".to_owned())
        })
        .await;
        self.processes().into_iter().find(|it| it.pid == pid).expect("a process of this estate")
    }

    /// Continues a process that stands still at `point`.
    ///
    /// # Panics
    /// When none does.
    pub fn go_on(&self, point: &str, process: &Process) {
        let done = self.fault(&format!("stop.{point}.done"));
        std::fs::remove_file(done).expect("a process stands still there");
        process.thaw();
    }

    /// Has whoever passes `place` wait there, until [`Estate::let_go`], for a minute at most.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn hold(&self, place: &str) {
        std::fs::write(self.fault(&format!("hold.{place}")), "").expect("a place can be held");
    }

    /// Lets those go on who wait at `place`.
    ///
    /// # Panics
    /// When it was not held.
    pub fn let_go(&self, place: &str) {
        std::fs::remove_file(self.fault(&format!("hold.{place}"))).expect("the place was held");
    }

    /// Whether a process died at `point` since it was armed, and is gone: who asks for the process
    /// of that name next must not be shown the one that is still dying.
    #[must_use]
    pub fn has_died(&self, point: &str) -> bool {
        let victim = std::fs::read_to_string(self.fault(&format!("{point}.done"))).ok();
        victim.and_then(|it| it.parse().ok()).is_some_and(|pid| !alive(pid))
    }

    /// Waits until a process died at `point`.
    ///
    /// # Panics
    /// When none does.
    pub async fn died(&self, point: &str) {
        eventually(&format!("a process dies at {point}"), REACH_LIMIT, async || {
            if self.has_died(point) { Ok(()) } else { Err("none did".to_owned()) }
        })
        .await;
    }

    /// Switches a known bug on, until the end of the estate or [`Estate::mend`].
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn bug(&self, name: &str) {
        std::fs::write(self.fault(&format!("bug.{name}")), "").expect("a bug can be switched on");
    }

    /// Switches a known bug off.
    ///
    /// # Panics
    /// When it was not on.
    pub fn mend(&self, name: &str) {
        std::fs::remove_file(self.fault(&format!("bug.{name}"))).expect("the bug was on");
    }
}
