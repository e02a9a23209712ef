//! The picture of a run: offered against served, response times, and what waited.
//!
//! One file without scripts or fonts of its own, so that it can be shown anywhere.

use std::fmt::Write as _;
use std::time::Duration;

use crate::text::per_second;
use crate::{Report, Tick};

const WIDTH: f64 = 860.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 64.0;
const PANEL: f64 = 150.0;
const GAP: f64 = 62.0;
const BOTTOM: f64 = 44.0;

/// Most points of a line; longer runs are drawn from groups of ticks.
const POINTS_MAX: usize = 400;

const GREY: &str = "#6b7280";
const BLUE: &str = "#2563eb";
const RED: &str = "#dc2626";
const ORANGE: &str = "#ea7317";
const GREEN: &str = "#15803d";
const LIGHT_ORANGE: &str = "#fcead9";
const LIGHT_GREEN: &str = "#d9efe1";

/// A point of a line.
type Point = (f64, Option<f64>);

struct Series {
    name: &'static str,
    colour: &'static str,
    dashed: bool,
    /// Of the area below it; opaque, so that what lies behind does not change its colour.
    fill: Option<&'static str>,
    /// Seconds and value; a gap where there is no value.
    points: Vec<Point>,
}

struct Panel {
    title: &'static str,
    /// Values are shown as times; otherwise as they are.
    seconds: bool,
    series: Vec<Series>,
}

/// Draws a report. `title` and `subtitle` are shown above it.
#[must_use]
pub fn draw(report: &Report, title: &str, subtitle: &str) -> String {
    let ticks = grouped(&report.ticks);
    let last = ticks.last().map_or(1.0, |it| it.at.as_secs_f64()).max(1.0);
    let panels = panels(&ticks);
    let height = TOP + (PANEL + GAP) * to_f64(panels.len()) - GAP + BOTTOM;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif\" font-size=\"12\" \
         fill=\"#111827\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    text(&mut out, (LEFT, 24.0), "start", "font-size=\"16\" font-weight=\"600\"", title);
    text(&mut out, (LEFT, 42.0), "start", &format!("fill=\"{GREY}\""), subtitle);
    // Time ends where the run did, not at the next round number.
    let axis = Axis { top: last, ..Axis::new(last, 10.0) };
    let ends = schedule_end(report);
    for (index, panel) in panels.iter().enumerate() {
        let top = TOP + (PANEL + GAP) * to_f64(index) + 14.0;
        draw_panel(&mut out, panel, top, PANEL - 14.0, &axis, ends);
    }
    text(
        &mut out,
        (WIDTH - RIGHT, height - 10.0),
        "end",
        &format!("fill=\"{GREY}\""),
        "seconds since the start",
    );
    out.push_str("</svg>\n");
    out
}

/// When the last request was due, if the run went on for a while after that.
fn schedule_end(report: &Report) -> Option<f64> {
    let last = report.ticks.last()?;
    let offering = report.ticks.iter().rfind(|it| 0 < it.offered)?;
    let worth = Duration::from_secs(1) < last.at.saturating_sub(offering.at);
    worth.then_some(offering.at.as_secs_f64())
}

