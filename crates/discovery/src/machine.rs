//! What to make of what the registry says, without any input or output of its own.
//!
//! - [`lists`]: the lists, from the lines of a watch;
//! - [`retry`]: which peer to ask next, and when;
//! - [`reports`]: which of the callers' reports to pass on;
//! - [`renewal`]: when to register and when to renew, and with whom.

pub(crate) mod lists;
pub(crate) mod renewal;
pub(crate) mod reports;
pub(crate) mod retry;
