//! The harness of the end-to-end tests: the real binary, real processes, real sockets.
//!
//! An [`Estate`] is one `tradewind up` in a temporary folder on free ports. One estate runs at a
//! time: six processes each on a small machine would make every test wait for every other. A test
//! does over HTTP what a user does, kills what it wants to kill, and waits on conditions with
//! [`eventually`], never on time alone.

mod audit;
mod binary;
pub mod branch;
mod client;
#[cfg(feature = "services")]
mod databases;
mod estate;
mod faults;
mod insist;
mod process;
mod settled;
pub mod trade;

pub use audit::Verdict;
pub use binary::{binary, faulty};
pub use client::{Answer, Client};
#[cfg(feature = "services")]
pub use databases::Databases;
pub use estate::{Estate, Ports, Settings, Storage, listener};
pub use insist::{insist_on_cancelling, insist_on_placing};
pub use process::{Process, alive, descriptors, resident_bytes};

use std::fmt::Debug;
use std::time::Duration;

/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(25);

/// Waits until `condition` gives a value, and panics with what it last said when `limit` passed.
///
/// # Panics
/// When the condition does not come true in time.
pub async fn eventually<T>(
    what: &str,
    limit: Duration,
    mut condition: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let end = tokio::time::Instant::now() + limit;
    loop {
        match condition().await {
            Ok(value) => return value,
            Err(last) if end <= tokio::time::Instant::now() => {
                panic!("{what}: not within {limit:?}; last seen: {last}")
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// `Ok` when `seen` is as wanted, else what was seen: for the conditions of [`eventually`].
///
/// # Errors
/// When it is not as wanted.
pub fn wanted<T: Debug>(seen: T, as_wanted: impl FnOnce(&T) -> bool) -> Result<T, String> {
    if as_wanted(&seen) { Ok(seen) } else { Err(format!("{seen:?}")) }
}
