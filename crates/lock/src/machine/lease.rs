//! Leases: the row in the store, and the hold at its owner.

use std::fmt;
use std::time::Duration;

use tradewind_base::Monotonic;

use crate::name::Token;

/// By how many percent the rates of two clocks may differ from true time before LOCK-3 fails.
/// Clocks that are slewed differ by 0.05 % in the usual case.
pub const DRIFT_MAX_PERCENT: u32 = 5;

/// The length of a lease and what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    lease: Duration,
}

impl Terms {
    /// Terms with a lease of 100 ms to 10 minutes.
    #[must_use]
    pub fn new(lease: Duration) -> Option<Self> {
        let sensible = Duration::from_millis(100)..=Duration::from_secs(600);
        // The store counts in whole milliseconds.
        let whole = Duration::from_millis(u64::try_from(lease.as_millis()).unwrap_or(u64::MAX));
        sensible.contains(&whole).then_some(Self { lease: whole })
    }

    /// How long the store keeps a name for its owner.
    #[must_use]
    pub const fn lease(self) -> Duration {
        self.lease
    }

    /// By how much earlier the owner stops to believe.
    ///
    /// With rates within `r` of true time the owner's `lease - margin` lasts at most
    /// `(lease - margin) / (1 - r)` and the store's `lease` at least `lease / (1 + r)`, which needs
    /// a margin of `lease · 2r / (1 + r)`: 9.6 % for 5 %. The store's clock shows whole
    /// milliseconds, hence the rest.
    #[must_use]
    pub fn margin(self) -> Duration {
        self.lease / 10 + Duration::from_millis(2)
    }

    /// How long the owner believes, from before it asked.
    #[must_use]
    pub fn belief(self) -> Duration {
        self.lease.saturating_sub(self.margin())
    }

    /// How long after it asked the owner asks again.
    #[must_use]
    pub fn renewal(self) -> Duration {
        self.lease / 3
    }
}

/// A name in the store. A free one has an empty owner and keeps its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Who holds it: an id used for one acquisition only; empty when it was released.
    pub owner: String,
    /// The token of the last grant.
    pub token: Token,
    /// When the lease ends, in milliseconds of the store's clock.
    pub lease_until_ms: i64,
    /// How long it was when it began, in milliseconds.
    pub lease_ms: i64,
}

/// What a contender gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The name; the row is to become this.
    Granted(Row),
    /// Nothing.
    Held {
        /// When the lease ends at the latest, from now.
        remaining: Duration,
        /// The row is to become this: its end is later than its length allows, so the store's
        /// clock has stepped back since.
        corrected: Option<Row>,
    },
}

/// Claims a name at `now_ms` of the store's clock.
#[must_use]
pub fn claim(row: Option<&Row>, owner: &str, now_ms: i64, lease_ms: i64) -> Claim {
    let granted = |token| {
        let lease_until_ms = now_ms.saturating_add(lease_ms);
        Claim::Granted(Row { owner: owner.to_owned(), token, lease_until_ms, lease_ms })
    };
    let Some(row) = row else { return granted(Token::ZERO.next()) };
    if row.owner == owner {
        return granted(row.token);
    }
    if row.owner.is_empty() || row.lease_until_ms <= now_ms {
        return granted(row.token.next());
    }
    let latest = now_ms.saturating_add(row.lease_ms);
    let until = row.lease_until_ms.min(latest);
    let remaining = u64::try_from(until.saturating_sub(now_ms)).unwrap_or(0);
    let corrected =
        (latest < row.lease_until_ms).then(|| Row { lease_until_ms: latest, ..row.clone() });
    Claim::Held { remaining: Duration::from_millis(remaining), corrected }
}

