//! A real node over real sockets: stock clients' requests, native clients, peers.

// Always true here; it tells the linter that helpers outside of test functions are tests too.
#[cfg(test)]
mod eureka;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod native;
#[cfg(test)]
mod peers;
#[cfg(test)]
mod support;
