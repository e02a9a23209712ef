//! Time as a value that is handed in.
//!
//! Two clocks, never mixed: [`Timestamp`] is wall time and may step; it is for what people and
//! other machines read. [`Monotonic`] never steps; leases, time-outs and schedules use it.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

/// Wall time in milliseconds since the Unix epoch.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The time that has passed since `earlier`; zero if the wall clock stepped back.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(rhs.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Time since an arbitrary fixed point of this process; it never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Monotonic(Duration);

impl Monotonic {
    /// The fixed point itself.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// A point `since_zero` after the fixed point.
    #[must_use]
    pub const fn from_duration(since_zero: Duration) -> Self {
        Self(since_zero)
    }

    /// A point `millis` milliseconds after the fixed point.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// The distance from the fixed point.
    #[must_use]
    pub const fn since_zero(self) -> Duration {
        self.0
    }

    /// The time from `earlier` to this point; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Monotonic {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(rhs))
    }
}

impl Sub for Monotonic {
    type Output = Duration;
    fn sub(self, rhs: Self) -> Duration {
        self.since(rhs)
    }
}

/// Where time comes from.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// Wall time.
    fn now(&self) -> Timestamp;
    /// Time that never steps.
    fn monotonic(&self) -> Monotonic;
}

/// The clocks of this machine.
#[derive(Debug)]
pub struct SystemClock {
    zero: tokio::time::Instant,
}

impl SystemClock {
    /// Starts counting now. Every clock has its own zero: share one per process.
    ///
    /// The monotonic half is tokio's clock, so a test with paused time, and a simulation, steer it.
    #[must_use]
    pub fn new() -> Self {
        Self { zero: tokio::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        // A clock set before 1970 reads as 1970: nothing here can use such a time.
        Timestamp(since.map_or(0, |it| i64::try_from(it.as_millis()).unwrap_or(i64::MAX)))
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(self.zero.elapsed())
    }
}

/// A clock that a test moves by hand. Both halves start at a fixed point and move together.
#[derive(Debug)]
pub struct ManualClock {
    now: Mutex<(Timestamp, Monotonic)>,
}

impl ManualClock {
    /// A clock that stands at 2023-11-14T22:13:20Z.
    #[must_use]
    pub const fn new() -> Self {
        Self { now: Mutex::new((Timestamp(1_700_000_000_000), Monotonic::ZERO)) }
    }

    /// Moves both halves forward.
    pub fn advance(&self, by: Duration) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        *now = (now.0 + by, now.1 + by);
    }

    /// Steps wall time alone, as an operator or a time server does.
    pub fn step_wall(&self, to: Timestamp) {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).0 = to;
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn monotonic(&self) -> Monotonic {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_wall_time_leaves_monotonic_time_alone() {
        let clock = ManualClock::new();
        clock.advance(Duration::from_secs(5));
        let before = clock.monotonic();
        clock.step_wall(Timestamp::from_millis(0));
        assert_eq!(clock.monotonic(), before);
        assert_eq!(clock.now(), Timestamp::from_millis(0));
    }

    #[test]
    fn time_since_a_later_point_is_zero() {
        assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
        assert_eq!(Monotonic::from_millis(5) - Monotonic::from_millis(9), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_system_clock_follows_paused_time() {
        let clock = SystemClock::new();
        let before = clock.monotonic();
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(clock.monotonic() - before, Duration::from_secs(60));
    }
}
