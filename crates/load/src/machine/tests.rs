//! Laws of the machine.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use proptest::prelude::*;

use super::{Arrival, Machine, Schedule};
use crate::{Arrivals, Outcome, Plan, Report, Stage};

const SECOND: Duration = Duration::from_secs(1);

/// Runs a plan against a pretended server: `serve` says of each request when it will be answered
/// and how. The driver wakes exactly when asked to, or when an answer comes.
fn simulate(
    plan: &Plan,
    mut serve: impl FnMut(Arrival, Duration) -> (Duration, Outcome),
) -> Report {
    let mut machine = Machine::new(plan);
    let mut answers: BinaryHeap<Reverse<(Duration, u64, Duration, Duration)>> = BinaryHeap::new();
    let mut outcomes = std::collections::HashMap::new();
    let mut now = Duration::ZERO;
    let mut started = None;
    loop {
        while let Some(Reverse((at, sequence, due, sent))) = answers.peek().copied()
            && at <= now
        {
            answers.pop();
            let outcome = outcomes.remove(&sequence).unwrap();
            machine.finish(Arrival { sequence, due }, sent, at, outcome);
        }
        machine.advance(now);
        while let Some(arrival) = machine.take() {
            assert!(arrival.due <= now, "started before it was due");
            assert!(started < Some(arrival.sequence), "started out of order");
            started = Some(arrival.sequence);
            let (at, outcome) = serve(arrival, now);
            assert!(now <= at);
            answers.push(Reverse((at, arrival.sequence, arrival.due, now)));
            outcomes.insert(arrival.sequence, outcome);
        }
        assert!(machine.in_flight <= plan.in_flight_max, "law 3");
        assert!(machine.queue.len() <= plan.queue_max, "law 3");
        assert_eq!(machine.in_flight, answers.len(), "law 2");
        machine.tick(now);
        if machine.is_over(now) {
            return machine.end(now).0;
        }
        let wake = machine.wake(now);
        assert!(now < wake, "the driver would spin at {now:?}");
        now = answers.peek().map_or(wake, |it| it.0.0.min(wake)).max(now);
    }
}

/// A server that does `rate` requests per second, one after the other.
fn one_by_one(rate: f64) -> impl FnMut(Arrival, Duration) -> (Duration, Outcome) {
    let mut free = Duration::ZERO;
    move |_, now| {
        free = free.max(now) + Duration::from_secs_f64(1.0 / rate);
        (free, Outcome::Ok)
    }
}

fn near(measured: Option<Duration>, expected: Duration) -> bool {
    let measured = measured.unwrap();
    measured.abs_diff(expected) <= expected / 100 + Duration::from_millis(1)
}

/// R8.2: 1,000 a second offered to a server that does 800. It serves 800; every second 200 more
/// wait, and each second adds a quarter of a second to what a new request waits.
#[test]
fn above_capacity_the_backlog_grows_by_the_difference_and_the_wait_with_it() {
    let plan = Plan::flat(1000.0, 10 * SECOND);
    let report = simulate(&plan, one_by_one(800.0));
    assert_eq!((report.offered, report.served, report.unfinished), (10_000, 10_000, 0));
    assert!((799.0..=801.0).contains(&report.rate_served), "{}", report.rate_served);
    for (second, tick) in (1..=10).zip(&report.ticks) {
        let backlog = tick.waiting + tick.in_flight;
        assert!(backlog.abs_diff(200 * second) <= 2, "{backlog} after {second} s");
    }
    // The last one finds 2,000 before it: two and a half seconds.
    assert!(near(report.response.max(), Duration::from_millis(2500)), "{:?}", report.response);
    assert!(near(report.response.quantile(0.5), Duration::from_millis(1250)));
    // 256 are in flight, so the server has each for at most 256 / 800 s.
    assert!(near(report.service.max(), Duration::from_millis(320)), "{:?}", report.service);
}

