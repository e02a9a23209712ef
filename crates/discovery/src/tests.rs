//! The crate against a scripted registry, on a network in memory and with paused time: nothing
//! waits for real, and what happens first is decided by the clock alone.

mod fake;
mod follow;
mod register;
mod reporting;
