//! What an initiator and the coordinator say to each other, under `/coordinator/v1`. The codes of
//! refusals are in [`crate::machine::asked`].

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tradewind_base::Problem;
use tradewind_base::id::Xid;

use crate::machine::global::Phase;

/// The name of the service, and of the initiator that its participants see.
pub const SERVICE: &str = "coordinator";

/// The number of the branch that the initiator itself is: the one after the last that any other
/// branch can have.
pub const OWN_BRANCH: u16 = 33;

/// A transaction that is to begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    /// Its id; without one the coordinator chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xid: Option<Xid>,
    /// What it is called: 1 to 40 lower-case letters, digits, `-` and `.`.
    pub name: String,
    /// How long its branches have to answer, in milliseconds.
    pub limit_ms: u64,
    /// Its branches, numbered from 1.
    pub branches: Vec<Branch>,
    /// The action of the branch in the calling service itself, which is reserved already: it is
    /// not tried, and confirmed or cancelled like the others, as number [`OWN_BRANCH`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<String>,
}

/// A branch that is to be tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Branch {
    /// The service.
    pub service: String,
    /// The action of that service.
    pub action: String,
    /// What it is to reserve.
    pub payload: Value,
}

/// The body of `POST …/{xid}/try`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Try {
    /// The transaction, which begins first unless it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin: Option<Begin>,
}

/// The body of `POST …/{xid}/abort`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Abort {
    /// Why, for the log.
    pub reason: String,
}

/// How far a transaction is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Its id.
    pub xid: Xid,
    /// What it is called; empty when it was given up before it began.
    pub name: String,
    /// How far it is.
    pub phase: Phase,
    /// When it began, in milliseconds of wall time.
    pub begun_ms: i64,
    /// Until when it can be committed.
    pub deadline_ms: i64,
}

/// What came of trying.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// In a word.
    pub outcome: Outcome,
    /// The number of the branch that did not reserve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<u16>,
    /// Its service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Box<Problem>>,
}

/// What came of trying, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every branch holds its reservation.
    Reserved,
    /// A branch said no.
    Refused,
    /// A branch did not answer in time.
    Unavailable,
}
