//! Suspicions and the probes that settle them.
//!
//! A caller that was refused, or a stream that broke, says that an instance may be dead; only a
//! probe of its registered address decides. Nothing is probed that is not registered, and no
//! instance more often than [`Limits::probe_pause`](super::Limits::probe_pause) allows, whatever
//! the number of reports.

use std::time::Duration;

use tradewind_base::Monotonic;

use super::{Key, Now, Removed, Table, Why};

/// Why somebody suspects that an instance is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A caller's connection was refused.
    Refused,
    /// A caller's connection or call ran out of time.
    Timeout,
    /// A caller's connection was reset.
    Reset,
    /// The instance's own stream ended without a cancel.
    StreamClosed,
}

impl Reason {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::StreamClosed => "stream-closed",
        }
    }
}

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody listens there: the instance is dead.
    Refused,
    /// Somebody listens there.
    Connected,
    /// No answer in time, or the name did not resolve: the lease decides.
    Unanswered,
}

/// Where a suspicion stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// A probe will be made.
    Waiting,
    /// A probe is under way.
    Probing,
    /// A probe had no answer.
    Unanswered,
}

#[derive(Clone, Debug)]
pub(super) struct Suspicion {
    pub(super) reason: Reason,
    pub(super) by: Box<str>,
    pub(super) since: Monotonic,
    pub(super) reports: u32,
    pub(super) stage: Stage,
}

/// A probe to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Whose.
    pub key: Key,
    /// The registered host name, or the address when there is no name.
    pub host: String,
    /// The registered port.
    pub port: u16,
    at: Monotonic,
}

impl Table {
    /// Notes a suspicion; whether the instance is known.
    pub fn suspect(&mut self, key: &Key, reason: Reason, by: &str, now: Now) -> bool {
        let at = self.advance(now);
        let pause = self.limits.probe_pause;
        let Some(entry) = self.entry_mut(key) else { return false };
        if let Some(known) = &mut entry.suspicion
            && known.stage != Stage::Unanswered
        {
            known.reports = known.reports.saturating_add(1);
            return true;
        }
        let due = entry.probed.map_or(at, |it| at.max(it + pause));
        let by = by.into();
        let stage = Stage::Waiting;
        entry.suspicion = Some(Suspicion { reason, by, since: at, reports: 1, stage });
        self.probes.insert((due, key.clone()));
        true
    }

    /// At most `limit` probes that are due.
    pub fn due_probes(&mut self, limit: usize, now: Now) -> Vec<Order> {
        let at = self.advance(now);
        let mut orders = Vec::new();
        while orders.len() < limit
            && self.probes.first().is_some_and(|(due, _)| *due <= at)
            && let Some((_, key)) = self.probes.pop_first()
        {
            orders.extend(self.order(&key, at));
        }
        orders
    }

    /// In how long the next probe is due; `None` when there is none.
    #[must_use]
    pub fn next_probe_in(&self, now: Now) -> Option<Duration> {
        self.probes.first().map(|(due, _)| due.since(self.at(now)))
    }

    /// Notes what a probe found. A refused one takes the instance out at once, protection or not,
    /// unless its client registered after the probe began.
    pub fn probed(&mut self, order: &Order, outcome: Outcome, now: Now) -> Option<Removed> {
        let at = self.advance(now);
        let entry = self.entry_mut(&order.key)?;
        let overtaken = order.at < entry.written;
        match outcome {
            Outcome::Refused if !overtaken => {
                let doc = entry.doc.clone();
                self.bury(&order.key, Why::Refused, at);
                Some(Removed { key: order.key.clone(), why: Why::Refused, doc })
            }
            Outcome::Refused | Outcome::Connected => {
                entry.suspicion = None;
                None
            }
            Outcome::Unanswered => {
                if let Some(suspicion) = &mut entry.suspicion {
                    suspicion.stage = Stage::Unanswered;
                }
                None
            }
        }
    }

    fn order(&mut self, key: &Key, at: Monotonic) -> Option<Order> {
        let entry = self.entry_mut(key)?;
        let suspicion = entry.suspicion.as_mut().filter(|it| it.stage == Stage::Waiting)?;
        let doc = &entry.doc;
        // In the order in which callers choose.
        let ports = [doc.secure_port, doc.port];
        let Some(port) = ports.into_iter().filter(|it| it.enabled).find_map(|it| it.number_u16())
        else {
            suspicion.stage = Stage::Unanswered;
            return None;
        };
        suspicion.stage = Stage::Probing;
        entry.probed = Some(at);
        let named = !doc.host_name.trim().is_empty();
        let host = if named { doc.host_name.clone() } else { doc.ip_addr.clone() };
        Some(Order { key: key.clone(), host, port, at })
    }
}
