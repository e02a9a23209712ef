//! TCC.
pub mod engine;
pub mod fence;
pub mod machine;
pub mod participant;
mod peers;
#[cfg(test)]
mod tests;
pub mod wire;

pub use engine::{Declaration, Engine, LogError, Setup, Tried};
pub use participant::{BranchError, Call, Entered, Participant, Participants};
pub use peers::{PeerError, Peers};
