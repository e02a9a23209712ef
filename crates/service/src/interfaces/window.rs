//! The numbers of one interface: totals, the last seconds, the last minute. Time is an argument.

use std::time::Duration;

use hdrhistogram::{Counter, Histogram};
use http::StatusCode;
use serde::Serialize;
use tradewind_base::{Monotonic, Timestamp};

/// How many whole seconds the present rate is averaged over.
const RATE_SECONDS: u64 = 10;
/// Those and the running one.
const SECONDS_KEPT: usize = 11;
/// The last minute is kept in slices of this many seconds, so it is between 50 and 60 seconds long.
const SLICE_SECONDS: u64 = 10;
const SLICES: usize = 6;
/// The longest time that is told apart, in microseconds; longer ones count as this.
const MICROS_MAX: u64 = 120_000_000;

/// The numbers of one interface as a reader sees them. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Numbers {
    /// Answers since the start.
    pub count: u64,
    /// Answers that were not our fault: every status below 500.
    pub success: u64,
    /// Answers that refused the request: status 400 to 499.
    pub client_errors: u64,
    /// Answers that were our fault: status 500 and above.
    pub server_errors: u64,
    /// `success / count`; 1 before the first answer.
    pub success_rate: f64,
    /// Answers per second, averaged over the last ten whole seconds.
    pub qps: f64,
    /// The most answers within one second.
    pub qps_peak: u64,
    /// The wall time of that second, in milliseconds since the Unix epoch.
    pub qps_peak_at_ms: Option<i64>,
    /// Times of the last minute.
    pub last_minute: Latency,
    /// Times since the start.
    pub since_start: Latency,
}

/// How long answers took, in milliseconds; zero where there were none. Each value is within one
/// percent of the true one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// How many answers.
    pub count: u64,
    /// Half of them took at most so long.
    pub p50_ms: f64,
    /// Nine of ten.
    pub p90_ms: f64,
    /// Ninety-nine of a hundred.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

pub(super) struct Window {
    count: u64,
    client_errors: u64,
    server_errors: u64,
    /// Answers of each second, by second modulo its length; the second itself guards the slot.
    seconds: [(u64, u64); SECONDS_KEPT],
    peak: Option<(u64, Timestamp)>,
    /// Made when first needed: most interfaces of most services are rarely used.
    slices: [Option<(u64, Histogram<u32>)>; SLICES],
    total: Histogram<u64>,
    start: Monotonic,
}

impl Window {
    pub(super) fn new(start: Monotonic) -> Self {
        Self {
            count: 0,
            client_errors: 0,
            server_errors: 0,
            seconds: [(0, 0); SECONDS_KEPT],
            peak: None,
            slices: Default::default(),
            total: histogram(),
            start,
        }
    }

