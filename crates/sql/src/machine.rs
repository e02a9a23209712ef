//! What to do next with a batch or a transaction, given how the last step ended: no IO, no clock.
//!
//! [`batch`] decides for the SQLite writer, [`attempts`] for a MySQL connection. Both are asked
//! for every step, so that the rules about rerunning, undoing and giving up are in one place and
//! can be driven through any history by a test.

pub mod attempts;
pub mod batch;
