//! The client's side of a connection, with the framing tracker between the socket and hyper.
//!
//! hyper reads only what [`Tracker`] let pass. A refused head is replaced by a harmless one that
//! asks to close, and the service learns of the refusal through the [`Side`]: so every refusal is
//! answered as a problem document and logged like any request. After it nothing more is read.
//!
//! The same place keeps the clocks of a client: time for a head, pause within a body, time between
//! requests, time to take an answer. hyper's own are not used: they close without a word.

use std::collections::VecDeque;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::machine::framing::{Facts, Limits, Refusal, Step, Tracker};

/// What hyper is given in place of a refused head.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
/// Bytes read from the socket at once.
const READ_BYTES: usize = 16 * 1024;
/// Bytes thrown away, at most, so that a peer that still sends can read its answer.
const LINGER_BYTES: usize = 256 * 1024;
/// Time for that.
const LINGER_TIME: Duration = Duration::from_secs(1);

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For a whole head, from its first byte or the start of the connection.
    pub(crate) head: Duration,
    /// Between two pieces of a body.
    pub(crate) body: Duration,
    /// Between two requests.
    pub(crate) idle: Duration,
    /// To take the next piece of an answer.
    pub(crate) write: Duration,
}

/// What arrived where hyper sees one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// A head that passed.
    Head(Facts),
    /// A head that was refused.
    Refused(Refusal),
    /// A head that did not come in time.
    TooSlow,
}

#[derive(Debug, Default)]
struct Shared {
    /// At most one: the next head is held until this one was taken.
    arrivals: VecDeque<Arrival>,
    /// A request is being handled, or its answer sent.
    busy: bool,
    /// The answer to a WebSocket handshake.
    switched: Option<bool>,
    reader: Option<Waker>,
}

/// The service's end of an [`Inbound`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Side(Arc<Mutex<Shared>>);

impl Side {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what belongs to the request that hyper just handed over.
    pub(crate) fn arrival(&self) -> Option<Arrival> {
        let mut shared = self.lock();
        shared.busy = true;
        let arrival = shared.arrivals.pop_front();
        Self::wake(&mut shared);
        arrival
    }

    /// The answer is on its way to the last byte, or given up.
    pub(crate) fn done(&self) {
        let mut shared = self.lock();
        shared.busy = false;
        // The time between two requests begins now, and hyper may be asleep in a read already.
        Self::wake(&mut shared);
    }

    /// Tells what came of a WebSocket handshake.
    pub(crate) fn switched(&self, switched: bool) {
        let mut shared = self.lock();
        shared.switched = Some(switched);
        Self::wake(&mut shared);
    }

