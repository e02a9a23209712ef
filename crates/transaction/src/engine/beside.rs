//! Trys beside the begin: sent while the local transaction that begins is still on its way.
//!
//! Nothing is decided, and nobody is answered, before the begin is durable, as without it. What
//! changes is what may be left behind:
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
use tradewind_sql::{Dialect, Transaction};

use super::declaration::Declaration;
use super::tries::Tried;
use super::{Engine, abort, log};

impl Engine {
    /// Begins and tries beside each other: `begin` runs the caller's local transaction with
    /// [`Engine::begin`], and the Trys are on their way meanwhile, as in [`Engine::try_all`]. What
    /// came of them is known when both have ended.
    ///
    /// `begins` says whether `declaration` begins, from what the local transaction came to; `None`
    /// when that cannot be told. If it does not (another has the key), what was tried is given back,
    /// which takes a commit more. So use it where that is rare: meanwhile it is taken.
    ///
    /// `None` when no Try was sent, or none that means anything: it does not begin, no begin is
    /// known to become durable here, a coordinator decides, which hears of nothing that is not
    /// durable here, or the database is MySQL. There instances come for one key at the same time,
    /// and the one that does not get it would hold what the other needs. Go on with
    /// [`Engine::try_all`] then, if it has begun.
    ///
    /// When it cannot be told, what the Trys have reserved stays taken until its participants ask,
    /// after the deadline. A disk that takes no commits any more would have that happen again and
    /// again, so nothing is tried beside the first begin of this process, nor after one that failed
    /// until the next that became durable.
    ///
    /// # Cancel safety
    /// As [`Engine::try_all`]. A begin that is queued runs all the same; if it comes to something
    /// else, participants have to ask.
    pub async fn try_beside<B, E>(
        &self,
        declaration: &Declaration,
        begin: impl Future<Output = Result<B, E>>,
        begins: impl Fn(&Result<B, E>) -> Option<bool>,
    ) -> (Result<B, E>, Option<Tried>) {
        let name = declaration.name.as_ref();
        let commits = &self.inner.commits;
        let begin = async {
            let begun = begin.await;
            // What came to something else need not have written anything.
            if begun.is_err() || begins(&begun) == Some(true) {
                commits.store(begun.is_ok(), Ordering::Relaxed);
            }
            begun
        };
        let sqlite = self.inner.database.dialect() == Dialect::Sqlite;
        let decides = declaration.coordinator.is_none();
        if !(sqlite && decides && commits.load(Ordering::Relaxed)) {
            return (begin.await, None);
        }
        let (begun, tried) = {
            let trys = pin!(async {
                fault::point(format_args!("tcc.{name}.beside"));
                self.try_each(declaration).await
            });
            // The begin is polled first, so it is queued before anything is sent.
            match select(pin!(begin), trys).await {
                Either::Left((begun, trys)) if begins(&begun) == Some(true) => {
                    (begun, Some(trys.await))
                }
                // What is under way for nothing need not come to its end.
                Either::Left((begun, _)) => (begun, None),
                Either::Right((tried, begin)) => (begin.await, Some(tried)),
            }
        };
        match begins(&begun) {
            Some(true) => {
                fault::point(format_args!("tcc.{name}.tried"));
                (begun, tried)
            }
            Some(false) => {
                self.give_back(declaration).await;
                (begun, None)
            }
            None => (begun, None),
        }
    }

    /// Writes down that what does not begin is aborted, and has the Cancels sent.
    async fn give_back(&self, declaration: &Declaration) {
        let (engine, mut it) = (self.clone(), declaration.clone());
        // Nothing of its own was ever written.
        (it.own, it.implied) = (None, false);
        let work = move |tx: &mut Transaction<'_>| {
            let (inner, xid) = (&engine.inner, it.xid);
            // However late it is: of the log's rows for it the first stands.
            if !log::insert(tx, &it, inner.shard(xid), inner.clock.now())? {
                return Ok(());
            }
            let (clock, reason) = (&*inner.clock, "it did not begin");
            abort::abort(tx, clock, &inner.hooks, (xid, true), reason, None).map(drop)
        };
        match self.inner.database.transaction("tcc give back", work).await {
            // Where a participant asked already there is nothing to be sent.
            Ok(()) => self.settle(declaration.xid),
            Err(error) => {
                let (xid, error) = (declaration.xid, chain(&error));
                tracing::warn!(%xid, error, "what was tried stays taken until participants ask");
            }
        }
    }
}
