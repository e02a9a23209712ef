//! The broker frozen: no order is placed meanwhile, and orders that were placed before ship.
//!
//! The warehouses wait as long with each order as the outage lasts, so that all orders of an equal
//! time before it ship while the broker is away, and their messages wait in the outbox. One load
//! goes on from the start until a while after the backlog is gone.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tradewind_base::{Clock as _, SystemClock};
use tradewind_load::run_until;

use super::books::{Backlog, Books};
use super::{DRAIN_MAX, Frozen, LOOK, steady};
use crate::order::diary::{Diary, IN_FLIGHT_MAX, Log, Window};
use crate::order::estate::Estate;
use crate::order::measure::{count, rest};
use crate::order::{Bench, HIGHER, LOWER, shoppers, stock};

/// What is compared before and after lasts so long, in a short outage half of it.
const WINDOW_MAX: Duration = Duration::from_secs(10);
/// How much slower an order may be than before.
const SLOWER: f64 = 1.2;

/// What happened when, since the start of the load.
#[derive(Clone, Copy, Debug, Default)]
struct Story {
    frozen: Duration,
    returned: Duration,
    /// When hardly anything waited any more.
    drained: Duration,
    /// When everything had arrived that had waited at the return.
    gone: Duration,
    /// What waited at the return, and when it was drained.
    backlog: Backlog,
    left: Backlog,
    /// Orders that shipped between the two.
    shipped: u64,
}

impl Bench<'_> {
    pub(in crate::order) async fn broker_outage(&mut self, rate: f64) -> anyhow::Result<()> {
        let away = self.settings.outage;
        let late = ("warehouse.ship_after".to_owned(), format!("{}ms", away.as_millis()));
        let shop = self.shop(&[late]).await?;
        stock(&shop.data)?;
        let buyer = Arc::new(shoppers(&shop).await?);
        let window = WINDOW_MAX.min(away / 2);
        let mut plan = steady(rate, away * 2 + DRAIN_MAX + window);
        plan.in_flight_max = IN_FLIGHT_MAX;
        let diary = Arc::new(Diary::new(buyer, &plan));
        let stop = CancellationToken::new();
        let script = async {
            // Whatever happens here, the load ends with it.
            let _end = stop.clone().drop_guard();
            script(&shop, diary.start(), rate, (away, window)).await
        };
        let load = run_until(&plan, Arc::clone(&diary), |_| {}, stop.clone());
        let (_, story) = tokio::join!(load, script);
        let story = story.context("while the broker was frozen")?;
        self.tell_orders(&diary.log(), &story, rate, window);
        self.tell_drain(&diary.log(), &story, rate);
        rest(&shop).await?;
        let held = f64::from(u8::from(shop.audit(&self.binary)?));
        self.note("broker back: the audit finds nothing (1)", ("", HIGHER), &[held]);
        Ok(())
    }

    fn tell_orders(&mut self, log: &Log, story: &Story, rate: f64, length: Duration) {
        let before = log.window(story.frozen.saturating_sub(length), story.frozen);
        let what = "broker about to be frozen: orders placed";
        let placed = count(before.placed) / length.as_secs_f64();
        self.beside(what, ("1/s", HIGHER), placed, ("offered", rate), None);

        let frozen = log.window(story.frozen, story.returned);
        let lasted = story.returned.saturating_sub(story.frozen).as_secs_f64();
        let of = format!("broker frozen for {lasted:.0} s");
        self.note(&format!("{of}: orders offered"), ("", HIGHER), &[count(frozen.offered)]);
        self.note(&format!("{of}: orders placed"), ("", HIGHER), &[count(frozen.placed)]);
        self.tell_failures(&of, &frozen);

        let back = log.clean_from().max(story.returned);
        let until = back.saturating_sub(story.returned).as_secs_f64();
        self.note("broker back: until no order fails", ("s", LOWER), &[until]);
        let gone = story.drained.max(story.gone);
        self.tell_failures("broker back", &log.window(story.returned, gone + length));
        // A short backlog has a short window.
        let draining = log.window(back, (back + length).min(gone));
        self.tell_window("while the backlog drains", &draining, &before);
        self.tell_window("once it is gone", &log.window(gone, gone + length), &before);
    }

    fn tell_window(&mut self, when: &str, window: &Window, before: &Window) {
        for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
            let what = format!("broker back, {when}: {name} of orders");
            let peer = ("before", before.at(share));
            self.beside(&what, ("ms", LOWER), window.at(share), peer, Some(SLOWER));
        }
    }

    fn tell_drain(&mut self, log: &Log, story: &Story, rate: f64) {
        let seconds = |to: Duration| to.saturating_sub(story.returned).as_secs_f64();
        let (took, backlog) = (seconds(story.drained), count(story.backlog.all()));
        self.note("broker back: messages that waited", ("", HIGHER), &[backlog]);
        self.note("broker back: until drained, under the same load", ("s", LOWER), &[took]);
        let last = [seconds(story.gone)];
        self.note("broker back: until the last of them arrived", ("s", LOWER), &last);
        let left = count(story.left.all());
        self.note("broker back: messages left then", ("", LOWER), &[left]);
        // About placed orders and about shipped ones.
        let arrived = count(log.placed_in(story.returned, story.drained) + story.shipped);
        let drained = (backlog - left + arrived) / took;
        let what = "broker back: messages delivered under the same load";
        self.beside(what, ("1/s", HIGHER), drained, ("arrivals", rate), Some(2.0));
    }
}

/// Freezes the broker for the time it is `away`, and watches the backlog go.
async fn script(
    shop: &Estate,
    start: Instant,
    rate: f64,
    (away, window): (Duration, Duration),
) -> anyhow::Result<Story> {
    let books = Books::open(&shop.data)?;
    let broker = [shop.process("broker")?];
    sleep_until(start + away).await;
    let frozen = Frozen::freeze(&broker)?;
    let mut story = Story { frozen: start.elapsed(), ..Story::default() };
    sleep_until(start + story.frozen + away).await;
    story.backlog = books.backlog()?;
    frozen.thaw()?;
    story.returned = start.elapsed();
    let back = SystemClock::new().now();
    let (mut drained, mut gone) = (None, None);
    loop {
        let (now, left) = (start.elapsed(), books.backlog()?);
        let over = story.returned + DRAIN_MAX <= now;
        // What arrives within half a second always waits for a moment.
        if drained.is_none() && (over || count(left.all()) <= rate / 2.0) {
            drained = Some(now);
            (story.left, story.shipped) = (left, books.shipped_since(back)?);
        }
        if gone.is_none() && (over || books.older(back)? == 0) {
            gone = Some(now);
        }
        if let Some((drained, gone)) = drained.zip(gone) {
            (story.drained, story.gone) = (drained, gone);
            break;
        }
        sleep(LOOK).await;
    }
    sleep_until(start + story.drained.max(story.gone) + window).await;
    Ok(story)
}
