//! The lease table: who is registered, until when, and what everybody has to be told.
//!
//! Synchronous and without IO, clock or randomness: each call brings the time with it ([`Now`])
//! and says what became of it. Whatever peers must hear is collected in the table and taken out by
//! [`Table::take_outgoing`].
//!
//! # What happens to a lease
//!
//! | state | event | becomes | seen by others as |
//! |---|---|---|---|
//! | none | register | live | upsert, `ADDED` |
//! | live, late, held | register | live | upsert, `MODIFIED` (nothing, when it repeats itself) |
//! | live, late, held | heartbeat of the client or a peer | live | nothing |
//! | live | two thirds of the lease pass | late | nothing |
//! | late | the lease ends, no protection | none | remove, `expired` |
//! | late | the lease ends under protection | held | nothing |
//! | held | protection ends | none | remove, `expired` |
//! | live, late, held | cancel | none, tombstone | remove, `cancelled` |
//! | live, late, held | a suspicion, probe refused | none, tombstone | remove, `refused` |
//! | live, late, held | a suspicion, probe answered | as before, cleared | nothing |
//! | live, late, held | a suspicion, probe unanswered | as before, noted | nothing |
//! | tombstone | registration at this node | live, newer than the tombstone | upsert |
//! | tombstone | a peer's registration, not newer | tombstone | nothing; the peer is told |
//! | tombstone | the longest lease passes | none | nothing |
//!
//! # Decisions that differ from a stock server
//!
//! - **A lease ends exactly when it says.** A stock server adds the duration twice (at renewal and
//!   at the check) and so keeps a silent instance for 180 s of an advertised 90 s. Nobody relies
//!   on the longer time, and everybody who calls the dead instance pays for it.
//! - **A registration at its own node wins.** Its dirty timestamp becomes
//!   `max(existing + 1, incoming)`, also over a tombstone: a client whose clock stepped back is
//!   still the only one who knows its address.
//! - **An override lives as long as its lease** and an hour beyond, under application *and* id (a
//!   stock server keys by id alone, and two applications on one host may share one). Since it
//!   cannot expire during a lease, the stock rule "else keep the existing status" is not needed,
//!   and a client that reports itself out of service is believed.
//! - **Only a new instance is `ADDED`**; one that registers again is `MODIFIED`. Java and Python
//!   clients treat both alike, and the JavaScript client ignores an `ADDED` of what it holds, so
//!   that it would never learn the new address.
//! - **A process that was paused is not evidence.** When nothing at all ran for
//!   [`Limits::pause_min`], the gap is taken out of every lease's time; the heartbeats of those
//!   seconds are still in the socket buffers.
//!
//! # How copies converge
//!
//! A copy is three parts that merge apart from each other: the content (larger *version* wins,
//! a tie goes to the larger fingerprint), the override (larger override version wins) and the sign
//! of life (the latest wins, told as an age, never as a time of day). The dirty timestamp that
//! Eureka clients and stock peers see is the larger of the two versions. A tombstone ends every
//! copy whose dirty timestamp is not larger. Where the client speaks with this node, and did so
//! after what the peer reports, this node's copy is raised above the peer's instead.
//!
//! # Invariants
//!
//! - **REG-1** an instance that heartbeats is in the table of every peer that can be reached.
//! - **REG-2** an instance that stopped is gone when its lease ends, unless protection says why
//!   not ([`Table::explain`]), and protection ends by itself.
//! - **REG-3** each visible change is one revision more; replaying the changes since a revision on
//!   the state of that revision gives the state of now.
//! - **REG-4** the hash code of a document counts the instances of the same revision.
//! - **REG-5** a delta holds each instance once; applied to any state of its window it gives the
//!   state of now.
//! - **REG-6** the dirty timestamp of a registered instance never goes back.
//! - **REG-7** every live instance has one timer, every held one none; the counts agree with the
//!   instances.
//! - **REG-8** what a tombstone covers does not come back by word of a peer.
//! - **REG-9** a name in a peer's queue keeps its place until it is sent.
//! - **REG-10** tables that have exchanged everything hold the same content and overrides.

mod admit;
mod client;
mod entry;
mod expiry;
mod explain;
mod history;
mod key;
mod outbox;
mod peer;
mod probe;
mod protection;
mod sync;
mod table;
mod tombstone;
mod totals;

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tradewind_base::{Monotonic, Timestamp};

pub use admit::Refusal;
pub use client::Renewal;
pub use entry::Source;
pub use expiry::Removed;
pub use explain::{Counts, Explanation, SuspicionState};
pub use history::{Change, DeltaView, Groups, What, Why};
pub use key::Key;
pub use outbox::{Outbox, Respects};
pub use peer::{Extra, Item, Origin, Replica, Reply, Verdict};
pub use probe::{Order, Outcome, Reason, Stage};
pub use protection::{Protection, Rules};
pub use sync::{Digest, DigestEntry, Grave, SyncReply};
pub use table::{Snapshot, Table};
pub use totals::Totals;

/// The two times of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Wall time: what is shown to people and Eureka clients, never compared by the table.
    pub wall: Timestamp,
    /// Time that never steps: what leases are measured by.
    pub mono: Monotonic,
}

/// The bounds of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most instances of all applications.
    pub instances_max: usize,
    /// The most instances of one application.
    pub instances_per_app_max: usize,
    /// The longest application name, id, host name or address, in bytes.
    pub name_bytes_max: usize,
    /// The most bytes of all metadata keys and values of one instance.
    pub metadata_bytes_max: usize,
    /// The longest lease; a longer wish is cut to this.
    pub lease_max: Duration,
    /// How many changes are kept for streams that resume.
    pub history_max: usize,
    /// For how long a change stays in the delta document.
    pub delta_retention: Duration,
    /// How many changes the delta window holds at most.
    pub delta_max: usize,
    /// For how long an override outlives a lease that ended without a cancel.
    pub override_keep: Duration,
    /// Until when after the start an answer may lack instances that have not renewed yet.
    pub warm_up: Duration,
    /// The shortest time between two probes of one instance.
    pub probe_pause: Duration,
    /// A gap between two calls that counts as a pause of the process.
    pub pause_min: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            instances_max: 200_000,
            instances_per_app_max: 50_000,
            name_bytes_max: 255,
            metadata_bytes_max: 16 * 1024,
            lease_max: Duration::from_secs(3600),
            history_max: 16_384,
            delta_retention: Duration::from_secs(180),
            delta_max: 65_536,
            override_keep: Duration::from_secs(3600),
            warm_up: Duration::from_secs(5),
            probe_pause: Duration::from_millis(500),
            pause_min: Duration::from_secs(2),
        }
    }
}