/// A closed loop would have sent one request during the pause and called the 99th percentile
/// fine.
#[test]
fn a_pause_is_charged_to_every_request_that_was_due_in_it() {
    let plan = Plan { in_flight_max: 1, ..Plan::flat(100.0, 10 * SECOND) };
    let report = simulate(&plan, |arrival, now| {
        let pause = if arrival.sequence == 400 { SECOND } else { Duration::from_millis(1) };
        (now + pause, Outcome::Ok)
    });
    // The 100 of that second waited half a second on average, of 1,000 in all.
    assert!(near(report.response.max(), SECOND));
    let p95 = report.response.quantile(0.95).unwrap();
    assert!(Duration::from_millis(450) < p95, "{p95:?}");
    assert_eq!(report.service.quantile(0.99), Some(Duration::from_millis(1)));
}

#[test]
fn what_finds_no_place_to_wait_is_dropped_and_counted() {
    let plan = Plan { in_flight_max: 2, queue_max: 3, ..Plan::flat(10.0, SECOND) };
    let never = Duration::from_secs(1000);
    let report = simulate(&plan, |_, _| (never, Outcome::Ok));
    assert_eq!((report.offered, report.dropped, report.unfinished), (10, 5, 5));
    assert_eq!(report.backlog_max, 5);
    let plan = Plan { in_flight_max: 1, queue_max: 0, ..Plan::flat(10.0, SECOND) };
    let report = simulate(&plan, |_, now| (now + Duration::from_millis(150), Outcome::Ok));
    assert_eq!((report.served, report.dropped), (5, 5), "every other one finds it busy");
}

#[test]
fn the_warm_up_is_shown_but_not_measured() {
    let plan = Plan { warm_up: 2 * SECOND, ..Plan::flat(10.0, 5 * SECOND) };
    let slow_start = |arrival: Arrival, now: Duration| {
        let slow = arrival.due < 2 * SECOND;
        (now + Duration::from_millis(if slow { 900 } else { 10 }), Outcome::Ok)
    };
    let report = simulate(&plan, slow_start);
    assert_eq!((report.offered, report.served, report.lasted), (30, 30, 3 * SECOND));
    assert!(near(report.response.max(), Duration::from_millis(10)), "{:?}", report.response);
    assert_eq!(report.ticks.iter().map(|it| it.offered).sum::<u64>(), 50);
    assert_eq!(report.ticks.iter().filter(|it| it.warm_up).count(), 2);
}

#[test]
fn stopped_it_starts_nothing_and_waits_for_what_is_in_flight() {
    let plan = Plan { in_flight_max: 1, drain: 3 * SECOND, ..Plan::flat(10.0, 100 * SECOND) };
    let mut machine = Machine::new(&plan);
    machine.advance(SECOND);
    let first = machine.take().unwrap();
    machine.stop(SECOND);
    machine.advance(2 * SECOND);
    assert_eq!(machine.take(), None);
    assert!(!machine.is_over(2 * SECOND));
    machine.finish(first, SECOND, 2 * SECOND, Outcome::Ok);
    assert!(machine.is_over(2 * SECOND));
    let (report, _) = machine.end(2 * SECOND);
    assert_eq!((report.offered, report.served, report.unfinished), (11, 1, 10));
    assert!(report.stopped);
    assert_eq!(report.lasted, SECOND);

    let mut deaf = Machine::new(&plan);
    deaf.advance(SECOND);
    deaf.take().unwrap();
    deaf.stop(SECOND);
    assert!(!deaf.is_over(4 * SECOND - Duration::from_nanos(1)));
    assert!(deaf.is_over(4 * SECOND), "what never answers holds it up no longer than that");
}

#[test]
fn classes_of_failures_are_bounded() {
    let plan = Plan::flat(1000.0, SECOND);
    let report = simulate(&plan, |arrival, now| {
        (now, Outcome::Failed(format!("class {}", arrival.sequence).into()))
    });
    assert_eq!(report.failed_total(), 1000);
    assert_eq!(report.failed.len(), 65);
    assert_eq!(report.failed["other"], 1000 - 64);
    assert_eq!(report.response.count(), 0, "a failure is not an answer");
    assert_eq!(report.failures.count(), 1000);
}

#[test]
fn a_ramp_has_its_arrivals_where_its_rate_says() {
    let stages = [
        Stage::ramp(0.0, 100.0, 10 * SECOND),
        Stage::flat(0.0, 5 * SECOND),
        Stage::flat(20.0, 2 * SECOND),
    ];
    let due: Vec<_> = Schedule::new(&stages, Arrivals::Uniform).collect();
    assert_eq!(due.len(), 540);
    // Half of the time, a quarter of the arrivals.
    assert_eq!(due.iter().filter(|it| **it < 5 * SECOND).count(), 125);
    assert_eq!(due.iter().filter(|it| 10 * SECOND < **it && **it < 15 * SECOND).count(), 0);
    assert_eq!(due[500], 15 * SECOND);
    assert_eq!(due[501], 15 * SECOND + SECOND / 20);
}

