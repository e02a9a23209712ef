//! The rules of a key, without IO, clocks and chance.
//!
//! | row | claim | finish, release (with the row's fence) | finish, release (with another fence) |
//! |---|---|---|---|
//! | absent | claimed, fence 1 | superseded | superseded |
//! | claimed, lease runs | in flight | done, released | superseded |
//! | claimed, lease over | resumed, fence + 1 | done, released | superseded |
//! | done | replayed | done already | superseded |
//! | released | claimed, fence + 1 | superseded | superseded |
//! | any but released, other fingerprint | mismatch | — | — |
//!
//! A lease that is over matters to the next claim alone: until somebody claims, the old owner is
//! the only one and may finish. A released row stays until it expires, so that its fence goes on
//! and a late owner of an earlier claim finds itself superseded.
//!
//! Invariants, each with a property test:
//!
//! - IDEM-1: a key is finished at most once.
//! - IDEM-2: fences strictly increase; of several owners only the latest can finish or release.
//! - IDEM-3: once done, a claim gives the stored answer or a mismatch, never work.
//! - IDEM-4: another fingerprint never gets work or an answer while the key is in use.
//! - IDEM-5: a key is never taken from an owner whose lease runs, nor cleaned away under it.

use std::time::Duration;

use tradewind_base::Timestamp;
use tradewind_sql::{Error, FromValue, Value};

use crate::fingerprint::Fingerprint;

/// How often a key was claimed: who presents it in a compare-and-set is the latest owner, or is
/// refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fence(i64);

impl Fence {
    /// Of the first claim.
    pub const FIRST: Self = Self(1);

    /// From the number.
    #[must_use]
    pub const fn from_number(number: i64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> i64 {
        self.0
    }

    const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl From<Fence> for Value {
    fn from(fence: Fence) -> Self {
        Self::Integer(fence.0)
    }
}

impl FromValue for Fence {
    const EXPECTED: &'static str = "a fence";
    fn from_value(value: &Value) -> Option<Self> {
        i64::from_value(value).map(Self)
    }
}

/// How long things last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long a claim keeps others from the work. Longer than the deadline of the request; after
    /// it an owner that died is replaced.
    pub lease: Duration,
    /// How long a row lives after its claim or its end: longer than any client goes on repeating.
    pub life: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self { lease: Duration::from_secs(60), life: Duration::from_secs(7 * 24 * 3600) }
    }
}

/// What a row says about its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Somebody is, or was, at work.
    Claimed,
    /// The answer is stored.
    Done,
    /// The work ended without an effect; the key can be used again, for anything.
    Released,
}

impl State {
    /// As it is in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Done => "done",
            Self::Released => "released",
        }
    }

    /// From the table.
    ///
    /// # Errors
    /// Never as long as the table keeps its constraint; the caller gets `None` otherwise.
    pub fn parse(text: &str) -> Result<Option<Self>, Error> {
        let all = [Self::Claimed, Self::Done, Self::Released];
        Ok(all.into_iter().find(|it| it.as_str() == text))
    }
}

/// The part of a row that decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What the request asked for.
    pub fingerprint: Fingerprint,
    /// What became of it.
    pub state: State,
    /// Of the latest claim.
    pub fence: Fence,
    /// When the latest claim stops keeping others away.
    pub lease_until: Timestamp,
    /// From when on the row may be cleaned away.
    pub expires: Timestamp,
}

/// What a claim comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The key is new, or its last use ended without an effect: work with this fence.
    Work(Fence),
    /// The owner before died or was slow: go on with what it fixed, with this fence.
    Resume(Fence),
    /// Somebody is at work for at most this long.
    InFlight(Duration),
    /// The answer is stored.
    Replay,
    /// The key is in use for something else.
    Mismatch,
}

/// Decides a claim at `now`.
#[must_use]
pub fn claim(record: Option<&Record>, fingerprint: &Fingerprint, now: Timestamp) -> Decision {
    let Some(record) = record else { return Decision::Work(Fence::FIRST) };
    if record.state == State::Released {
        return Decision::Work(record.fence.next());
    }
    if record.fingerprint != *fingerprint {
        return Decision::Mismatch;
    }
    if record.state == State::Done {
        return Decision::Replay;
    }
    if now < record.lease_until {
        return Decision::InFlight(record.lease_until.since(now));
    }
    Decision::Resume(record.fence.next())
}

/// What an owner's finish or release comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It counts.
    Counts,
    /// The same owner finished before: its earlier transaction was committed.
    AlreadyDone,
    /// Another claim came after it, or it was released: nothing it did may stand.
    Superseded,
}

/// Decides a finish or release by the owner with `fence`.
#[must_use]
pub fn end(record: Option<&Record>, fence: Fence) -> Ending {
    match record.filter(|it| it.fence == fence).map(|it| it.state) {
        Some(State::Claimed) => Ending::Counts,
        Some(State::Done) => Ending::AlreadyDone,
        Some(State::Released) | None => Ending::Superseded,
    }
}

