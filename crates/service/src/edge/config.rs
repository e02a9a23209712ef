//! The bounds of an HTTP edge.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::{ByteSize, Section};

/// Where an HTTP edge listens and what it bounds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EdgeConfig {
    /// The address to listen on.
    pub bind: SocketAddr,
    /// The setting that moves the address, for messages.
    pub bind_key: String,
    /// The most connections at a time.
    pub connections_max: usize,
    /// The most requests at a time whose handlers have not answered.
    pub requests_in_flight_max: usize,
    /// The most bytes of a request line with its headers.
    pub head_bytes_max: usize,
    /// The longest time from the first byte of a head to its last.
    pub head_timeout: Duration,
    /// The most bytes of a request body.
    pub body_bytes_max: u64,
    /// The longest time from the head of a request to the head of its answer.
    pub request_timeout: Duration,
    /// The time beyond the deadline in which a handler that may change state has to end.
    pub overrun: Duration,
    /// The longest time a connection may stay open without a request.
    pub keep_alive_idle: Duration,
    /// The longest time in which a client takes no byte of an answer.
    pub write_timeout: Duration,
}

impl EdgeConfig {
    /// The default bounds.
    #[must_use]
    pub fn new(bind: SocketAddr) -> Self {
        Self {
            bind,
            bind_key: String::new(),
            connections_max: 4096,
            requests_in_flight_max: 1024,
            head_bytes_max: 32 << 10,
            head_timeout: Duration::from_secs(10),
            body_bytes_max: 1 << 20,
            request_timeout: Duration::from_secs(10),
            overrun: Duration::from_secs(10),
            keep_alive_idle: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
        }
    }

    /// Reads the bounds from a section.
    pub fn read(section: &mut Section<'_>, default_bind: SocketAddr) -> Self {
        let normal = Self::new(default_bind);
        let seconds = |from: u64, to: u64| Duration::from_secs(from)..=Duration::from_secs(to);
        let some_time = Duration::from_millis(100)..=Duration::from_secs(3600);
        Self {
            bind_key: format!("{}.bind", section.path()),
            bind: section.get("bind", normal.bind, "address to listen on"),
            connections_max: section.get_within(
                "connections_max",
                normal.connections_max,
                &(1..=100_000),
                "most connections at a time; more are answered 503",
            ),
            requests_in_flight_max: section.get_within(
                "requests_in_flight_max",
                normal.requests_in_flight_max,
                &(1..=100_000),
                "most requests in work at a time; more are answered 503",
            ),
            head_bytes_max: section
                .get_within(
                    "head_bytes_max",
                    ByteSize(normal.head_bytes_max as u64),
                    &(ByteSize::kib(1)..=ByteSize::mib(1)),
                    "largest request line with headers; larger ones are answered 431",
                )
                .as_usize(),
            head_timeout: section.get_within(
                "head_timeout",
                normal.head_timeout,
                &some_time,
                "longest time to receive a request line with headers",
            ),
            body_bytes_max: section
                .get_within(
                    "body_bytes_max",
                    ByteSize(normal.body_bytes_max),
                    &(ByteSize(0)..=ByteSize::mib(1024)),
                    "largest request body; larger ones are answered 413",
                )
                .bytes(),
            request_timeout: section.get_within(
                "request_timeout",
                normal.request_timeout,
                &some_time,
                "longest time until a request is answered; then it is answered 504",
            ),
            overrun: section.get_within(
                "overrun",
                normal.overrun,
                &seconds(0, 3600),
                "time beyond that in which a handler that changes state has to end",
            ),
            keep_alive_idle: section.get_within(
                "keep_alive_idle",
                normal.keep_alive_idle,
                &some_time,
                "longest time a connection may stay open without a request",
            ),
            write_timeout: section.get_within(
                "write_timeout",
                normal.write_timeout,
                &some_time,
                "longest time in which a client takes nothing of its answer",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Reader, Sources};

    fn read(file: &str) -> (EdgeConfig, Result<String, String>) {
        let file = Some(("tradewind.toml".into(), file.to_owned()));
        let mut reader = Reader::new(Sources { file, ..Sources::default() });
        let default = "127.0.0.1:9000".parse().unwrap();
        let config = EdgeConfig::read(&mut reader.section("gateway"), default);
        let described = reader.finish();
        (config, described.map(|it| it.to_string()).map_err(|it| it.to_string()))
    }

    #[test]
    fn the_defaults_lie_within_their_own_bounds() {
        let (config, dump) = read("");
        let (again, _) = read(&dump.unwrap());
        assert_eq!(format!("{config:?}"), format!("{again:?}"));
        assert_eq!(config.bind_key, "gateway.bind");
    }

    #[test]
    fn a_bound_that_lets_everything_through_is_a_mistake() {
        let file =
            "[gateway]\nconnections_max = 0\nhead_bytes_max = \"1GiB\"\nhead_timeout = \"0s\"";
        let errors = read(file).1.unwrap_err();
        assert!(errors.starts_with("3 mistakes"), "{errors}");
    }
}
