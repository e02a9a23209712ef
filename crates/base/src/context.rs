//! What travels with a request from hop to hop: trace, deadline, request id, user, transaction.
//!
//! The HTTP edge opens a [`Context`] and runs the handler inside [`Context::scope`]; outgoing
//! calls read [`Context::current`] and pass it on. A task started inside does not inherit it: take
//! it along with `Context::current().scope(…)`.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use crate::Rng;
use crate::id::{RequestText, Xid};
use crate::identity::User;

/// Header with the milliseconds that are left for the request when it is sent: relative, so that
/// clocks need not agree.
pub const DEADLINE_HEADER: &str = "x-tradewind-deadline-ms";
/// Header of the W3C trace context.
pub const TRACE_HEADER: &str = "traceparent";
/// Header with the request id.
pub const REQUEST_ID_HEADER: &str = "x-request-id";
/// Header with the transaction id.
pub const XID_HEADER: &str = "x-tradewind-xid";

/// The point in time after which nobody waits for the answer any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// The longest time a deadline may lie ahead; a longer wish is cut to it.
    pub const SPAN_MAX: Duration = Duration::from_secs(24 * 3600);

    /// A deadline `span` from now.
    #[must_use]
    pub fn after(span: Duration) -> Self {
        Self(Instant::now() + span.min(Self::SPAN_MAX))
    }

    /// The time that is left; zero when it has passed.
    #[must_use]
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether it has passed.
    #[must_use]
    pub fn passed(self) -> bool {
        self.left().is_zero()
    }

    /// The earlier of the two.
    #[must_use]
    pub fn earlier(self, other: Self) -> Self {
        self.min(other)
    }

    /// The instant itself, for `tokio::time::timeout_at`.
    #[must_use]
    pub const fn instant(self) -> Instant {
        self.0
    }
}

/// W3C Trace Context, level 2: the `traceparent` of one span.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    span_id: u64,
    sampled: bool,
}

impl TraceContext {
    /// The first span of a new trace.
    #[must_use]
    pub fn start(rng: &mut Rng, sampled: bool) -> Self {
        // Zero is not a valid id in either place (§3.2.2).
        Self { trace_id: rng.u128().max(1), span_id: rng.u64().max(1), sampled }
    }

    /// A new span of the same trace.
    #[must_use]
    pub fn child(self, rng: &mut Rng) -> Self {
        Self { span_id: rng.u64().max(1), ..self }
    }

    /// Reads a `traceparent` value: version 00 exactly, later versions by their first four fields
    /// (§4.3).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = hex(parts.next()?, 2)?;
        let trace_id = hex(parts.next()?, 32)?;
        let span_id = u64::try_from(hex(parts.next()?, 16)?).ok()?;
        let flags = hex(parts.next()?, 2)?;
        let whole = parts.next().is_none();
        if version == 0xff || (version == 0 && !whole) || trace_id == 0 || span_id == 0 {
            return None;
        }
        Some(Self { trace_id, span_id, sampled: flags & 1 == 1 })
    }

    /// The id that all spans of the trace share.
    #[must_use]
    pub const fn trace_id(self) -> u128 {
        self.trace_id
    }

    /// The id of this span.
    #[must_use]
    pub const fn span_id(self) -> u64 {
        self.span_id
    }

    /// Whether the caller records the trace.
    #[must_use]
    pub const fn sampled(self) -> bool {
        self.sampled
    }
}

fn hex(text: &str, digits: usize) -> Option<u128> {
    let lower = text.bytes().all(|it| it.is_ascii_digit() || matches!(it, b'a'..=b'f'));
    (text.len() == digits && lower).then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(f, "00-{:032x}-{:016x}-{flags:02x}", self.trace_id, self.span_id)
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What travels with a request.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The span of this hop.
    pub trace: Option<TraceContext>,
    /// When the caller stops waiting.
    pub deadline: Option<Deadline>,
    /// The id of the request.
    pub request_id: Option<RequestText>,
    /// The end user, verified, with the sealed value it came in, which is passed on unchanged.
    pub user: Option<(User, String)>,
    /// The distributed transaction the request belongs to.
    pub xid: Option<Xid>,
}

tokio::task_local! {
    static CURRENT: Context;
}

impl Context {
    /// The context of the running task; empty outside any [`Context::scope`].
    #[must_use]
    pub fn current() -> Self {
        CURRENT.try_with(Clone::clone).unwrap_or_default()
    }

    /// Runs `work` inside this context.
    pub fn scope<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, work)
    }

    /// The time left until the deadline, or `fallback` without one, whichever is shorter.
    #[must_use]
    pub fn time_left(&self, fallback: Duration) -> Duration {
        self.deadline.map_or(fallback, |it| it.left().min(fallback))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn traceparent_round_trips_and_a_child_keeps_the_trace() {
        let trace = TraceContext::parse(SAMPLE).unwrap();
        assert_eq!(trace.to_string(), SAMPLE);
        let child = trace.child(&mut Rng::seeded(1));
        assert_eq!((child.trace_id(), child.sampled()), (trace.trace_id(), true));
        assert_ne!(child.span_id(), trace.span_id());
    }

    #[test]
    fn a_later_version_is_read_by_its_first_fields() {
        let later = SAMPLE.replacen("00", "01", 1) + "-extra";
        assert!(TraceContext::parse(&later).is_some());
    }

    #[test]
    fn what_the_standard_forbids_is_refused() {
        let zero_trace = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        let zero_span = "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01";
        let extra = format!("{SAMPLE}-x");
        let version_ff = SAMPLE.replacen("00", "ff", 1);
        let upper = SAMPLE.to_uppercase();
        for bad in [zero_trace, zero_span, &extra, &version_ff, &upper, "", "00", "é-é-é-é"] {
            assert!(TraceContext::parse(bad).is_none(), "{bad}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_bounds_every_wait_inside_the_scope() {
        let context = Context {
            deadline: Some(Deadline::after(Duration::from_secs(2))),
            ..Context::default()
        };
        context
            .scope(async {
                tokio::time::advance(Duration::from_millis(1500)).await;
                let left = Context::current().time_left(Duration::from_secs(9));
                assert_eq!(left, Duration::from_millis(500));
                assert_eq!(Context::current().time_left(Duration::from_millis(1)).as_millis(), 1);
            })
            .await;
        assert!(Context::current().deadline.is_none());
    }
}
