use super::*;

#[test]
fn axes_are_round_and_reach_the_largest_value() {
    for (largest, top, step) in [
        (1000.0, 1000.0, 500.0),
        (2.5, 3.0, 1.0),
        (0.0, 0.2, 0.2),
        (1.0, 1.0, 0.5),
        (799.0, 800.0, 200.0),
        (1001.0, 1500.0, 500.0),
        (0.003, 0.003, 0.001),
    ] {
        let axis = Axis::new(largest, 4.0);
        assert!(
            (axis.top - top).abs() < 1e-9 && (axis.step - step).abs() < 1e-9,
            "{largest}: {} {}",
            axis.top,
            axis.step
        );
        assert!(largest <= axis.top + 1e-9);
    }
}

#[test]
fn what_a_user_writes_cannot_break_the_picture() {
    let plan = crate::Plan::flat(1.0, Duration::from_secs(1));
    let (report, _) = crate::machine::Machine::new(&plan).end(Duration::ZERO);
    let picture = draw(&report, "<script>\"&\u{0}", "GET http://a/?x=1&y=2");
    assert!(picture.contains("&lt;script&gt;&quot;&amp;?"), "{picture}");
    assert!(picture.contains("x=1&amp;y=2"));
    assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
}

#[test]
fn a_long_run_keeps_its_peak_and_its_sums() {
    let second = Duration::from_secs(1);
    let tick = |at: u32| Tick {
        at: second * at,
        span: second,
        offered: 10,
        served: 9,
        failed: 1,
        dropped: 0,
        waiting: 0,
        in_flight: 1,
        p50: Some(second / 100),
        p99: Some(if at == 1234 { second * 7 } else { second / 50 }),
        max: None,
        warm_up: false,
    };
    let ticks: Vec<_> = (1..=5000).map(tick).collect();
    let groups = grouped(&ticks);
    assert!(groups.len() <= POINTS_MAX);
    assert_eq!(groups.iter().map(|it| it.offered).sum::<u64>(), 50_000);
    assert_eq!(groups.iter().filter_map(|it| it.p99).max(), Some(second * 7));
    assert_eq!(groups.iter().map(|it| it.span).sum::<Duration>(), second * 5000);
}
