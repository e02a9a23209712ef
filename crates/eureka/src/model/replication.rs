//! What peers tell each other in one batch.

use std::sync::Arc;

use crate::{Instance, Status};

/// What a peer did. Names are case-sensitive on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplicationAction {
    /// The lease was renewed.
    Heartbeat,
    /// The instance registered; the item carries it.
    Register,
    /// The lease was cancelled.
    Cancel,
    /// An override was set.
    StatusUpdate,
    /// The override was taken away.
    DeleteStatusOverride,
}

impl ReplicationAction {
    /// Every action.
    pub const ALL: [Self; 5] = [
        Self::Heartbeat,
        Self::Register,
        Self::Cancel,
        Self::StatusUpdate,
        Self::DeleteStatusOverride,
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Heartbeat => "Heartbeat",
            Self::Register => "Register",
            Self::Cancel => "Cancel",
            Self::StatusUpdate => "StatusUpdate",
            Self::DeleteStatusOverride => "DeleteStatusOverride",
        }
    }

    /// The action of this exact name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == name)
    }
}

/// One change that a peer passes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicationInstance {
    /// The application, upper case.
    pub app_name: String,
    /// The instance's [effective id](Instance::effective_id).
    pub id: String,
    /// The client's time of its last change, Unix milliseconds.
    pub last_dirty_ts: Option<i64>,
    /// The override at the sender.
    pub overridden_status: Option<Status>,
    /// The status at the sender, or the new override of a status update.
    pub status: Option<Status>,
    /// The instance itself; only with [`ReplicationAction::Register`].
    pub instance: Option<Arc<Instance>>,
    /// What happened.
    pub action: ReplicationAction,
}

/// A batch of changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicationList {
    /// The changes in the order they must be applied.
    pub items: Vec<ReplicationInstance>,
}

/// The answer to one change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicationResult {
    /// The HTTP status the change would have got alone.
    pub status_code: u16,
    /// The receiver's newer copy, with 409.
    pub instance: Option<Arc<Instance>>,
}

/// The answers to a batch: as many as it had changes, in the same order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicationResponse {
    /// The answers.
    pub results: Vec<ReplicationResult>,
}
