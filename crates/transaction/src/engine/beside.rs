//! Trys beside the begin: sent while the local transaction that begins is still on its way.
//!
//! What is awaited in the worst case stays the same: nothing is decided, and nobody is answered,
//! before the begin is durable. What changes is what may be left behind:
//!
//! | what happens | left behind | who ends it |
//! |---|---|---|
//! | the local transaction comes to something else | reservations for an xid that never begins | [`Engine::try_beside`] writes down that it is aborted, and its Cancels go out |
//! | it fails, or the process dies before its commit | the same, for an xid that no log has | each participant asks after the deadline; the answer, durable first, is that it is aborted |
//! | the process dies after the commit | a transaction in the log | whoever resumes it, or the deadline |
//!
//! The second row takes as long as the third where nobody resumes; meanwhile a repeat, under another
//! xid, finds taken what was reserved. It cannot end as a commit: a decision needs the begin's row,
//! and the answer to the first who asks keeps that row from being written.

use std::pin::pin;
use std::sync::atomic::Ordering;

use futures_util::future::{Either, select};
use tradewind_base::fault;
use tradewind_service::answer::chain;
use tradewind_sql::{Transaction, TransactionError};

use super::declaration::Declaration;
use super::tries::Tried;
use super::{Engine, LogError, abort};

impl Engine {
    /// Begins and tries beside each other: `begin` runs the caller's local transaction with
    /// [`Engine::begin`], and the Trys are on their way meanwhile, as in [`Engine::try_all`]. What
    /// came of them is known when both have ended.
    ///
    /// `begins` says whether what the local transaction came to is that `declaration` begins. If it
    /// is something else (another has the key), what was tried is given back. So use it where that
    /// is rare: meanwhile it is taken.
    ///
    /// `None` when no Try was sent, or none that means anything: it does not begin, no commit is
    /// known to succeed here, or a coordinator decides, which hears of nothing that is not durable
    /// here. Go on with [`Engine::try_all`] then, if it has begun.
    ///
    /// When `begin` fails, what the Trys have reserved stays taken until its participants ask, after
    /// the deadline. A disk that takes no commits any more would have that happen again and again,
    /// so nothing is tried beside the first begin of this process, nor after one that failed until
    /// the next that succeeded.
    ///
    /// # Cancel safety
    /// As [`Engine::try_all`]. A begin that is queued runs all the same; if it comes to something
    /// else, participants have to ask.
    pub async fn try_beside<B, E>(
        &self,
        declaration: &Declaration,
        begin: impl Future<Output = Result<B, E>>,
        begins: impl FnOnce(&B) -> bool,
    ) -> (Result<B, E>, Option<Tried>) {
        let name = declaration.name.as_ref();
        let commits = &self.inner.commits;
        let begin = async {
            let begun = begin.await;
            commits.store(begun.is_ok(), Ordering::Relaxed);
            begun
        };
        if declaration.coordinator.is_some() || !commits.load(Ordering::Relaxed) {
            return (begin.await, None);
        }
        let (begin, trys) = (
            pin!(begin),
            pin!(async {
                fault::point(format_args!("tcc.{name}.beside"));
                self.try_each(declaration).await
            }),
        );
        // The begin is polled first, so it is queued before anything is sent.
        let (begun, trys) = match select(begin, trys).await {
            Either::Left((begun, trys)) => (begun, Either::Left(trys)),
            Either::Right((tried, begin)) => (begin.await, Either::Right(tried)),
        };
        match &begun {
            // What is under way for nothing need not come to its end.
            Err(_) => return (begun, None),
            Ok(other) if !begins(other) => {
                self.give_back(declaration).await;
                return (begun, None);
            }
            Ok(_) => {}
        }
        let tried = match trys {
            Either::Left(trys) => trys.await,
            Either::Right(tried) => tried,
        };
        fault::point(format_args!("tcc.{name}.tried"));
        (begun, Some(tried))
    }

    /// Writes down that what does not begin is aborted, and has the Cancels sent.
    async fn give_back(&self, declaration: &Declaration) {
        let (engine, mut it) = (self.clone(), declaration.clone());
        // Nothing of its own was ever written.
        (it.own, it.implied) = (None, false);
        let work = move |tx: &mut Transaction<'_>| {
            engine.begin(tx, &it)?;
            let inner = &engine.inner;
            let which = (it.xid, true);
            abort::abort(tx, &*inner.clock, &inner.hooks, which, "it did not begin", None)
        };
        match self.inner.database.transaction("tcc give back", work).await {
            Ok(_) => self.settle(declaration.xid),
            // Too late, or somebody asked already: then the participants know, or are about to.
            Err(TransactionError::Refused(LogError::Refused { .. } | LogError::Taken { .. })) => {}
            Err(error) => {
                let (xid, error) = (declaration.xid, chain(&error));
                tracing::warn!(%xid, error, "what was tried stays taken until participants ask");
            }
        }
    }
}
