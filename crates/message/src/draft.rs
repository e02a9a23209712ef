//! A message before it is written anywhere.

use serde::Serialize;
use serde_json::value::RawValue;
use tradewind_base::{Clock, Problem, Rng};

use crate::wire::{self, BranchMessage, CheckAt, Half, MessageId, Publish};

/// A message on its way into an outbox, a half message or a transaction's branch. Made outside of
/// a transaction's closure, which may run twice: the id must stay the same.
#[derive(Clone, Debug)]
pub struct Draft {
    pub(crate) id: MessageId,
    pub(crate) topic: String,
    pub(crate) key: String,
    pub(crate) kind: String,
    pub(crate) source: String,
    pub(crate) data: Box<RawValue>,
}

/// Why something is no message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DraftError {
    /// The data cannot be written as JSON.
    #[error("the data of the message cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    /// A part breaks the rules of [`crate::wire`].
    #[error("not a message: {0}")]
    Invalid(String),
}

impl Draft {
    /// A message about `key` to `topic`, whose type is the topic's name. `source` says who
    /// publishes: the name of the service.
    ///
    /// # Errors
    /// When a part breaks the rules of [`crate::wire`] or the data is no JSON.
    pub fn new<T: Serialize>(
        clock: &dyn Clock,
        topic: &str,
        key: &str,
        source: &str,
        data: &T,
    ) -> Result<Self, DraftError> {
        let id = MessageId::generate(clock.now(), &mut Rng::from_entropy());
        let data = serde_json::value::to_raw_value(data)?;
        let problem = Problem::new(http::StatusCode::BAD_REQUEST, "message.invalid", "");
        let problem = wire::check_parts(problem, [topic, key, topic, source], &data);
        if let Some(first) = problem.errors.first() {
            return Err(DraftError::Invalid(format!("{} {}", first.field, first.message)));
        }
        let kind = topic.to_owned();
        let (topic, key, source) = (topic.to_owned(), key.to_owned(), source.to_owned());
        Ok(Self { id, topic, key, kind, source, data })
    }

    /// The same with an id of the caller's, so that a repeat is the same message.
    #[must_use]
    pub const fn with_id(mut self, id: MessageId) -> Self {
        self.id = id;
        self
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> MessageId {
        self.id
    }

    /// As the payload of the branch `message` of a transaction. The message then has the id
    /// [`MessageId::of_branch`], whatever the draft's is.
    #[must_use]
    pub fn branch(&self) -> BranchMessage {
        let Self { topic, key, kind, source, data, .. } = self.clone();
        BranchMessage { topic, key, kind, source, data }
    }

    /// As the body of a direct publish.
    #[must_use]
    pub fn publish(&self) -> Publish {
        let Self { id, topic, key, kind, source, data } = self.clone();
        Publish { id, topic, key, kind, source, data }
    }

    pub(crate) fn half(&self, check: CheckAt) -> Half {
        let Self { id, topic, key, kind, source, data } = self.clone();
        Half { id, topic, key, kind, source, data, check }
    }
}
