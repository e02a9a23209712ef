//! Whose turn it is, leaving out who failed.

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
/// Which of the instances that are equally fit takes a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// Each in turn.
    #[default]
    RoundRobin,
    /// The one with the fewest calls of this channel under way; of several the one that was taken
    /// last. As long as one instance keeps up it gets all calls, and with more load more of them
    /// work: for callers whose calls gain by going where the last one went, since what it needed is
    /// still in that instance's caches, or since they share a commit there.
    LeastOutstanding,
}

/// Takes instances in turn, or whichever has least to do.
#[derive(Clone, Debug)]
pub struct Balancer {
    balance: Balance,
    next: usize,
}

impl Balancer {
    /// Begins at `offset` (taken modulo the number of instances). Choose it at random: callers
    /// that start together would otherwise all begin with the same instance.
    #[must_use]
    pub const fn starting_at(balance: Balance, offset: usize) -> Self {
        Self { balance, next: offset }
    }

    /// The index of the instance to take among `count`, or none if there are none. `outstanding` is
    /// how many calls each has under way.
    pub fn choose(
        &mut self,
        count: usize,
        standing: impl Fn(usize) -> Standing,
        outstanding: impl Fn(usize) -> usize,
    ) -> Option<usize> {
        let start = self.next.checked_rem(count)?;
        let load = |index| match self.balance {
            Balance::RoundRobin => 0,
            Balance::LeastOutstanding => outstanding(index),
        };
        let mut best: Option<((Standing, usize), usize)> = None;
        for index in (start..count).chain(0..start) {
            let here = (standing(index), load(index));
            if best.is_none_or(|(other, _)| here < other) {
                best = Some((here, index));
            }
            if here == (Standing::Free, 0) {
                break;
            }
        }
        let (_, index) = best?;
        self.next = match self.balance {
            // From the chosen one on, not from the start: else the one behind a left-out instance
            // would get its share as well.
            Balance::RoundRobin => index + 1,
            Balance::LeastOutstanding => index,
        };
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

    const fn in_turn(offset: usize) -> Balancer {
        Balancer::starting_at(Balance::RoundRobin, offset)
    }

    #[test]
    fn callers_that_start_apart_begin_apart() {
        let first = |offset| in_turn(offset).choose(3, |_| Standing::Free, |_| 0);
        assert_eq!([first(0), first(4), first(usize::MAX)], [Some(0), Some(1), Some(0)]);
    }

    #[test]
    fn a_list_that_shrinks_is_no_trouble() {
        for balance in [Balance::RoundRobin, Balance::LeastOutstanding] {
            let mut balancer = Balancer::starting_at(balance, 7);
            assert_eq!(balancer.choose(8, |_| Standing::Free, |_| 0), Some(7));
            assert_eq!(balancer.choose(1, |_| Standing::Free, |_| 0), Some(0));
            assert_eq!(balancer.choose(0, |_| Standing::Free, |_| 0), None);
        }
    }

    proptest! {
        /// BAL-1, BAL-2 and BAL-3.
        #[test]
        fn the_best_are_taken_in_turn(list in standings(), offset: usize, rounds in 1_usize..5) {
            let mut balancer = in_turn(offset);
            let Some(best) = list.iter().min() else {
                prop_assert_eq!(balancer.choose(0, |_| Standing::Free, |_| 0), None);
                return Ok(());
            };
            let count = list.iter().filter(|it| *it == best).count();
            let mut taken = vec![0_usize; list.len()];
            for _ in 0..count * rounds {
                // What is under way does not matter to it.
                let index = balancer.choose(list.len(), |it| list[it], |it| it);
                taken[index.unwrap()] += 1;
            }
            for (standing, times) in list.iter().zip(taken) {
                prop_assert_eq!(times, if standing == best { rounds } else { 0 });
            }
        }

        /// BAL-1, BAL-2, BAL-4 and BAL-5: calls come and end as `ends` says.
        #[test]
        fn the_one_with_the_least_to_do_is_taken(
            list in standings(),
            offset: usize,
            ends in vec(prop::option::of(0_usize..12), 1..40),
        ) {
            let mut balancer = Balancer::starting_at(Balance::LeastOutstanding, offset);
            let mut calls = vec![0_usize; list.len()];
            let mut last = None;
            for end in ends {
                let index = balancer.choose(list.len(), |it| list[it], |it| calls[it]);
                let rank = |it: usize| (list[it], calls[it]);
                let best = (0..list.len()).map(rank).min();
                prop_assert_eq!(index.map(rank), best);
                let Some(index) = index else { return Ok(()) };
                if let Some(last) = last.filter(|it| Some(rank(*it)) == best) {
                    prop_assert_eq!(index, last, "no reason to go elsewhere");
                }
                last = Some(index);
                calls[index] += 1;
                if let Some(end) = end {
                    let end = end % list.len();
                    calls[end] = calls[end].saturating_sub(1);
                }
            }
        }
    }
}
