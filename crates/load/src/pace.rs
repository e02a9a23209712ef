//! Waking in time.
//!
//! tokio's own timers round up to the next millisecond, which at a thousand requests a second
//! would be half of a fast answer's time. A timer of the kernel, watched like a socket, wakes
//! within some tens of microseconds and costs nothing while it waits.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

/// Wakes at instants. Where the kernel gives no timer, tokio's does.
#[derive(Debug)]
pub(crate) struct Pacer {
    timer: Option<AsyncFd<OwnedFd>>,
}

impl Pacer {
    /// Must be called within a tokio runtime.
    #[expect(
        deprecated,
        reason = "its successor is unsafe code; an owned descriptor never changes"
    )]
    pub(crate) fn new() -> Self {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).ok();
        Self { timer: timer.and_then(|it| AsyncFd::new(it).ok()) }
    }

    /// Returns at `instant` or soon after; at once when it has passed.
    ///
    /// # Cancel safety
    /// Dropped and called again it waits anew.
    pub(crate) async fn until(&mut self, instant: Instant) {
        let left = instant.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        if !self.fine(left).await {
            tokio::time::sleep_until(instant).await;
        }
    }

    /// Waits with the kernel's timer; `false` if it cannot.
    async fn fine(&self, left: Duration) -> bool {
        let Some(timer) = &self.timer else { return false };
        let Ok(seconds) = i64::try_from(left.as_secs()) else { return false };
        let value = Timespec { tv_sec: seconds, tv_nsec: i64::from(left.subsec_nanos()) };
        let once = Itimerspec { it_interval: Timespec::default(), it_value: value };
        // Setting it also takes back an expiry that nobody has read.
        if timerfd_settime(timer.get_ref(), TimerfdTimerFlags::empty(), &once).is_err() {
            return false;
        }
        loop {
            let Ok(mut ready) = timer.readable().await else { return false };
            let mut expiries = [0u8; 8];
            match ready.try_io(|it| Ok(rustix::io::read(it.get_ref(), &mut expiries)?)) {
                Ok(Ok(_)) => return true,
                Ok(Err(_)) => return false,
                // The readiness was of an expiry before it was set again.
                Err(_) => {}
            }
        }
    }
}
