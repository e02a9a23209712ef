//! Twice the orders that a shop can place: what it places, how it refuses, and that it recovers.

use std::sync::Arc;
use std::time::Duration;

use tradewind_load::{Arrivals, Plan, Stage, run};

use super::buyer::Buyer;
use super::diary::{Diary, IN_FLIGHT_MAX};
use super::estate::Estate;
use super::measure::{count, rest};
use super::{Bench, HIGHER, LOWER, USUAL};

/// What is offered, in ceilings, between the usual load before and after.
const OVERLOAD: f64 = 2.0;
/// The share of the ceiling that must still be placed.
const PLACED: f64 = 0.8;
/// How much slower than before an order may be to be like before.
const LIKE: f64 = 1.2;
/// The shortest time of each rate.
const SPAN_MIN: Duration = Duration::from_secs(3);
/// How long the shop may take to be back.
const BACK_MAX: Duration = Duration::from_secs(15);

impl Bench<'_> {
    pub(super) async fn overload(
        &mut self,
        shop: &Estate,
        buyer: &Arc<Buyer>,
        ceiling: f64,
    ) -> anyhow::Result<()> {
        let span = self.span(3).max(SPAN_MIN);
        let usual = USUAL * ceiling;
        let (start, end) = (span, span * 2);
        let plan = Plan {
            arrivals: Arrivals::Poisson { seed: 13 },
            in_flight_max: IN_FLIGHT_MAX,
            ..Plan::staged(vec![
                Stage::flat(usual, span),
                Stage::flat(OVERLOAD * ceiling, span),
                Stage::flat(usual, BACK_MAX + span),
            ])
        };
        let diary = Arc::new(Diary::new(Arc::clone(buyer), &plan));
        run(&plan, Arc::clone(&diary), |_| {}).await;
        rest(shop).await?;

        let log = diary.log();
        let (before, over) = (log.window(Duration::ZERO, start), log.window(start, end));
        let placed = count(log.placed_in(start, end)) / span.as_secs_f64();
        let base = ("ceiling", ceiling);
        self.beside(
            "twice the ceiling: orders placed",
            ("1/s", HIGHER),
            placed,
            base,
            Some(PLACED),
        );
        self.note("twice the ceiling: p50 of those placed", ("ms", LOWER), &[over.at(0.5)]);
        self.note("twice the ceiling: p99 of those placed", ("ms", LOWER), &[over.at(0.99)]);
        let offered = [count(over.offered)];
        self.note("twice the ceiling: orders offered", ("", HIGHER), &offered);
        self.tell_failures("twice the ceiling", &over);

        let calm = log.calm(end, end + BACK_MAX, LIKE * before.at(0.5));
        let back = calm.unwrap_or(BACK_MAX);
        self.note("after it, at 30 %: until like before", ("s", LOWER), &[back.as_secs_f64()]);
        let after = log.window(end + back, end + back + span);
        for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
            let what = format!("after it, at 30 %: {name}, then");
            let peer = ("before", before.at(share));
            self.beside(&what, ("ms", LOWER), after.at(share), peer, None);
        }
        self.note("after it, at 30 %: orders that failed", ("", LOWER), &[count(after.failures())]);
        Ok(())
    }
}
