//! Links: what stands between two processes and loses, doubles and holds back requests.
//!
//! A [`Link`] listens where its server is registered and passes each request on to where the
//! server listens, whole, one connection behind for each in front. It acts on messages, not on
//! bytes: a request that is lost never reached the server, an answer that is lost belongs to a
//! request that was carried out, a request that is doubled is carried out twice if the server lets
//! it.
//!
//! For everything else it behaves as the server would: when the server is gone, the link refuses
//! connections too (so that callers and the registry notice as they would), when one side closes
//! a connection, the other side's is closed.

use std::convert::Infallible;
use std::fmt;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::machine::Seed;
use crate::machine::mischief::{Fate, Roughness, fate};

type Sender = client::SendRequest<Full<Bytes>>;

/// No request and no answer between the servers is larger.
const BODY_MAX: usize = 4 * 1024 * 1024;
/// How long a second copy may take; nobody waits for it.
const COPY_LIMIT: Duration = Duration::from_secs(30);
/// How long a connection to a server may take: one that is frozen and has a full queue lets it hang.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How often it is looked whether a server that was gone is back.
const BACK_POLL: Duration = Duration::from_millis(20);

/// What a link did, in requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// All that came.
    pub requests: u64,
    /// Requests that were lost.
    pub lost: u64,
    /// Answers that were lost.
    pub unanswered: u64,
    /// Requests that reached the server twice.
    pub doubled: u64,
    /// Requests that were held back.
    pub held: u64,
    /// Requests the server did not answer: it died, or the caller gave up.
    pub broken: u64,
}

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    lost: AtomicU64,
    unanswered: AtomicU64,
    doubled: AtomicU64,
    held: AtomicU64,
    broken: AtomicU64,
}

impl Counts {
    fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// One link. Dropping it closes everything.
pub struct Link {
    inner: Arc<Inner>,
    _tasks: JoinSet<Infallible>,
}

struct Inner {
    name: &'static str,
    seed: Seed,
    address: SocketAddr,
    server: SocketAddr,
    calm: AtomicBool,
    counts: Counts,
    /// The server refused a connection.
    refused: Notify,
    copies: TaskTracker,
}

impl Link {
    /// A link that listens on `listener` and passes on to port `server` of this machine.
    ///
    /// # Panics
    /// When the listener cannot be used.
    #[must_use]
    pub fn start(
        name: &'static str,
        seed: Seed,
        listener: std::net::TcpListener,
        server: u16,
    ) -> Self {
        listener.set_nonblocking(true).expect("a listener can wait");
        let address = listener.local_addr().expect("a listener has an address");
        let listener = TcpListener::from_std(listener).expect("a listener of this runtime");
        let inner = Arc::new(Inner {
            name,
            seed,
            address,
            server: SocketAddr::from((Ipv4Addr::LOCALHOST, server)),
            calm: AtomicBool::new(true),
            counts: Counts::default(),
            refused: Notify::new(),
            copies: TaskTracker::new(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(Arc::clone(&inner), listener));
        Self { inner, _tasks: tasks }
    }

    /// Whose link it is.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.inner.name
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.inner.address
    }

    /// From now on it does what the plan says; at first it only passes on.
    pub fn roughen(&self) {
        self.inner.calm.store(false, Ordering::Relaxed);
    }

    /// From now on it only passes on.
    pub fn calm(&self) {
        self.inner.calm.store(true, Ordering::Relaxed);
    }

    /// How many second copies are still to arrive.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.inner.copies.len()
    }

