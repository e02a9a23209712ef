//! Transports that a socket cannot play, without time of their own.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tradewind_base::Tasks;

use super::server::LIMIT;
use crate::{Client, Connect, Io, PoolConfig, Target};

/// Connections as a test wants them, one after the other.
pub(super) struct Script(Mutex<VecDeque<Made>>);

pub(super) enum Made {
    /// The attempt never ends.
    Never,
    /// Reads nothing, and every write fails.
    Unwritable,
    /// The client's end of a pipe, which gives no sign of its end but by reading.
    Pipe(tokio::io::DuplexStream),
}

impl Script {
    pub(super) fn client(made: impl IntoIterator<Item = Made>) -> (Client, Tasks) {
        let tasks = Tasks::new();
        let script = Arc::new(Self(Mutex::new(made.into_iter().collect())));
        (Client::new(PoolConfig::default(), script, &tasks), tasks)
    }
}

impl Connect for Script {
    fn connect<'a>(&'a self, _: &'a Target) -> BoxFuture<'a, io::Result<Box<dyn Io>>> {
        let made = self.0.lock().unwrap().pop_front().expect("one more connection");
        Box::pin(async move {
            match made {
                Made::Never => std::future::pending().await,
                Made::Unwritable => Ok(Box::new(Unwritable) as Box<dyn Io>),
                Made::Pipe(stream) => Ok(Box::new(stream) as Box<dyn Io>),
            }
        })
    }
}

struct Unwritable;

impl AsyncRead for Unwritable {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Unwritable {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Io for Unwritable {}

/// Reads from the server's end of a pipe, within the limit of every wait. A test with a paused
/// clock needs it most: while nothing else moves, the clock jumps from one sweep of the pool to
/// the next, so a wait that never ends would not hang quietly but keep a processor busy.
pub(super) async fn arrives(pipe: &mut tokio::io::DuplexStream) {
    let mut buffer = [0; 1024];
    let read = tokio::time::timeout(LIMIT, pipe.read(&mut buffer)).await;
    assert_ne!(read.expect("a request comes").unwrap(), 0, "closed without a request");
}

pub(super) fn nowhere() -> Target {
    Target::parse("http://nowhere:1").unwrap()
}
