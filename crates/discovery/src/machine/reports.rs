//! Which of the callers' reports to pass on: hundreds of calls fail on one instance at once, and
//! the registry needs to hear of it once.
//!
//! | report of an instance | passed on |
//! |---|---|
//! | none passed on within the last second | yes |
//! | one passed on within the last second | no |
//! | more instances reported than are remembered | no |
//!
//! Invariants:
//! - **REPORT-1** Two reports of one instance that are passed on are at least a second apart.
//! - **REPORT-2** At most [`REMEMBERED_MAX`] instances are remembered.

use std::collections::BTreeMap;
use std::time::Duration;

use tradewind_base::Monotonic;

use crate::{InstanceId, ServiceName};

const PAUSE: Duration = Duration::from_secs(1);
/// Most instances with a report in the last second.
pub(crate) const REMEMBERED_MAX: usize = 1024;

/// The reports of the last second.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    last: BTreeMap<(ServiceName, InstanceId), Monotonic>,
}

impl Reports {
    /// Whether a report of the instance is to be passed on now.
    pub(crate) fn admit(&mut self, now: Monotonic, service: &ServiceName, id: &InstanceId) -> bool {
        let key = (service.clone(), id.clone());
        if self.last.get(&key).is_some_and(|it| now.since(*it) < PAUSE) {
            return false;
        }
        if REMEMBERED_MAX <= self.last.len() {
            self.last.retain(|_, it| now.since(*it) < PAUSE);
        }
        if REMEMBERED_MAX <= self.last.len() && !self.last.contains_key(&key) {
            return false;
        }
        self.last.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn service() -> ServiceName {
        ServiceName::parse("order").unwrap()
    }

    fn id(number: u32) -> InstanceId {
        InstanceId::parse(&number.to_string()).unwrap()
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgotten() {
        let mut reports = Reports::default();
        let now = Monotonic::from_millis(0);
        let admitted = (0..2000).filter(|it| reports.admit(now, &service(), &id(*it))).count();
        assert_eq!(admitted, REMEMBERED_MAX);
        assert!(reports.admit(Monotonic::from_millis(1000), &service(), &id(1999)));
        assert_eq!(reports.last.len(), 1);
    }

    proptest! {
        /// REPORT-1, REPORT-2.
        #[test]
        fn one_instance_is_passed_on_once_a_second(
            steps in proptest::collection::vec((0_u32..4, 0_u64..700), 1..100),
        ) {
            let mut reports = Reports::default();
            let mut now = Monotonic::ZERO;
            let mut passed: BTreeMap<u32, Monotonic> = BTreeMap::new();
            for (number, pause) in steps {
                now = now + Duration::from_millis(pause);
                let admitted = reports.admit(now, &service(), &id(number));
                let due = passed.get(&number).is_none_or(|it| PAUSE <= now.since(*it));
                prop_assert_eq!(admitted, due);
                if admitted {
                    passed.insert(number, now);
                }
                prop_assert!(reports.last.len() <= REMEMBERED_MAX);
            }
        }
    }
}
