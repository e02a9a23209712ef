//! Where each request on a connection begins and ends.
//!
//! HTTP libraries are lenient in ways that two servers in a row turn into request smuggling: equal
//! repeated `Content-Length` fields are merged, one of `Content-Length` and `Transfer-Encoding` is
//! dropped, bare line feeds end lines. This tracker reads the same bytes *before* the library does
//! and lets only unambiguous requests pass; what it refuses ends the connection, because after
//! unclear framing no later byte can be trusted.
//!
//! | state | next bytes are | goes on to |
//! |---|---|---|
//! | head | a request head (RFC 9112 §2, §3) | body, chunks, held, or the next head |
//! | body | `Content-Length` bytes | head |
//! | chunks | chunked coding (§7.1), extensions and trailers bounded | head |
//! | held | unknown until the service answered a WebSocket handshake | opaque or head |
//! | opaque | the upgraded protocol: passed through | – |
//! | ended | nothing: what comes is thrown away | – |
//!
//! The tracker never changes a byte. It says how many of the given bytes may be handed on.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};

mod chunked;
mod parse;

use chunked::{Chunked, Progress};

/// What the tracker accepts at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request head, from the request line to the empty line.
    pub head_bytes: usize,
    /// Bytes of the request target.
    pub target_bytes: usize,
    /// Header fields.
    pub headers: usize,
    /// Bytes of a trailer section.
    pub trailer_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head_bytes: 32 * 1024, target_bytes: 8 * 1024, headers: 100, trailer_bytes: 4096 }
    }
}

/// Why a request was refused. Every refusal ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// Not `METHOD SP target SP HTTP/1.x CRLF`.
    #[error("the request line is malformed")]
    RequestLine,
    /// Neither HTTP/1.1 nor HTTP/1.0.
    #[error("only HTTP/1.1 and HTTP/1.0 are spoken here")]
    Version,
    /// `CONNECT` or `TRACE`.
    #[error("the method is not offered")]
    Method,
    /// Not an absolute path of visible ASCII characters.
    #[error("the request target must be an absolute path of visible characters")]
    Target,
    /// The target is longer than the limit.
    #[error("the request target is too long")]
    TargetTooLong,
    /// The head is longer than the limit.
    #[error("the request head is too large")]
    HeadTooLarge,
    /// More fields than the limit.
    #[error("the request has too many header fields")]
    TooManyHeaders,
    /// A field that is not `name: value`, or holds control characters.
    #[error("a header field is malformed")]
    HeaderField,
    /// A folded header field (RFC 9112 §5.2).
    #[error("folded header fields are refused")]
    Folded,
    /// A CR or LF on its own.
    #[error("lines must end with CR LF")]
    LineEnd,
    /// No `Host`, several, or one that is not a host.
    #[error("the request needs exactly one valid Host field")]
    Host,
    /// A `Content-Length` that is not one run of digits, or several of them.
    #[error("the Content-Length is ambiguous")]
    ContentLength,
    /// `Content-Length` beside `Transfer-Encoding`.
    #[error("Content-Length and Transfer-Encoding exclude each other")]
    BothLengths,
    /// A `Transfer-Encoding` other than one `chunked`.
    #[error("the only transfer coding spoken here is chunked")]
    TransferEncoding,
    /// `Transfer-Encoding` in HTTP/1.0.
    #[error("HTTP/1.0 has no transfer codings")]
    OldTransferEncoding,
    /// An `Expect` other than `100-continue`.
    #[error("the only expectation known here is 100-continue")]
    Expectation,
    /// A WebSocket handshake with a body.
    #[error("a protocol upgrade must not carry a body")]
    UpgradeWithBody,
    /// A malformed chunk.
    #[error("the chunked body is malformed")]
    Chunk,
    /// A trailer section that is malformed, too long or repeats what only a head may say.
    #[error("the trailer section is refused")]
    Trailer,
}

/// What is known of a head that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Fingerprint of method and target; see [`fingerprint`].
    pub fingerprint: u64,
    /// Number of header fields.
    pub headers: usize,
    /// Bytes of the head.
    pub head_bytes: usize,
    /// The declared length of the body.
    pub content_length: Option<u64>,
    /// Whether the body is chunked.
    pub chunked: bool,
    /// Whether it is a WebSocket handshake.
    pub upgrade: bool,
}

impl Facts {
    /// Whether a body follows.
    #[must_use]
    pub const fn has_body(&self) -> bool {
        self.chunked || matches!(self.content_length, Some(1..))
    }
}

/// A fingerprint to compare two readings of one request line. It is not kept and not sent.
#[must_use]
pub fn fingerprint(method: &str, target: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one((method, target))
}

/// What to do with the bytes at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// More bytes are needed to say anything.
    Wait,
    /// Throw away the first `skip` bytes, hand on the `bytes` after them: a whole head.
    Head {
        /// Empty lines before the request line.
        skip: usize,
        /// Length of the head.
        bytes: usize,
        /// What is known of it.
        facts: Facts,
    },
    /// Hand on this many bytes of a body or of an upgraded protocol.
    Pass(usize),
    /// Keep the bytes: it is not known yet what they are.
    Hold,
    /// The head is refused; throw everything away from here on.
    Refuse(Refusal),
    /// The rest of a body is refused; throw everything away from here on.
    Break(Refusal),
}

