//! Listeners and the threads behind them.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::FutureExt as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tradewind_base::id::RequestId;
use tradewind_base::{Rng, Tasks};

use super::body::DownBody;
use super::gate::Gate;
use super::handle::{About, Worker};
use super::inbound::{Inbound, Side};
use super::pool::Pool;
use super::refuse;

/// Connections the kernel keeps for a worker that is busy.
const BACKLOG: i32 = 1024;
/// How often idle connections to services are looked through.
const SWEEP: Duration = Duration::from_secs(1);
/// Pause after an error of accepting: most mean that descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Binds one listener per worker to one address.
///
/// The address is first bound without `SO_REUSEPORT`: with it, a second gateway of the same user
/// would share the port without anybody noticing.
pub(crate) fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    if address.port() != 0 {
        drop(socket(address, false)?);
    }
    let first = socket(address, true)?;
    let bound = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..workers {
        listeners.push(socket(bound, true)?);
    }
    Ok(listeners)
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of a former run that linger must not keep the port.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Starts one thread per listener.
pub(crate) fn start(
    gate: &Arc<Gate>,
    listeners: Vec<TcpListener>,
) -> io::Result<Vec<JoinHandle<io::Result<()>>>> {
    let spawn = |(at, listener): (usize, TcpListener)| {
        let gate = Arc::clone(gate);
        std::thread::Builder::new()
            .name(format!("gateway-{at}"))
            .spawn(move || thread(&gate, listener))
    };
    listeners.into_iter().enumerate().map(spawn).collect()
}

fn thread(gate: &Arc<Gate>, listener: TcpListener) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let tasks = Tasks::new();
        let pool = Arc::new(Pool::new(
            Arc::clone(&gate.connector),
            gate.pool_limits(),
            Arc::clone(&gate.pools),
            tasks.clone(),
        ));
        let worker = Arc::new(Worker { gate: Arc::clone(gate), pool, tasks: tasks.clone() });
        let listener = tokio::net::TcpListener::from_std(listener)?;
        accept(&worker, listener).await;
        // Requests in flight finish; the connections to services go when they are idle.
        let finished = wait_for_clients(&worker).await;
        worker.pool.clear();
        if let Err(unfinished) = tasks.shutdown(Duration::from_millis(500)).await
            && finished
        {
            tracing::warn!(error = %unfinished, "a worker ended with tasks running");
        }
        Ok(())
    })
}

async fn wait_for_clients(worker: &Worker) -> bool {
    let mut pause = tokio::time::interval(Duration::from_millis(10));
    loop {
        pause.tick().await;
        if worker.gate.connections.load(Ordering::Relaxed) == 0
            && worker.gate.inflight.load(Ordering::Relaxed) == 0
        {
            return true;
        }
        if worker.gate.cut.is_cancelled() {
            return false;
        }
    }
}

async fn accept(worker: &Arc<Worker>, listener: tokio::net::TcpListener) {
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => admit(worker, stream, peer),
                Err(error) => {
                    tracing::warn!(error = %error, "failed to accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            _ = sweep.tick() => worker.pool.sweep(),
            () = worker.gate.draining.cancelled() => break,
        }
    }
    // What the kernel has accepted already would be reset by closing the listener.
    while let Some(Ok((stream, peer))) = listener.accept().now_or_never() {
        admit(worker, stream, peer);
    }
}

/// Counts a client's connection while it lives.
struct Place(Arc<Gate>);

impl Place {
    fn take(gate: &Arc<Gate>) -> (Self, usize) {
        let before = gate.connections.fetch_add(1, Ordering::Relaxed);
        (Self(Arc::clone(gate)), before)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

fn admit(worker: &Arc<Worker>, stream: TcpStream, peer: SocketAddr) {
    let (place, before) = Place::take(&worker.gate);
    let most = worker.gate.client.connections;
    if most <= before {
        // Answering takes a task, too: beyond a few of them the connection is just closed.
        if before < most + most / 8 + 16 {
            worker.tasks.spawn("turned-away", move |_| turn_away(stream, place));
        }
        return;
    }
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(error = %error, "a connection ended before it began");
        return;
    }
    let worker = Arc::clone(worker);
    let tasks = worker.tasks.clone();
    tasks.spawn("client", move |_| async move {
        serve(worker, stream, peer).await;
        drop(place);
    });
}

async fn turn_away(mut stream: TcpStream, _place: Place) {
    let problem = refuse::overloaded().problem;
    let body = problem.to_json();
    let text = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: {}\r\ncontent-length: {}\r\n\
         retry-after: 1\r\nconnection: close\r\n\r\n{body}",
        tradewind_base::problem::MEDIA_TYPE,
        body.len()
    );
    let answer = async {
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await
    };
    if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(1), answer).await {
        tracing::debug!(error = %error, "failed to turn a connection away");
    }
}

async fn serve(worker: Arc<Worker>, stream: TcpStream, peer: SocketAddr) {
    let gate = Arc::clone(&worker.gate);
    let (inbound, side) = Inbound::new(stream, gate.client.framing, gate.patience());
    let service = service_fn(move |request| {
        // Taken here, not inside: hyper calls this as soon as it has read the head.
        let arrival = side.arrival();
        let side = side.clone();
        let mut rng = Rng::from_entropy();
        let id = RequestId::generate(worker.gate.clock.now(), &mut rng).to_string();
        let about = About { id: id.clone(), peer, rng };
        let answer = Arc::clone(&worker).handle(arrival, request, about, side.clone());
        async move {
            let answer = match AssertUnwindSafe(answer).catch_unwind().await {
                Ok(answer) => answer,
                Err(_) => panicked(id, &side),
            };
            Ok::<_, Infallible>(answer)
        }
    });
    let head_bytes = gate.client.framing.head_bytes;
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_headers(gate.client.framing.headers)
        .max_buf_size(head_bytes + 32 * 1024)
        .serve_connection(TokioIo::new(inbound), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = gate.draining.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = &mut connection => ended,
                () = gate.cut.cancelled() => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "a client's connection ended");
    }
}

/// The panic was logged by the hook, the request by its record; the gateway goes on.
fn panicked(id: String, side: &Side) -> http::Response<DownBody> {
    metrics::counter!("gw_panics_total").increment(1);
    side.switched(false);
    side.done();
    refuse::internal().into_response(id, DownBody::unrecorded)
}