/// Whether a row may be cleaned away at `now`. A claimed one waits for a whole life after its
/// lease: until then its owner, or whoever resumes it, may still need it.
#[must_use]
pub fn may_clean(record: &Record, now: Timestamp, terms: &Terms) -> bool {
    let idle = record.state != State::Claimed || record.lease_until + terms.life <= now;
    record.expires <= now && idle
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn print(number: u8) -> Fingerprint {
        Fingerprint::of_parts([[number].as_slice()])
    }

    /// What happens to one key; numbers choose among contents and owners.
    #[derive(Clone, Debug)]
    enum Event {
        Claim(u8),
        Finish(usize),
        Release(usize),
        Pass(u64),
        Clean,
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            4 => (0_u8..3).prop_map(Event::Claim),
            2 => (0_usize..4).prop_map(Event::Finish),
            1 => (0_usize..4).prop_map(Event::Release),
            3 => prop_oneof![0_u64..90, 3000_u64..20_000].prop_map(Event::Pass),
            1 => Just(Event::Clean),
        ];
        prop::collection::vec(event, 1..40)
    }

    fn terms() -> Terms {
        Terms { lease: Duration::from_secs(60), life: Duration::from_secs(10_000) }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn the_invariants_hold_through_any_history(events in events()) {
            let terms = terms();
            let mut now = Timestamp::from_millis(0);
            let mut record: Option<Record> = None;
            // Every owner there ever was since the row was last cleaned: its fence and content.
            let mut owners: Vec<(Fence, u8)> = Vec::new();
            let mut finished = 0;
            for event in events {
                match event {
                    Event::Pass(seconds) => now = now + Duration::from_secs(seconds),
                    Event::Clean => {
                        if let Some(it) = &record && may_clean(it, now, &terms) {
                            // IDEM-5
                            prop_assert!(it.state != State::Claimed || it.lease_until <= now);
                            (record, finished) = (None, 0);
                            owners.clear();
                        }
                    }
                    Event::Claim(content) => {
                        let decision = claim(record.as_ref(), &print(content), now);
                        let before = record.clone();
                        let other = before.as_ref().is_some_and(|it| {
                            it.state != State::Released && it.fingerprint != print(content)
                        });
                        // IDEM-4
                        prop_assert_eq!(decision == Decision::Mismatch, other);
                        if let Decision::Work(fence) | Decision::Resume(fence) = decision {
                            // IDEM-2, IDEM-3, IDEM-5
                            prop_assert!(owners.iter().all(|it| it.0 < fence));
                            let was_free = before.is_none_or(|it| match it.state {
                                State::Claimed => it.lease_until <= now,
                                State::Done => false,
                                State::Released => true,
                            });
                            prop_assert!(was_free);
                            owners.push((fence, content));
                            record = Some(Record {
                                fingerprint: print(content),
                                state: State::Claimed,
                                fence,
                                lease_until: now + terms.lease,
                                expires: now + terms.life,
                            });
                        }
                    }
                    Event::Finish(owner) | Event::Release(owner) => {
                        let Some(&(fence, _)) = owners.iter().rev().nth(owner) else { continue };
                        let ending = end(record.as_ref(), fence);
                        // IDEM-2
                        prop_assert!(owner == 0 || ending == Ending::Superseded);
                        if let (Ending::Counts, Some(row)) = (ending, record.as_mut()) {
                            let done = matches!(event, Event::Finish(_));
                            row.state = if done { State::Done } else { State::Released };
                            finished += u32::from(done);
                        }
                    }
                }
                // IDEM-1
                prop_assert!(finished <= 1);
            }
        }
    }

    #[test]
    fn the_table_holds_cell_by_cell() {
        let at = Timestamp::from_millis;
        let row = |state, lease_until| Record {
            fingerprint: print(1),
            state,
            fence: Fence(3),
            lease_until: at(lease_until),
            expires: at(1000),
        };
        let (now, same, other) = (at(50), print(1), print(2));
        let (runs, over) = (row(State::Claimed, 60), row(State::Claimed, 50));
        let (done, released) = (row(State::Done, 0), row(State::Released, 60));
        for (record, with, decision) in [
            (None, &same, Decision::Work(Fence(1))),
            (Some(&runs), &same, Decision::InFlight(Duration::from_millis(10))),
            (Some(&over), &same, Decision::Resume(Fence(4))),
            (Some(&done), &same, Decision::Replay),
            (Some(&released), &same, Decision::Work(Fence(4))),
            (Some(&runs), &other, Decision::Mismatch),
            (Some(&over), &other, Decision::Mismatch),
            (Some(&done), &other, Decision::Mismatch),
            (Some(&released), &other, Decision::Work(Fence(4))),
        ] {
            assert_eq!(claim(record, with, now), decision, "{record:?}");
        }
        for (record, mine) in [
            (None, Ending::Superseded),
            (Some(&runs), Ending::Counts),
            (Some(&over), Ending::Counts),
            (Some(&done), Ending::AlreadyDone),
            (Some(&released), Ending::Superseded),
        ] {
            assert_eq!(end(record, Fence(3)), mine, "{record:?}");
            assert_eq!(end(record, Fence(2)), Ending::Superseded, "{record:?}");
        }
    }
}
