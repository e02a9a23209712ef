//! One lease and what is known of its holder.

use std::hash::{Hash as _, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tradewind_base::Monotonic;
use tradewind_eureka::{DataCenter, Instance, Status};

use super::probe::Suspicion;

/// Where the content of a lease came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The client registered at this node.
    Own,
    /// A peer passed it on.
    Peer,
}

/// How far a lease has run down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Less than two thirds of it passed since the last sign of life.
    Live,
    /// More than that; it counts for protection.
    Late,
    /// It ended, and protection holds the instance.
    Held,
}

#[derive(Debug)]
pub(super) struct Entry {
    /// As shown: effective status, override, dirty timestamp of both versions.
    pub(super) doc: Arc<Instance>,
    /// The status the client reported, before any override.
    pub(super) reported: Status,
    /// Version of the content.
    pub(super) version: i64,
    /// Version of the override, also of its absence; 0 when there never was one.
    pub(super) override_version: i64,
    /// Of the content, for ties between peers.
    pub(super) fingerprint: u64,
    pub(super) source: Source,
    pub(super) lease: Duration,
    pub(super) expires: Monotonic,
    /// When the client gave this content to the node it registered at.
    pub(super) written: Monotonic,
    /// When the client itself last spoke with this node.
    pub(super) direct: Option<Monotonic>,
    pub(super) phase: Phase,
    /// Its place in the timers; `None` while held.
    pub(super) timer: Option<Monotonic>,
    pub(super) suspicion: Option<Suspicion>,
    /// When it was probed last.
    pub(super) probed: Option<Monotonic>,
}

impl Entry {
    /// The dirty timestamp that Eureka shows.
    pub(super) fn dirty(&self) -> i64 {
        self.version.max(self.override_version)
    }

    /// When the last sign of life was.
    pub(super) fn renewed(&self) -> Monotonic {
        Monotonic::from_duration(self.expires.since_zero().saturating_sub(self.lease))
    }

    /// When it counts as late: two thirds into its lease.
    pub(super) fn late_at(&self) -> Monotonic {
        Monotonic::from_duration(self.expires.since_zero().saturating_sub(self.lease / 3))
    }

    /// The time since the last sign of life.
    pub(super) fn silent_for(&self, at: Monotonic) -> Duration {
        at.since(self.renewed())
    }

    pub(super) fn override_status(&self) -> Status {
        self.doc.overridden_status
    }

    pub(super) fn host(&self) -> &str {
        &self.doc.host_name
    }
}

/// The status that is shown: an override counts only over a client that is in service or was
/// taken out of it; one that reports itself down or starting is believed.
pub(super) const fn effective(reported: Status, over: Status) -> Status {
    match (reported, over) {
        (Status::Up | Status::OutOfService, Status::Unknown) => reported,
        (Status::Up | Status::OutOfService, over) => over,
        (Status::Down | Status::Starting | Status::Unknown, _) => reported,
    }
}

/// What the client says of itself, without everything the registry adds: two registrations with
/// equal content are repeats.
pub(super) fn content(doc: &Instance, reported: Status) -> Instance {
    let mut content = doc.clone();
    content.status = reported;
    // Written like this, so peers read it like this.
    content.data_center.get_or_insert(DataCenter::MyOwn);
    content.overridden_status = Status::Unknown;
    content.last_dirty_ts = None;
    content.last_updated_ts = None;
    content.action_type = None;
    content.lease.registration_ts = 0;
    content.lease.last_renewal_ts = 0;
    content.lease.eviction_ts = 0;
    content.lease.service_up_ts = 0;
    content
}

/// A number that differs where the content differs, the same on all nodes of one build. It only
/// breaks ties, so nodes of different builds may disagree for the time of an upgrade.
pub(super) fn fingerprint(doc: &Instance, reported: Status) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    content(doc, reported).hash(&mut hasher);
    hasher.finish()
}

/// FNV-1a, 64 bits: no random key, so that every node computes the same.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
