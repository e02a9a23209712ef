//! Carries the storm out on the processes of an estate.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tradewind_e2e::{Estate, Process, alive};

use crate::machine::storm::{Blow, Storm, Strike, kind};

/// How long a process that died may take to be started again. The supervisor waits up to ten
/// seconds before it does.
const BACK_WITHIN: Duration = Duration::from_secs(30);
/// How often it is looked whether it is there again.
const POLL: Duration = Duration::from_millis(50);

/// What has happened to the processes of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Suffered {
    /// Times one of them was killed.
    pub kills: u32,
    /// Times one of them was frozen.
    pub freezes: u32,
    /// Times one of them was ended in order.
    pub ends: u32,
}

/// What has happened so far.
#[derive(Debug, Default)]
pub struct Weather {
    suffered: Mutex<BTreeMap<&'static str, Suffered>>,
    changed: Notify,
}

impl Weather {
    /// By kind.
    #[must_use]
    pub fn suffered(&self) -> BTreeMap<&'static str, Suffered> {
        self.suffered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether every kind died at least so often.
    #[must_use]
    pub fn deaths(&self, processes: &[&'static str], least: u32) -> bool {
        let suffered = self.suffered();
        let kills = |it: &&str| suffered.get(kind(it)).map_or(0, |it| it.kills);
        processes.iter().all(|it| least <= kills(it))
    }

    fn note(&self, process: &'static str, change: impl FnOnce(&mut Suffered)) {
        let mut suffered = self.suffered.lock().unwrap_or_else(PoisonError::into_inner);
        change(suffered.entry(kind(process)).or_default());
        self.changed.notify_waiters();
    }

    /// Strikes until told to end, and then lets everything go on that stands still.
    ///
    /// # Errors
    /// When a process does not come back.
    pub async fn rage(
        self: Arc<Self>,
        estate: &Estate,
        storm: Storm,
        end: &Notify,
        log: &Mutex<Vec<String>>,
    ) -> anyhow::Result<()> {
        let mut frozen = JoinSet::new();
        let begun = Instant::now();
        for strike in storm {
            tokio::select! {
                () = tokio::time::sleep(strike.pause) => {}
                () = end.notified() => break,
            }
            let process = there(estate, strike.process).await?;
            let line = format!(
                "{:8.3} {} {:?}",
                begun.elapsed().as_secs_f64(),
                strike.process,
                strike.blow
            );
            log.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            self.strike(strike, &process, &mut frozen);
        }
        // Those that are frozen have their whole time.
        while frozen.join_next().await.is_some() {}
        Ok(())
    }

    fn strike(&self, strike: Strike, process: &Process, frozen: &mut JoinSet<()>) {
        let pid = process.pid;
        match strike.blow {
            Blow::Kill => {
                if signal(pid, Signal::KILL) {
                    self.note(strike.process, |it| it.kills += 1);
                }
            }
            Blow::End => {
                if signal(pid, Signal::TERM) {
                    self.note(strike.process, |it| it.ends += 1);
                }
            }
            Blow::Freeze(span) => {
                if signal(pid, Signal::STOP) {
                    self.note(strike.process, |it| it.freezes += 1);
                    frozen.spawn(async move {
                        tokio::time::sleep(span).await;
                        signal(pid, Signal::CONT);
                    });
                }
            }
        }
    }
}

/// A process that is there now, or is again soon.
///
/// # Errors
/// When it does not come back.
pub async fn there(estate: &Estate, name: &str) -> anyhow::Result<Process> {
    let end = Instant::now() + BACK_WITHIN;
    loop {
        let found = estate.processes().into_iter().find(|it| it.name == name && alive(it.pid));
        if let Some(it) = found {
            return Ok(it);
        }
        anyhow::ensure!(Instant::now() < end, "{name} did not come back within {BACK_WITHIN:?}");
        tokio::time::sleep(POLL).await;
    }
}

/// Sends a signal; `false` when nobody is there. The process was alive a moment ago and its parent
/// is the only one who reaps it, so its id belongs to nobody else yet.
fn signal(pid: i32, signal: Signal) -> bool {
    Pid::from_raw(pid).is_some_and(|it| kill_process(it, signal).is_ok())
}
