//! What becomes of one request: the access log line and the counters, written exactly once.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use tradewind_base::Timestamp;

use super::body::Upload;
use super::gate::Gate;
use super::inbound::Side;
use crate::access::{Entry, Phases};
use crate::machine::route::Route;
use crate::stats::{RouteStats, Sample, method_label};

/// The status in the log of a request whose client went away before it was answered.
const CLIENT_GONE: u16 = 499;

/// Follows one request to its end. Dropped without [`Record::complete`] it was cut short.
#[derive(Debug)]
pub(crate) struct Record {
    gate: Arc<Gate>,
    side: Option<Side>,
    start: Instant,
    time: Timestamp,
    pub(crate) request_id: String,
    pub(crate) trace_id: Option<String>,
    pub(crate) client: IpAddr,
    method: String,
    host: String,
    path: String,
    protocol: &'static str,
    route: Option<(Arc<Route>, Arc<RouteStats>)>,
    pub(crate) consumer: Option<String>,
    pub(crate) instance: Option<String>,
    pub(crate) attempts: usize,
    pub(crate) upload: Option<Arc<Upload>>,
    pub(crate) connect: Duration,
    upstream_start: Option<Instant>,
    upstream_head: Option<Instant>,
    answered: Option<Instant>,
    status: Option<u16>,
    pub(crate) error_code: Option<String>,
    pub(crate) error_phase: Option<&'static str>,
    pub(crate) error_reason: Option<String>,
    bytes_out: u64,
    complete: bool,
}

/// What the first line of a record needs.
pub(crate) struct Opening<'a> {
    pub(crate) request_id: String,
    pub(crate) client: IpAddr,
    pub(crate) method: &'a str,
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
    pub(crate) protocol: &'static str,
}

/// Long texts of clients are cut in the log.
fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

impl Record {
    pub(crate) fn open(gate: &Arc<Gate>, side: Side, opening: Opening<'_>) -> Self {
        gate.inflight.fetch_add(1, Ordering::Relaxed);
        metrics::gauge!("gw_http_inflight").increment(1.0);
        Self {
            side: Some(side),
            start: Instant::now(),
            time: gate.clock.now(),
            request_id: opening.request_id,
            trace_id: None,
            client: opening.client,
            method: cut(opening.method, 32),
            host: cut(opening.host, 256),
            path: cut(opening.path, 1024),
            protocol: opening.protocol,
            route: None,
            consumer: None,
            instance: None,
            attempts: 0,
            upload: None,
            connect: Duration::ZERO,
            upstream_start: None,
            upstream_head: None,
            answered: None,
            status: None,
            error_code: None,
            error_phase: None,
            error_reason: None,
            bytes_out: 0,
            complete: false,
            gate: Arc::clone(gate),
        }
    }

    pub(crate) const fn start(&self) -> Instant {
        self.start
    }

    /// The route was found.
    pub(crate) fn routed(&mut self, route: &Arc<Route>, stats: &Arc<RouteStats>) {
        stats.enter();
        self.route = Some((Arc::clone(route), Arc::clone(stats)));
    }

    /// An attempt at a service begins.
    pub(crate) fn attempt(&mut self, instance: &str) {
        self.attempts += 1;
        instance.clone_into(self.instance.get_or_insert_default());
        self.upstream_start.get_or_insert_with(Instant::now);
    }

    /// The service's part up to the head of the answer is over, well or not.
    pub(crate) fn upstream_over(&mut self) {
        self.upstream_head = Some(Instant::now());
    }

    /// The head of the answer is known.
    pub(crate) fn answering(&mut self, status: u16) {
        self.status = Some(status);
        self.answered = Some(Instant::now());
    }

    /// Bytes of the answer's body were handed over.
    pub(crate) const fn sent(&mut self, bytes: usize) {
        self.bytes_out = self.bytes_out.saturating_add(bytes as u64);
    }

    /// The service broke off its answer.
    pub(crate) fn broke(&mut self) {
        self.error_code = Some("gateway.answer-cut".to_owned());
        self.error_phase = Some("body");
    }

    /// The answer went out to its end.
    pub(crate) fn complete(mut self) {
        self.complete = true;
    }

    /// The connection leaves HTTP: the record goes on, the connection's bookkeeping ends.
    pub(crate) fn tunnel(&mut self, bytes_out: u64) {
        self.bytes_out = bytes_out;
    }
}

fn ms(span: Duration) -> f64 {
    // Microseconds are what these clocks resolve.
    (span.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

impl Drop for Record {
    fn drop(&mut self) {
        let end = Instant::now();
        if let Some(side) = &self.side {
            side.done();
        }
        self.gate.inflight.fetch_sub(1, Ordering::Relaxed);
        metrics::gauge!("gw_http_inflight").decrement(1.0);
        let total = end - self.start;
        let ttfb = self.answered.unwrap_or(end) - self.start;
        let upstream = self
            .upstream_start
            .map(|from| self.upstream_head.unwrap_or(end).saturating_duration_since(from));
        let own = ttfb.saturating_sub(upstream.unwrap_or_default());
        let panicking = std::thread::panicking();
        if panicking {
            self.error_code = Some("internal".to_owned());
            self.status = Some(500);
        }
        let status = self.status.unwrap_or(CLIENT_GONE);
        if let Some((_, stats)) = &self.route {
            stats.leave(&Sample {
                method: method_label(&self.method),
                status,
                total,
                gateway: own,
                upstream,
                now: self.gate.clock.monotonic(),
            });
        } else {
            metrics::counter!("gw_http_unrouted_total", "code" => status.to_string()).increment(1);
        }
        let route = self.route.as_ref().map(|(it, _)| it);
        self.gate.log.write(&Entry {
            time: self.time,
            request_id: std::mem::take(&mut self.request_id),
            trace_id: self.trace_id.take(),
            client_ip: self.client,
            method: std::mem::take(&mut self.method),
            host: std::mem::take(&mut self.host),
            path: std::mem::take(&mut self.path),
            path_template: route.map(|it| it.pattern.to_string()),
            route: route.map(|it| Arc::clone(&it.id)),
            service: route.map(|it| it.service_label().to_owned()),
            instance: self.instance.take(),
            consumer: self.consumer.take(),
            status,
            error_code: self.error_code.take(),
            error_phase: self.error_phase.take(),
            error_reason: self.error_reason.take(),
            bytes_in: self.upload.as_ref().map_or(0, |it| it.bytes()),
            bytes_out: self.bytes_out,
            protocol: self.protocol,
            tls: false,
            retries: self.attempts.saturating_sub(1),
            complete: self.complete,
            ms: Phases {
                total: ms(total),
                connect: ms(self.connect),
                upstream: ms(upstream.unwrap_or_default()),
                ttfb: ms(ttfb),
                gateway_own: ms(own),
            },
        });
    }
}
