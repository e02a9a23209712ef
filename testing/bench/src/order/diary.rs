//! Every order of a run: when it was due, when it was answered and how. Windows are cut out of it
//! afterwards, so that one load goes on over all that happens to a shop.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tradewind_load::machine::Schedule;
use tradewind_load::{Histogram, Outcome, Plan, Work};

use super::buyer::Buyer;
use super::measure::count;
use super::{Bench, LOWER};

/// Orders that are on their way at once: more than ever are, so that none waits in the generator.
pub(super) const IN_FLIGHT_MAX: usize = 4000;
/// How an order counts of which nothing was heard.
const UNHEARD: &str = "never";
/// Answers that leave open whether the order is placed.
const OPEN: [&str; 4] = ["202", "connection", "timeout", UNHEARD];
/// The step and the length of the windows that [`Log::calm`] looks at.
const CALM_STEP: Duration = Duration::from_millis(250);
const CALM_SPAN: Duration = Duration::from_secs(1);

/// One order. Times are since the start of the run.
#[derive(Clone, Debug)]
struct Entry {
    due: Duration,
    ended: Duration,
    /// How it failed; `None` when it was placed.
    failed: Option<Cow<'static, str>>,
}

/// A buyer who writes down each order.
pub(super) struct Diary {
    buyer: Arc<Buyer>,
    start: Instant,
    due: Vec<Duration>,
    entries: Mutex<Vec<Entry>>,
}

impl Diary {
    /// For a run of this plan that starts now.
    pub(super) fn new(buyer: Arc<Buyer>, plan: &Plan) -> Self {
        let due = Schedule::new(&plan.stages, plan.arrivals).collect();
        Self { buyer, start: Instant::now(), due, entries: Mutex::default() }
    }

    pub(super) const fn start(&self) -> Instant {
        self.start
    }

    /// What was written until now.
    pub(super) fn log(&self) -> Log {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone();
        entries.sort_by_key(|it| it.due);
        Log { due: self.due.clone(), entries }
    }
}

impl Work for Diary {
    async fn once(&self, sequence: u64) -> Outcome {
        let outcome = self.buyer.once(sequence).await;
        let ended = self.start.elapsed();
        let due = usize::try_from(sequence).ok().and_then(|it| self.due.get(it));
        let failed = match &outcome {
            Outcome::Ok => None,
            Outcome::Failed(class) => Some(class.clone()),
        };
        let entry = Entry { due: due.copied().unwrap_or(ended), ended, failed };
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        outcome
    }
}

/// A run to cut windows out of.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    /// When orders were due, in order.
    due: Vec<Duration>,
    /// In the order in which they were due.
    entries: Vec<Entry>,
}

/// The orders that were due within one window.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    pub(super) offered: u64,
    pub(super) placed: u64,
    /// The others, by status or by what went wrong.
    pub(super) failed: BTreeMap<Cow<'static, str>, u64>,
    times: Histogram,
}

impl Log {
    /// Orders due in `from..to`. It must lie within what was offered.
    pub(super) fn window(&self, from: Duration, to: Duration) -> Window {
        let within = |it: Duration| from <= it && it < to;
        let offered = self.due.iter().filter(|it| within(**it)).count();
        let mut window = Window { offered: offered as u64, ..Window::default() };
        for it in self.entries.iter().filter(|it| within(it.due)) {
            match &it.failed {
                None => {
                    window.placed += 1;
                    window.times.record(it.ended.saturating_sub(it.due));
                }
                Some(class) => *window.failed.entry(class.clone()).or_default() += 1,
            }
        }
        let unheard = window.offered.saturating_sub(window.placed + window.failures());
        if 0 < unheard {
            window.failed.insert(Cow::Borrowed(UNHEARD), unheard);
        }
        window
    }

    /// Orders whose buyer heard in `from..to` that they are placed.
    pub(super) fn placed_in(&self, from: Duration, to: Duration) -> u64 {
        let placed = self.entries.iter().filter(|it| it.failed.is_none());
        placed.filter(|it| from <= it.ended && it.ended < to).count() as u64
    }

    /// No order failed that was due from then on.
    pub(super) fn clean_from(&self) -> Duration {
        let failed = self.entries.iter().filter(|it| it.failed.is_some());
        failed.map(|it| it.due + Duration::from_nanos(1)).max().unwrap_or_default()
    }

