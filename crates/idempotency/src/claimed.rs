//! What the layer hands to the handler.

use axum::extract::FromRequestParts;
use http::request::Parts;
use tradewind_base::Problem;
use tradewind_service::Failure;
use tradewind_sql::Transaction;

use crate::answer::StoredAnswer;
use crate::key::Key;
use crate::machine::{Fence, Terms};
use crate::store::{self, Attempt, StoreError};

/// The claim under which a handler works; an extractor behind [`crate::IdempotencyLayer`].
///
/// Call [`Claimed::finish`] in the transaction of the effect: then effect and answer stand or fall
/// together, whatever happens to this process.
#[derive(Clone, Debug)]
pub struct Claimed {
    pub(crate) attempt: Attempt,
    pub(crate) fence: Fence,
    pub(crate) terms: Terms,
}

impl Claimed {
    /// Stores the answer that repeats will get.
    ///
    /// # Errors
    /// When the transaction must not be committed: see [`store::finish`]. On
    /// [`StoreError::AlreadyDone`] the effect stands; answer a transient failure and the repeat
    /// gets the stored answer.
    pub fn finish(
        &self,
        tx: &mut Transaction<'_>,
        answer: &StoredAnswer,
    ) -> Result<(), StoreError> {
        let now = store::now(tx)?;
        store::finish(tx, &self.attempt, self.fence, answer, now, &self.terms)
    }

    /// The client's key, from which to derive keys for effects elsewhere ([`Key::child`]).
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.attempt.key
    }

    /// The fence of this attempt.
    #[must_use]
    pub const fn fence(&self) -> Fence {
        self.fence
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Claimed {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            tracing::error!("a handler asks for a claim on a route without the layer for it");
            Problem::internal().into()
        })
    }
}
