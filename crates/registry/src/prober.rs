//! Probes suspects: one TCP connection to the registered address, nothing sent.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tradewind_base::Tasks;

use crate::machine::{Order, Outcome};
use crate::state::{Registry, log_removed};

/// How many addresses of one name are tried.
const ADDRESSES_MAX: usize = 4;
/// Attempts where the first had no answer: a lost SYN is not a dead host.
const ATTEMPTS: usize = 2;
/// How long to sleep when no probe is planned; a new suspicion wakes at once.
const IDLE: Duration = Duration::from_secs(10);

/// Carries probes out until told to end.
pub(crate) async fn run(registry: Arc<Registry>, tasks: Tasks, cancel: CancellationToken) {
    let permits = Arc::new(Semaphore::new(registry.config.probe.concurrency));
    loop {
        let free = permits.available_permits();
        let orders = registry.change(|table, now| table.due_probes(free, now));
        for order in orders {
            // As many as there are permits were asked for.
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { break };
            let place = Place { permit: Some(permit), registry: Arc::clone(&registry) };
            let registry = Arc::clone(&registry);
            tasks.spawn("probe", |_| async move { settle(&registry, &order, place).await });
        }
        let next = registry.read(|table, now| table.next_probe_in(now));
        let pause = match next {
            // All places are taken: the first that ends wakes this task.
            Some(_) if permits.available_permits() == 0 => IDLE,
            next => next.unwrap_or(IDLE).max(Duration::from_millis(1)),
        };
        tokio::select! {
            () = cancel.cancelled() => return,
            () = registry.suspicion.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// The place of a probe, which is free again when this is dropped.
struct Place {
    permit: Option<OwnedSemaphorePermit>,
    registry: Arc<Registry>,
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.permit.take());
        // Another may have waited for it.
        self.registry.suspicion.notify_one();
    }
}

async fn settle(registry: &Registry, order: &Order, place: Place) {
    let local = registry.config.edge.bind.ip().is_loopback();
    let limit = registry.config.probe.timeout;
    let place = Arc::new(place);
    let found = found(&order.host, order.port, Arc::clone(&place), resolve);
    let outcome = probe(found, local, limit).await;
    tracing::debug!(instance.id = %order.key, ?outcome, "probed");
    let removed = registry.change(|table, now| table.probed(order, outcome, now));
    log_removed(removed.as_slice());
}

/// Asks the resolver of this machine.
fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}

/// The addresses of a host; `None` when its name does not resolve.
///
/// Nothing can stop the resolver, so the thread it works in keeps `place` until it ends, also when
/// nobody waits any longer: while names do not resolve, probes must not take one thread after the
/// other from everything else that blocks.
async fn found<P: Send + 'static>(
    host: &str,
    port: u16,
    place: P,
    resolve: impl FnOnce(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + 'static,
) -> Option<Vec<SocketAddr>> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some(vec![SocketAddr::new(address, port)]);
    }
    let host = host.to_owned();
    let resolving = tokio::task::spawn_blocking(move || {
        let found = resolve(&host, port);
        drop(place);
        found
    });
    resolving.await.ok()?.ok()
}

async fn probe(
    found: impl Future<Output = Option<Vec<SocketAddr>>>,
    local: bool,
    limit: Duration,
) -> Outcome {
    let Ok(Some(found)) = timeout(limit, found).await else { return Outcome::Unanswered };
    let addresses: Vec<SocketAddr> =
        found.into_iter().filter(|it| local || !is_here(it.ip())).take(ADDRESSES_MAX).collect();
    let mut refused = !addresses.is_empty();
    for address in addresses {
        match knock(address, limit).await {
            Outcome::Connected => return Outcome::Connected,
            Outcome::Refused => {}
            Outcome::Unanswered => refused = false,
        }
    }
    if refused { Outcome::Refused } else { Outcome::Unanswered }
}

/// Whether an address means this machine, whoever says it: a client that may have come from
/// another one did not mean that, and must not learn what listens here. Connecting to the
/// unspecified address reaches this machine too, as does an IPv4 address written as IPv6.
fn is_here(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified()
}

async fn knock(address: SocketAddr, limit: Duration) -> Outcome {
    for _ in 0..ATTEMPTS {
        match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Outcome::Connected,
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => {
                return Outcome::Refused;
            }
            Ok(Err(_)) => return Outcome::Unanswered,
            Err(_) => {}
        }
    }
    Outcome::Unanswered
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;
    use tokio::sync::oneshot::error::TryRecvError;

    const LIMIT: Duration = Duration::from_millis(500);

    async fn knocked(host: &str, port: u16, local: bool) -> Outcome {
        probe(found(host, port, (), resolve), local, LIMIT).await
    }

    #[tokio::test]
    async fn a_listener_is_told_from_a_closed_port() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(knocked("127.0.0.1", port, true).await, Outcome::Connected);
        drop(listener);
        assert_eq!(knocked("127.0.0.1", port, true).await, Outcome::Refused);
    }

    #[tokio::test]
    async fn loopback_says_nothing_of_clients_on_other_machines() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        for host in ["127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1", "[::1]", "::"] {
            assert_eq!(knocked(host, port, false).await, Outcome::Unanswered, "{host}");
        }
        assert_eq!(knocked("0.0.0.0", port, true).await, Outcome::Refused);
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_is_no_refusal() {
        let outcome = knocked("no-such-host.invalid", 1, true).await;
        assert_eq!(outcome, Outcome::Unanswered);
    }

    #[tokio::test]
    async fn a_resolver_that_hangs_keeps_its_place() {
        let (answer, question) = std::sync::mpsc::sync_channel::<()>(1);
        let (place, ended) = tokio::sync::oneshot::channel::<()>();
        let hangs = move |_: &str, _: u16| {
            // Ends with an error when the test drops the other side.
            question.recv().map_err(io::Error::other)?;
            Ok(Vec::new())
        };
        let outcome = probe(found("a-name", 1, place, hangs), true, Duration::ZERO).await;
        assert_eq!(outcome, Outcome::Unanswered);
        let mut ended = ended;
        assert!(ended.try_recv().is_err_and(|it| it == TryRecvError::Empty), "still held");
        drop(answer);
        let end = timeout(Duration::from_secs(20), ended).await.expect("the place is free");
        assert!(end.is_err(), "dropped, not sent to");
    }
}
