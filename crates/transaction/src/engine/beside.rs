//! Trys beside the begin: sent when it has run, while its commit is on the way to the disk.
//!
//! What is awaited in the worst case stays the same: nothing is decided, and nobody is answered,
//! before the begin is durable. What changes is what a death in between leaves behind:
//!
//! | the process dies | left behind | who ends it |
//! |---|---|---|
//! | before the begin has run | nothing | – |
//! | after it, before the commit | reservations for an xid that no log has | each participant asks after the deadline; the answer, durable first, is that it is aborted |
//! | after the commit | a transaction in the log | whoever resumes it, or the deadline |
//!
//! The second row takes as long as the third where nobody resumes; meanwhile a repeat, under another
//! xid, finds taken what was reserved. It cannot end as a commit: a decision needs the begin's row,
//! and the answer to the first who asks keeps that row from being written.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::atomic::Ordering;

use futures_util::future::{Either, select};
use tokio::sync::oneshot;
use tradewind_base::fault;
use tradewind_sql::{Dialect, Transaction};

use super::Engine;
use super::declaration::Declaration;
use super::tries::Tried;

/// Told by the local transaction that begins, at its end, that it has run: see
/// [`Engine::try_beside`].
#[derive(Debug)]
pub struct Ran {
    sender: Option<oneshot::Sender<()>>,
    name: Cow<'static, str>,
}

impl Ran {
    /// Says that the begin has run. Call it last in the closure, after [`Engine::begin`] of the same
    /// declaration and every write beside it: from here on nothing may fail but the commit. A second
    /// call, when the closure runs again, does nothing.
    ///
    /// On MySQL it does nothing at all. There a transaction that has run may have to run again (a
    /// deadlock), and then find that another has the key. SQLite's one writer may run a batch again
    /// too (another closure of it refused, or its commit failed), but in the same order, and before
    /// anybody else writes.
    pub fn tell(&mut self, tx: &Transaction<'_>) {
        if tx.dialect() == Dialect::MySql {
            return;
        }
        let Some(sender) = self.sender.take() else { return };
        // Who began may have gone away.
        let _gone = sender.send(());
        fault::hold(format_args!("tcc.{}.ran", self.name));
    }
}

impl Engine {
    /// Begins and tries beside each other: `begin` runs the caller's local transaction with
    /// [`Engine::begin`], and hands on the [`Ran`] that its closure [tells](Ran::tell). From then
    /// on the Trys are on their way, as in [`Engine::try_all`]; what came of them is known when both
    /// have ended.
    ///
    /// `None` when no Try was sent: nothing was told (the begin failed, or the local transaction
    /// came to something else), the database is MySQL, or a coordinator decides, which hears of
    /// nothing that is not durable here. Go on with [`Engine::try_all`] then, if it has begun. What
    /// was tried is for `declaration` alone: where the local transaction, run again, came to
    /// something else after all, it means nothing.
    ///
    /// When `begin` fails after it was told, what the Trys have reserved stays taken until its
    /// participants ask, after the deadline. A disk that takes no commits any more would have that
    /// happen again and again, so nothing is heard of `tell` before the first begin of this process
    /// that succeeds, nor from one that fails until the next that succeeds.
    ///
    /// # Cancel safety
    /// As [`Engine::try_all`]. A begin that is queued runs all the same.
    pub async fn try_beside<B, E>(
        &self,
        declaration: &Declaration,
        begin: impl AsyncFnOnce(Ran) -> Result<B, E>,
    ) -> (Result<B, E>, Option<Tried>) {
        let name = declaration.name.as_ref();
        let (sender, told) = oneshot::channel();
        let commits = &self.inner.commits;
        let may = declaration.coordinator.is_none() && commits.load(Ordering::Relaxed);
        let ran = Ran { sender: may.then_some(sender), name: declaration.name.clone() };
        let begin = async {
            let begun = begin(ran).await;
            commits.store(begun.is_ok(), Ordering::Relaxed);
            begun
        };
        let trys = async {
            told.await.ok()?;
            fault::point(format_args!("tcc.{name}.ran"));
            Some(self.try_each(declaration).await)
        };
        let (begun, tried) = match select(pin!(begin), pin!(trys)).await {
            // What is under way for nothing need not come to its end.
            Either::Left((Err(error), _)) => return (Err(error), None),
            Either::Left((Ok(begun), trys)) => (Ok(begun), trys.await),
            Either::Right((tried, begin)) => (begin.await, tried),
        };
        if tried.is_some() && begun.is_ok() {
            fault::point(format_args!("tcc.{name}.tried"));
        }
        (begun, tried)
    }
}
