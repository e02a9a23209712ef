//! The connections of a client: who may open one, which are idle, when they are closed.
//!
//! A place (permit) stands for a connection that is in use or being made. A new connection is made
//! only when no idle one is left, and one that comes back gives its place to the idle list; so
//! places and idle connections together never exceed the bound of the target.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tradewind_base::Tasks;

use crate::connect::{Connect, Watch};
use crate::counted::{Counted, Written};
use crate::{ErrorKind, Phase, PoolConfig, SendError, Target};

/// How long a connection that came back may take to be ready again. It is ready at once unless the
/// server answered before it had read the whole request; such a connection is not worth a wait.
const SETTLE_MAX: Duration = Duration::from_millis(10);
/// The pause between two sweeps, at most.
const SWEEP_MAX: Duration = Duration::from_secs(1);

/// The smallest buffer that hyper takes.
const BUFFER_MIN: usize = 8192;

/// One open connection. Dropping it closes the socket, whatever is in flight on it.
pub(crate) struct Conn {
    pub(crate) sender: SendRequest<Full<Bytes>>,
    pub(crate) written: Written,
    watch: Option<Box<dyn Watch>>,
    born: Instant,
    _close: DropGuard,
}

impl Conn {
    fn usable(&self) -> bool {
        !self.sender.is_closed() && !self.watch.as_ref().is_some_and(|it| it.ended())
    }
}

struct Idle {
    conn: Conn,
    since: Instant,
}

/// What the pool knows of one target.
struct Slot {
    target: Target,
    places: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
    used: Mutex<Instant>,
}

impl Slot {
    fn new(target: Target, config: &PoolConfig) -> Self {
        let places = config.connections_per_target.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            target,
            places: Arc::new(Semaphore::new(places)),
            idle: Mutex::default(),
            used: Mutex::new(Instant::now()),
        }
    }

    fn pop(&self) -> Option<Idle> {
        lock(&self.idle).pop()
    }
}

/// All connections of one client.
pub(crate) struct Pool {
    config: PoolConfig,
    connector: Arc<dyn Connect>,
    tasks: Tasks,
    slots: Mutex<HashMap<Target, Arc<Slot>>>,
    ending: AtomicBool,
}

/// A connection in use. [`Lease::finish`] gives it back; dropping the lease closes it.
pub(crate) struct Lease {
    // The order of these two is the order of their drop: closed first, then the place is free.
    conn: Conn,
    _place: OwnedSemaphorePermit,
    slot: Arc<Slot>,
    pool: Arc<Pool>,
    reused: bool,
}

impl Pool {
    pub(crate) fn start(
        config: PoolConfig,
        connector: Arc<dyn Connect>,
        tasks: &Tasks,
    ) -> Arc<Self> {
        let pool = Arc::new(Self {
            config,
            connector,
            tasks: tasks.clone(),
            slots: Mutex::default(),
            ending: AtomicBool::new(false),
        });
        let weak = Arc::downgrade(&pool);
        let pause = (pool.config.idle_timeout / 2).clamp(Duration::from_millis(10), SWEEP_MAX);
        tasks.spawn("http pool", |cancel| sweep(weak, pause, cancel));
        pool
    }

    /// A connection to the target, idle or new, before `end`. With `fresh` always a new one.
    pub(crate) async fn lease(
        self: &Arc<Self>,
        target: &Target,
        end: Instant,
        fresh: bool,
    ) -> Result<Lease, SendError> {
        let slot = self.slot(target)?;
        let place = timeout_at(end, Arc::clone(&slot.places).acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            return Err(SendError::new(target, Phase::Connect, ErrorKind::PoolFull));
        };
        *lock(&slot.used) = Instant::now();
        if fresh {
            // The new connection takes the place of an idle one, which is as likely to be dead.
            drop(slot.pop());
        } else if let Ok(Some(conn)) = timeout_at(end, self.idle(&slot)).await {
            return Ok(Lease { conn, _place: place, slot, pool: Arc::clone(self), reused: true });
        }
        let conn = timeout_at(end, self.open(target))
            .await
            .unwrap_or_else(|_| Err(SendError::new(target, Phase::Connect, ErrorKind::TimedOut)))?;
        Ok(Lease { conn, _place: place, slot, pool: Arc::clone(self), reused: false })
    }

    /// Closes the idle connections of the target.
    pub(crate) fn forget(&self, target: &Target) {
        let slot = lock(&self.slots).get(target).cloned();
        if let Some(slot) = slot {
            let idle = std::mem::take(&mut *lock(&slot.idle));
            drop(idle);
        }
    }

    /// How many idle connections the target has.
    pub(crate) fn idle_count(&self, target: &Target) -> usize {
        lock(&self.slots).get(target).map_or(0, |slot| lock(&slot.idle).len())
    }

