//! A hold, as its user sees it.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tradewind_base::Clock;

use crate::error::{Lost, ReleaseError};
use crate::machine::lease::{Hold, Loss, Next};
use crate::name::{LockName, Names, Token};

/// How a release ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// The names are free.
    Freed,
    /// The hold had been lost before; nothing of another owner was touched.
    AlreadyLost,
}

/// What the guard and its keeper share.
pub(crate) struct Held {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) hold: Mutex<Hold>,
    pub(crate) lost: CancellationToken,
}

impl Held {
    /// What the keeper does next; tells everybody when the hold is lost.
    pub(crate) fn next(&self) -> Next {
        self.change(|_| ())
    }

    /// Changes the hold and tells everybody when it is lost.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Hold)) -> Next {
        let mut hold = self.hold.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut hold);
        let next = hold.next(self.clock.monotonic());
        drop(hold);
        if matches!(next, Next::Lost(_)) {
            self.lost.cancel();
        }
        next
    }
}

/// The way from the guard to its keeper: a wish to be answered, or its end.
pub(crate) type End = oneshot::Sender<oneshot::Sender<Result<Released, ReleaseError>>>;

/// Names that are held until the guard is released or dropped, or the hold is lost.
///
/// Dropping it frees the names in the background; [`Guard::release`] waits until that is done and
/// tells whether the hold lasted. It belongs to no task: it can be sent anywhere.
#[must_use = "dropping the guard frees the names"]
pub struct Guard {
    names: Names,
    tokens: Vec<Token>,
    held: Arc<Held>,
    end: Option<End>,
}

impl Guard {
    pub(crate) const fn new(names: Names, tokens: Vec<Token>, held: Arc<Held>, end: End) -> Self {
        Self { names, tokens, held, end: Some(end) }
    }

    /// The token of the first name: of the only one, if one was asked for.
    #[must_use]
    pub fn token(&self) -> Token {
        self.tokens.first().copied().unwrap_or(Token::ZERO)
    }

    /// The token of `name`; `None` when the guard does not hold it.
    #[must_use]
    pub fn token_of(&self, name: &str) -> Option<Token> {
        self.names.position(name).and_then(|it| self.tokens.get(it).copied())
    }

    /// The names, sorted, each with its token.
    pub fn tokens(&self) -> impl Iterator<Item = (&LockName, Token)> {
        self.names.iter().zip(self.tokens.iter().copied())
    }

    /// Is cancelled when the hold can no longer be guaranteed, before anybody else can have it.
    ///
    /// A process that is paused learns of it when it goes on; what it does until the next check is
    /// refused by the resource, which has seen a higher token.
    #[must_use]
    pub fn lost(&self) -> &CancellationToken {
        &self.held.lost
    }

    /// Whether the hold is guaranteed at this moment. Asks the clock itself: right also when the
    /// process was paused and no task has run since.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !matches!(self.held.next(), Next::Lost(_))
    }

    /// Why it was lost, if it was.
    #[must_use]
    pub fn loss(&self) -> Option<Loss> {
        match self.held.next() {
            Next::Lost(loss) => Some(loss),
            Next::Renew(_) | Next::End(_) => None,
        }
    }

    /// How long it is guaranteed without a further renewal.
    #[must_use]
    pub fn left(&self) -> Duration {
        let now = self.held.clock.monotonic();
        self.held.hold.lock().unwrap_or_else(PoisonError::into_inner).left(now)
    }

    /// Runs `work` as long as the hold is guaranteed.
    ///
    /// # Errors
    /// When the hold is lost first; `work` is dropped then, at its next point of waiting.
    pub async fn run<F: Future>(&self, work: F) -> Result<F::Output, Lost> {
        let done = self.held.lost.run_until_cancelled(work).await;
        match (done, self.loss()) {
            (Some(done), None) => Ok(done),
            (_, loss) => Err(Lost(loss.unwrap_or(Loss::Expired))),
        }
    }

    /// Frees the names and waits until the store knows.
    ///
    /// # Errors
    /// When the store could not be told; the lease ends by itself then.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the release.
    pub async fn release(mut self) -> Result<Released, ReleaseError> {
        let (sender, receiver) = oneshot::channel();
        // A keeper that has ended did so with its server.
        let told = self.end.take().is_some_and(|end| end.send(sender).is_ok());
        if !told {
            return Err(ReleaseError::NotTold);
        }
        receiver.await.unwrap_or(Err(ReleaseError::NotTold))
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("names", &self.names).field("tokens", &self.tokens).finish()
    }
}