    /// From `from`, how long until a second in which no order failed and whose median is at most
    /// `limit` milliseconds; to the end of that second.
    pub(super) fn calm(&self, from: Duration, to: Duration, limit: f64) -> Option<Duration> {
        let starts = (0_u32..).map(|it| from + CALM_STEP * it);
        let mut seconds = starts.map(|it| (it, it + CALM_SPAN)).take_while(|it| it.1 <= to);
        let calm = seconds.find(|(from, to)| {
            let window = self.window(*from, *to);
            window.failures() == 0 && window.at(0.5) <= limit
        });
        calm.map(|it| it.1.saturating_sub(from))
    }
}

impl Window {
    /// Milliseconds from the scheduled instant that this share of the placed orders did not exceed.
    pub(super) fn at(&self, share: f64) -> f64 {
        self.times.quantile(share).map_or(f64::NAN, |it| it.as_secs_f64() * 1e3)
    }

    pub(super) fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Failures that leave open whether the order is placed.
    pub(super) fn open(&self) -> f64 {
        count(OPEN.iter().filter_map(|it| self.failed.get(*it)).sum())
    }
}

impl Bench<'_> {
    /// How the orders of a window failed.
    pub(super) fn tell_failures(&mut self, when: &str, window: &Window) {
        for (class, orders) in &window.failed {
            let what = format!("{when}: orders that failed, {class}");
            self.note(&what, ("", LOWER), &[count(*orders)]);
        }
        let what = format!("{when}: orders that may be placed or not");
        self.note(&what, ("", LOWER), &[window.open()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(it: u64) -> Duration {
        Duration::from_millis(it)
    }

    /// An order every 100 ms for 4 s, answered after 10 ms; due in `refused` it fails, due in
    /// `slow` it takes 500 ms.
    fn log(refused: std::ops::Range<u64>, slow: std::ops::Range<u64>) -> Log {
        let entries = (0..40).map(|it| it * 100).map(|due| Entry {
            due: ms(due),
            ended: ms(due + if slow.contains(&due) { 500 } else { 10 }),
            failed: refused.contains(&due).then_some(Cow::Borrowed("503")),
        });
        let entries: Vec<_> = entries.collect();
        Log { due: entries.iter().map(|it| it.due).collect(), entries }
    }

    #[test]
    fn a_window_has_the_orders_that_were_due_in_it() {
        let log = log(1000..1300, 2000..3000);
        let early = log.window(ms(0), ms(2000));
        assert_eq!((early.offered, early.placed, early.failures()), (20, 17, 3));
        assert_eq!(early.failed["503"], 3);
        assert!((9.0..11.0).contains(&early.at(0.99)), "a refusal is no response time");
        assert!((499.0..502.0).contains(&log.window(ms(2000), ms(3000)).at(0.5)));
        assert!(log.window(ms(1000), ms(1300)).at(0.5).is_nan());
    }

    #[test]
    fn an_order_of_which_nothing_was_heard_is_not_forgotten() {
        let mut log = log(1000..1300, 0..0);
        log.entries.truncate(15);
        let window = log.window(ms(0), ms(2000));
        assert_eq!((window.placed, window.failures()), (12, 8));
        assert_eq!((window.failed[UNHEARD], window.open()), (5, 5.0));
    }

    #[test]
    fn orders_count_as_placed_when_their_buyer_hears_so() {
        let log = log(0..100, 1000..2000);
        assert_eq!(log.placed_in(ms(0), ms(1000)), 9, "without the refused one");
        assert_eq!(log.placed_in(ms(1000), ms(2000)), 5);
    }

    #[test]
    fn calm_is_a_second_without_failures_and_as_fast_as_asked() {
        let log = log(1000..1300, 1300..2000);
        assert_eq!(log.clean_from(), ms(1200) + Duration::from_nanos(1));
        assert_eq!(log.window(log.clean_from(), ms(4000)).failures(), 0);
        // 1500–2500: five slow ones, five fast ones.
        assert_eq!(log.calm(ms(1000), ms(4000), 20.0), Some(ms(1500)));
        assert_eq!(log.calm(ms(1000), ms(4000), 600.0), Some(ms(1250)));
        assert_eq!(log.calm(ms(1000), ms(2400), 20.0), None);
    }
}