    fn slot(&self, target: &Target) -> Result<Arc<Slot>, SendError> {
        let mut slots = lock(&self.slots);
        if !slots.contains_key(target) && self.config.targets_max.max(1) <= slots.len() {
            // A slot that only the map holds has neither users nor waiters.
            let free = slots.values().filter(|it| Arc::strong_count(it) == 1);
            let oldest = free.min_by_key(|it| *lock(&it.used)).map(|it| it.target.clone());
            let Some(oldest) = oldest else {
                return Err(SendError::new(target, Phase::Connect, ErrorKind::TooManyTargets));
            };
            slots.remove(&oldest);
        }
        Ok(match slots.entry(target.clone()) {
            Entry::Occupied(entry) => Arc::clone(entry.get()),
            Entry::Vacant(entry) => {
                Arc::clone(entry.insert(Arc::new(Slot::new(target.clone(), &self.config))))
            }
        })
    }

    /// The idle connection that was used last and still can be used.
    async fn idle(&self, slot: &Slot) -> Option<Conn> {
        while let Some(Idle { mut conn, since }) = slot.pop() {
            let fresh = since.elapsed() < self.config.idle_timeout;
            if !fresh || !conn.usable() {
                continue;
            }
            if conn.sender.is_ready()
                || matches!(timeout(SETTLE_MAX, conn.sender.ready()).await, Ok(Ok(())))
            {
                return Some(conn);
            }
        }
        None
    }

    async fn open(&self, target: &Target) -> Result<Conn, SendError> {
        let connected = self.connector.connect(target).await;
        let io = connected.map_err(|error| SendError::connect(target, error))?;
        let watch = io.watch();
        let io = Counted::new(io);
        let written = io.written();
        let (sender, connection) = http1::Builder::new()
            .max_header_size(self.config.head_bytes_max)
            .max_buf_size(self.config.head_bytes_max.max(BUFFER_MIN))
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| SendError::http(target, Phase::Connect, error))?;
        let close = CancellationToken::new();
        let closed = close.clone();
        let name = target.clone();
        self.tasks.spawn("http connection", |_| async move {
            tokio::select! {
                biased;
                () = closed.cancelled() => {}
                result = connection => if let Err(error) = result {
                    tracing::debug!(target = %name, %error, "connection ended");
                }
            }
        });
        Ok(Conn { sender, written, watch, born: Instant::now(), _close: close.drop_guard() })
    }

    fn give_back(&self, slot: &Slot, conn: Conn) {
        let keep = conn.born.elapsed() < self.config.age_max && !conn.sender.is_closed();
        let mut idle = lock(&slot.idle);
        // Asked under the lock: between the question and the push the pool could have been ended,
        // and nobody would close this connection any more.
        let keep = keep && !self.ending.load(Ordering::Acquire);
        if keep && idle.len() < self.config.idle_per_target {
            idle.push(Idle { conn, since: Instant::now() });
        }
    }

    fn close_unused(&self) {
        let mut slots = lock(&self.slots);
        slots.retain(|_, slot| {
            let mut idle = lock(&slot.idle);
            idle.retain(|it| it.since.elapsed() < self.config.idle_timeout && it.conn.usable());
            !idle.is_empty() || 1 < Arc::strong_count(slot)
        });
    }

    /// Keeps nothing from now on; what is in flight finishes and is closed.
    fn end(&self) {
        self.ending.store(true, Ordering::Release);
        for slot in lock(&self.slots).values() {
            lock(&slot.idle).clear();
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let targets = lock(&self.slots).len();
        f.debug_struct("Pool").field("targets", &targets).finish_non_exhaustive()
    }
}

impl Lease {
    pub(crate) const fn conn(&mut self) -> &mut Conn {
        &mut self.conn
    }

    /// Whether the connection had carried a request before.
    pub(crate) const fn reused(&self) -> bool {
        self.reused
    }

    /// The exchange is over: keeps the connection for the next one.
    pub(crate) fn finish(self) {
        let Self { conn, _place: place, slot, pool, reused: _ } = self;
        pool.give_back(&slot, conn);
        // Only now: whoever gets the place finds the connection.
        drop(place);
    }
}

async fn sweep(pool: Weak<Pool>, pause: Duration, cancel: CancellationToken) {
    loop {
        tokio::select! {
            () = cancel.cancelled() => {
                if let Some(pool) = pool.upgrade() {
                    pool.end();
                }
                return;
            }
            () = tokio::time::sleep(pause) => {}
        }
        let Some(pool) = pool.upgrade() else { return };
        pool.close_unused();
    }
}

/// A panic elsewhere leaves these lists whole: every change is one push, pop or take.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
