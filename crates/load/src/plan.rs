//! What is offered, and the bounds of what may wait for it.

use std::str::FromStr;
use std::time::Duration;

/// A stretch of the schedule, over which the rate changes evenly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// Arrivals per second at its end.
    pub rate: f64,
    /// Arrivals per second at its start; equal to `rate` where it is flat.
    pub from: f64,
    /// How long it lasts.
    pub lasts: Duration,
}

/// Why a text is not a [`Stage`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// No colon between how long and how much.
    #[error("expected DURATION:RATE or DURATION:FROM..TO, such as 30s:100..1000")]
    Form,
    /// The part before the colon.
    #[error("`{0}` is no duration: a number with ms, s, m or h")]
    Lasts(String),
    /// The part after the colon.
    #[error("`{0}` is no rate: a number of arrivals per second, from 0 to {max}", max = Stage::RATE_MAX)]
    Rate(String),
}

impl Stage {
    /// The highest rate, in arrivals per second.
    pub const RATE_MAX: f64 = 1_000_000.0;

    /// The same rate from start to end.
    #[must_use]
    pub const fn flat(rate: f64, lasts: Duration) -> Self {
        Self { rate, from: rate, lasts }
    }

    /// From one rate evenly to another.
    #[must_use]
    pub const fn ramp(from: f64, rate: f64, lasts: Duration) -> Self {
        Self { rate, from, lasts }
    }

    /// Reads `10s:100` or `30s:100..1000`.
    ///
    /// # Errors
    /// When it is neither, or a rate is out of bounds.
    pub fn parse(text: &str) -> Result<Self, StageError> {
        let (lasts, rate) = text.split_once(':').ok_or(StageError::Form)?;
        let lasts = parse_duration(lasts).ok_or_else(|| StageError::Lasts(lasts.to_owned()))?;
        let (from, to) = rate.split_once("..").unwrap_or((rate, rate));
        Ok(Self { rate: parse_rate(to)?, from: parse_rate(from)?, lasts })
    }
}

impl FromStr for Stage {
    type Err = StageError;
    fn from_str(text: &str) -> Result<Self, StageError> {
        Self::parse(text)
    }
}

/// Reads a rate in arrivals per second.
///
/// # Errors
/// When it is no number from 0 to [`Stage::RATE_MAX`].
pub fn parse_rate(text: &str) -> Result<f64, StageError> {
    let rate = text.trim().parse::<f64>().ok();
    let rate = rate.filter(|it| (0.0..=Stage::RATE_MAX).contains(it));
    rate.ok_or_else(|| StageError::Rate(text.to_owned()))
}

/// Reads a duration such as `500ms`, `10s`, `1.5m`, `2h`; at most a day.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let split = text.find(|it: char| it.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at_checked(split)?;
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let number = number.trim_end().parse::<f64>().ok()?;
    let span = Duration::try_from_secs_f64(number * seconds).ok()?;
    (span <= Plan::LASTS_MAX).then_some(span)
}

/// How arrivals are spread over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// Evenly: at a rate of 100/s one every 10 ms.
    Uniform,
    /// As independent buyers come: at random, the rate being the mean. The same seed gives the
    /// same arrivals.
    Poisson {
        /// Where the randomness starts.
        seed: u64,
    },
}

/// What is offered, and the bounds of what may wait for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The stages, one after the other.
    pub stages: Vec<Stage>,
    /// Most requests sent and not answered; at least one.
    pub in_flight_max: usize,
    /// Most requests that are due and wait for one of those to end; more are dropped.
    pub queue_max: usize,
    /// How arrivals are spread over time.
    pub arrivals: Arrivals,
    /// What is due in this first stretch is sent and shown, but not part of the summary.
    pub warm_up: Duration,
    /// How long after the last arrival the rest may take; what is still out then is unfinished.
    pub drain: Duration,
}

