//! Faults on demand in an estate of [`crate::faulty`] processes: see `tradewind_base::fault`.

use std::path::PathBuf;
use std::time::Duration;

use crate::{Estate, alive, eventually};

/// A process reaches the point at which it dies within this time, or not at all.
const DEATH_LIMIT: Duration = Duration::from_secs(30);

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
        eventually(&format!("a process dies at {point}"), DEATH_LIMIT, async || {
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
