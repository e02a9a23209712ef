//! Faults on demand, compiled in for tests only (feature `faults`; without it every function here
//! is empty and costs nothing).
//!
//! A test of real processes gives them a folder in the environment variable `TRADEWIND_FAULTS` and
//! arms a fault by writing a file into it, at any time:
//!
//! - `NAME`: the process that next passes [`point`] `NAME` dies there as by `kill -9`. It renames
//!   the file first, so exactly one process dies, once, and leaves its id in `NAME.done`, so the
//!   test can wait until that process is gone. A number in the file is how often the point is
//!   passed unharmed before.
//! - `stop.NAME`: the process that next passes [`point`] `NAME` stands still there as by `kill
//!   -STOP`, once, and leaves its id in `stop.NAME.done`. It goes on when it is continued and that
//!   file is gone.
//! - `hold.NAME`: whoever passes [`hold`] `NAME` waits there as long as the file is there, a minute
//!   at most, as on a slow disk.
//! - `bug.NAME`: the known bug `NAME` is on ([`bug`]) for as long as the file is there. The audit
//!   must notice it: a check that never fires proves nothing.

use std::fmt;

/// The variable that names the folder.
pub const FOLDER: &str = "TRADEWIND_FAULTS";

/// A place where a test can have this process killed or stopped:
/// `point(format_args!("tcc.{action}.tried"))`.
#[inline]
pub fn point(name: fmt::Arguments<'_>) {
    #[cfg(feature = "faults")]
    armed::point(&name.to_string());
    #[cfg(not(feature = "faults"))]
    let _ = name;
}

/// A place where a test can have this thread wait.
#[inline]
pub fn hold(name: fmt::Arguments<'_>) {
    #[cfg(feature = "faults")]
    armed::hold(&name.to_string());
    #[cfg(not(feature = "faults"))]
    let _ = name;
}

/// Whether a test has switched the known bug `name` on.
#[inline]
#[must_use]
pub fn bug(name: &str) -> bool {
    #[cfg(feature = "faults")]
    return armed::bug(name);
    #[cfg(not(feature = "faults"))]
    {
        let _ = name;
        false
    }
}

#[cfg(feature = "faults")]
mod armed {
    use std::collections::HashMap;
    use std::path::{Path, PathBuf};
    use std::sync::{LazyLock, Mutex, PoisonError};
    use std::time::{Duration, Instant};

    use rustix::process::{Signal, getpid, kill_process};

    static ARMED: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os(super::FOLDER).map(PathBuf::from));

    /// How often a point has been passed while a number was in its file.
    static PASSED: LazyLock<Mutex<HashMap<String, u32>>> = LazyLock::new(Mutex::default);

    pub(super) fn point(name: &str) {
        let Some(folder) = ARMED.as_deref() else { return };
        if reached(folder, name) {
            // What was logged is lost with the process, as it would be.
            if kill_process(getpid(), Signal::KILL).is_err() {
                std::process::abort();
            }
        }
        let stop = format!("stop.{name}");
        if reached(folder, &stop) && kill_process(getpid(), Signal::STOP).is_ok() {
            // The signal reaches another thread first, perhaps: this one must not get ahead of it.
            wait_while_there(&folder.join(format!("{stop}.done")));
        }
    }

    /// Nobody is held for longer.
    const HOLD_MAX: Duration = Duration::from_secs(60);

    pub(super) fn hold(name: &str) {
        let Some(folder) = ARMED.as_deref() else { return };
        wait_while_there(&folder.join(format!("hold.{name}")));
    }

    #[expect(clippy::disallowed_methods, reason = "the condition is a file, and has a limit")]
    fn wait_while_there(file: &Path) {
        let begun = Instant::now();
        while begun.elapsed() < HOLD_MAX && file.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it is this process, now, that dies at `name`.
    pub(super) fn reached(folder: &Path, name: &str) -> bool {
        let file = folder.join(name);
        let Ok(text) = std::fs::read_to_string(&file) else { return false };
        let spare: u32 = text.trim().parse().unwrap_or(0);
        let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
        let count = passed.entry(name.to_owned()).or_default();
        if *count < spare {
            *count += 1;
            return false;
        }
        passed.remove(name);
        // Of several processes at the same point the one that renames it is meant. Who finds
        // `NAME.done` finds the id in it: the name comes last.
        let claimed = folder.join(format!("{name}.dying"));
        std::fs::rename(&file, &claimed)
            .and_then(|()| std::fs::write(&claimed, std::process::id().to_string()))
            .and_then(|()| std::fs::rename(&claimed, folder.join(format!("{name}.done"))))
            .is_ok()
    }

    pub(super) fn bug(name: &str) -> bool {
        ARMED.as_deref().is_some_and(|folder| folder.join(format!("bug.{name}")).exists())
    }
}

#[cfg(all(test, feature = "faults"))]
mod tests {
    use super::armed::reached;

    #[test]
    fn a_point_is_reached_once_after_the_passes_it_was_given() {
        let folder = std::env::temp_dir().join(format!("tradewind-fault-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        assert!(!reached(&folder, "here"), "nothing is armed");
        std::fs::write(folder.join("here"), "2").unwrap();
        assert!(!reached(&folder, "elsewhere"));
        let passes: Vec<_> = (0..4).map(|_| reached(&folder, "here")).collect();
        assert_eq!(passes, [false, false, true, false]);
        let done = std::fs::read_to_string(folder.join("here.done")).unwrap();
        assert_eq!(done, std::process::id().to_string());
        std::fs::write(folder.join("here"), "").unwrap();
        assert!(reached(&folder, "here"), "it can be armed again");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
