//! What went wrong with one attempt, in which phase, and whether the server can know of it.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use crate::Target;

/// How far an attempt had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// No connection yet.
    Connect,
    /// A connection, but the request was not written.
    Send,
    /// The request was written, in part or whole; no complete head of an answer came.
    Head,
    /// The head came, the body did not come whole.
    Body,
}

impl Phase {
    /// A word for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Send => "send",
            Self::Head => "head",
            Self::Body => "body",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request itself cannot be sent: no origin-form target, a bad header. A bug of the caller.
    Request,
    /// All connections to the target are in use and none came back in time.
    PoolFull,
    /// The pool knows as many targets as it may, and all are in use.
    TooManyTargets,
    /// The host refused the connection, or reset it while it was being made.
    Refused,
    /// The limit of the phase passed.
    TimedOut,
    /// The connection failed or was closed by the server.
    Broken,
    /// The server's answer was not HTTP, or its head too large.
    Protocol,
    /// The body was larger than the caller takes.
    TooLarge,
}

/// One attempt failed.
#[derive(Debug, thiserror::Error)]
#[error("{what} ({phase}, {target})", what = self.what())]
pub struct SendError {
    target: Target,
    phase: Phase,
    kind: ErrorKind,
    nothing_sent: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl SendError {
    pub(crate) fn new(target: &Target, phase: Phase, kind: ErrorKind) -> Self {
        let nothing_sent = matches!(phase, Phase::Connect | Phase::Send);
        Self { target: target.clone(), phase, kind, nothing_sent, source: None }
    }

    #[must_use]
    pub(crate) fn with_source(
        mut self,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(crate) fn connect(target: &Target, error: io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => ErrorKind::Refused,
            io::ErrorKind::TimedOut => ErrorKind::TimedOut,
            _ => ErrorKind::Broken,
        };
        Self::new(target, Phase::Connect, kind).with_source(error)
    }

    pub(crate) fn http(target: &Target, phase: Phase, error: hyper::Error) -> Self {
        let kind = if error.is_parse() { ErrorKind::Protocol } else { ErrorKind::Broken };
        Self::new(target, phase, kind).with_source(error)
    }

    const fn what(&self) -> &'static str {
        match self.kind {
            ErrorKind::Request => "the request cannot be sent",
            ErrorKind::PoolFull => "no connection became free in time",
            ErrorKind::TooManyTargets => "too many targets are in use",
            ErrorKind::Refused => "the connection was refused",
            ErrorKind::TimedOut => "the time limit passed",
            ErrorKind::Broken => "the connection failed",
            ErrorKind::Protocol => "the answer is not valid HTTP",
            ErrorKind::TooLarge => "the body is too large",
        }
    }

    /// The target of the attempt.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// How far the attempt had come.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// The kind of failure.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether no byte of the request was handed to the network, so that the server cannot have
    /// acted on it and any request may be repeated. `false` means "not known", never "it was
    /// received".
    #[must_use]
    pub const fn nothing_sent(&self) -> bool {
        self.nothing_sent
    }

    /// Whether the host answered that nobody listens there, or reset the connection while it was
    /// being made: the strongest sign that the instance is gone.
    #[must_use]
    pub const fn refused(&self) -> bool {
        matches!(self.kind, ErrorKind::Refused)
    }

    /// Whether a time limit passed while waiting for the target.
    #[must_use]
    pub const fn timed_out(&self) -> bool {
        matches!(self.kind, ErrorKind::TimedOut)
    }

    /// Whether the failure says nothing about the target: the request, or a bound on this side.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Request
                | ErrorKind::PoolFull
                | ErrorKind::TooManyTargets
                | ErrorKind::TooLarge
        )
    }
}
