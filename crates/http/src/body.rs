//! The body of an answer, as it arrives.

use std::fmt;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::pool::Lease;
use crate::{ErrorKind, Limits, Phase, SendError, Target};

/// The body of an answer. Read to its end, it gives its connection back to the pool; dropped
/// before, it closes it. A pause longer than [`Limits::body_idle`] while somebody waits for the
/// next piece is an error; a reader that is slow itself is not.
pub struct Body {
    incoming: Incoming,
    lease: Option<Lease>,
    target: Target,
    idle: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl Body {
    pub(crate) fn new(target: Target, incoming: Incoming, lease: Lease, idle: Duration) -> Self {
        let ended = incoming.is_end_stream();
        let mut body = Self { incoming, lease: Some(lease), target, idle, sleep: None, ended };
        if ended {
            body.finish();
        }
        body
    }

    /// The longest pause between two pieces, from now on.
    #[must_use]
    pub const fn with_idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// The server the body comes from.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// The next piece of data; `None` after the last. Trailers are skipped.
    ///
    /// Cancel safe: a piece is either returned or still there.
    ///
    /// # Errors
    /// When the connection fails, the body is cut short, or the pause is too long. The body has
    /// then ended.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, SendError> {
        while let Some(frame) = self.frame().await {
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    fn finish(&mut self) {
        self.ended = true;
        if let Some(lease) = self.lease.take() {
            lease.finish();
        }
    }

    fn fail(&mut self, error: SendError) -> Poll<Option<Result<Frame<Bytes>, SendError>>> {
        self.ended = true;
        drop(self.lease.take());
        Poll::Ready(Some(Err(error)))
    }

    /// Whether nothing has come for too long.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let idle = self.idle;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        sleep.as_mut().poll(cx)
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = SendError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, SendError>>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.sleep = None;
                if this.incoming.is_end_stream() {
                    this.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                let error = SendError::http(&this.target, Phase::Body, error);
                this.fail(error)
            }
            Poll::Ready(None) => {
                this.finish();
                Poll::Ready(None)
            }
            Poll::Pending => match this.poll_idle(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) => {
                    let error = SendError::new(&this.target, Phase::Body, ErrorKind::TimedOut);
                    this.fail(error)
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        if self.ended { SizeHint::with_exact(0) } else { self.incoming.size_hint() }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("target", &self.target)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// Reads a body whole, at most `limit` bytes.
///
/// # Errors
/// When the body is larger (known beforehand, from its declared length, where there is one), when
/// it fails or is cut short, and when a pause is longer than `limits.body_idle`.
pub async fn collect(body: Body, limit: usize, limits: &Limits) -> Result<Bytes, SendError> {
    let mut body = body.with_idle(limits.body_idle);
    let too_large = SendError::new(body.target(), Phase::Body, ErrorKind::TooLarge);
    if (limit as u64) < body.size_hint().lower() {
        return Err(too_large);
    }
    let Some(first) = body.chunk().await? else { return Ok(Bytes::new()) };
    if limit < first.len() {
        return Err(too_large);
    }
    let Some(second) = body.chunk().await? else { return Ok(first) };
    let mut whole = BytesMut::from(&first[..]);
    let mut next = Some(second);
    while let Some(piece) = next {
        if limit - whole.len() < piece.len() {
            return Err(too_large);
        }
        whole.extend_from_slice(&piece);
        next = body.chunk().await?;
    }
    Ok(whole.freeze())
}

/// The instant after which a phase that starts now is too late.
pub(crate) fn end_of(span: Duration) -> Instant {
    // An hour is beyond every sensible phase; it keeps the sum from overflowing.
    Instant::now() + span.min(Duration::from_secs(3600))
}
