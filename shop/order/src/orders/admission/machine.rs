//! How many orders may be in the making at once, and how long one waits for its turn, without IO.
//!
//! Orders that share a machine slow each other down. When so many are begun that none is decided
//! in its time, all the work is for nothing; a service that lets in fewer decides more. How many
//! are right nobody knows beforehand, so the number of places follows what comes of them:
//!
//! | an order ends | places |
//! |---|---|
//! | in time, and all places were taken | one more for as many such ends as there are places |
//! | in time, and places were free | as they are: nothing was learnt |
//! | late | half, once for all that were in the making then |
//! | otherwise (refused, repeated, given up by the client) | as they are |
//!
//! Who finds no place waits in a queue. One that empties again is a burst, and waiting gets everybody
//! in. One that stands for as long as anybody waits has more coming than going: who waits long in it
//! gets in no sooner than who waits briefly, and all of them still stand there when the reason is
//! gone. So it is kept short:
//!
//! | the queue | who joins it waits no longer than |
//! |---|---|
//! | was empty less than the whole patience ago | the whole patience |
//! | has stood for longer | a tenth of it, until the queue is empty again |
//!
//! Invariants:
//!
//! 1. There are never fewer places than `least`, nor more than `most`.
//! 2. No order is let in while as many are in the making as there are places.
//! 3. Orders that began before places were taken away take none away again.
//! 4. Nobody waits longer than the whole patience; who finds the queue empty may wait as long.

use std::time::Duration;

/// The part of the whole patience that is left for a queue that stands.
const STANDING: u32 = 10;

/// What came of an order that was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Placed, in its time.
    Timely,
    /// Its time ran out, or somebody it needs did not answer.
    Late,
    /// Anything that says nothing of the load.
    Other,
}

/// How long the queue has not been empty. Times are since any one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Queue {
    since: Option<Duration>,
}

impl Queue {
    /// Somebody joins it at `now`: how much of the `whole` patience that one may have.
    pub(crate) fn join(&mut self, now: Duration, whole: Duration) -> Duration {
        let since = *self.since.get_or_insert(now);
        if now.saturating_sub(since) < whole { whole } else { whole / STANDING }
    }

    /// Nobody waits.
    pub(crate) const fn emptied(&mut self) {
        self.since = None;
    }
}

/// The places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    least: u32,
    most: u32,
    places: u32,
    taken: u32,
    /// Timely ends in a row while all places were taken.
    timely: u32,
    /// Orders still in the making that were when places were last taken away.
    before: u32,
}

impl Places {
    /// Begins with `first` places.
    pub(crate) fn new(least: u32, first: u32, most: u32) -> Self {
        let least = least.max(1);
        let most = most.max(least);
        let places = first.clamp(least, most);
        Self { least, most, places, taken: 0, timely: 0, before: 0 }
    }

    /// Whether there is a place.
    pub(crate) const fn room(&self) -> bool {
        self.taken < self.places
    }

    /// Takes a place, if there is one.
    pub(crate) const fn enter(&mut self) -> bool {
        let room = self.room();
        if room {
            self.taken += 1;
        }
        room
    }

    /// Leaves a place.
    pub(crate) fn leave(&mut self, end: End) {
        let full = self.places <= self.taken;
        self.taken = self.taken.saturating_sub(1);
        let begun_before = 0 < self.before;
        self.before = self.before.saturating_sub(1);
        match end {
            End::Timely if full => {
                self.timely += 1;
                if self.places <= self.timely {
                    self.timely = 0;
                    self.places = (self.places + 1).min(self.most);
                }
            }
            End::Late if !begun_before => {
                self.timely = 0;
                self.before = self.taken;
                self.places = (self.places / 2).max(self.least);
            }
            End::Timely | End::Late | End::Other => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn full(mut it: Places) -> Places {
        while it.enter() {}
        it
    }

    #[test]
    fn late_orders_halve_the_places_once_for_all_that_were_there() {
        let mut it = full(Places::new(2, 16, 64));
        for _ in 0..16 {
            it.leave(End::Late);
        }
        assert_eq!(it.places, 8);
        it = full(it);
        it.leave(End::Late);
        assert_eq!(it.places, 4, "a later order that is late says it again");
    }

    #[test]
    fn timely_orders_earn_a_place_only_while_all_are_taken() {
        let mut it = full(Places::new(2, 4, 64));
        for _ in 0..4 {
            it.leave(End::Timely);
            it.enter();
        }
        assert_eq!(it.places, 5);
        let mut idle = Places::new(2, 4, 64);
        for _ in 0..100 {
            idle.enter();
            idle.leave(End::Timely);
        }
        assert_eq!(idle.places, 4);
    }

    #[test]
    fn a_queue_that_stands_is_kept_short_until_it_is_empty() {
        let (mut queue, ms) = (Queue::default(), Duration::from_millis);
        let join = |queue: &mut Queue, now| queue.join(ms(now), ms(500));
        for now in [1000, 1200, 1499] {
            assert_eq!(join(&mut queue, now), ms(500), "a burst, at {now}");
        }
        for now in [1500, 9000] {
            assert_eq!(join(&mut queue, now), ms(50), "it stands, at {now}");
        }
        queue.emptied();
        assert_eq!(join(&mut queue, 9001), ms(500));
        assert_eq!(join(&mut queue, 9501), ms(50), "it stands again");
        assert_eq!(queue.join(ms(3), Duration::ZERO), Duration::ZERO);
    }

    proptest! {
        /// Invariants 1 and 2, over any history; and places come back when all goes well.
        #[test]
        fn places_stay_within_their_bounds(steps in prop::collection::vec(0..4_u8, 0..400)) {
            let mut it = Places::new(3, 10, 40);
            for step in steps {
                let before = it;
                if step == 0 {
                    prop_assert_eq!(it.enter(), before.taken < before.places);
                } else if 0 < it.taken {
                    let end = [End::Timely, End::Late, End::Other][usize::from(step - 1)];
                    it.leave(end);
                }
                prop_assert!((3..=40).contains(&it.places));
                prop_assert!(it.taken <= before.taken.max(before.places));
            }
            for _ in 0..2000 {
                it = full(it);
                it.leave(End::Timely);
            }
            prop_assert_eq!(it.places, 40);
        }
    }
}
