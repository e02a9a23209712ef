//! The byte stream of a connection, watched.
//!
//! It sees three things that the HTTP library does not care about: when bytes come in, whether the
//! client takes what it is sent, and that a connection closed with unread bytes is reset, which
//! takes the answer with it. And it gives the library's own refusals, which have no body, the same
//! form as ours.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::connection::Activity;
use super::request::Edge;

/// How long, and how many bytes, a client that is still sending is listened to after the answer.
const LINGER_TIME: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 64 << 20;

/// A byte stream that is watched.
pub(super) struct Guarded<I> {
    inner: I,
    edge: Arc<Edge>,
    activity: Arc<Activity>,
    /// Runs while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
    /// A refusal of the library in our form, and how much of it has been written.
    refusal: Option<(Vec<u8>, usize)>,
    linger: Linger,
}

enum Linger {
    NotYet,
    /// Until then, with the bytes that may still come.
    Listening(Pin<Box<Sleep>>, usize),
}

impl<I> Guarded<I> {
    pub(super) const fn new(inner: I, edge: Arc<Edge>, activity: Arc<Activity>) -> Self {
        let linger = Linger::NotYet;
        Self { inner, edge, activity, stalled: None, refusal: None, linger }
    }

    /// Passes the outcome of a write on; one that waits too long becomes an error.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let limit = self.edge.config.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(stalled.as_mut().poll(cx));
        let reason = "the client does not read its answer";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, reason)))
    }
}

impl<I: AsyncWrite + Unpin> Guarded<I> {
    /// Writes our refusal in place of the library's, of which `length` bytes are then done.
    fn write_refusal(&mut self, cx: &mut Context<'_>, length: usize) -> Poll<io::Result<usize>> {
        while let Some((text, written)) = &mut self.refusal {
            let rest = text.get(*written..).unwrap_or_default();
            if rest.is_empty() {
                self.refusal = None;
                break;
            }
            let outcome = Pin::new(&mut self.inner).poll_write(cx, rest);
            if let Poll::Ready(Ok(count)) = &outcome {
                *written += count;
                if *count == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
            }
            ready!(self.watch(cx, outcome))?;
        }
        Poll::Ready(Ok(length))
    }
}

/// The status of a refusal that the library wrote by itself: all our answers have a request id.
fn own_refusal(bytes: &[u8]) -> Option<StatusCode> {
    let rest = bytes.strip_prefix(b"HTTP/1.1 ").or_else(|| bytes.strip_prefix(b"HTTP/1.0 "))?;
    if rest.first() != Some(&b'4') {
        return None;
    }
    let head = std::str::from_utf8(bytes).ok().filter(|it| it.ends_with("\r\n\r\n"))?;
    if head.contains("x-request-id") || !head.contains("content-length: 0\r\n") {
        return None;
    }
    StatusCode::from_bytes(rest.get(..3)?).ok()
}

/// The library's head with our headers and body.
fn explained(head: &[u8], request_id: &str, body: &str) -> Vec<u8> {
    let headers = format!(
        "content-type: {}\r\nx-request-id: {request_id}\r\ncontent-length: {}\r\n",
        tradewind_base::problem::MEDIA_TYPE,
        body.len(),
    );
    let head = String::from_utf8_lossy(head).replacen("content-length: 0\r\n", &headers, 1);
    format!("{head}{body}").into_bytes()
}

impl<I: AsyncRead + Unpin> AsyncRead for Guarded<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        if let Some(bytes) = buffer.filled().get(before..).filter(|it| !it.is_empty()) {
            self.activity.received(bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.refusal.is_some() {
            return self.write_refusal(cx, bytes.len());
        }
        if let Some(status) = own_refusal(bytes) {
            let problem = self.edge.malformed(status);
            let id = problem.request_id.as_deref().unwrap_or_default();
            self.refusal = Some((explained(bytes, id, &problem.to_json()), 0));
            self.activity.leave_unread();
            return self.write_refusal(cx, bytes.len());
        }
        let outcome = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.watch(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|it| !it.is_empty());
        if let Some(first) = first
            && (self.refusal.is_some() || own_refusal(first).is_some())
        {
            return self.poll_write(cx, first);
        }
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.watch(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(cx);
        self.watch(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.linger {
                Linger::NotYet => {
                    let outcome = Pin::new(&mut this.inner).poll_shutdown(cx);
                    ready!(this.watch(cx, outcome))?;
                    if !this.activity.left_unread() {
                        return Poll::Ready(Ok(()));
                    }
                    let end = Box::pin(tokio::time::sleep(LINGER_TIME));
                    this.linger = Linger::Listening(end, LINGER_BYTES_MAX);
                }
                Linger::Listening(end, left) => {
                    if end.as_mut().poll(cx).is_ready() || *left == 0 {
                        return Poll::Ready(Ok(()));
                    }
                    let mut ignored = [0_u8; 4096];
                    let mut buffer = ReadBuf::new(&mut ignored);
                    let read = ready!(Pin::new(&mut this.inner).poll_read(cx, &mut buffer));
                    if read.is_err() || buffer.filled().is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    *left = left.saturating_sub(buffer.filled().len());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_librarys_own_refusals_are_replaced() {
        let own = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(own_refusal(own), Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
        for other in [
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\nx-request-id: a\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\nabc",
            "",
        ] {
            assert_eq!(own_refusal(other.as_bytes()), None, "{other}");
        }
        let text = String::from_utf8(explained(own, "req_1", "{}")).unwrap();
        assert!(text.ends_with("x-request-id: req_1\r\ncontent-length: 2\r\n\r\n{}"), "{text}");
    }
}
