//! Bodies with bounds: what comes in, and what goes out.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{LengthLimitError, Limited};
use tokio::time::{Instant, Sleep};

use super::connection::{Activity, Busy};

/// Why a request body ended before its end.
///
/// Handlers that collect a body by themselves meet it as the cause of an [`axum::Error`];
/// [`BodyError::of`] finds it there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// It is larger than allowed.
    #[error("the body is too large")]
    TooLarge,
    /// Its last byte had not come at the deadline of the request.
    #[error("the body was not whole at the deadline")]
    TooSlow,
    /// The connection broke.
    #[error("the body ended before it was whole")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl BodyError {
    /// The bound that `error` tells of, or the broken connection; `None` when it tells of neither.
    #[must_use]
    pub fn of<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        let mut causes = std::iter::successors(Some(error), |it| it.source());
        causes.find_map(|it| it.downcast_ref())
    }
}

/// A request body within its bounds of size and time.
pub(super) struct Inbound {
    inner: Limited<Body>,
    activity: Arc<Activity>,
    deadline: Instant,
    /// Runs while the next bytes are waited for.
    waiting: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl Inbound {
    pub(super) fn new(
        inner: Body,
        bytes_max: u64,
        deadline: Instant,
        activity: Arc<Activity>,
    ) -> Self {
        let ended = inner.is_end_stream();
        let limit = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        Self { inner: Limited::new(inner, limit), activity, deadline, waiting: None, ended }
    }
}

impl http_body::Body for Inbound {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(None) => {
                this.ended = true;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(frame))),
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(Some(Err(if error.is::<LengthLimitError>() {
                    BodyError::TooLarge
                } else {
                    BodyError::Broken(error)
                })))
            }
            Poll::Pending => {
                let deadline = this.deadline;
                let waiting = this
                    .waiting
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
                waiting.as_mut().poll(cx).map(|()| Some(Err(BodyError::TooSlow)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// What the client still sends must be read, or the answer is lost with the connection.
impl Drop for Inbound {
    fn drop(&mut self) {
        if !self.ended && !self.inner.is_end_stream() {
            self.activity.leave_unread();
        }
    }
}

/// A response body that keeps its connection busy until it has been sent or given up.
pub(super) struct Tracked {
    inner: Body,
    busy: Option<Arc<Busy>>,
}

impl Tracked {
    pub(super) const fn new(inner: Body, busy: Arc<Busy>) -> Self {
        Self { inner, busy: Some(busy) }
    }
}

impl http_body::Body for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.busy = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
