//! The client over real sockets, against servers that do what the test says.

mod bodies;
mod failures;
mod pooling;
mod requests;
mod script;
mod server;
mod tls;
