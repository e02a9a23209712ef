//! The bounds of calls to one service.

use std::time::Duration;

use crate::machine::balancer::Balance;
use crate::machine::budget::BudgetConfig;
use crate::machine::ejection::EjectionConfig;
use crate::machine::schedule::Rules;

/// How a [`Channel`](crate::Channel) calls its service: the total time first, then what happens
/// within it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Which of the instances that are equally fit takes a call.
    pub balance: Balance,
    /// From the start of one attempt until a connection is ready.
    pub connect: Duration,
    /// From sending the request until the head of the answer, and between pieces of its body.
    pub read: Duration,
    /// The whole call: all attempts and waits. The deadline of the request that is being served
    /// cuts it, a method's own `timeout` replaces it.
    pub total: Duration,
    /// Further attempts on the same instance, of idempotent methods.
    pub retries_same: u32,
    /// Further instances for idempotent methods after an attempt that may have reached one. An
    /// attempt that sent nothing always moves on, whatever the method, and is not counted here.
    pub retries_next: u32,
    /// How many retries all calls together may make.
    pub budget: BudgetConfig,
    /// How long an instance that cannot be reached is left out.
    pub ejection: EjectionConfig,
    /// Most bytes of an answer's body.
    pub body_max: usize,
}

impl Default for Policy {
    /// Instances in turn; one second to connect, four to the answer, ten in all; one retry, on the next instance;
    /// bodies up to 4 MiB.
    fn default() -> Self {
        Self {
            balance: Balance::RoundRobin,
            connect: Duration::from_secs(1),
            read: Duration::from_secs(4),
            total: Duration::from_secs(10),
            retries_same: 0,
            retries_next: 1,
            budget: BudgetConfig::default(),
            ejection: EjectionConfig::default(),
            body_max: 4 * 1024 * 1024,
        }
    }
}

impl Policy {
    pub(crate) fn rules(&self) -> Rules {
        Rules {
            retries_same: self.retries_same,
            retries_next: self.retries_next,
            ..Rules::default()
        }
    }

    /// The time limits of an attempt with `left` of the total time.
    pub(crate) fn limits(&self, left: Duration) -> tradewind_http::Limits {
        tradewind_http::Limits {
            connect: self.connect.min(left),
            head: self.read.min(left),
            body_idle: self.read.min(left),
        }
    }
}
