//! What can go wrong.

use std::time::Duration;

use crate::machine::lease::Loss;
use crate::name::LockName;

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("the store of locks failed")]
pub struct StoreError {
    /// Whether asking again may help.
    pub transient: bool,
    /// Whether it may have been done all the same.
    pub uncertain: bool,
    /// The cause.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Why there is no guard. Nothing is held then, or is given back as soon as the store answers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// Somebody else holds it, or waited before; only `try_acquire` says so.
    #[error("{name} is held")]
    Held {
        /// The first name that is not free.
        name: LockName,
    },
    /// The limit of the wait passed.
    #[error("{name} was not free within {} ms", .waited.as_millis())]
    WaitLimit {
        /// A name that was not free at the last look.
        name: LockName,
        /// How long it was waited.
        waited: Duration,
    },
    /// This process has as many holds and waiters as it may have.
    #[error("too many locks are held or waited for in this process")]
    Busy,
    /// The store failed.
    #[error("cannot acquire the lock")]
    Store(#[from] StoreError),
    /// The server is ending.
    #[error("locks are closed: the server is ending")]
    Closed,
}

/// Why a release has no certain end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The store could not be told; the names become free when the lease ends.
    #[error("the release did not reach the store; the lease ends by itself")]
    NotTold,
}

/// The work was cut off since its lock was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lock was lost: {0}")]
pub struct Lost(pub Loss);
