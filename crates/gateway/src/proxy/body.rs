//! Bodies in both directions: passed on frame by frame, never collected.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::pool::Lease;
use super::record::Record;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong with a client's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// More bytes than allowed.
    TooLarge,
    /// No byte in time.
    TooSlow,
    /// Not framed as HTTP says.
    Malformed,
    /// The client went away.
    Gone,
}

/// What is known of a client's body while it is passed on.
#[derive(Debug)]
pub(crate) struct Upload {
    start: Instant,
    bytes: AtomicU64,
    progress_ms: AtomicU64,
    touched: AtomicBool,
    done: AtomicBool,
    fault: Mutex<Option<Fault>>,
}

impl Upload {
    pub(crate) fn new(empty: bool) -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            bytes: AtomicU64::new(0),
            progress_ms: AtomicU64::new(0),
            touched: AtomicBool::new(false),
            done: AtomicBool::new(empty),
            fault: Mutex::new(None),
        })
    }

    /// Bytes passed on so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether any of it has been read.
    pub(crate) fn touched(&self) -> bool {
        self.touched.load(Ordering::Relaxed)
    }

    /// Whether all of it has been passed on.
    pub(crate) fn done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    /// When a byte was last passed on.
    pub(crate) fn progress(&self) -> Instant {
        self.start + Duration::from_millis(self.progress_ms.load(Ordering::Relaxed))
    }

    /// What went wrong.
    pub(crate) fn fault(&self) -> Option<Fault> {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moved(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.progress_ms.store(millis, Ordering::Relaxed);
    }

    fn failed(&self, fault: Fault) {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
    }
}

/// The body of a request on its way to a service.
#[derive(Debug)]
pub(crate) enum UpBody {
    Empty,
    Client { incoming: Incoming, upload: Arc<Upload>, limit: u64 },
}

impl Body for UpBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Self::Client { incoming, upload, limit } = &mut *self else {
            return Poll::Ready(None);
        };
        upload.touched.store(true, Ordering::Relaxed);
        loop {
            match ready!(Pin::new(&mut *incoming).poll_frame(cx)) {
                None => {
                    upload.done.store(true, Ordering::Relaxed);
                    upload.moved(0);
                    return Poll::Ready(None);
                }
                Some(Ok(frame)) => {
                    // Trailers end here: the next hop did not ask for any (RFC 9110 §6.5.1).
                    let Some(data) = frame.data_ref() else { continue };
                    upload.moved(data.len() as u64);
                    if *limit < upload.bytes() {
                        upload.failed(Fault::TooLarge);
                        return Poll::Ready(Some(Err("the body is too large".into())));
                    }
                    // A body of a known length is not asked for more after its last byte.
                    if incoming.is_end_stream() {
                        upload.done.store(true, Ordering::Relaxed);
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Some(Err(error)) => {
                    upload.failed(client_fault(&error));
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client { incoming, .. } => incoming.size_hint(),
        }
    }
}

fn client_fault(error: &hyper::Error) -> Fault {
    let mut cause = std::error::Error::source(error);
    while let Some(it) = cause {
        if let Some(io) = it.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                std::io::ErrorKind::TimedOut => Fault::TooSlow,
                std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput => {
                    Fault::Malformed
                }
                _ => Fault::Gone,
            };
        }
        cause = it.source();
    }
    Fault::Gone
}

/// The body of an answer on its way to a client. Its end, good or bad, ends the [`Record`].
pub(crate) struct DownBody {
    content: Content,
    record: Option<Record>,
}

enum Content {
    Whole(Option<Bytes>),
    Service {
        incoming: Incoming,
        /// Back to the pool at the end of the body, closed if dropped before.
        lease: Option<Lease>,
        upload: Arc<Upload>,
        idle: Duration,
        timer: Option<Pin<Box<Sleep>>>,
    },
}

impl DownBody {
    /// A body of the gateway's own.
    pub(crate) const fn whole(bytes: Bytes, record: Record) -> Self {
        Self { content: Content::Whole(Some(bytes)), record: Some(record) }
    }

    /// A body of the gateway's own whose request is on record already.
    pub(crate) const fn unrecorded(bytes: Bytes) -> Self {
        Self { content: Content::Whole(Some(bytes)), record: None }
    }

    /// No body, and nothing to record: the connection leaves HTTP.
    pub(crate) const fn none() -> Self {
        Self { content: Content::Whole(None), record: None }
    }

    /// A service's body.
    pub(crate) fn service(
        incoming: Incoming,
        lease: Lease,
        upload: Arc<Upload>,
        idle: Duration,
        record: Record,
    ) -> Self {
        let mut body = Self {
            content: Content::Service { incoming, lease: Some(lease), upload, idle, timer: None },
            record: Some(record),
        };
        if body.is_end_stream() {
            // hyper does not ask an empty body for frames.
            body.end();
        }
        body
    }

    fn end(&mut self) {
        if let Content::Service { lease, upload, .. } = &mut self.content {
            match lease.take() {
                // A request that is still being sent occupies its connection.
                Some(lease) if upload.done() => lease.give_back(),
                other => drop(other),
            }
        }
        if let Some(record) = self.record.take() {
            record.complete();
        }
    }

    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        match &mut self.content {
            Content::Whole(bytes) => Poll::Ready(bytes.take().filter(|it| !it.is_empty()).map(Ok)),
            Content::Service { incoming, idle, timer, .. } => loop {
                match Pin::new(&mut *incoming).poll_frame(cx) {
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Ready(Some(Ok(frame))) => {
                        *timer = None;
                        if let Ok(data) = frame.into_data() {
                            return Poll::Ready(Some(Ok(data)));
                        }
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
                    Poll::Pending => {
                        let span = *idle;
                        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(span)));
                        ready!(timer.as_mut().poll(cx));
                        return Poll::Ready(Some(Err("the service stopped sending".into())));
                    }
                }
            },
        }
    }
}

impl Body for DownBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match ready!(self.poll_content(cx)) {
            None => {
                self.end();
                Poll::Ready(None)
            }
            Some(Ok(data)) => {
                if let Some(record) = &mut self.record {
                    record.sent(data.len());
                }
                if self.is_end_stream() {
                    self.end();
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(error)) => {
                if let Some(mut record) = self.record.take() {
                    record.broke();
                    drop(record);
                }
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Content::Service { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |it| it.len() as u64))
            }
            Content::Service { incoming, .. } => incoming.size_hint(),
        }
    }
}

impl Drop for DownBody {
    fn drop(&mut self) {
        // hyper drops the body of a HEAD or 304 answer unread; its end was declared by the head.
        if self.record.is_some() && self.is_end_stream() {
            self.end();
        }
    }
}
