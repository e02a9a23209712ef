//! Points at which a test stops an engine as a crash would: nothing after it happens.

use std::sync::atomic::{AtomicU8, Ordering};

/// Where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A time-out was found and is not yet decided.
    BeforeTimeout,
    /// The time-out is decided, nothing is sent.
    AfterTimeout,
    /// Confirms or Cancels are due and not sent.
    BeforeSend,
    /// They are answered, the answers are not stored.
    AfterSend,
    /// All branches are done, which is not stored.
    BeforeFinish,
}

const POINTS: [Point; 5] = [
    Point::BeforeTimeout,
    Point::AfterTimeout,
    Point::BeforeSend,
    Point::AfterSend,
    Point::BeforeFinish,
];

const DEAD: u8 = u8::MAX;

/// Where an engine dies, if anywhere.
#[derive(Debug, Default)]
pub(super) struct Faults(AtomicU8);

impl Faults {
    /// Dies at the next pass of `point`.
    pub(super) fn arm(&self, point: Point) {
        let at = POINTS.iter().position(|it| *it == point).unwrap_or(0);
        self.0.store(u8::try_from(at + 1).unwrap_or(DEAD), Ordering::SeqCst);
    }

    /// Dies now.
    pub(super) fn kill(&self) {
        self.0.store(DEAD, Ordering::SeqCst);
    }

    pub(super) fn dead(&self) -> bool {
        self.0.load(Ordering::SeqCst) == DEAD
    }

    /// Whether the engine lives on at `point`.
    pub(super) fn pass(&self, point: Point) -> bool {
        let armed = self.0.load(Ordering::SeqCst);
        if armed == DEAD {
            return false;
        }
        let here = POINTS.iter().position(|it| *it == point).unwrap_or(0);
        if usize::from(armed) == here + 1 {
            self.kill();
            return false;
        }
        true
    }
}