    /// What it did so far.
    #[must_use]
    pub fn done(&self) -> Done {
        let counts = &self.inner.counts;
        let get = |it: &AtomicU64| it.load(Ordering::Relaxed);
        Done {
            requests: get(&counts.requests),
            lost: get(&counts.lost),
            unanswered: get(&counts.unanswered),
            doubled: get(&counts.doubled),
            held: get(&counts.held),
            broken: get(&counts.broken),
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("name", &self.inner.name).finish_non_exhaustive()
    }
}

/// Accepts connections for as long as the server takes them.
async fn listen(inner: Arc<Inner>, listener: TcpListener) -> Infallible {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let Some(open) = &listener else {
            // Whoever knocks is refused, as at a server that is gone.
            while !takes_connections(inner.server).await {
                tokio::time::sleep(BACK_POLL).await;
            }
            listener = TcpListener::bind(inner.address).await.ok();
            continue;
        };
        tokio::select! {
            accepted = open.accept() => if let Ok((stream, _)) = accepted {
                connections.spawn(serve(Arc::clone(&inner), stream));
            },
            () = inner.refused.notified() => listener = None,
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn takes_connections(server: SocketAddr) -> bool {
    // On a port nobody listens on, a client can be connected to itself.
    let own = |it: &TcpStream| it.local_addr().ok() == it.peer_addr().ok();
    TcpStream::connect(server).await.is_ok_and(|it| !own(&it))
}

/// One connection in front, with one behind.
async fn serve(inner: Arc<Inner>, stream: TcpStream) {
    let connected = tokio::time::timeout(CONNECT_LIMIT, connect(inner.server)).await;
    let (sender, closed) = match connected {
        Ok(Ok(it)) => it,
        Ok(Err(refused)) => {
            if refused {
                inner.refused.notify_one();
            }
            return;
        }
        Err(_) => return,
    };
    drop(stream.set_nodelay(true));
    let sender = Arc::new(Mutex::new(sender));
    let service = service_fn(|request| {
        let (inner, sender) = (Arc::clone(&inner), Arc::clone(&sender));
        async move { pass(&inner, &sender, request).await.ok_or(Cut) }
    });
    let connection = server::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = closed.notified() => connection.as_mut().graceful_shutdown(),
    }
    drop(connection.await);
}

/// Why a connection ends without an answer: hyper closes it when a service fails.
#[derive(Debug)]
struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cut")
    }
}

impl std::error::Error for Cut {}

/// A connection to the server, and what tells that it was closed; the error says whether it was
/// refused.
async fn connect(server: SocketAddr) -> Result<(Sender, Arc<Notify>), bool> {
    let stream = TcpStream::connect(server)
        .await
        .map_err(|error| error.kind() == ErrorKind::ConnectionRefused)?;
    drop(stream.set_nodelay(true));
    let (sender, connection) = client::handshake(TokioIo::new(stream)).await.map_err(|_| false)?;
    let closed = Arc::new(Notify::new());
    let tell = Arc::clone(&closed);
    tokio::spawn(async move {
        drop(connection.await);
        tell.notify_one();
    });
    Ok((sender, closed))
}

/// Does with a request what the plan says. `None`: the connection is cut.
async fn pass(
    inner: &Arc<Inner>,
    sender: &Mutex<Sender>,
    request: Request<Incoming>,
) -> Option<Response<Full<Bytes>>> {
    let counts = &inner.counts;
    let number = counts.requests.fetch_add(1, Ordering::Relaxed);
    let calm = inner.calm.load(Ordering::Relaxed);
    let rough = if calm { Roughness::CALM } else { Roughness::ROUGH };
    let (mut head, body) = request.into_parts();
    clean(&mut head.headers);
    let body = Limited::new(body, BODY_MAX).collect().await.ok()?.to_bytes();
    let request = Request::from_parts(head, Full::new(body));
    match fate(inner.seed, inner.name, number, rough) {
        Fate::Pass => exchange(inner, sender, request).await,
        Fate::Hold(span) => {
            Counts::add(&counts.held);
            tokio::time::sleep(span).await;
            exchange(inner, sender, request).await
        }
        Fate::LoseRequest => {
            Counts::add(&counts.lost);
            None
        }
        Fate::LoseAnswer => {
            exchange(inner, sender, request).await?;
            Counts::add(&counts.unanswered);
            None
        }
        Fate::DoubleAtOnce => {
            copy(inner, request.clone(), Duration::ZERO);
            exchange(inner, sender, request).await
        }
        Fate::DoubleLater(span) => {
            let answer = exchange(inner, sender, request.clone()).await;
            copy(inner, request, span);
            answer
        }
    }
}

async fn exchange(
    inner: &Inner,
    sender: &Mutex<Sender>,
    request: Request<Full<Bytes>>,
) -> Option<Response<Full<Bytes>>> {
    // Counted also when the caller goes away and drops this.
    let broken = Broken(Some(&inner.counts.broken));
    let mut sender = sender.lock().await;
    sender.ready().await.ok()?;
    let (mut head, body) = sender.send_request(request).await.ok()?.into_parts();
    let body = Limited::new(body, BODY_MAX).collect().await.ok()?.to_bytes();
    broken.not();
    clean(&mut head.headers);
    Some(Response::from_parts(head, Full::new(body)))
}

/// Counts one unless told otherwise.
struct Broken<'a>(Option<&'a AtomicU64>);

impl Broken<'_> {
    fn not(mut self) {
        self.0 = None;
    }
}

impl Drop for Broken<'_> {
    fn drop(&mut self) {
        if let Some(counter) = self.0 {
            Counts::add(counter);
        }
    }
}

/// Sends a second copy of a request after a while, on a connection of its own.
fn copy(inner: &Arc<Inner>, request: Request<Full<Bytes>>, after: Duration) {
    let this = Arc::clone(inner);
    let send = async move {
        tokio::time::sleep(after).await;
        let Ok((mut sender, _)) = connect(this.server).await else { return };
        let Ok(answer) = sender.send_request(request).await else { return };
        drop(answer.into_body().collect().await);
        Counts::add(&this.counts.doubled);
    };
    inner.copies.spawn(async move {
        drop(tokio::time::timeout(COPY_LIMIT, send).await);
    });
}

/// Takes away what belongs to a connection and not to a message.
fn clean(headers: &mut HeaderMap) {
    for name in
        [CONNECTION, TRANSFER_ENCODING, CONTENT_LENGTH, HeaderName::from_static("keep-alive")]
    {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests;
