//! The circuit of one subscription: a dead subscriber gets one attempt at a time.

use std::time::Duration;

use tradewind_base::Monotonic;

/// Failures in a row after which the circuit opens.
pub const FAILURES: u32 = 5;
/// The first pause of an open circuit.
pub const COOL_FIRST: Duration = Duration::from_millis(500);
/// The longest pause of an open circuit.
pub const COOL_MAX: Duration = Duration::from_secs(5);

/// Closed at first; open after [`FAILURES`] failures in a row, for a pause that doubles; then one
/// attempt decides.
#[derive(Clone, Debug, Default)]
pub struct Circuit {
    failures: u32,
    open: Option<Open>,
}

#[derive(Clone, Debug)]
struct Open {
    until: Monotonic,
    pause: Duration,
    probing: bool,
}

impl Circuit {
    /// How many of `wanted` attempts may begin now.
    #[must_use]
    pub fn allows(&self, wanted: usize, now: Monotonic) -> usize {
        match &self.open {
            None => wanted,
            Some(open) if open.probing || now < open.until => 0,
            Some(_) => wanted.min(1),
        }
    }

    /// An attempt begins.
    pub const fn begun(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = true;
        }
    }

    /// An attempt was given up before it told anything.
    pub const fn dropped(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = false;
        }
    }

    /// The subscriber answered in a way that shows it is alive. `true` when that closed the
    /// circuit.
    pub fn answered(&mut self) -> bool {
        self.failures = 0;
        self.open.take().is_some()
    }

    /// It did not answer, or with a fault. `true` when that opened the circuit.
    pub fn failed(&mut self, now: Monotonic) -> bool {
        self.failures = self.failures.saturating_add(1);
        if let Some(open) = &mut self.open {
            // Those that were on their way when it opened say nothing new.
            if open.probing {
                open.pause = (open.pause * 2).min(COOL_MAX);
                open.until = now + open.pause;
                open.probing = false;
            }
            return false;
        }
        if self.failures < FAILURES {
            return false;
        }
        self.open = Some(Open { until: now + COOL_FIRST, pause: COOL_FIRST, probing: false });
        true
    }

    /// Something changed about the subscriber: the next attempt need not wait.
    pub fn hope(&mut self, now: Monotonic) {
        if let Some(open) = &mut self.open {
            open.until = now.min(open.until);
            open.pause = COOL_FIRST;
        }
    }

    /// Whether it is open.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.open.is_some()
    }
}
