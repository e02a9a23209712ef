//! Every decision of the gateway, as pure functions: no socket, no clock, no web framework.
//!
//! | module | question it answers |
//! |---|---|
//! | [`head`] | what does a request head look like, whoever parsed it |
//! | [`framing`] | where does each request on a connection begin and end, and is it unambiguous |
//! | [`path`] | which bytes is this target, written one way |
//! | [`pattern`], [`route`] | which route does it belong to, and what path does the service see |
//! | [`headers`] | which fields pass, which are dropped, which are written fresh |
//! | [`auth`] | who asks, and is that good enough for this route |
//! | [`retry`] | which instance, and may the request be sent once more |
//!
//! Invariants, each with the test that holds it:
//!
//! - GATE-1 one request in is one request out, or the connection ends
//!   (`tests/smuggling.rs`, `framing`'s property tests).
//! - GATE-2 the bytes that were routed are the bytes that are forwarded (`path`: normalising twice
//!   changes nothing).
//! - GATE-3 the most specific pattern wins, whatever the order of the rows (`route`).
//! - GATE-4 no field of the estate, no forwarding field and no hop-by-hop field of a client reaches
//!   a service (`headers`).
//! - GATE-5 a request is sent a second time only if nothing of it was sent, or its method and its
//!   route allow it and no byte of an answer was seen (`retry`).
//! - GATE-6 the key decides the algorithm, never the token (`auth`, `tests/tokens.rs`).

pub mod auth;
pub mod framing;
pub mod head;
pub mod headers;
pub mod path;
pub mod pattern;
pub mod retry;
pub mod route;
