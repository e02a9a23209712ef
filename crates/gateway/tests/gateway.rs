//! The built gateway on port 0, seen from both sides: raw bytes in, a recording service behind.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and says why"
)]

#[path = "gateway/admin.rs"]
mod admin;
#[path = "gateway/backend.rs"]
mod backend;
#[path = "gateway/drain.rs"]
mod drain;
#[path = "gateway/fields.rs"]
mod fields;
#[path = "gateway/instances.rs"]
mod instances;
#[path = "gateway/limits.rs"]
mod limits;
#[path = "gateway/rig.rs"]
mod rig;
#[path = "gateway/smuggling.rs"]
mod smuggling;
#[path = "gateway/streaming.rs"]
mod streaming;
#[path = "gateway/tokens.rs"]
mod tokens;
#[path = "gateway/websocket.rs"]
mod websocket;
