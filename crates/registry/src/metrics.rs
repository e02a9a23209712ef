//! What a node tells Prometheus (R1).
//!
//! | name | labels | meaning |
//! |---|---|---|
//! | `tradewind_registry_instances` | | instances in the table |
//! | `tradewind_registry_renewals_total` | `from`: `client`, `peer` | heartbeats that renewed a lease |
//! | `tradewind_registry_removals_total` | `why`: `cancelled`, `expired`, `refused` | instances that left |
//! | `tradewind_registry_watchers` | | open change streams |
//! | `tradewind_registry_protected_scopes` | | applications, and all of them together, whose expiry is held back |
//! | `tradewind_registry_peer_up` | `peer`: its URL | 1 while it answers |
//! | `tradewind_registry_peer_queue` | `peer` | instances it has still to be told of |
//! | `tradewind_registry_peer_lag_seconds` | `peer` | age of the oldest of these |
//!
//! All of it is read off where it is kept and written down at each look for ended leases, so that
//! neither a heartbeat nor a change waits for a metric.

use std::sync::atomic::Ordering;

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use crate::machine::Totals;
use crate::state::Registry;

const INSTANCES: &str = "tradewind_registry_instances";
const RENEWALS: &str = "tradewind_registry_renewals_total";
const REMOVALS: &str = "tradewind_registry_removals_total";
const WATCHERS: &str = "tradewind_registry_watchers";
const PROTECTED: &str = "tradewind_registry_protected_scopes";
const PEER_UP: &str = "tradewind_registry_peer_up";
const PEER_QUEUE: &str = "tradewind_registry_peer_queue";
const PEER_LAG: &str = "tradewind_registry_peer_lag_seconds";

/// What the table tells of itself at one time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) instances: usize,
    pub(crate) protected: usize,
    pub(crate) totals: Totals,
}

/// Says what each metric means.
pub(crate) fn describe() {
    describe_gauge!(INSTANCES, "Instances in the table");
    describe_counter!(RENEWALS, "Heartbeats that renewed a lease");
    describe_counter!(REMOVALS, "Instances that left, by reason");
    describe_gauge!(WATCHERS, "Open change streams");
    describe_gauge!(PROTECTED, "Scopes in which expiry is held back");
    describe_gauge!(PEER_UP, "Whether the peer answers");
    describe_gauge!(PEER_QUEUE, "Instances the peer has still to be told of");
    describe_gauge!(PEER_LAG, Unit::Seconds, "Age of the oldest change the peer was not told of");
}

/// Writes down how things stand.
pub(crate) fn observe(registry: &Registry, sample: &Sample) {
    let Totals { renewals_own, renewals_peer, cancelled, expired, refused } = sample.totals;
    gauge!(INSTANCES).set(number(sample.instances));
    counter!(RENEWALS, "from" => "client").absolute(renewals_own);
    counter!(RENEWALS, "from" => "peer").absolute(renewals_peer);
    counter!(REMOVALS, "why" => "cancelled").absolute(cancelled);
    counter!(REMOVALS, "why" => "expired").absolute(expired);
    counter!(REMOVALS, "why" => "refused").absolute(refused);
    gauge!(WATCHERS).set(number(registry.watchers.load(Ordering::Relaxed)));
    gauge!(PROTECTED).set(number(sample.protected));
    let now = registry.now().mono;
    for peer in &registry.peers {
        let (queued, lag) = peer.backlog(now);
        let url = peer.url.to_string();
        gauge!(PEER_UP, "peer" => url.clone()).set(f64::from(u8::from(peer.is_up())));
        gauge!(PEER_QUEUE, "peer" => url.clone()).set(number(queued));
        gauge!(PEER_LAG, "peer" => url).set(lag.as_secs_f64());
    }
}

/// Counts beyond 2^32 lose nothing that a reader would miss.
fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
