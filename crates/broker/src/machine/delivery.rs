//! The life of a delivery: one message on its way to one subscriber.

use std::time::Duration;

use tradewind_base::Timestamp;

use super::schedule::Schedule;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The subscriber took it.
    Ack,
    /// Come again after this pause; the attempt does not count.
    NotYet(Duration),
    /// Nothing was sent to any instance; the attempt does not count.
    Unreachable,
    /// It failed; not before this pause, if given.
    Failed(Option<Duration>),
    /// The subscriber will never take it.
    Refused,
    /// The subscriber is gone for good.
    Gone,
}

/// Why a delivery became a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// All attempts failed.
    Exhausted,
    /// The subscriber refused it.
    Refused,
    /// The subscription is off.
    Off,
}

impl Cause {
    /// A word for the dead letter.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::Refused => "refused",
            Self::Off => "subscription-off",
        }
    }
}

/// What becomes of the delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is finished.
    Done,
    /// It is ready again.
    Again {
        /// From when on.
        due: Timestamp,
        /// How many attempts count now.
        attempts: u32,
    },
    /// It is a dead letter.
    Dead(Cause),
}

/// The pauses and limits of deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Pauses between attempts that failed.
    pub retry: Schedule,
    /// The pause after "not yet", and when nobody can be reached.
    pub soon: Duration,
    /// The longest pause a subscriber may ask for.
    pub asked_max: Duration,
}

impl Rules {
    /// What an answer's status means. `retry_after` is what it asks for, in seconds.
    #[must_use]
    pub fn verdict(&self, status: u16, retry_after: Option<u64>) -> Verdict {
        let asked = retry_after.map(|it| Duration::from_secs(it).min(self.asked_max));
        match status {
            200..=299 => Verdict::Ack,
            425 => Verdict::NotYet(asked.unwrap_or(self.soon)),
            409 | 422 => Verdict::Refused,
            410 => Verdict::Gone,
            429 | 503 => Verdict::Failed(asked),
            // A redirect too: deliveries go to the instances of the registry and nowhere else.
            _ => Verdict::Failed(None),
        }
    }

    /// What follows from attempt number `attempt` (from 1).
    #[must_use]
    pub fn settle(&self, attempt: u32, verdict: Verdict, now: Timestamp, share: f64) -> Next {
        let uncounted = attempt.saturating_sub(1);
        match verdict {
            Verdict::Ack => Next::Done,
            Verdict::NotYet(pause) => Next::Again { due: now + pause, attempts: uncounted },
            Verdict::Unreachable => Next::Again { due: now + self.soon, attempts: uncounted },
            Verdict::Failed(asked) => match self.retry.pause(attempt, share) {
                Some(pause) => {
                    let pause = pause.max(asked.unwrap_or_default());
                    Next::Again { due: now + pause, attempts: attempt }
                }
                None => Next::Dead(Cause::Exhausted),
            },
            Verdict::Refused => Next::Dead(Cause::Refused),
            Verdict::Gone => Next::Dead(Cause::Off),
        }
    }
}
