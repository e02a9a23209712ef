//! Settings of locks.

use std::time::Duration;

use crate::machine::lease::Terms;

/// How locks behave; one for all that share a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockConfig {
    /// How long a dead holder keeps its names from others; 100 ms to 10 minutes. It is renewed
    /// at every third of it.
    pub lease: Duration,
    /// A hold is not renewed any more when it is this old: a bug of its user, or a task that
    /// hangs, must not lock others out for ever.
    pub hold_max: Duration,
    /// The first pause before the store is asked again about a name that another process holds.
    pub poll_min: Duration,
    /// The longest such pause: pauses double, with jitter, up to it.
    pub poll_max: Duration,
    /// Holds and waiters of this process together; one more is refused.
    pub entries_max: usize,
    /// The longest that any wait is allowed to be.
    pub wait_max: Duration,
}

/// A setting that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The lease is too short to be renewed in time, or longer than anybody wants to wait for a
    /// dead process.
    #[error("the lease of locks must be 100 ms to 10 minutes")]
    Lease,
    /// The pauses are zero or the wrong way round.
    #[error("poll_min must be at least 1 ms and at most poll_max")]
    Poll,
}

impl Default for LockConfig {
    fn default() -> Self {
        Self {
            // Short enough that a killed instance stops nobody for long, long enough to survive
            // a stalled disk.
            lease: Duration::from_secs(10),
            hold_max: Duration::from_secs(600),
            poll_min: Duration::from_millis(5),
            poll_max: Duration::from_millis(200),
            entries_max: 4096,
            wait_max: Duration::from_secs(3600),
        }
    }
}

impl LockConfig {
    pub(crate) fn terms(&self) -> Result<Terms, ConfigError> {
        if self.poll_min < Duration::from_millis(1) || self.poll_max < self.poll_min {
            return Err(ConfigError::Poll);
        }
        Terms::new(self.lease).ok_or(ConfigError::Lease)
    }
}
