//! The HTTP server that a router is put into.
//!
//! It speaks HTTP/1.1, and HTTP/2 to clients that begin with it. Whatever a client can make large,
//! slow or many has a bound, and each refusal is a problem document with the id of the request:
//!
//! | bound | answer |
//! |---|---|
//! | connections | 503 on a new one, which is then closed; past a few such at once it is just closed |
//! | requests in flight | 503 with `Retry-After` |
//! | bytes of the head | 431 |
//! | time for the head | the connection is closed |
//! | bytes of the body | 413, at once when declared, else where the bound is passed |
//! | time for the answer | 504; the deadline of the caller counts when it is earlier |
//! | time without a request | the connection is closed |
//! | time the client does not read the answer, HTTP/1.1 | the connection is closed |
//!
//! A client of HTTP/2 that gives a stream no room holds that stream, of the hundred it may have,
//! as long as it answers the pings on its connection; it holds no place among the requests.
//!
//! **A handler that may change state runs to its end**, whether or not the client still waits: it
//! is a task of its own with the deadline in its [`tradewind_base::Context`]. At the deadline the
//! client is answered, and the handler has [`EdgeConfig::overrun`] more to end by itself before it
//! is dropped. Handlers of GET, HEAD and OPTIONS end with their client. A panic in either is a 500
//! and the server goes on.
//!
//! A request counts as in flight until its handler has answered; a body that streams for hours
//! holds its connection, not a place among the requests. Such a body must end when
//! [`Draining`] says so.
//!
//! `/health/live`, `/health/ready`, `/metrics` and `/interfaces` are there without being asked for,
//! and are not there for what came through a proxy.

mod body;
mod config;
mod connection;
mod io;
mod listener;
mod management;
mod measure;
mod request;
mod server;

use http::StatusCode;
use tradewind_base::Problem;

pub use body::BodyError;
pub use config::EdgeConfig;
pub use listener::Listener;
pub use request::Draining;
pub use server::{BindError, Drained, Server, Serving};

/// The refusal of a request that was not answered in time.
fn too_late() -> Problem {
    let detail =
        "the answer was not there before the deadline; what was asked for may still happen";
    Problem::new(StatusCode::GATEWAY_TIMEOUT, "edge.deadline", detail)
}

/// The refusal of a body that did not come in time.
pub(crate) fn too_slow() -> Problem {
    let detail = "the body was not whole before the deadline";
    Problem::new(StatusCode::REQUEST_TIMEOUT, "edge.body-too-slow", detail)
}

/// The refusal of a body that is too large.
#[must_use]
pub fn too_large() -> Problem {
    let detail = "the body is larger than this server takes";
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "edge.body-too-large", detail)
}

#[cfg(test)]
mod tests;
