//! Who drives which shard of the log.
//!
//! The log is cut into a fixed number of shards; each has a lease of one instance and an epoch
//! that grows with every new owner. The lease only chooses who drives: every change of a
//! transaction by its driver also checks the epoch, so one that was slow or frozen changes nothing.
//!
//! | what an instance sees | what it does |
//! |---|---|
//! | its own leases | renews them, up to its share |
//! | more of its own than its share | lets the surplus go |
//! | fewer than its share | takes free or expired ones |
//! | others' leases that are alive | nothing |
//!
//! The share is the number of shards over the number of live instances, rounded up; so all shards
//! have an owner as soon as the leases of the dead are over.
//!
//! Invariants: **SHARE-1** a living lease of another is never taken; **SHARE-2** nobody keeps more
//! than its share; **SHARE-3** instances that take turns come to own all shards.

/// A shard as the database tells, by the database's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// Ours, and not over.
    Mine,
    /// Somebody else's, and not over.
    Theirs,
    /// Nobody's, or over.
    Free,
}

/// What to do with which shards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Ours that stay.
    pub renew: Vec<u16>,
    /// Ours to be let go.
    pub release: Vec<u16>,
    /// Free ones to be taken.
    pub take: Vec<u16>,
}

/// The plan of an instance that sees these `leases`, one of `live` instances (itself included).
#[must_use]
pub fn plan(leases: &[Lease], live: usize) -> Plan {
    let share = leases.len().div_ceil(live.max(1));
    let mut plan = Plan::default();
    for (shard, lease) in (0_u16..).zip(leases) {
        if *lease == Lease::Mine {
            let list = if plan.renew.len() < share { &mut plan.renew } else { &mut plan.release };
            list.push(shard);
        }
    }
    for (shard, lease) in (0_u16..).zip(leases) {
        if *lease == Lease::Free && plan.renew.len() + plan.take.len() < share {
            plan.take.push(shard);
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_instance_takes_all_and_gives_half_to_a_second() {
        let alone = plan(&[Lease::Free; 8], 1);
        assert_eq!(alone.take.len(), 8);
        let crowded = plan(&[Lease::Mine; 8], 2);
        assert_eq!((crowded.renew.len(), crowded.release.len()), (4, 4));
    }

    proptest! {
        #[test]
        fn nobody_steals_and_turns_end_with_all_shards_owned(
            owners in prop::collection::vec(prop::option::of(0..4_usize), 16),
            live in prop::collection::btree_set(0..4_usize, 1..=4),
        ) {
            let mut owners = owners;
            for _ in 0..4 {
                for me in live.iter().copied() {
                    let leases: Vec<_> = owners.iter().map(|it| match it {
                        Some(it) if *it == me => Lease::Mine,
                        // The leases of the dead are over.
                        Some(it) if live.contains(it) => Lease::Theirs,
                        Some(_) | None => Lease::Free,
                    }).collect();
                    let plan = plan(&leases, live.len());
                    let share = owners.len().div_ceil(live.len());
                    prop_assert!(plan.renew.len() + plan.take.len() <= share);
                    for shard in &plan.take {
                        prop_assert_eq!(leases[usize::from(*shard)], Lease::Free);
                        owners[usize::from(*shard)] = Some(me);
                    }
                    for shard in &plan.release {
                        prop_assert_eq!(leases[usize::from(*shard)], Lease::Mine);
                        owners[usize::from(*shard)] = None;
                    }
                }
            }
            prop_assert!(owners.iter().all(|it| it.is_some_and(|it| live.contains(&it))));
        }
    }
}
