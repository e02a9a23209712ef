//! The bounds of one attempt and of the pool.

use std::time::Duration;

/// The time limits of one attempt, one for each phase. What bounds the whole of several attempts
/// is the caller's deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the start until a connection is ready: the wait for a place in the pool, the look-up
    /// of the name, TCP and TLS.
    pub connect: Duration,
    /// From handing the request to the connection until the head of the answer is there.
    pub head: Duration,
    /// The longest pause between two pieces of the answer's body.
    pub body_idle: Duration,
}

impl Default for Limits {
    /// One second to connect, five to the head, five between pieces of the body.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            head: Duration::from_secs(5),
            body_idle: Duration::from_secs(5),
        }
    }
}

/// The bounds of the connections a client keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Most idle connections kept for one target; more are closed when they come back.
    pub idle_per_target: usize,
    /// Most connections to one target, in use and idle together. Further requests wait in order,
    /// at most as long as [`Limits::connect`]. At least one.
    pub connections_per_target: usize,
    /// Most targets with connections. When it is reached, the one unused for longest loses its
    /// idle connections; if all are in use, the request is refused. At least one.
    pub targets_max: usize,
    /// How long an unused connection is kept. Choose it shorter than the servers do, or requests
    /// meet connections that are just being closed.
    pub idle_timeout: Duration,
    /// How old a connection may become; older ones are closed when they come back.
    pub age_max: Duration,
    /// Most bytes of the head of an answer.
    pub head_bytes_max: usize,
}

impl Default for PoolConfig {
    /// 64 idle and 256 connections per target, 1024 targets, 30 s idle, an hour of age, 64 KiB.
    fn default() -> Self {
        Self {
            idle_per_target: 64,
            connections_per_target: 256,
            targets_max: 1024,
            idle_timeout: Duration::from_secs(30),
            age_max: Duration::from_secs(3600),
            head_bytes_max: 64 * 1024,
        }
    }
}