#[derive(Clone, Debug)]
enum State {
    Head,
    Body {
        left: u64,
    },
    Chunks(Chunked),
    Held,
    Opaque,
    /// What is answered to every further step.
    Ended(Step),
}

/// Follows the requests of one connection.
#[derive(Clone, Debug)]
pub struct Tracker {
    limits: Limits,
    state: State,
    /// Bytes of an unfinished head that hold no line end problem, so that they are looked at once.
    scanned: usize,
}

impl Tracker {
    /// A tracker at the start of a connection.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self { limits, state: State::Head, scanned: 0 }
    }

    /// Looks at the bytes that were received and not handed on yet.
    pub fn step(&mut self, input: &[u8]) -> Step {
        if let State::Ended(step) = self.state {
            return step;
        }
        if input.is_empty() {
            return Step::Wait;
        }
        match &mut self.state {
            State::Head => self.head(input),
            State::Body { left } => {
                let bytes = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= bytes as u64;
                if *left == 0 {
                    self.state = State::Head;
                }
                Step::Pass(bytes)
            }
            State::Chunks(chunked) => {
                let (bytes, progress) = chunked.advance(input, self.limits.trailer_bytes);
                match progress {
                    Progress::More => (),
                    Progress::Done => self.state = State::Head,
                    Progress::Refused(refusal) => self.state = State::Ended(Step::Break(refusal)),
                }
                match (bytes, progress) {
                    (0, Progress::Refused(refusal)) => Step::Break(refusal),
                    (bytes, _) => Step::Pass(bytes),
                }
            }
            State::Held => Step::Hold,
            State::Opaque => Step::Pass(input.len()),
            State::Ended(step) => *step,
        }
    }

    /// The answer to a WebSocket handshake is known.
    pub fn answered(&mut self, switched: bool) {
        if matches!(self.state, State::Held) {
            self.state = if switched { State::Opaque } else { State::Head };
        }
    }

    /// Nothing of this connection is of interest any more.
    pub fn end(&mut self) {
        self.state = State::Ended(Step::Hold);
    }

    /// Whether the connection is between two requests.
    #[must_use]
    pub const fn between_requests(&self) -> bool {
        matches!(self.state, State::Head) && self.scanned == 0
    }

    /// Whether a body is being received.
    #[must_use]
    pub const fn in_body(&self) -> bool {
        matches!(self.state, State::Body { .. } | State::Chunks(_))
    }

    /// Whether the peer may still send bytes that nobody will read.
    #[must_use]
    pub const fn unread(&self) -> bool {
        matches!(self.state, State::Body { .. } | State::Chunks(_) | State::Ended(_))
    }

    fn head(&mut self, input: &[u8]) -> Step {
        // One empty line before a request line is forgiven (RFC 9112 §2.2), also half of it.
        let skip = match input {
            [b'\r', b'\n', ..] => 2,
            [b'\r'] => return Step::Wait,
            _ => 0,
        };
        let head = input.get(skip..).unwrap_or_default();
        match self.head_end(head) {
            Ok(Some(bytes)) => {
                self.scanned = 0;
                let result = parse::head(head.get(..bytes).unwrap_or_default(), &self.limits);
                match result {
                    Ok(facts) => {
                        self.state = after(&facts);
                        Step::Head { skip, bytes, facts }
                    }
                    Err(refusal) => self.refuse(refusal),
                }
            }
            Ok(None) => Step::Wait,
            Err(refusal) => self.refuse(refusal),
        }
    }

    fn refuse(&mut self, refusal: Refusal) -> Step {
        self.state = State::Ended(Step::Refuse(refusal));
        Step::Refuse(refusal)
    }

    /// Finds the empty line that ends a head, refusing early what can never become a good one.
    fn head_end(&mut self, head: &[u8]) -> Result<Option<usize>, Refusal> {
        if head.first().is_some_and(|it| !parse::is_token_byte(*it)) {
            return Err(Refusal::RequestLine);
        }
        let mut at = self.scanned;
        while let Some(offset) = head.get(at..).and_then(|it| it.iter().position(is_line_byte)) {
            at += offset;
            match (head.get(at), head.get(at + 1)) {
                (Some(b'\r'), Some(b'\n')) => {
                    if head.get(at.saturating_sub(2)..at) == Some(b"\r\n") {
                        return self.fits(at + 2).map(|()| Some(at + 2));
                    }
                    at += 2;
                }
                (Some(b'\r'), None) => break,
                _ => return Err(Refusal::LineEnd),
            }
        }
        self.scanned = if head.get(at) == Some(&b'\r') { at } else { head.len() };
        self.fits(head.len()).map(|()| None)
    }

    fn fits(&self, bytes: usize) -> Result<(), Refusal> {
        if self.limits.head_bytes < bytes { Err(Refusal::HeadTooLarge) } else { Ok(()) }
    }
}

const fn is_line_byte(byte: &u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

const fn after(facts: &Facts) -> State {
    match (facts.upgrade, facts.chunked, facts.content_length) {
        (true, ..) => State::Held,
        (false, true, _) => State::Chunks(Chunked::new()),
        (false, false, Some(left @ 1..)) => State::Body { left },
        (false, false, _) => State::Head,
    }
}

#[cfg(test)]
mod tests;
