//! The task behind a guard: it renews, notices the loss, and releases.
//!
//! One task does all three, so a renewal can never outlive its release.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::error::{ReleaseError, StoreError};
use crate::guard::{Held, Released};
use crate::leased::Shared;
use crate::machine::lease::{Loss, Next};
use crate::name::Token;
use crate::place::Place;
use crate::store::LeaseStore;

/// A release is tried at least this long, however short the lease.
const RELEASE_MIN: Duration = Duration::from_secs(2);

type Wish = oneshot::Sender<Result<Released, ReleaseError>>;

/// How long a server that is ending waits for its holders to let go.
const GRACE: Duration = Duration::from_secs(1);

pub(crate) struct Keeper<S> {
    pub(crate) shared: Arc<Shared<S>>,
    pub(crate) place: Place,
    pub(crate) owner: String,
    pub(crate) tokens: Vec<Token>,
    pub(crate) held: Arc<Held>,
    pub(crate) end: oneshot::Receiver<Wish>,
}

impl<S: LeaseStore> Keeper<S> {
    /// Keeps the hold until its guard is done with it.
    pub(crate) async fn keep(mut self, stop: CancellationToken) {
        let wish = loop {
            let until = match self.held.next() {
                Next::Renew(at) | Next::End(at) => at.since(self.shared.clock.monotonic()),
                Next::Lost(loss) => return self.mourn(loss, &stop).await,
            };
            tokio::select! {
                biased;
                // The sender is dropped with the guard: nobody waits for the answer then.
                wish = &mut self.end => break wish.ok(),
                () = stop.cancelled() => {
                    self.held.change(|it| it.lose(Loss::Stopped));
                    continue;
                }
                () = tokio::time::sleep(until) => {}
            }
            // Sleeping until the end of the lease leaves nothing to renew.
            if let Next::Renew(at) = self.held.next()
                && at <= self.shared.clock.monotonic()
                && let Some(wish) = self.renew().await
            {
                break wish;
            }
        };
        let done = self.release().await;
        // Before the answer, so that who asks again after it finds the line empty.
        drop(self.place);
        answer(wish, done);
    }

    /// Renews once; answers with the end of the guard if that came meanwhile.
    async fn renew(&mut self) -> Option<Option<Wish>> {
        let sent = self.shared.clock.monotonic();
        let left = match self.held.next() {
            Next::Lost(_) => return None,
            Next::Renew(_) | Next::End(_) => {
                let hold = self.held.hold.lock();
                hold.map_or(Duration::ZERO, |it| it.left(sent))
            }
        };
        let (store, terms) = (&self.shared.store, self.shared.terms);
        let work = store.renew(&self.owner, &self.place.names, &self.tokens, terms.lease());
        let renewed = tokio::select! {
            biased;
            wish = &mut self.end => return Some(wish.ok()),
            renewed = tokio::time::timeout(left, work) => renewed,
        };
        let now = self.shared.clock.monotonic();
        match renewed {
            Ok(Ok(true)) => self.held.change(|it| it.renewed(sent, now)),
            Ok(Ok(false)) => self.held.change(|it| it.lose(Loss::Taken)),
            Ok(Err(error)) => {
                self.warn(&error);
                self.held.change(|it| it.failed(now))
            }
            // The lease ends before the store answers.
            Err(_) => self.held.change(|it| it.failed(now)),
        };
        None
    }

    /// The hold is lost: lets others of this process pass, and waits for the guard to go.
    async fn mourn(self, loss: Loss, stop: &CancellationToken) {
        tracing::warn!(lock.names = %self.place.names, reason = %loss, "lost a lock");
        let Self { shared, place, owner, mut end, .. } = self;
        let names = place.names.clone();
        drop(place);
        let wish = tokio::select! {
            biased;
            wish = &mut end => wish.ok(),
            () = async {
                stop.cancelled().await;
                tokio::time::sleep(GRACE).await;
            } => return,
        };
        // The row may still be ours: its lease ends later than our belief.
        // That it was lost is certain whether or not the store can be told.
        drop(release(&shared, &owner, &names).await);
        answer(wish, Ok(Released::AlreadyLost));
    }

    async fn release(&self) -> Result<Released, ReleaseError> {
        release(&self.shared, &self.owner, &self.place.names).await
    }

    fn warn(&self, error: &StoreError) {
        let names = &self.place.names;
        tracing::warn!(lock.names = %names, error = %error.source, "a renewal failed");
    }
}

fn answer(wish: Option<Wish>, done: Result<Released, ReleaseError>) {
    if let Some(wish) = wish {
        // Who does not wait any more does not want to know.
        drop(wish.send(done));
    }
}

/// Releases whatever `owner` has of `names`, for at most one lease: after that it is free anyway,
/// and trying on (for [`RELEASE_MIN`]) serves only the one who wants to know.
pub(crate) async fn release<S: LeaseStore>(
    shared: &Shared<S>,
    owner: &str,
    names: &crate::name::Names,
) -> Result<Released, ReleaseError> {
    let attempts = async {
        let mut pause = Duration::from_millis(20);
        loop {
            match shared.store.release(owner, names).await {
                Ok(true) => return Ok(Released::Freed),
                Ok(false) => return Ok(Released::AlreadyLost),
                Err(error) if error.transient => {
                    tracing::debug!(lock.names = %names, error = %error.source, "release failed");
                }
                Err(error) => {
                    tracing::warn!(lock.names = %names, error = %error.source, "release failed");
                    return Err(ReleaseError::NotTold);
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    };
    let limit = shared.terms.lease().max(RELEASE_MIN);
    tokio::time::timeout(limit, attempts).await.unwrap_or(Err(ReleaseError::NotTold))
}
