//! What a run says on a terminal or in a log.

use std::time::Duration;

use crate::{Histogram, Report, Tick};

/// The percentiles of every table, with their names.
const SHARES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// A time for people: three digits, unit.
#[must_use]
pub fn time(span: Duration) -> String {
    let millis = span.as_secs_f64() * 1e3;
    match millis {
        it if it < 0.9995 => format!("{:.0} µs", it * 1e3),
        it if it < 9.995 => format!("{it:.2} ms"),
        it if it < 99.95 => format!("{it:.1} ms"),
        it if it < 999.5 => format!("{it:.0} ms"),
        it if it < 9995.0 => format!("{:.2} s", it / 1e3),
        it => format!("{:.1} s", it / 1e3),
    }
}

fn time_or_dash(span: Option<Duration>) -> String {
    span.map_or_else(|| "-".to_owned(), time)
}

/// How much per second, over a span.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^52")]
pub fn per_second(count: u64, span: Duration) -> f64 {
    if span.is_zero() { 0.0 } else { count as f64 / span.as_secs_f64() }
}

/// The heading of [`line()`].
#[must_use]
pub fn heading() -> String {
    format!(
        "{:>7} {:>10} {:>10} {:>9} {:>9} {:>8} {:>10} {:>9} {:>9} {:>9}",
        "time",
        "offered/s",
        "served/s",
        "failed/s",
        "dropped/s",
        "waiting",
        "in flight",
        "p50",
        "p99",
        "max"
    )
}

/// One tick as one line.
#[must_use]
pub fn line(tick: &Tick) -> String {
    let rate = |count| per_second(count, tick.span);
    format!(
        "{:>6.0}s {:>10.0} {:>10.0} {:>9.0} {:>9.0} {:>8} {:>10} {:>9} {:>9} {:>9}{}",
        tick.at.as_secs_f64(),
        rate(tick.offered),
        rate(tick.served),
        rate(tick.failed),
        rate(tick.dropped),
        tick.waiting,
        tick.in_flight,
        time_or_dash(tick.p50),
        time_or_dash(tick.p99),
        time_or_dash(tick.max),
        if tick.warm_up { "  warm-up" } else { "" },
    )
}

/// The report as a table, with what it means where that is not plain from the numbers.
#[must_use]
pub fn summary(report: &Report) -> String {
    let mut text = counts(report);
    text.push('\n');
    text.push_str(&times(report));
    for remark in remarks(report) {
        text.push('\n');
        text.push_str(&remark);
        text.push('\n');
    }
    text
}

fn counts(report: &Report) -> String {
    let mut text = String::new();
    let lasted = report.lasted.as_secs_f64();
    let stopped = if report.stopped { ", stopped" } else { "" };
    let mut row = |name: &str, count: u64, note: &str| {
        let line = format!("{name:<11} {count:>10}  {note}");
        text.push_str(line.trim_end());
        text.push('\n');
    };
    let offered = format!("{:.1}/s for {lasted:.1} s{stopped}", report.rate_offered);
    row("offered", report.offered, &offered);
    let served = format!("{:.1}/s in that time", report.rate_served);
    row("served", report.served, &served);
    let classes: Vec<_> =
        report.failed.iter().map(|(class, count)| format!("{class}: {count}")).collect();
    row("failed", report.failed_total(), &classes.join(", "));
    if 0 < report.dropped {
        row("dropped", report.dropped, "no place to wait was left");
    }
    if 0 < report.unfinished {
        row("unfinished", report.unfinished, "still waiting or in flight at the end");
    }
    row("backlog", report.backlog_max as u64, "most that waited or were in flight at one time");
    text
}

fn times(report: &Report) -> String {
    let mut text = format!("{:<10}", "");
    for (name, _) in SHARES {
        text.push_str(&format!(" {name:>9}"));
    }
    text.push_str(&format!(" {:>9}\n", "max"));
    let mut row = |name: &str, times: &Histogram, note: &str| {
        text.push_str(&format!("{name:<10}"));
        for (_, share) in SHARES {
            text.push_str(&format!(" {:>9}", time_or_dash(times.quantile(share))));
        }
        text.push_str(&format!(" {:>9}  {note}\n", time_or_dash(times.max())));
    };
    row("response", &report.response, "from when it was due: what a client sees");
    row("service", &report.service, "from when it was sent");
    if 0 < report.failures.count() {
        row("failures", &report.failures, "from when it was due to the failure");
    }
    text
}

/// What a reader could miss.
fn remarks(report: &Report) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Some(growth) = growth(report) {
        remarks.push(format!(
            "More was offered than served: about {growth:.0} more waited after every second. The \
             response time is that of this run's length; a longer run makes it longer."
        ));
    }
    if let Some(late) = report.lag.quantile(0.99).filter(|it| Duration::from_millis(5) < *it) {
        remarks.push(format!(
            "This generator was late itself: {} at the 99th percentile. The machine is too busy \
             for times below that to mean anything.",
            time(late)
        ));
    }
    remarks
}

