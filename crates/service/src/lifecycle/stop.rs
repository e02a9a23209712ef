//! The wish to stop, from a signal, from the supervisor or from a test.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tradewind_base::Tasks;

/// The wish that the server ends. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    asked: CancellationToken,
    urged: CancellationToken,
}

impl Stop {
    /// A wish that only [`Stop::now`] expresses.
    #[must_use]
    pub fn manual() -> Self {
        Self::default()
    }

    /// A wish that SIGTERM and SIGINT express and, when `supervised`, the end of standard input:
    /// the supervisor holds the other end, so that no child outlives it, however it dies.
    ///
    /// # Errors
    /// When a signal handler or the thread that reads standard input cannot be set up.
    pub fn on_signals(supervised: bool, tasks: &Tasks) -> io::Result<Self> {
        let stop = Self::default();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let handle = stop.clone();
        tasks.spawn("signals", |cancel| async move {
            loop {
                tokio::select! {
                    () = cancel.cancelled() => return,
                    _ = terminate.recv() => tracing::info!(signal = "SIGTERM", "told to stop"),
                    _ = interrupt.recv() => tracing::info!(signal = "SIGINT", "told to stop"),
                }
                handle.now();
            }
        });
        if supervised {
            let handle = stop.clone();
            // A thread of its own: a read of tokio's that never returns would hold up the end of
            // the runtime.
            std::thread::Builder::new().name("supervisor".to_owned()).spawn(move || {
                wait_for_end(&mut io::stdin().lock());
                tracing::info!("the supervisor has gone; stopping");
                handle.now();
            })?;
        }
        Ok(stop)
    }

    /// Expresses the wish. The second time it is urgent.
    pub fn now(&self) {
        if self.asked.is_cancelled() {
            self.urged.cancel();
        }
        self.asked.cancel();
    }

    /// Waits for the wish.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn wait(&self) {
        self.asked.cancelled().await;
    }

    /// Waits for the wish to become urgent: told twice, an operator does not want to wait.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn wait_urged(&self) {
        self.urged.cancelled().await;
    }

    /// Whether the wish has been expressed.
    #[must_use]
    pub fn asked(&self) -> bool {
        self.asked.is_cancelled()
    }

    /// The wish as a token, for code that takes one.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.asked.clone()
    }
}

fn wait_for_end(input: &mut impl io::Read) {
    let mut ignored = [0_u8; 256];
    loop {
        match input.read(&mut ignored) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Cannot be read any more: as good as its end.
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_learns_of_the_wish_and_the_second_is_urgent() {
        let stop = Stop::manual();
        let other = stop.clone();
        assert!(!other.asked());
        stop.now();
        other.wait().await;
        assert!(!stop.urged.is_cancelled());
        other.now();
        stop.wait_urged().await;
    }

    #[test]
    fn what_the_supervisor_writes_is_skipped_until_the_end() {
        let mut input = io::Cursor::new(vec![7_u8; 1000]);
        wait_for_end(&mut input);
        assert_eq!(input.position(), 1000);
    }
}