    fn wake(shared: &mut Shared) {
        if let Some(reader) = shared.reader.take() {
            reader.wake();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Head,
    Body,
    Idle,
}

struct Timer {
    wait: Wait,
    sleep: Pin<Box<Sleep>>,
    /// The time was up once already without a byte; see [`Inbound::out_of_time`].
    warned: bool,
}

/// A client's stream, read through the tracker.
pub(crate) struct Inbound<S> {
    stream: S,
    side: Side,
    tracker: Tracker,
    patience: Patience,
    inbox: BytesMut,
    /// How many bytes at the front of the inbox hyper may have.
    passed: usize,
    refused: bool,
    first: bool,
    timer: Option<Timer>,
    stalled: Option<Pin<Box<Sleep>>>,
    linger: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Inbound<S> {
    pub(crate) fn new(stream: S, limits: Limits, patience: Patience) -> (Self, Side) {
        let side = Side::default();
        let inbound = Self {
            stream,
            side: side.clone(),
            tracker: Tracker::new(limits),
            patience,
            inbox: BytesMut::new(),
            passed: 0,
            refused: false,
            first: true,
            timer: None,
            stalled: None,
            linger: None,
        };
        (inbound, side)
    }

    /// Looks at the inbox. `Some` is what the reader gets instead of more bytes.
    fn look(&mut self, cx: &mut Context<'_>) -> Option<Poll<io::Result<()>>> {
        let mut shared = self.side.lock();
        if let Some(switched) = shared.switched.take() {
            self.tracker.answered(switched);
        }
        if !shared.arrivals.is_empty() {
            shared.reader = Some(cx.waker().clone());
            return Some(Poll::Pending);
        }
        match self.tracker.step(&self.inbox) {
            Step::Wait => {}
            Step::Hold => {
                shared.reader = Some(cx.waker().clone());
                if READ_BYTES <= self.inbox.len() {
                    return Some(Poll::Pending);
                }
            }
            Step::Head { skip, bytes, facts } => {
                self.inbox.advance(skip);
                self.passed = bytes;
                self.first = false;
                self.timer = None;
                shared.arrivals.push_back(Arrival::Head(facts));
            }
            Step::Pass(bytes) => self.passed = bytes,
            Step::Break(refusal) => {
                // Whoever reads this request's body gets an error that says why.
                drop(shared);
                self.refused = true;
                let error = io::Error::new(io::ErrorKind::InvalidData, refusal);
                return Some(Poll::Ready(Err(error)));
            }
            Step::Refuse(refusal) => {
                shared.arrivals.push_back(Arrival::Refused(refusal));
                drop(shared);
                self.stand_in();
            }
        }
        None
    }

    fn stand_in(&mut self) {
        self.refused = true;
        self.tracker.end();
        self.inbox = BytesMut::from(STAND_IN);
        self.passed = STAND_IN.len();
        self.timer = None;
    }

    fn deliver(&mut self, buf: &mut ReadBuf<'_>) {
        let bytes = self.passed.min(buf.remaining());
        buf.put_slice(self.inbox.get(..bytes).unwrap_or_default());
        self.inbox.advance(bytes);
        self.passed -= bytes;
        if self.inbox.is_empty() {
            // An idle connection holds no buffer.
            self.inbox = BytesMut::new();
        }
    }

    /// Reads once from the socket into the inbox. `Ready(0)` is the end.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut bytes = [0_u8; READ_BYTES];
        let mut buf = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
        self.inbox.extend_from_slice(buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Nothing can be read now: is the time up for what is being waited for?
    fn out_of_time(&mut self, cx: &mut Context<'_>) -> Option<Wait> {
        let mut shared = self.side.lock();
        let idle = shared.arrivals.is_empty() && !shared.busy;
        shared.reader = Some(cx.waker().clone());
        drop(shared);
        let (wait, span) = if self.tracker.in_body() {
            // Half of it twice: hyper does not read while the service is slow to take the body,
            // and the first expiry after such a pause must not count.
            (Wait::Body, self.patience.body / 2)
        } else if !idle {
            self.timer = None;
            return None;
        } else if self.first || !self.inbox.is_empty() {
            (Wait::Head, self.patience.head)
        } else {
            (Wait::Idle, self.patience.idle)
        };
        if self.timer.as_ref().is_none_or(|it| it.wait != wait) {
            let sleep = Box::pin(tokio::time::sleep(span));
            self.timer = Some(Timer { wait, sleep, warned: wait != Wait::Body });
        }
        let timer = self.timer.as_mut()?;
        while timer.sleep.as_mut().poll(cx).is_ready() {
            if timer.warned {
                return Some(wait);
            }
            timer.warned = true;
            timer.sleep.as_mut().reset(Instant::now() + span);
        }
        None
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Inbound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if 0 < this.passed {
                this.deliver(buf);
                return Poll::Ready(Ok(()));
            }
            if this.refused {
                // hyper ends the connection after its answer; it needs no byte for that.
                return Poll::Pending;
            }
            if let Some(outcome) = this.look(cx) {
                return outcome;
            }
            if 0 < this.passed {
                continue;
            }
            match this.fill(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) => {
                    if this.timer.as_ref().is_some_and(|it| it.wait != Wait::Head) {
                        this.timer = None;
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => match this.out_of_time(cx) {
                    None => return Poll::Pending,
                    Some(Wait::Idle) => return Poll::Ready(Ok(())),
                    Some(Wait::Body) => {
                        this.refused = true;
                        return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                    }
                    Some(Wait::Head) if this.inbox.is_empty() => return Poll::Ready(Ok(())),
                    Some(Wait::Head) => {
                        this.side.lock().arrivals.push_back(Arrival::TooSlow);
                        this.stand_in();
                    }
                },
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Inbound<S> {
    /// Keeps the clock of a peer that does not take what is written.
    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let span = self.patience.write;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(span)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Inbound<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        self.written(cx, outcome)
    }

    /// Ends the answer, then throws away for a moment what the peer still sends: closing over
    /// unread bytes would reset the connection, and the peer might never see the answer.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            if !this.refused && !this.tracker.unread() {
                return Poll::Ready(Ok(()));
            }
            this.linger = Some((Box::pin(tokio::time::sleep(LINGER_TIME)), LINGER_BYTES));
        }
        let Some((sleep, left)) = &mut this.linger else { return Poll::Ready(Ok(())) };
        let mut bytes = [0_u8; 4096];
        while 0 < *left && sleep.as_mut().poll(cx).is_pending() {
            let mut buf = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {
                    *left = left.saturating_sub(buf.filled().len());
                }
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
