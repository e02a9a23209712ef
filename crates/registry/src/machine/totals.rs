//! What the table has done since it began: sums that only grow.

use super::{Table, Why};

/// The sums. Each is at most one per call of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Heartbeats of clients that renewed a lease.
    pub renewals_own: u64,
    /// Heartbeats that peers passed on and that made a lease longer.
    pub renewals_peer: u64,
    /// Instances that left because they were cancelled, here or at a peer.
    pub cancelled: u64,
    /// Instances whose lease ended.
    pub expired: u64,
    /// Instances that a probe found dead.
    pub refused: u64,
}

impl Totals {
    pub(super) const fn removed(&mut self, why: Why) {
        let sum = match why {
            Why::Cancelled => &mut self.cancelled,
            Why::Expired => &mut self.expired,
            Why::Refused => &mut self.refused,
        };
        *sum += 1;
    }
}

impl Table {
    /// What the table has done so far.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }
}