    pub(super) fn record(
        &mut self,
        now: Monotonic,
        wall: Timestamp,
        code: StatusCode,
        took: Duration,
    ) {
        self.count += 1;
        self.client_errors += u64::from(code.is_client_error());
        self.server_errors += u64::from(code.is_server_error());
        let second = self.second(now);
        let count = self.count_second(second);
        if self.peak.is_none_or(|(most, _)| most < count) {
            self.peak = Some((count, wall));
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        self.total.saturating_record(micros);
        let slice = second / SLICE_SECONDS;
        let place = usize::try_from(slice).unwrap_or(0) % SLICES;
        if let Some(kept) = self.slices.get_mut(place) {
            let (of, times) = kept.get_or_insert_with(|| (slice, histogram()));
            if *of != slice {
                *of = slice;
                times.reset();
            }
            times.saturating_record(micros);
        }
    }

    pub(super) fn numbers(&self, now: Monotonic) -> Numbers {
        let second = self.second(now);
        let recent = second.saturating_sub(RATE_SECONDS)..second;
        let answers: u64 =
            self.seconds.iter().filter(|it| recent.contains(&it.0)).map(|it| it.1).sum();
        // A service that has just started is not averaged over time before its start.
        let span = second.clamp(1, RATE_SECONDS);
        let mut minute: Histogram<u32> = histogram();
        let slice = second / SLICE_SECONDS;
        for (of, times) in self.slices.iter().flatten() {
            if slice < of + SLICES as u64 && minute.add(times).is_err() {
                // All have the same bounds, so none can fail to fit.
                debug_assert!(false, "histograms differ");
            }
        }
        let success = self.count - self.server_errors;
        Numbers {
            count: self.count,
            success,
            client_errors: self.client_errors,
            server_errors: self.server_errors,
            success_rate: if self.count == 0 { 1.0 } else { ratio(success, self.count) },
            qps: ratio(answers, span),
            qps_peak: self.peak.map_or(0, |it| it.0),
            qps_peak_at_ms: self.peak.map(|it| it.1.millis()),
            last_minute: latency(&minute),
            since_start: latency(&self.total),
        }
    }

    fn second(&self, now: Monotonic) -> u64 {
        now.since(self.start).as_secs()
    }

    fn count_second(&mut self, second: u64) -> u64 {
        let place = usize::try_from(second).unwrap_or(0) % self.seconds.len();
        let Some(slot) = self.seconds.get_mut(place) else { return 0 };
        if slot.0 != second {
            *slot = (second, 0);
        }
        slot.1 += 1;
        slot.1
    }
}

#[expect(clippy::expect_used, reason = "constant bounds: a test makes one")]
fn histogram<C: Counter>() -> Histogram<C> {
    Histogram::new_with_bounds(1, MICROS_MAX, 2).expect("the bounds are valid")
}

fn latency<C: Counter>(times: &Histogram<C>) -> Latency {
    if times.is_empty() {
        return Latency::default();
    }
    let at = |quantile| ratio(times.value_at_quantile(quantile), 1000);
    Latency {
        count: times.len(),
        p50_ms: at(0.5),
        p90_ms: at(0.9),
        p99_ms: at(0.99),
        max_ms: ratio(times.max(), 1000),
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown to people; 2^52 answers are far away")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic::from_millis(millis)
    }

    fn record(window: &mut Window, millis: u64, code: u16, took_ms: u64) {
        let wall = Timestamp::from_millis(i64::try_from(millis).unwrap());
        let code = StatusCode::from_u16(code).unwrap();
        window.record(at(millis), wall, code, Duration::from_millis(took_ms));
    }

    /// R8.1
    #[test]
    fn refusals_are_no_failures_of_ours() {
        let mut window = Window::new(at(0));
        for (code, times) in [(200, 6), (404, 3), (503, 1)] {
            (0..times).for_each(|_| record(&mut window, 10, code, 1));
        }
        let numbers = window.numbers(at(20));
        let counts = (numbers.count, numbers.success, numbers.client_errors, numbers.server_errors);
        assert_eq!(counts, (10, 9, 3, 1));
        assert!((numbers.success_rate - 0.9).abs() < 1e-9);
    }

    /// R8.1
    #[test]
    fn the_rate_follows_the_last_ten_seconds_and_the_peak_stays() {
        let mut window = Window::new(at(0));
        for second in 0..10 {
            let answers = if second == 4 { 50 } else { 10 };
            (0..answers).for_each(|_| record(&mut window, second * 1000 + 5, 200, 1));
        }
        let numbers = window.numbers(at(10_000));
        assert!((numbers.qps - 14.0).abs() < 1e-9, "{}", numbers.qps);
        assert_eq!((numbers.qps_peak, numbers.qps_peak_at_ms), (50, Some(4005)));
        let later = window.numbers(at(60_000));
        assert!(later.qps.abs() < 1e-9);
        assert_eq!((later.qps_peak, later.count), (50, 140));
    }

    /// R8.1
    #[test]
    fn percentiles_of_the_last_minute_forget_and_those_since_the_start_do_not() {
        let mut window = Window::new(at(0));
        (0..100).for_each(|it| record(&mut window, 1000, 200, if it < 95 { 10 } else { 900 }));
        let numbers = window.numbers(at(2000));
        let near = |value: f64, wanted: f64| (value - wanted).abs() <= wanted / 100.0;
        assert!(near(numbers.last_minute.p50_ms, 10.0), "{numbers:?}");
        assert!(near(numbers.last_minute.p90_ms, 10.0));
        assert!(near(numbers.last_minute.p99_ms, 900.0));
        assert!(near(numbers.last_minute.max_ms, 900.0));
        (0..10).for_each(|_| record(&mut window, 70_000, 200, 20));
        let later = window.numbers(at(71_000));
        assert_eq!((later.last_minute.count, later.since_start.count), (10, 110));
        assert!(near(later.last_minute.max_ms, 20.0));
        assert!(near(later.since_start.max_ms, 900.0));
    }

    #[test]
    fn no_time_is_too_short_or_too_long() {
        let mut window = Window::new(at(0));
        for took in [Duration::ZERO, Duration::MAX] {
            window.record(at(0), Timestamp::default(), StatusCode::OK, took);
        }
        assert_eq!(window.numbers(at(0)).since_start.count, 2);
    }
}
