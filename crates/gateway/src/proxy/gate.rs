//! What all workers share.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio_util::sync::CancellationToken;
use tradewind_base::{Clock, seal};
use tradewind_http::Connect;

use super::inbound::Patience;
use super::pool::{PoolLimits, PoolStats};
use crate::access::AccessLog;
use crate::machine::auth::Expectations;
use crate::machine::headers::Cidr;
use crate::routing::Routing;
use crate::settings::{ClientLimits, UpstreamLimits};
use crate::tokens::Tokens;

/// What all workers share.
pub(crate) struct Gate {
    pub(crate) routing: Arc<Routing>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) wanted: Expectations,
    pub(crate) seal: seal::Key,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) connector: Arc<dyn Connect>,
    pub(crate) client: ClientLimits,
    pub(crate) upstream: UpstreamLimits,
    pub(crate) trusted: Vec<Cidr>,
    pub(crate) log: Arc<AccessLog>,
    /// The address clients connect to.
    pub(crate) local: SocketAddr,
    /// Requests in work.
    pub(crate) inflight: AtomicUsize,
    /// Connections of clients.
    pub(crate) connections: AtomicUsize,
    pub(crate) pools: Arc<PoolStats>,
    /// No new connections and requests.
    pub(crate) draining: CancellationToken,
    /// The time to finish is up.
    pub(crate) cut: CancellationToken,
}

impl Gate {
    pub(crate) const fn patience(&self) -> Patience {
        Patience {
            head: self.client.head_timeout,
            body: self.client.body_timeout,
            idle: self.client.idle_timeout,
            write: self.client.write_timeout,
        }
    }

    pub(crate) const fn pool_limits(&self) -> PoolLimits {
        PoolLimits {
            active: self.upstream.active,
            idle: self.upstream.idle,
            idle_time: self.upstream.idle_timeout,
            head_bytes: self.upstream.head_bytes,
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("local", &self.local).finish_non_exhaustive()
    }
}