fn panels(ticks: &[Tick]) -> [Panel; 3] {
    // A rate is of the whole tick, so it is drawn as a step. A fragment of a second says nothing.
    let rate = |count: fn(&Tick) -> u64| -> Vec<Point> {
        let whole = ticks.iter().filter(|it| Duration::from_millis(500) <= it.span);
        let step = |it: &Tick| {
            let value = Some(per_second(count(it), it.span));
            [it.at.saturating_sub(it.span), it.at].map(|at| (at.as_secs_f64(), value))
        };
        whole.flat_map(step).collect()
    };
    let time = |of: fn(&Tick) -> Option<Duration>| -> Vec<Point> {
        ticks.iter().map(|it| (it.at.as_secs_f64(), of(it).map(|it| it.as_secs_f64()))).collect()
    };
    let level = |of: fn(&Tick) -> usize| -> Vec<Point> {
        let levels = ticks.iter().map(|it| (it.at.as_secs_f64(), Some(to_f64(of(it)))));
        std::iter::once((0.0, Some(0.0))).chain(levels).collect()
    };
    let line = |name, colour, points| Series { name, colour, dashed: false, fill: None, points };
    let mut rates = vec![
        Series { dashed: true, ..line("offered", GREY, rate(|it| it.offered)) },
        line("served", BLUE, rate(|it| it.served)),
    ];
    if ticks.iter().any(|it| 0 < it.failed + it.dropped) {
        rates.push(line("failed or dropped", RED, rate(|it| it.failed + it.dropped)));
    }
    let response =
        vec![line("p99", ORANGE, time(|it| it.p99)), line("p50", BLUE, time(|it| it.p50))];
    let backlog = vec![
        Series {
            fill: Some(LIGHT_ORANGE),
            ..line("waiting and in flight", ORANGE, level(|it| it.waiting + it.in_flight))
        },
        Series { fill: Some(LIGHT_GREEN), ..line("in flight", GREEN, level(|it| it.in_flight)) },
    ];
    [
        Panel { title: "Requests per second", seconds: false, series: rates },
        Panel {
            title: "Response time of what was served, from the instant it was due",
            seconds: true,
            series: response,
        },
        Panel { title: "Requests that wait or are in flight", seconds: false, series: backlog },
    ]
}

/// Neighbouring ticks put together, so that a long run has no more than [`POINTS_MAX`].
fn grouped(ticks: &[Tick]) -> Vec<Tick> {
    let size = ticks.len().div_ceil(POINTS_MAX).max(1);
    let group = |group: &[Tick]| {
        let mut whole = group.last()?.clone();
        let sum = |of: fn(&Tick) -> u64| group.iter().map(of).sum();
        whole.span = group.iter().map(|it| it.span).sum();
        (whole.offered, whole.served) = (sum(|it| it.offered), sum(|it| it.served));
        (whole.failed, whole.dropped) = (sum(|it| it.failed), sum(|it| it.dropped));
        // The worst second of the group: a peak must not vanish by grouping.
        whole.p50 = group.iter().filter_map(|it| it.p50).max();
        whole.p99 = group.iter().filter_map(|it| it.p99).max();
        Some(whole)
    };
    ticks.chunks(size).filter_map(group).collect()
}

/// A scale from zero to a round number, with round steps.
struct Axis {
    top: f64,
    step: f64,
}

impl Axis {
    fn new(largest: f64, steps: f64) -> Self {
        let raw = if largest.is_finite() && 0.0 < largest { largest / steps } else { 0.2 };
        let power = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|it| it * power);
        let step = step.into_iter().find(|it| raw <= it * 1.000_001).unwrap_or(power * 10.0);
        Self { top: (largest.max(step) / step - 1e-6).ceil() * step, step }
    }

    fn marks(&self) -> impl Iterator<Item = f64> + '_ {
        let count = std::iter::successors(Some(0u32), |it| it.checked_add(1));
        count.map(|it| f64::from(it) * self.step).take_while(|it| *it <= self.top * 1.000_001)
    }
}

fn draw_panel(
    out: &mut String,
    panel: &Panel,
    top: f64,
    height: f64,
    across: &Axis,
    ends: Option<f64>,
) {
    let values = panel.series.iter().flat_map(|it| &it.points).filter_map(|it| it.1);
    let up = Axis::new(values.fold(0.0, f64::max), 4.0);
    let width = WIDTH - LEFT - RIGHT;
    let x = |seconds: f64| LEFT + seconds / across.top * width;
    let y = |value: f64| top + height - value / up.top * height;
    text(out, (LEFT, top - 12.0), "start", "font-weight=\"600\"", panel.title);
    legend(out, panel, top - 12.0);
    for mark in up.marks() {
        line(out, (LEFT, y(mark)), (WIDTH - RIGHT, y(mark)), "stroke=\"#e5e7eb\"");
        let label = if panel.seconds { seconds(mark, up.top) } else { number(mark) };
        text(out, (LEFT - 8.0, y(mark) + 4.0), "end", &format!("fill=\"{GREY}\""), &label);
    }
    for mark in across.marks() {
        line(out, (x(mark), top + height), (x(mark), top + height + 4.0), "stroke=\"#9ca3af\"");
        let grey = format!("fill=\"{GREY}\" font-size=\"11\"");
        text(out, (x(mark), top + height + 16.0), "middle", &grey, &number(mark));
    }
    for series in &panel.series {
        draw_series(out, series, &x, &y, top + height);
    }
    if let Some(end) = ends {
        let style = "stroke=\"#9ca3af\" stroke-dasharray=\"3 3\"";
        line(out, (x(end), top), (x(end), top + height), style);
        let grey = format!("fill=\"{GREY}\" font-size=\"11\"");
        text(out, (x(end) - 5.0, top + 11.0), "end", &grey, "last arrival");
    }
}

