//! One attempt on one server.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::Full;
use tokio::time::timeout;
use tradewind_base::Tasks;

use crate::body::end_of;
use crate::pool::Pool;
use crate::{Body, Connect, ErrorKind, Limits, Phase, PoolConfig, SendError, Target, TcpConnect};

/// Sends requests over pooled connections. Clones share the pool.
#[derive(Clone)]
pub struct Client {
    pool: Arc<Pool>,
}

impl Client {
    /// A client with its own pool. `tasks` own the connections' drivers: when they are told to
    /// end, idle connections are closed, requests in flight finish, and later ones get a connection
    /// of their own. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(config: PoolConfig, connector: Arc<dyn Connect>, tasks: &Tasks) -> Self {
        Self { pool: Pool::start(config, connector, tasks) }
    }

    /// A client over TCP and TLS with the default bounds. Must be called within a tokio runtime.
    #[must_use]
    pub fn standard(tasks: &Tasks) -> Self {
        Self::new(PoolConfig::default(), Arc::new(TcpConnect::new()), tasks)
    }

    /// One attempt. Redirects are answers like others; nothing is repeated, but for one case: a
    /// pooled connection turned out to be closed before any byte of the request was written, then
    /// the request goes out once more on a new connection.
    ///
    /// Of the request's address only path and query count. `Host` is set unless it is there;
    /// headers that belong to the connection (`Connection`, `Content-Length`, `TE`,
    /// `Transfer-Encoding`, `Upgrade`) are replaced by this client's own.
    ///
    /// Dropping the future gives the attempt up and closes its connection.
    ///
    /// # Errors
    /// When no complete head of an answer came; the error says what the server can know of it.
    pub async fn send(
        &self,
        target: &Target,
        request: Request<Bytes>,
        limits: &Limits,
    ) -> Result<Response<Body>, SendError> {
        let mut request = prepare(target, request)?;
        let end = end_of(limits.connect);
        let mut fresh = false;
        loop {
            let mut lease = self.pool.lease(target, end, fresh).await?;
            let reused = lease.reused();
            let written = lease.conn().written.clone();
            let before = written.bytes();
            let sent = timeout(limits.head, lease.conn().sender.try_send_request(request)).await;
            let mut error = match sent {
                Ok(Ok(response)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    return Err(SendError::new(target, Phase::Head, ErrorKind::Protocol));
                }
                Ok(Ok(response)) => {
                    let idle = limits.body_idle;
                    return Ok(response.map(|it| Body::new(target.clone(), it, lease, idle)));
                }
                Ok(Err(error)) => error,
                // The driver may be writing at this very moment: nothing is known.
                Err(_) => return Err(SendError::new(target, Phase::Head, ErrorKind::TimedOut)),
            };
            match error.take_message() {
                Some(message) if reused && !fresh => {
                    request = message;
                    fresh = true;
                }
                message => {
                    let nothing_sent = message.is_some() || written.bytes() == before;
                    let phase = if nothing_sent { Phase::Send } else { Phase::Head };
                    return Err(SendError::http(target, phase, error.into_error()));
                }
            }
        }
    }

    /// Makes sure that an idle connection to the target is there, so that the next request need
    /// not wait for one.
    ///
    /// # Errors
    /// When none could be made within `limits.connect`.
    pub async fn warm(&self, target: &Target, limits: &Limits) -> Result<(), SendError> {
        let lease = self.pool.lease(target, end_of(limits.connect), false).await?;
        lease.finish();
        Ok(())
    }

    /// Closes the idle connections to the target.
    pub fn forget(&self, target: &Target) {
        self.pool.forget(target);
    }

    /// How many idle connections to the target are kept.
    #[must_use]
    pub fn idle(&self, target: &Target) -> usize {
        self.pool.idle_count(target)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("pool", &self.pool).finish()
    }
}

/// Headers that speak of the connection to whoever made the request, not of this one.
const OF_THE_CONNECTION: [HeaderName; 7] = [
    CONNECTION,
    CONTENT_LENGTH,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

fn prepare(target: &Target, request: Request<Bytes>) -> Result<Request<Full<Bytes>>, SendError> {
    let unusable = || SendError::new(target, Phase::Send, ErrorKind::Request);
    let (mut parts, body) = request.into_parts();
    if parts.method == Method::CONNECT {
        return Err(unusable().with_source("CONNECT needs a tunnel"));
    }
    let path = parts.uri.path_and_query().cloned();
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    if !path.as_str().starts_with('/') {
        return Err(unusable().with_source("the target of the request is no path"));
    }
    parts.uri = Uri::from(path);
    parts.version = Version::HTTP_11;
    remove_connection_headers(&mut parts.headers);
    if !parts.headers.contains_key(HOST) {
        parts.headers.insert(HOST, target.host_header().ok_or_else(unusable)?);
    }
    Ok(Request::from_parts(parts, Full::new(body)))
}

fn remove_connection_headers(headers: &mut HeaderMap) {
    for name in OF_THE_CONNECTION {
        headers.remove(name);
    }
}
