//! What happens to the processes.

use std::time::Duration;

use tradewind_base::Rng;

use super::{Seed, chance, within};

/// What is done to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL: it is gone in the middle of whatever it does, and started again.
    Kill,
    /// SIGSTOP, and SIGCONT after this time: it goes on where it stood, with an old view of time.
    Freeze(Duration),
    /// SIGTERM: it ends in order, and is started again.
    End,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strike {
    /// After the one before.
    pub pause: Duration,
    /// To which process.
    pub process: &'static str,
    /// What.
    pub blow: Blow,
}

/// The processes of an estate, as `run.json` names them.
pub const PROCESSES: &[&str] = &[
    "registry",
    "broker",
    "inventory-a",
    "inventory-b",
    "points",
    "warehouse-a",
    "warehouse-b",
    "order",
    "gateway",
];

/// The processes of an estate whose orders are decided by the coordinator.
pub const PROCESSES_WITH_COORDINATOR: &[&str] = &[
    "registry",
    "coordinator",
    "broker",
    "inventory-a",
    "inventory-b",
    "points",
    "warehouse-a",
    "warehouse-b",
    "order",
    "gateway",
];

/// The kind of a process: what it is without its letter.
#[must_use]
pub fn kind(process: &str) -> &str {
    process.strip_suffix("-a").or_else(|| process.strip_suffix("-b")).unwrap_or(process)
}

/// Between two strikes, in milliseconds. They overlap: a process that was killed takes about a
/// second to come back, one that is frozen up to [`FREEZE_MS`].
const PAUSE_MS: (u64, u64) = (300, 2400);
/// Short freezes outlast a call, in milliseconds.
const FREEZE_MS: (u64, u64) = (200, 2500);
/// Long ones outlast leases and deadlines too, so that somebody else has taken over meanwhile.
const FREEZE_LONG_MS: (u64, u64) = (5500, 8000);

/// An endless storm, in rounds. Each round kills every process once, freezes most, ends one in
/// order, in an order of its own.
#[derive(Debug)]
pub struct Storm {
    rng: Rng,
    processes: Vec<&'static str>,
    round: Vec<(&'static str, Blow)>,
}

impl Storm {
    /// The storm of a seed over these processes.
    #[must_use]
    pub fn new(seed: Seed, processes: &[&'static str]) -> Self {
        let rng = seed.stream("storm", 0);
        Self { rng, processes: processes.to_vec(), round: Vec::new() }
    }

    fn deal(&mut self) {
        let rng = &mut self.rng;
        let mut round = Vec::new();
        for process in &self.processes {
            round.push((*process, Blow::Kill));
            if chance(rng, 60) {
                let span = if chance(rng, 20) { FREEZE_LONG_MS } else { FREEZE_MS };
                let span = Duration::from_millis(within(rng, span.0, span.1));
                round.push((*process, Blow::Freeze(span)));
            }
        }
        if let Some(process) = self.processes.get(rng.below(self.processes.len())) {
            round.push((*process, Blow::End));
        }
        for last in (1..round.len()).rev() {
            round.swap(last, rng.below(last + 1));
        }
        self.round = round;
    }
}

impl Iterator for Storm {
    type Item = Strike;

    fn next(&mut self) -> Option<Strike> {
        if self.round.is_empty() {
            self.deal();
        }
        let (process, blow) = self.round.pop()?;
        let pause = Duration::from_millis(within(&mut self.rng, PAUSE_MS.0, PAUSE_MS.1));
        Some(Strike { pause, process, blow })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strikes(seed: u64, count: usize) -> Vec<Strike> {
        Storm::new(Seed(seed), PROCESSES).take(count).collect()
    }

    /// CHAOS-1.
    #[test]
    fn the_same_seed_gives_the_same_storm() {
        assert_eq!(strikes(5, 500), strikes(5, 500));
        assert_ne!(strikes(5, 500), strikes(6, 500));
    }

    /// CHAOS-2.
    #[test]
    fn each_round_kills_every_process_once() {
        let mut storm = Storm::new(Seed(9), PROCESSES);
        for _ in 0..20 {
            let mut killed = Vec::new();
            while killed.is_empty() || !storm.round.is_empty() {
                let strike = storm.next().unwrap();
                killed.extend((strike.blow == Blow::Kill).then_some(strike.process));
            }
            killed.sort_unstable();
            let mut all = PROCESSES.to_vec();
            all.sort_unstable();
            assert_eq!(killed, all);
        }
    }

    /// CHAOS-3.
    #[test]
    fn pauses_and_freezes_are_bounded_and_both_lengths_come() {
        let mut long = 0;
        for it in strikes(3, 2000) {
            let pause = u64::try_from(it.pause.as_millis()).unwrap();
            assert!((PAUSE_MS.0..=PAUSE_MS.1).contains(&pause));
            let Blow::Freeze(span) = it.blow else { continue };
            let span = u64::try_from(span.as_millis()).unwrap();
            let is_long = (FREEZE_LONG_MS.0..=FREEZE_LONG_MS.1).contains(&span);
            assert!(is_long || (FREEZE_MS.0..=FREEZE_MS.1).contains(&span), "{span}");
            long += u32::from(is_long);
        }
        assert!(0 < long);
    }

    #[test]
    fn two_instances_are_one_kind() {
        assert_eq!(
            [kind("inventory-a"), kind("warehouse-b"), kind("points")],
            ["inventory", "warehouse", "points"]
        );
    }
}