/// By how much the backlog grew per second while requests came, if it did all the time and by
/// more than a fiftieth of what was offered. A backlog that has found its size is none.
#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^52")]
fn growth(report: &Report) -> Option<f64> {
    let measured: Vec<_> = report.ticks.iter().filter(|it| !it.warm_up && 0 < it.offered).collect();
    let (first, last) = (measured.first()?, measured.last()?);
    let middle = measured.get(measured.len() / 2)?;
    let backlog = |it: &Tick| (it.waiting + it.in_flight) as f64;
    let span = last.at.saturating_sub(first.at).as_secs_f64();
    let steady = 1.4 * backlog(middle) < backlog(last) && backlog(first) < backlog(middle);
    let growth = (backlog(last) - backlog(first)) / span;
    (4 <= measured.len() && steady && 0.02 * report.rate_offered < growth).then_some(growth)
}

/// A row of block characters for the last values, scaled to the largest.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 7")]
pub fn sparkline(values: impl IntoIterator<Item = f64>) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let values: Vec<_> = values.into_iter().collect();
    let top = values.iter().copied().fold(0.0, f64::max);
    let block = |it: f64| {
        let level = if 0.0 < top { (it / top * 7.0).round().clamp(0.0, 7.0) } else { 0.0 };
        BLOCKS.get(level as usize).copied().unwrap_or(' ')
    };
    values.into_iter().map(block).collect()
}

/// The report as the document that `--json` writes; times in milliseconds.
#[must_use]
pub fn json(report: &Report) -> serde_json::Value {
    use serde_json::json;
    let millis = |it: Option<Duration>| it.map(|it| it.as_secs_f64() * 1e3);
    let times = |it: &Histogram| {
        let mut row = serde_json::Map::new();
        for (name, share) in SHARES {
            row.insert(name.to_owned(), json!(millis(it.quantile(share))));
        }
        row.insert("max".to_owned(), json!(millis(it.max())));
        row.insert("mean".to_owned(), json!(millis(it.mean())));
        row.insert("count".to_owned(), json!(it.count()));
        serde_json::Value::Object(row)
    };
    let ticks = report.ticks.iter().map(|it| {
        json!({
            "at_seconds": it.at.as_secs_f64(), "span_seconds": it.span.as_secs_f64(),
            "offered": it.offered, "served": it.served, "failed": it.failed,
            "dropped": it.dropped, "waiting": it.waiting, "in_flight": it.in_flight,
            "p50_ms": millis(it.p50), "p99_ms": millis(it.p99), "max_ms": millis(it.max),
            "warm_up": it.warm_up,
        })
    });
    let ticks: Vec<_> = ticks.collect();
    json!({
        "offered": report.offered, "served": report.served, "failed": report.failed,
        "dropped": report.dropped, "unfinished": report.unfinished,
        "seconds": report.lasted.as_secs_f64(), "offered_per_second": report.rate_offered,
        "served_per_second": report.rate_served, "backlog_max": report.backlog_max,
        "stopped": report.stopped, "response_ms": times(&report.response),
        "service_ms": times(&report.service), "failures_ms": times(&report.failures),
        "lag_ms": times(&report.lag), "ticks": ticks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;
    use crate::{Outcome, Plan};

    /// Ten seconds at 100/s on a server that does `rate` and lets at most `bound` wait.
    fn report(rate: f64, bound: f64) -> Report {
        let plan = Plan::flat(100.0, Duration::from_secs(10));
        let (mut machine, mut free) = (Machine::new(&plan), 0.0f64);
        let mut answers = std::collections::VecDeque::new();
        for millis in 0..30_000 {
            let now = Duration::from_millis(millis);
            while let Some((at, sent, arrival, outcome)) = answers.pop_front() {
                if now.as_secs_f64() < at {
                    answers.push_front((at, sent, arrival, outcome));
                    break;
                }
                machine.finish(arrival, sent, now, outcome);
            }
            machine.advance(now);
            while let Some(arrival) = machine.take() {
                free = free.max(now.as_secs_f64());
                if bound < (free - now.as_secs_f64()) * rate {
                    machine.finish(arrival, now, now, Outcome::Failed("503".into()));
                } else {
                    free += 1.0 / rate;
                    answers.push_back((free, now, arrival, Outcome::Ok));
                }
            }
            machine.tick(now);
            if machine.is_over(now) {
                break;
            }
        }
        machine.end(Duration::from_secs(30)).0
    }

    #[test]
    fn a_backlog_that_grows_is_said_and_one_that_stands_is_not() {
        let said = summary(&report(80.0, f64::INFINITY));
        assert!(said.contains("about 20 more waited after every second"), "{said}");
        for (rate, bound) in [(80.0, 10.0), (200.0, f64::INFINITY)] {
            let said = summary(&report(rate, bound));
            assert!(!said.contains("more waited"), "{said}");
        }
    }

    #[test]
    fn times_are_short_and_have_their_unit() {
        for (micros, text) in [
            (0, "0 µs"),
            (999, "999 µs"),
            (1_000, "1.00 ms"),
            (9_994, "9.99 ms"),
            (9_996, "10.0 ms"),
            (99_960, "100 ms"),
            (999_400, "999 ms"),
            (999_600, "1.00 s"),
            (7_520_000, "7.52 s"),
            (61_000_000, "61.0 s"),
        ] {
            assert_eq!(time(Duration::from_micros(micros)), text);
        }
        assert_eq!(sparkline([0.0, 5.0, 10.0]), "▁▅█");
        assert_eq!(sparkline([0.0, 0.0]), "▁▁");
    }
}
