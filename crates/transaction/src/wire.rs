//! What initiators and participants say to each other: JSON over HTTP, between services only.
//!
//! | request | answers |
//! |---|---|
//! | `POST /tcc/{action}/try` [`Try`] | 200 [`Done`]; 409 [`REFUSED`], [`SUSPENDED`], [`EXPIRED`], [`ENDED`], [`MISMATCH`]: definite; 425 later |
//! | `POST /tcc/{action}/confirm`, `/cancel` [`Second`] | 200 [`Done`], also for repeats; 409 [`CONFLICT`], [`NO_TRY`]: alarm; 425 later |
//! | `POST /tcc/{action}/close` [`Second`] | 200 [`Closed`]: whether it is tried; if not, it never will be; 409 [`MISMATCH`], [`ENDED`]: alarm |
//! | `POST /tcc/{action}/trys` [`Trys`], `/confirms` [`Confirms`] | 200 [`DoneTogether`]: which of them were done; each of the others is asked alone, and a service that does not know these is always asked so |
//! | `GET /tcc/outcome/{xid}` | 200 [`Outcome`] |
//! | `GET /tcc/stuck` | 200 [`Stuck`] |
//!
//! A Try is also refused for good by any other problem document with a 4xx status but 408, 425 and
//! 429. Every other answer, and none, is unknown.

pub mod coordinator;
mod payload;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tradewind_base::id::Xid;

pub use payload::Payload;

/// The code of a business refusal. `type` names the participant's own code.
pub const REFUSED: &str = "tcc.refused";
/// The code of a Try that came after its Cancel or Close.
pub const SUSPENDED: &str = "tcc.suspended";
/// The code of a Try that came after its deadline, or whose deadline is too far ahead.
pub const EXPIRED: &str = "tcc.expired";
/// The code of a Try of a branch that has ended.
pub const ENDED: &str = "tcc.ended";
/// The code of a call whose xid and branch belong to something else.
pub const MISMATCH: &str = "tcc.mismatch";
/// The code of a Confirm after Cancel or the reverse.
pub const CONFLICT: &str = "tcc.conflict";
/// The code of a Confirm without a Try.
pub const NO_TRY: &str = "tcc.no-try";
/// The code of "ask again later".
pub const NOT_YET: &str = "tcc.not-yet";

/// The body of a Try. Who is asked reads the payload; who asks passes on a [`Payload`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Try<P = Value> {
    /// The transaction.
    pub xid: Xid,
    /// The branch's number within it.
    pub branch: u16,
    /// The service that decides.
    pub initiator: String,
    /// Wall time in milliseconds after which this Try must be refused.
    pub deadline_ms: i64,
    /// What is to be reserved, as the action defines it.
    pub payload: P,
}

/// The body of a Confirm, Cancel or Close.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Second {
    /// The transaction.
    pub xid: Xid,
    /// The branch's number within it.
    pub branch: u16,
    /// The service that decides.
    pub initiator: String,
}

/// The answer of a call that was carried out, now or before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// `tried`, `confirmed` or `cancelled`.
    pub state: String,
}

/// The answer to a Close, the same for ever unless the transaction is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// `false`: there was no Try, and one that comes later is refused.
    pub tried: bool,
}

/// Several Trys of one action, which stand and fall each for itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trys<P = Value> {
    /// At most [`Trys::MAX`].
    pub branches: Vec<Try<P>>,
    /// The trace that each goes on in, as the header `traceparent` has it; empty where there is
    /// none.
    #[serde(default)]
    pub traces: Vec<String>,
}

impl<P> Trys<P> {
    /// Most branches of one request: somebody waits for each of them.
    pub const MAX: usize = 16;
}

/// Several Confirms of one action, which stand and fall each for itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirms {
    /// At most [`Confirms::MAX`].
    pub branches: Vec<Second>,
}

impl Confirms {
    /// Most branches of one request.
    pub const MAX: usize = 64;
}

/// Which of [`Trys`] or [`Confirms`] were carried out, now or before, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoneTogether {
    /// `false`: ask alone, the answer says why.
    pub done: Vec<bool>,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Confirm.
    Committed,
    /// Cancel.
    Aborted,
    /// Neither yet.
    Undecided,
}

/// The answer to the question for a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The transaction.
    pub xid: Xid,
    /// What was decided.
    pub decision: Decision,
}

/// A branch that a human should look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StuckBranch {
    /// Its transaction.
    pub xid: Xid,
    /// The transaction's name.
    pub name: String,
    /// What was decided.
    pub decision: Decision,
    /// Its number.
    pub branch: u16,
    /// The service that is asked.
    pub service: String,
    /// The action that is asked for.
    pub action: String,
    /// What failed last.
    pub reason: String,
    /// Failed attempts.
    pub attempts: u32,
    /// Wall time in milliseconds of the next attempt.
    pub next_attempt_ms: i64,
}

/// The list for a human, at most [`Stuck::MAX`] branches of the oldest transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stuck {
    /// The branches.
    pub branches: Vec<StuckBranch>,
}

impl Stuck {
    /// Most transactions that one answer covers.
    pub const MAX: u32 = 100;
}
