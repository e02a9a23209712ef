//! Counters and timings per route (R3.5): for Prometheus and as JSON.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use tradewind_base::Monotonic;

/// Seconds that count as "now" for the rate.
const WINDOW: usize = 10;
/// The longest time that is told apart, in microseconds.
const LONGEST_US: u64 = 600_000_000;

/// What one route did.
#[derive(Debug)]
pub(crate) struct RouteStats {
    route: Arc<str>,
    service: Arc<str>,
    count: AtomicU64,
    failed: AtomicU64,
    inflight: AtomicUsize,
    window: Mutex<[(u64, u64); WINDOW]>,
    times: Mutex<Histogram<u64>>,
    counters: Mutex<HashMap<(&'static str, u16), metrics::Counter>>,
    total: metrics::Histogram,
    gateway: metrics::Histogram,
    upstream: metrics::Histogram,
}

/// The numbers of one route at one time.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RouteNumbers {
    /// The route's id.
    pub(crate) route: Arc<str>,
    /// The service, or the host of a fixed upstream.
    pub(crate) service: Arc<str>,
    /// Requests answered since the start.
    pub(crate) count: u64,
    /// Share of them that did not fail on our side (status below 500), in percent.
    pub(crate) success_percent: f64,
    /// Requests in work.
    pub(crate) in_flight: usize,
    /// Requests per second over the last ten seconds.
    pub(crate) qps: f64,
    /// Milliseconds: the median and the tail.
    pub(crate) p50_ms: f64,
    /// The 90th percentile.
    pub(crate) p90_ms: f64,
    /// The 99th percentile.
    pub(crate) p99_ms: f64,
    /// The longest.
    pub(crate) max_ms: f64,
}

/// The methods that get a label of their own; others share one, so that labels stay bounded.
pub(crate) fn method_label(method: &str) -> &'static str {
    match method {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "PATCH" => "PATCH",
        "OPTIONS" => "OPTIONS",
        _ => "OTHER",
    }
}

/// How one request went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) method: &'static str,
    pub(crate) status: u16,
    pub(crate) total: Duration,
    pub(crate) gateway: Duration,
    pub(crate) upstream: Option<Duration>,
    pub(crate) now: Monotonic,
}

impl RouteStats {
    pub(crate) fn new(route: &str, service: &str) -> Self {
        let (route, service): (Arc<str>, Arc<str>) = (route.into(), service.into());
        let phase = |phase: &'static str| metrics::histogram!("gw_http_request_duration_seconds", "route" => Arc::clone(&route), "phase" => phase);
        // Two significant digits are what people read; that keeps a histogram below 32 kilobytes.
        #[expect(clippy::expect_used, reason = "constants that are valid")]
        let times = Histogram::new_with_bounds(1, LONGEST_US, 2).expect("valid bounds");
        Self {
            count: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            inflight: AtomicUsize::new(0),
            window: Mutex::default(),
            times: Mutex::new(times),
            counters: Mutex::default(),
            total: phase("total"),
            gateway: phase("gateway"),
            upstream: phase("upstream"),
            route,
            service,
        }
    }

    pub(crate) fn enter(&self) {
        self.inflight.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn leave(&self, sample: &Sample) {
        self.inflight.fetch_sub(1, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
        if 500 <= sample.status {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        let second = sample.now.since_zero().as_secs();
        {
            let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
            let place = usize::try_from(second).unwrap_or_default() % WINDOW;
            if let Some(slot) = window.get_mut(place) {
                if slot.0 != second {
                    *slot = (second, 0);
                }
                slot.1 += 1;
            }
        }
        let micros = u64::try_from(sample.total.as_micros()).unwrap_or(LONGEST_US);
        self.times.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(micros.max(1));
        self.total.record(sample.total.as_secs_f64());
        self.gateway.record(sample.gateway.as_secs_f64());
        if let Some(upstream) = sample.upstream {
            self.upstream.record(upstream.as_secs_f64());
        }
        self.counter(sample.method, sample.status).increment(1);
    }

    fn counter(&self, method: &'static str, status: u16) -> metrics::Counter {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || {
            metrics::counter!(
                "gw_http_requests_total",
                "route" => Arc::clone(&self.route),
                "service" => Arc::clone(&self.service),
                "method" => method,
                "code" => status.to_string()
            )
        };
        counters.entry((method, status)).or_insert_with(fresh).clone()
    }

    pub(crate) fn numbers(&self, now: Monotonic) -> RouteNumbers {
        let count = self.count.load(Ordering::Relaxed);
        let failed = self.failed.load(Ordering::Relaxed);
        let second = now.since_zero().as_secs();
        let recent: u64 = {
            let window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
            // The running second is not over: it would make the rate look low.
            let fits = |at: u64| at < second && second <= at + WINDOW as u64;
            window.iter().filter(|(at, _)| fits(*at)).map(|(_, count)| count).sum()
        };
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let ms = |micros: u64| as_f64(micros) / 1000.0;
        RouteNumbers {
            route: Arc::clone(&self.route),
            service: Arc::clone(&self.service),
            count,
            success_percent: if count == 0 {
                100.0
            } else {
                100.0 * as_f64(count.saturating_sub(failed)) / as_f64(count)
            },
            in_flight: self.inflight.load(Ordering::Relaxed),
            qps: as_f64(recent) / as_f64((WINDOW as u64 - 1).min(second.max(1))),
            p50_ms: ms(times.value_at_quantile(0.5)),
            p90_ms: ms(times.value_at_quantile(0.9)),
            p99_ms: ms(times.value_at_quantile(0.99)),
            max_ms: ms(times.max()),
        }
    }
}

fn as_f64(count: u64) -> f64 {
    // Counts beyond 2^32 lose nothing that a reader of a rate would miss.
    u32::try_from(count).map_or_else(|_| f64::from(u32::MAX), f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R3.5
    #[test]
    fn counts_rates_and_percentiles_are_kept_per_route() {
        let stats = RouteStats::new("order", "order");
        for at in 0..100_u64 {
            stats.enter();
            stats.leave(&Sample {
                method: "GET",
                status: if at < 5 { 503 } else { 200 },
                total: Duration::from_millis(at + 1),
                gateway: Duration::ZERO,
                upstream: None,
                now: Monotonic::from_millis(1000 + at * 50),
            });
        }
        let numbers = stats.numbers(Monotonic::from_millis(6000));
        assert_eq!((numbers.count, numbers.in_flight), (100, 0));
        assert!((numbers.success_percent - 95.0).abs() < 0.01);
        assert!((numbers.p50_ms - 50.0).abs() < 2.0, "{numbers:?}");
        assert!((numbers.p99_ms - 99.0).abs() < 2.0, "{numbers:?}");
        assert!((numbers.qps - 100.0 / 6.0).abs() < 0.01, "{numbers:?}");
        let later = stats.numbers(Monotonic::from_millis(60_000));
        assert!(later.qps.abs() < 0.01 && later.count == 100, "{later:?}");
    }
}
