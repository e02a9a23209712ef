//! One connection, from its acceptance to its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tradewind_base::Tasks;

use super::EdgeConfig;
use super::io::Guarded;
use super::request::Edge;

/// HTTP/2 streams at a time on one connection.
const STREAMS_MAX: u32 = 100;
/// Headers of a request, by number.
const HEADERS_MAX: usize = 100;
/// Bytes that hyper buffers at least; it refuses a smaller bound.
const BUFFER_MIN: usize = 8192;

/// What a connection is doing, for the one who ends it when it does nothing.
#[derive(Debug)]
pub(super) struct Activity {
    zero: Instant,
    /// Requests that are not answered to their last byte.
    busy: AtomicUsize,
    /// When the first byte of a head came that is not yet whole; zero without one.
    head_since: AtomicU64,
    /// Since when there has been no request.
    idle_since: AtomicU64,
    /// HTTP/2: bytes come without a head being on its way.
    multiplexed: AtomicBool,
    /// The client sends what nobody reads.
    unread: AtomicBool,
}

/// Keeps a connection, and the server, busy while it exists: one request.
#[derive(Debug)]
pub(super) struct Busy {
    activity: Arc<Activity>,
    total: Arc<AtomicUsize>,
}

#[derive(Debug, PartialEq, Eq)]
enum Overdue {
    No,
    Idle,
    Head,
}

impl Activity {
    fn new() -> Self {
        Self {
            zero: Instant::now(),
            busy: AtomicUsize::new(0),
            head_since: AtomicU64::new(0),
            idle_since: AtomicU64::new(0),
            multiplexed: AtomicBool::new(false),
            unread: AtomicBool::new(false),
        }
    }

    /// Milliseconds since the connection was accepted, from 1 on.
    fn now(&self) -> u64 {
        u64::try_from(self.zero.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    /// Bytes came from the client.
    pub(super) fn received(&self, bytes: &[u8]) {
        if self.idle_since.load(Ordering::Relaxed) == 0
            && self.head_since.load(Ordering::Relaxed) == 0
            && bytes.starts_with(b"PRI")
        {
            self.multiplexed.store(true, Ordering::Relaxed);
        }
        if self.busy.load(Ordering::Relaxed) == 0 && !self.multiplexed.load(Ordering::Relaxed) {
            let now = self.now();
            // Only the first byte of a head counts: later ones must not buy time.
            let _unchanged =
                self.head_since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Notes that the rest of what the client sends will not be read.
    pub(super) fn leave_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    pub(super) fn left_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    fn overdue(&self, config: &EdgeConfig) -> Overdue {
        if self.busy.load(Ordering::Relaxed) != 0 {
            return Overdue::No;
        }
        let past = |since: u64, limit: Duration| {
            limit <= Duration::from_millis(self.now().saturating_sub(since))
        };
        match self.head_since.load(Ordering::Relaxed) {
            0 if past(self.idle_since.load(Ordering::Relaxed), config.keep_alive_idle) => {
                Overdue::Idle
            }
            0 => Overdue::No,
            since if past(since, config.head_timeout) => Overdue::Head,
            _ => Overdue::No,
        }
    }
}

impl Busy {
    pub(super) fn new(activity: Arc<Activity>, total: Arc<AtomicUsize>) -> Self {
        activity.busy.fetch_add(1, Ordering::Relaxed);
        activity.head_since.store(0, Ordering::Relaxed);
        total.fetch_add(1, Ordering::Relaxed);
        Self { activity, total }
    }

    pub(super) const fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.activity.idle_since.store(self.activity.now(), Ordering::Relaxed);
        self.activity.busy.fetch_sub(1, Ordering::Relaxed);
        self.total.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs the work of HTTP/2 streams as owned tasks.
#[derive(Clone, Debug)]
pub(super) struct Owned(pub(super) Tasks);

impl<F> Executor<F> for Owned
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, work: F) {
        self.0.spawn("http2-stream", |_| async move {
            let _output = work.await;
        });
    }
}

/// How connections are served under these bounds.
pub(super) fn builder(config: &EdgeConfig, tasks: &Tasks) -> Builder<Owned> {
    let mut builder = Builder::new(Owned(tasks.clone()));
    // Above our own bound, so that a head a little too large gets the answer with the request id.
    let buffer = config.head_bytes_max.saturating_mul(2).max(BUFFER_MIN);
    let head = u32::try_from(config.head_bytes_max).unwrap_or(u32::MAX);
    builder
        .http1()
        .timer(TokioTimer::new())
        // Its clock also runs while a connection is idle; ours tells the two apart.
        .header_read_timeout(None)
        .max_headers(HEADERS_MAX)
        .max_buf_size(buffer);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(head)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

/// Serves one connection until it ends, is told to, or has been useless for too long.
pub(super) async fn serve<I>(
    edge: Arc<Edge>,
    builder: Builder<Owned>,
    io: I,
    peer: SocketAddr,
    draining: CancellationToken,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Arc::new(Activity::new());
    let io = TokioIo::new(Guarded::new(io, Arc::clone(&edge), Arc::clone(&activity)));
    let service = service_fn(|request| {
        let busy = Arc::new(Busy::new(Arc::clone(&activity), Arc::clone(&edge.total)));
        Arc::clone(&edge).answer(request, peer, busy)
    });
    let connection = builder.serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let look = (edge.config.head_timeout.min(edge.config.keep_alive_idle) / 4)
        .clamp(Duration::from_millis(10), Duration::from_secs(5));
    let mut ticks = tokio::time::interval_at(Instant::now() + look, look);
    let mut told = false;
    loop {
        tokio::select! {
            biased;
            // First: what is cut off must not be answered as if it had been refused.
            () = edge.cut.cancelled() => return,
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(client.addr = %peer, error, "connection failed");
                }
                return;
            }
            () = draining.cancelled(), if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
            _ = ticks.tick() => match activity.overdue(&edge.config) {
                Overdue::No => {}
                // A request may be on its way at this moment: say goodbye first.
                Overdue::Idle if !told => {
                    told = true;
                    connection.as_mut().graceful_shutdown();
                }
                Overdue::Idle => return,
                Overdue::Head => {
                    tracing::debug!(client.addr = %peer, "the head of a request took too long");
                    return;
                }
            }
        }
    }
}
