//! Outbound HTTP/1.1: connections, pools, a time limit per phase, errors that know what was sent.
//!
//! [`Client::send`] makes *one* attempt on *one* server. Which server, whether again, and how long
//! in all is decided above it; for that decision a [`SendError`] says how far the attempt had come
//! and, above all, whether the server can know of it ([`SendError::nothing_sent`]).
//!
//! - **Pool.** One per target ([`Target`] is scheme, host and port). Idle connections are used
//!   last-in-first-out, so that what is not needed ages out. Connections to one target are bounded;
//!   who finds none free waits in order, within the limit of the connect phase.
//! - **Closed while idle.** A server may close an idle connection at any time. The pool asks the
//!   socket itself before it uses one; a request that was still not written when the connection
//!   broke is taken back and sent once more on a new connection, whatever its method.
//! - **Phases.** [`Limits`]: connect (with the wait for a place), head, pause within the body.
//! - **Never**: redirects followed, cookies kept, bodies decompressed, proxies asked, HTTP/2.
//! - **Network as a parameter.** [`Connect`] makes the streams; [`TcpConnect`] is this machine's,
//!   with TLS by rustls on aws-lc-rs.
//!
//! ```no_run
//! use bytes::Bytes;
//! use tradewind_base::Tasks;
//! use tradewind_http::{Client, Limits, Target, collect};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let tasks = Tasks::new();
//! let client = Client::standard(&tasks);
//! let target = Target::parse("http://127.0.0.1:8761")?;
//! let limits = Limits::default();
//! let request = http::Request::get("/tradewind/v1/status").body(Bytes::new())?;
//! let answer = client.send(&target, request, &limits).await?;
//! let status = answer.status();
//! let body = collect(answer.into_body(), 64 * 1024, &limits).await?;
//! # let _ = (status, body);
//! # Ok(())
//! # }
//! ```

mod body;
mod client;
mod connect;
mod counted;
mod error;
mod limits;
mod pool;
mod target;
#[cfg(test)]
mod tests;

pub use body::{Body, collect};
pub use client::Client;
pub use connect::{Connect, Io, TcpConnect, Watch};
pub use error::{ErrorKind, Phase, SendError};
pub use limits::{Limits, PoolConfig};
pub use target::{Scheme, Target, TargetError};