/// Why a plan cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// No stage has an arrival.
    #[error("the stages offer nothing")]
    Empty,
    /// The stages together are too long.
    #[error("the stages last longer than a day")]
    TooLong,
    /// A rate is negative, no number, or above [`Stage::RATE_MAX`].
    #[error("a rate is not from 0 to {max} arrivals per second", max = Stage::RATE_MAX)]
    Rate,
    /// Nothing is left to measure.
    #[error("the warm-up is not shorter than the stages")]
    WarmUp,
    /// No request may be sent.
    #[error("at least one request must be allowed in flight")]
    InFlight,
}

impl Plan {
    /// The longest sum of all stages.
    pub const LASTS_MAX: Duration = Duration::from_secs(24 * 3600);

    /// One flat stage, evenly spread, with room for 256 in flight, 100,000 waiting, no warm-up
    /// and ten seconds to drain.
    #[must_use]
    pub fn flat(rate: f64, lasts: Duration) -> Self {
        Self::staged(vec![Stage::flat(rate, lasts)])
    }

    /// Several stages, otherwise as [`Plan::flat`].
    #[must_use]
    pub const fn staged(stages: Vec<Stage>) -> Self {
        Self {
            stages,
            in_flight_max: 256,
            queue_max: 100_000,
            arrivals: Arrivals::Uniform,
            warm_up: Duration::ZERO,
            drain: Duration::from_secs(10),
        }
    }

    /// How long the stages last together.
    #[must_use]
    pub fn lasts(&self) -> Duration {
        self.stages.iter().fold(Duration::ZERO, |sum, it| sum.saturating_add(it.lasts))
    }

    /// Whether it can be run and measured.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), PlanError> {
        let rates = || self.stages.iter().flat_map(|it| [it.from, it.rate]);
        if !rates().all(|it| (0.0..=Stage::RATE_MAX).contains(&it)) {
            return Err(PlanError::Rate);
        }
        if Self::LASTS_MAX < self.lasts() {
            return Err(PlanError::TooLong);
        }
        if self.in_flight_max == 0 {
            return Err(PlanError::InFlight);
        }
        if !self.stages.iter().any(|it| 0.0 < (it.from + it.rate) && !it.lasts.is_zero()) {
            return Err(PlanError::Empty);
        }
        if self.lasts() <= self.warm_up { Err(PlanError::WarmUp) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_read() {
        let ten = Duration::from_secs(10);
        assert_eq!(Stage::parse("10s:100"), Ok(Stage::flat(100.0, ten)));
        assert_eq!(Stage::parse("10000ms:0..2.5"), Ok(Stage::ramp(0.0, 2.5, ten)));
        assert_eq!(Stage::parse("0.5m:9").unwrap().lasts, Duration::from_secs(30));
        assert_eq!(Stage::parse("100"), Err(StageError::Form));
        for text in ["10:100", "s:1", "-1s:1", "25h:1", "1d:1", "NaNs:1"] {
            assert!(matches!(Stage::parse(text), Err(StageError::Lasts(_))), "{text}");
        }
        for text in ["1s:", "1s:-1", "1s:1..", "1s:NaN", "1s:1e9", "1s:..2"] {
            assert!(matches!(Stage::parse(text), Err(StageError::Rate(_))), "{text}");
        }
    }

    #[test]
    fn a_plan_that_measures_nothing_is_refused() {
        let good = Plan::flat(10.0, Duration::from_secs(1));
        assert_eq!(good.check(), Ok(()));
        let with = |change: fn(&mut Plan)| {
            let mut plan = good.clone();
            change(&mut plan);
            plan.check().unwrap_err()
        };
        assert_eq!(with(|it| it.stages.clear()), PlanError::Empty);
        assert_eq!(with(|it| it.stages[0] = Stage::flat(0.0, it.lasts())), PlanError::Empty);
        assert_eq!(with(|it| it.stages[0].rate = f64::NAN), PlanError::Rate);
        assert_eq!(with(|it| it.stages[0].lasts = Duration::MAX), PlanError::TooLong);
        assert_eq!(with(|it| it.warm_up = it.lasts()), PlanError::WarmUp);
        assert_eq!(with(|it| it.in_flight_max = 0), PlanError::InFlight);
    }
}
