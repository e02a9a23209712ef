//! Round robin that leaves out who failed.

/// How an instance stands towards one call, from the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Nothing against it.
    Free,
    /// It failed a moment ago, in this or another call.
    Ejected,
    /// This call has tried it already.
    Tried,
}

/// Takes instances in turn.
#[derive(Clone, Debug)]
pub struct RoundRobin {
    next: usize,
}

impl RoundRobin {
    /// Begins at `offset` (taken modulo the number of instances). Choose it at random: callers
    /// that start together would otherwise all begin with the same instance.
    #[must_use]
    pub const fn starting_at(offset: usize) -> Self {
        Self { next: offset }
    }

    /// The index of the instance to take among `count`, or none if there are none.
    pub fn choose(&mut self, count: usize, standing: impl Fn(usize) -> Standing) -> Option<usize> {
        let start = self.next.checked_rem(count)?;
        let mut best: Option<(Standing, usize)> = None;
        for index in (start..count).chain(0..start) {
            let here = standing(index);
            if best.is_none_or(|(other, _)| here < other) {
                best = Some((here, index));
            }
            if here == Standing::Free {
                break;
            }
        }
        // From the chosen one on, not from the start: else the one behind a left-out instance
        // would get its share as well.
        let (_, index) = best?;
        self.next = index + 1;
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn standings() -> impl Strategy<Value = Vec<Standing>> {
        let one = prop_oneof![Just(Standing::Free), Just(Standing::Ejected), Just(Standing::Tried)];
        vec(one, 0..12)
    }

    #[test]
    fn callers_that_start_apart_begin_apart() {
        let first = |offset| RoundRobin::starting_at(offset).choose(3, |_| Standing::Free);
        assert_eq!([first(0), first(4), first(usize::MAX)], [Some(0), Some(1), Some(0)]);
    }

    #[test]
    fn a_list_that_shrinks_is_no_trouble() {
        let mut balancer = RoundRobin::starting_at(7);
        assert_eq!(balancer.choose(8, |_| Standing::Free), Some(7));
        assert_eq!(balancer.choose(1, |_| Standing::Free), Some(0));
        assert_eq!(balancer.choose(0, |_| Standing::Free), None);
    }

    proptest! {
        /// BAL-1, BAL-2 and BAL-3.
        #[test]
        fn the_best_are_taken_in_turn(list in standings(), offset: usize, rounds in 1_usize..5) {
            let mut balancer = RoundRobin::starting_at(offset);
            let Some(best) = list.iter().min() else {
                prop_assert_eq!(balancer.choose(0, |_| Standing::Free), None);
                return Ok(());
            };
            let count = list.iter().filter(|it| *it == best).count();
            let mut taken = vec![0_usize; list.len()];
            for _ in 0..count * rounds {
                let index = balancer.choose(list.len(), |it| list[it]);
                taken[index.unwrap()] += 1;
            }
            for (standing, times) in list.iter().zip(taken) {
                prop_assert_eq!(times, if standing == best { rounds } else { 0 });
            }
        }
    }
}