/// Names of the lines, right-aligned above the panel, the first one leftmost.
fn legend(out: &mut String, panel: &Panel, y: f64) {
    let mut x = WIDTH - RIGHT;
    for series in panel.series.iter().rev() {
        text(out, (x, y), "end", "", series.name);
        // An estimate: nothing here knows the font.
        x -= to_f64(series.name.len()).mul_add(5.7, 12.0);
        let dash = if series.dashed { " stroke-dasharray=\"5 3\"" } else { "" };
        let style = format!("stroke=\"{}\" stroke-width=\"3\"{dash}", series.colour);
        line(out, (x - 18.0, y - 4.0), (x, y - 4.0), &style);
        x -= 34.0;
    }
}

fn draw_series(
    out: &mut String,
    series: &Series,
    x: &impl Fn(f64) -> f64,
    y: &impl Fn(f64) -> f64,
    floor: f64,
) {
    let colour = series.colour;
    let dash = if series.dashed { " stroke-dasharray=\"6 4\"" } else { "" };
    for piece in series.points.split(|it| it.1.is_none()) {
        let places: Vec<_> =
            piece.iter().filter_map(|(at, value)| Some((x(*at), y((*value)?)))).collect();
        let (Some(first), Some(last)) = (places.first(), places.last()) else { continue };
        let mut path = String::new();
        for (index, (x, y)) in places.iter().enumerate() {
            let command = if index == 0 { 'M' } else { 'L' };
            push(&mut path, format_args!("{command}{x:.1} {y:.1}"));
        }
        if let [(x, y)] = places.as_slice() {
            // A line without length is a dot, its ends being round.
            push(&mut path, format_args!("L{x:.1} {y:.1}"));
        }
        if let Some(fill) = series.fill {
            let (left, right) = (first.0, last.0);
            let area = format_args!("{path}L{right:.1} {floor:.1}L{left:.1} {floor:.1}Z");
            push(out, format_args!("<path d=\"{area}\" fill=\"{fill}\"/>\n"));
        }
        push(
            out,
            format_args!(
                "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" \
             stroke-linejoin=\"round\" stroke-linecap=\"round\"{dash}/>\n"
            ),
        );
    }
}

fn line(out: &mut String, from: (f64, f64), to: (f64, f64), style: &str) {
    push(
        out,
        format_args!(
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" {style}/>\n",
            from.0, from.1, to.0, to.1
        ),
    );
}

fn text(out: &mut String, at: (f64, f64), anchor: &str, style: &str, text: &str) {
    push(
        out,
        format_args!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" {style}>{}</text>\n",
            at.0,
            at.1,
            escaped(text)
        ),
    );
}

fn push(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(arguments).is_ok();
    debug_assert!(written, "writing to a string cannot fail");
}

/// XML text; what XML cannot hold becomes a question mark.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for it in text.chars() {
        match it {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            it if it.is_control() => safe.push('?'),
            it => safe.push(it),
        }
    }
    safe
}

fn number(value: f64) -> String {
    match value {
        it if 10_000.0 <= it => format!("{:.0}k", it / 1e3),
        it if (it - it.round()).abs() < 1e-9 => format!("{it:.0}"),
        it => format!("{it:.1}"),
    }
}

/// A mark of a time axis, in the unit of its end.
fn seconds(value: f64, top: f64) -> String {
    let short = |it: f64| {
        let text = format!("{it:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match top {
        _ if value == 0.0 => "0".to_owned(),
        it if it < 0.001 => format!("{} µs", short(value * 1e6)),
        it if it < 1.0 => format!("{} ms", short(value * 1e3)),
        _ => format!("{} s", short(value)),
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
const fn to_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