/// Renews a hold at `now_ms`; `None` when it is not the owner's any more. A lease that ended
/// without anybody taking the name is renewed: nobody was in between.
#[must_use]
pub fn renew(
    row: Option<&Row>,
    owner: &str,
    token: Token,
    now_ms: i64,
    lease_ms: i64,
) -> Option<Row> {
    let mine = row.filter(|it| it.owner == owner && it.token == token && !owner.is_empty())?;
    Some(Row { lease_until_ms: now_ms.saturating_add(lease_ms), lease_ms, ..mine.clone() })
}

/// Releases a hold; `None` when it is not the owner's any more.
#[must_use]
pub fn release(row: Option<&Row>, owner: &str) -> Option<Row> {
    let mine = row.filter(|it| it.owner == owner && !owner.is_empty())?;
    Some(Row { owner: String::new(), lease_until_ms: 0, ..mine.clone() })
}

/// Why a hold ended before its release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The lease could not be renewed in time: a pause, a slow or unreachable store.
    Expired,
    /// The store has another owner.
    Taken,
    /// It was held for longer than a hold may last.
    TooLong,
    /// The server is ending.
    Stopped,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "its lease ended without a renewal",
            Self::Taken => "another owner has it",
            Self::TooLong => "it was held for longer than allowed",
            Self::Stopped => "the server is ending",
        })
    }
}

/// What an owner believes, by its own clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    terms: Terms,
    safe_until: Monotonic,
    renew_at: Monotonic,
    end: Monotonic,
    failures: u32,
    loss: Option<Loss>,
}

/// What the owner's keeper does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Renew at this time.
    Renew(Monotonic),
    /// Wait until this time, at which the hold ends.
    End(Monotonic),
    /// Nothing: it is lost.
    Lost(Loss),
}

impl Hold {
    /// A grant whose request was sent at `sent`; it will not be renewed once it is older than
    /// `longest`.
    #[must_use]
    pub fn granted(terms: Terms, sent: Monotonic, longest: Duration) -> Self {
        Self {
            terms,
            safe_until: sent + terms.belief(),
            renew_at: sent + terms.renewal(),
            end: sent + longest,
            failures: 0,
            loss: None,
        }
    }

    /// What is next at `now`.
    pub fn next(&mut self, now: Monotonic) -> Next {
        if let Some(loss) = self.check(now) {
            return Next::Lost(loss);
        }
        if self.end <= self.renew_at || self.safe_until <= self.renew_at {
            Next::End(self.safe_until)
        } else {
            Next::Renew(self.renew_at)
        }
    }

    /// Whether and why it is lost at `now`. The one place where time ends a hold.
    pub fn check(&mut self, now: Monotonic) -> Option<Loss> {
        if self.loss.is_none() && self.safe_until <= now {
            let old = self.end <= self.renew_at;
            self.loss = Some(if old { Loss::TooLong } else { Loss::Expired });
        }
        self.loss
    }

    /// A renewal that was sent at `sent` succeeded, as is known at `now`. Too late is too late.
    pub fn renewed(&mut self, sent: Monotonic, now: Monotonic) {
        if self.check(now).is_none() {
            self.failures = 0;
            self.safe_until = self.safe_until.max(sent + self.terms.belief());
            self.renew_at = sent + self.terms.renewal();
        }
    }

    /// A renewal failed without an answer: again soon, a few times faster than usual.
    pub fn failed(&mut self, now: Monotonic) {
        self.failures = self.failures.saturating_add(1);
        let pause = self.terms.renewal() / 16 * self.failures.min(4);
        self.renew_at = now + pause.max(Duration::from_millis(5));
    }

    /// It ended for another reason than time. The first reason stays.
    pub fn lose(&mut self, loss: Loss) {
        self.loss.get_or_insert(loss);
    }

    /// How long it can still be believed at `now`.
    #[must_use]
    pub fn left(&self, now: Monotonic) -> Duration {
        if self.loss.is_some() { Duration::ZERO } else { self.safe_until.since(now) }
    }

    /// Whether a grant that is known at `now` came so late that it is not worth having.
    #[must_use]
    pub fn stale(&self, now: Monotonic) -> bool {
        self.left(now) < self.terms.belief() / 2
    }
}
