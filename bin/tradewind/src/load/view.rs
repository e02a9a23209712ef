//! What a run shows while it runs: a line a second, or on a terminal a few lines that are redrawn.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Duration;

use tradewind_load::{Tick, text};

use super::Wanted;

/// Seconds that the small charts go back.
const HISTORY: usize = 36;

/// Width of the bar that shows how far the run is.
const BAR: usize = 40;

#[derive(Debug)]
pub(super) struct View {
    title: String,
    lasts: Duration,
    terminal: bool,
    history: VecDeque<Tick>,
    /// Lines on the terminal that the next picture replaces.
    shown: usize,
}

impl View {
    pub(super) fn new(wanted: &Wanted, terminal: bool) -> Self {
        let title = format!("{}\n{}", wanted.title(), wanted.subtitle());
        Self { title, lasts: wanted.plan.lasts(), terminal, history: VecDeque::new(), shown: 0 }
    }

    /// What is said before the first tick.
    pub(super) fn opening(&self) -> String {
        if self.terminal {
            format!("{}\n", self.title)
        } else {
            format!("{}\n{}\n", self.title, text::heading())
        }
    }

    /// What is said at a tick.
    pub(super) fn next(&mut self, tick: &Tick) -> String {
        if !self.terminal {
            return format!("{}\n", text::line(tick));
        }
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(tick.clone());
        let picture = self.picture(tick);
        let mut out = String::new();
        if 0 < self.shown {
            // Up so many lines, then clear to the end of the screen.
            out = format!("\x1b[{}F\x1b[J", self.shown);
        }
        self.shown = picture.lines().count();
        out.push_str(&picture);
        out
    }

    fn picture(&self, tick: &Tick) -> String {
        let mut out = format!("{}\n", self.progress(tick));
        let chart = |out: &mut String, name: &str, of: &dyn Fn(&Tick) -> f64, last: String| {
            let row = text::sparkline(self.history.iter().map(of));
            let written = writeln!(out, "{name:<8} {row:<HISTORY$} {last}");
            debug_assert!(written.is_ok(), "writing to a string cannot fail");
        };
        let rate = |count, it: &Tick| text::per_second(count, it.span);
        let millis = |it: Option<Duration>| it.unwrap_or_default().as_secs_f64();
        let shown = |it: Option<Duration>| it.map_or_else(|| "-".to_owned(), text::time);
        let per_second = |count| format!("{:.0}/s", rate(count, tick));
        chart(&mut out, "offered", &|it| rate(it.offered, it), per_second(tick.offered));
        chart(&mut out, "served", &|it| rate(it.served, it), per_second(tick.served));
        let lost = |it: &Tick| it.failed + it.dropped;
        chart(&mut out, "failed", &|it| rate(lost(it), it), per_second(lost(tick)));
        chart(&mut out, "p50", &|it| millis(it.p50), shown(tick.p50));
        chart(&mut out, "p99", &|it| millis(it.p99), shown(tick.p99));
        let backlog = |it: &Tick| u32::try_from(it.waiting + it.in_flight).unwrap_or(u32::MAX);
        let last = format!("{} waiting, {} in flight", tick.waiting, tick.in_flight);
        chart(&mut out, "backlog", &|it| f64::from(backlog(it)), last);
        out
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to BAR")]
    fn progress(&self, tick: &Tick) -> String {
        let (at, lasts) = (tick.at.as_secs_f64(), self.lasts.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a small constant")]
        let done = (at / lasts * BAR as f64).clamp(0.0, BAR as f64) as usize;
        let bar = format!("{}{}", "█".repeat(done), "░".repeat(BAR - done));
        let state = match () {
            () if tick.warm_up => ", warm-up",
            () if self.lasts + tick.span / 2 < tick.at => ", draining",
            () => "",
        };
        format!("{bar} {at:.0} s of {lasts:.0} s{state}")
    }
}

#[cfg(test)]
mod tests {
    use tradewind_load::Plan;
    use tradewind_load::http::Request;

    use super::*;

    fn view(terminal: bool) -> View {
        let wanted = Wanted {
            plan: Plan::flat(1000.0, Duration::from_secs(30)),
            request: Request::get("http://127.0.0.1:9000/"),
            json: None,
            svg: None,
            p99_max: None,
            failed_max: None,
        };
        View::new(&wanted, terminal)
    }

    fn tick(at: u64) -> Tick {
        let times = Some(Duration::from_millis(at * 250));
        Tick {
            at: Duration::from_secs(at),
            span: Duration::from_secs(1),
            offered: 1_000_000,
            served: 999_999,
            failed: 1,
            dropped: 0,
            waiting: 100_000,
            in_flight: 60_000,
            p50: times,
            p99: times,
            max: times,
            warm_up: false,
        }
    }

    /// A line that is wrapped would be two, and the next picture would leave one of them there.
    #[test]
    fn on_a_terminal_each_picture_replaces_the_one_before_it() {
        let mut view = view(true);
        let mut screen: Vec<String> = Vec::new();
        for at in 1..100 {
            let out = view.next(&tick(at));
            let new = match out.strip_prefix('\u{1b}') {
                Some(rest) => {
                    let (up, rest) = rest.trim_start_matches('[').split_once('F').unwrap();
                    screen.truncate(screen.len() - up.parse::<usize>().unwrap());
                    rest.strip_prefix("\u{1b}[J").unwrap()
                }
                None => &out,
            };
            screen.extend(new.lines().map(ToOwned::to_owned));
            assert!(new.ends_with('\n') && !new.contains('\u{1b}'), "{out:?}");
            assert_eq!(screen.len(), 7, "{screen:?}");
            for line in &screen {
                assert!(line.chars().count() <= 80, "{} in {line}", line.chars().count());
            }
        }
        assert!(view.history.len() <= HISTORY);
    }

    #[test]
    fn elsewhere_it_is_a_line_without_escapes() {
        let mut view = view(false);
        let line = view.next(&tick(7));
        assert_eq!(line.lines().count(), 1);
        assert!(line.contains("1.75 s") && !line.contains('\u{1b}'), "{line}");
        let heading = view.opening();
        assert!(heading.ends_with("max\n"), "{heading}");
    }
}
