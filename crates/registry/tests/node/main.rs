//! A real node over real sockets: stock clients' requests, native clients, peers.

mod eureka;
mod golden;
mod native;
mod peers;
mod support;
