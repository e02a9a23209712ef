//! When requests are due.

use std::time::Duration;

use tradewind_base::Rng;

use crate::{Arrivals, Stage};

/// A stage, with the number of arrivals expected before it and within it.
#[derive(Clone, Debug)]
struct Segment {
    starts: f64,
    lasts: f64,
    from: f64,
    slope: f64,
    before: f64,
    within: f64,
}

impl Segment {
    /// The time at which the expected number of arrivals is `count`.
    ///
    /// Within the segment it grows as `from·t + slope·t²/2`; the root is written so that it loses
    /// no digits where the slope is nearly zero.
    fn when(&self, count: f64) -> f64 {
        let inside = (count - self.before).max(0.0);
        let root = 2.0f64.mul_add(self.slope * inside, self.from * self.from).max(0.0).sqrt();
        let speed = self.from + root;
        let offset = if 0.0 < speed { 2.0 * inside / speed } else { 0.0 };
        self.starts + offset.min(self.lasts)
    }
}

/// The instants at which requests are due, in order, since the start of the run.
///
/// Every arrival has a place on the axis of *expected arrivals* (0, 1, 2, … when even; with
/// exponential steps of mean one when random) and that axis is mapped to time through the stages.
/// So a ramp is exact, and neither kind drifts.
#[derive(Clone, Debug)]
pub struct Schedule {
    segments: Vec<Segment>,
    current: usize,
    place: f64,
    total: f64,
    rng: Option<Rng>,
}

impl Schedule {
    /// Arrivals are counted from sums of products: what is closer to the end than this lies at it.
    const SLACK: f64 = 1e-6;

    /// The schedule of these stages. A rate that is no number, or negative, counts as zero.
    #[must_use]
    pub fn new(stages: &[Stage], arrivals: Arrivals) -> Self {
        let (mut starts, mut before) = (0.0, 0.0);
        let mut segments = Vec::with_capacity(stages.len());
        for stage in stages {
            let lasts = stage.lasts.as_secs_f64();
            let [from, to] = [stage.from, stage.rate]
                .map(|it| if it.is_finite() { it.clamp(0.0, Stage::RATE_MAX) } else { 0.0 });
            let within = (from + to) / 2.0 * lasts;
            if 0.0 < within {
                let slope = (to - from) / lasts;
                segments.push(Segment { starts, lasts, from, slope, before, within });
            }
            starts += lasts;
            before += within;
        }
        let mut schedule = Self { segments, current: 0, place: 0.0, total: before, rng: None };
        if let Arrivals::Poisson { seed } = arrivals {
            schedule.rng = Some(Rng::seeded(seed));
            schedule.step();
        }
        schedule
    }

    /// How many arrivals are expected in all.
    #[must_use]
    pub const fn expected(&self) -> f64 {
        self.total
    }

    fn step(&mut self) {
        // `1 - unit` is never zero, so the logarithm is finite.
        self.place += self.rng.as_mut().map_or(1.0, |it| -(1.0 - it.unit()).ln());
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.total - Self::SLACK <= self.place {
            return None;
        }
        while let Some(segment) = self.segments.get(self.current) {
            if self.place < segment.before + segment.within {
                let due = Duration::from_secs_f64(segment.when(self.place));
                self.step();
                return Some(due);
            }
            self.current += 1;
        }
        None
    }
}
