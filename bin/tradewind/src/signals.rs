//! The wish to end, for the programs that run others: `up` and the tour.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// The wish that a program ends, from a signal or from whoever started it.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// `None` when whoever started us wants us to outlive the terminal, as `nohup` does.
    hangup: Option<Signal>,
    /// Ends when standard input does. `None` when nobody holds the other end, and once it has told.
    starter: Option<oneshot::Receiver<()>>,
}

impl Signals {
    /// Listens from now on; with `supervised` also for the end of standard input.
    ///
    /// # Errors
    /// When a handler cannot be set up.
    pub(crate) fn new(supervised: bool) -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let hangup = SignalKind::hangup();
        let hangup = if ignored(&status, hangup) { None } else { Some(listen(hangup)?) };
        let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
        let (interrupt, terminate) = (listen(interrupt)?, listen(terminate)?);
        let starter = supervised.then(starter_gone).transpose()?;
        Ok(Self { interrupt, terminate, hangup, starter })
    }

    /// Waits for the next wish.
    ///
    /// # Cancel safety
    /// Safe: a wish that a dropped call did not take is there for the next one.
    pub(crate) async fn next(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        let starter = async {
            match &mut self.starter {
                Some(starter) => drop(starter.await),
                None => std::future::pending().await,
            }
        };
        let gone = tokio::select! {
            _ = self.interrupt.recv() => false,
            _ = self.terminate.recv() => false,
            _ = hangup => false,
            () = starter => true,
        };
        if gone {
            // It says so once: the next one to ask for haste is somebody else.
            self.starter = None;
        }
    }
}

/// Ends when standard input does: whoever started us holds the other end, so that nothing of ours
/// outlives it, however it dies.
fn starter_gone() -> anyhow::Result<oneshot::Receiver<()>> {
    let (tell, told) = oneshot::channel();
    // A thread of its own: a read of tokio's that never returns would hold up the end of the
    // runtime.
    let wait = move || {
        // However the reading ends, there is nobody there any more.
        drop(std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()));
        drop(tell);
    };
    let thread = std::thread::Builder::new().name("starter".to_owned());
    thread.spawn(wait).context("cannot watch standard input")?;
    Ok(told)
}

/// Whether the process ignores a signal, by the text of `/proc/self/status`: a handler of ours
/// would end that.
fn ignored(status: &str, kind: SignalKind) -> bool {
    let mask = status.lines().find_map(|it| it.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|it| u64::from_str_radix(it.trim(), 16).ok()).unwrap_or(0);
    let bit = u32::try_from(kind.as_raw_value() - 1).unwrap_or(u32::MAX);
    mask.checked_shr(bit).unwrap_or(0) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_starter_ignores_is_found_in_the_mask() {
        // As `nohup` leaves it: signal 1 alone.
        let status = "Name:\ttradewind\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000000001\n";
        assert!(ignored(status, SignalKind::hangup()));
        assert!(!ignored(status, SignalKind::interrupt()));
        assert!(ignored("SigIgn:\t0000000000004000\n", SignalKind::terminate()));
        assert!(!ignored("", SignalKind::hangup()));
    }
}
