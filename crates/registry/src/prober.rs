//! Probes suspects: one TCP connection to the registered address, nothing sent.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Semaphore;
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
            let registry = Arc::clone(&registry);
            tasks.spawn("probe", |_| async move {
                settle(&registry, &order).await;
                drop(permit);
                // Another may have waited for the place.
                registry.suspicion.notify_one();
            });
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

async fn settle(registry: &Registry, order: &Order) {
    let local = registry.config.edge.bind.ip().is_loopback();
    let limit = registry.config.probe.timeout;
    let outcome = probe(&order.host, order.port, local, limit).await;
    tracing::debug!(instance.id = %order.key, ?outcome, "probed");
    let removed = registry.change(|table, now| table.probed(order, outcome, now));
    log_removed(removed.as_slice());
}

async fn probe(host: &str, port: u16, local: bool, limit: Duration) -> Outcome {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let Ok(Ok(found)) = timeout(limit, lookup_host((host, port))).await else {
        return Outcome::Unanswered;
    };
    let addresses: Vec<SocketAddr> =
        found.filter(|it| local || !is_here(it.ip())).take(ADDRESSES_MAX).collect();
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

    const LIMIT: Duration = Duration::from_millis(500);

    #[tokio::test]
    async fn a_listener_is_told_from_a_closed_port() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(probe("127.0.0.1", port, true, LIMIT).await, Outcome::Connected);
        drop(listener);
        assert_eq!(probe("127.0.0.1", port, true, LIMIT).await, Outcome::Refused);
    }

    #[tokio::test]
    async fn loopback_says_nothing_of_clients_on_other_machines() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        for host in ["127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1", "[::1]", "::"] {
            assert_eq!(probe(host, port, false, LIMIT).await, Outcome::Unanswered, "{host}");
        }
        assert_eq!(probe("0.0.0.0", port, true, LIMIT).await, Outcome::Refused);
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_is_no_refusal() {
        let outcome = probe("no-such-host.invalid", 1, true, LIMIT).await;
        assert_eq!(outcome, Outcome::Unanswered);
    }
}