fn stages() -> impl Strategy<Value = Vec<Stage>> {
    let stage = (0u32..400, 0u32..400, 0u64..3000).prop_map(|(from, to, millis)| {
        Stage::ramp(f64::from(from), f64::from(to), Duration::from_millis(millis))
    });
    prop::collection::vec(stage, 1..5)
}

fn arrivals() -> impl Strategy<Value = Arrivals> {
    prop_oneof![Just(Arrivals::Uniform), any::<u64>().prop_map(|seed| Arrivals::Poisson { seed })]
}

fn plan() -> impl Strategy<Value = Plan> {
    (stages(), arrivals(), 1usize..20, 0usize..50, 0u64..2000, 0u64..2000).prop_map(
        |(stages, arrivals, in_flight_max, queue_max, warm_up, drain)| Plan {
            stages,
            arrivals,
            in_flight_max,
            queue_max,
            warm_up: Duration::from_millis(warm_up),
            drain: Duration::from_millis(drain),
        },
    )
}

proptest! {
    /// Law 1, and the schedule's own: in order, within the stages, as many as expected.
    #[test]
    fn arrivals_are_in_order_and_as_many_as_expected(stages in stages(), seed in any::<u64>()) {
        let lasts = Plan::staged(stages.clone()).lasts();
        let even = Schedule::new(&stages, Arrivals::Uniform);
        let expected = even.expected();
        let even: Vec<_> = even.collect();
        let random = Schedule::new(&stages, Arrivals::Poisson { seed });
        let random: Vec<_> = random.collect();
        for due in [&even, &random] {
            prop_assert!(due.is_sorted());
            prop_assert!(due.last().is_none_or(|it| *it <= lasts));
        }
        prop_assert!((even.len() as f64 - expected.ceil()).abs() < 1.5, "{} of {expected}", even.len());
        // Six standard deviations.
        let away = (random.len() as f64 - expected).abs();
        prop_assert!(away <= 6.0 * expected.sqrt() + 3.0, "{} of {expected}", random.len());
    }

    /// Laws 2 to 5, whatever the server does.
    #[test]
    fn nothing_is_left_out_of_the_sums(
        plan in plan(),
        server in prop::collection::vec((0u64..1500, any::<bool>()), 1..50),
    ) {
        let offered = Schedule::new(&plan.stages, plan.arrivals).count() as u64;
        let report = simulate(&plan, |arrival, now| {
            let (millis, good) = server[usize::try_from(arrival.sequence).unwrap() % server.len()];
            let outcome = if good { Outcome::Ok } else { Outcome::Failed("no".into()) };
            (now + Duration::from_millis(millis), outcome)
        });
        let ended = report.served + report.failed_total() + report.dropped + report.unfinished;
        prop_assert_eq!(report.offered, ended, "law 2");
        let sum = |count: fn(&crate::Tick) -> u64| report.ticks.iter().map(count).sum::<u64>();
        prop_assert_eq!(sum(|it| it.offered), offered, "law 5");
        prop_assert!(report.served <= sum(|it| it.served), "law 5");
        prop_assert!(report.failed_total() <= sum(|it| it.failed), "law 5");
        if plan.warm_up.is_zero() {
            prop_assert_eq!(report.offered, offered);
            prop_assert_eq!(report.served, sum(|it| it.served));
            prop_assert_eq!(report.dropped, sum(|it| it.dropped));
        }
        prop_assert!(report.ticks.iter().all(|it| it.span <= SECOND));
        prop_assert_eq!(report.ticks.iter().map(|it| it.span).sum::<Duration>(),
            report.ticks.last().map_or(Duration::ZERO, |it| it.at));
        prop_assert_eq!(report.response.count(), report.served);
        prop_assert_eq!(report.service.count(), report.served);
        for share in [0.5, 0.9, 0.99, 1.0] {
            prop_assert!(report.service.quantile(share) <= report.response.quantile(share), "law 4");
        }
    }
}
