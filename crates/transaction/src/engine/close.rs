//! Closing: what an [implied](super::Declaration::implied) transaction came to is asked of its
//! participants, when who began it does not say.
//!
//! Each is asked whether it holds its part, and lets no Try come any more if it does not. So the
//! answers stay true until somebody decides: all hold it, then the transaction is committed, and
//! who began it may have said so; one does not, then nobody ever said so, and it may be aborted.

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};
use tradewind_base::id::Xid;
use tradewind_base::{Context, TraceContext, fault};
use tradewind_service::answer::chain;
use tradewind_sql::{Error, Transaction, TransactionError};

use super::decide::{self, Decided, MayAbort};
use super::declaration::{Declaration, Declared};
use super::driver::judge;
use super::log::{Epoch, Record};
use super::{Engine, Inner, LogError, lock, log};
use crate::machine::global::{Answer, Order};
use crate::wire;

/// What a participant said.
enum Said {
    /// It is tried, or why nobody knows.
    Of(Answer),
    /// It is not tried and never will be.
    Untried,
}

impl Engine {
    /// Asks every participant once, for as long as a decision may take. The first that is not tried
    /// is enough; who is not heard may hold its part.
    pub(super) async fn close_all(&self, it: &Declaration) -> Decided {
        let until = Instant::now() + self.inner.settings.decide;
        let asked = it.branches.iter().map(|branch| self.inner.ask_closed(it.xid, branch));
        let (mut asked, mut tried) = (asked.collect::<FuturesUnordered<_>>(), 0);
        let decided = loop {
            match timeout_at(until, asked.next()).await {
                Ok(Some(Said::Untried)) => break Decided::Abort(MayAbort::of_nobody(it.xid)),
                Ok(Some(Said::Of(Answer::Done))) => tried += 1,
                Ok(Some(Said::Of(_))) => {}
                Ok(None) if tried == it.branches.len() => break Decided::Commit(it.xid.into()),
                Ok(None) | Err(_) => break Decided::Unknown,
            }
        };
        fault::point(format_args!("tcc.{}.closed", it.name));
        decided
    }
}

impl Inner {
    /// One round past the deadline. Whether it is decided now.
    pub(super) async fn close(&self, mut record: Record, due: Vec<u16>, epoch: Epoch) -> bool {
        let xid = record.global.xid;
        if fault::bug("close-forgotten") {
            // Undecided at the deadline is aborted, as if nobody could have been answered.
            return self.time_out(xid, epoch).await;
        }
        let trace = record.trace.as_deref().and_then(TraceContext::parse);
        let context = Context { trace, ..Context::default() };
        let asked = due.into_iter().map(async |index| {
            let said = match record.declared.iter().find(|it| it.index == index) {
                Some(branch) => self.ask_closed(xid, branch).await,
                None => Said::Of(Answer::Alarm("the branch is not declared".to_owned())),
            };
            (index, said)
        });
        let said = context.scope(join_all(asked)).await;
        let now = self.clock.now();
        for (index, said) in said {
            let Said::Of(answer) = said else { return self.time_out(xid, epoch).await };
            if let Answer::Alarm(why) = &answer {
                tracing::error!(%xid, branch = index, why, "needs a human");
            }
            let (backoff, jitter) = (&self.settings.backoff, lock(&self.rng).unit());
            record.global.answered(index, Order::Close, answer, now, backoff, jitter);
        }
        if record.global.closed() {
            return self.commit_closed(xid, epoch).await;
        }
        let due = record.global.next();
        let stored = self.database.transaction_at_leisure("tcc progress", move |tx| {
            log::store(tx, &record, now, due, None, Some(epoch))
        });
        if let Err(error) = stored.await {
            let error: TransactionError<Error> = error;
            tracing::warn!(%xid, error = chain(&error), "failed to store what is closed");
        }
        false
    }

    /// Writes down that it is committed, with the own Confirm.
    async fn commit_closed(&self, xid: Xid, epoch: Epoch) -> bool {
        let (hooks, clock) = (self.hooks.clone(), self.clock.clone());
        let committed = self
            .database
            .transaction("tcc closed", move |tx: &mut Transaction<'_>| {
                decide::commit(tx, &*clock, &hooks, xid, Some(epoch))
            })
            .await;
        match committed {
            Ok(now) => {
                tracing::info!(%xid, now, "a transaction was tried, and undecided at its deadline");
                true
            }
            Err(error) => self.undecided(xid, epoch, &error).await,
        }
    }

    /// What the deadline asks for was not done: `false`.
    pub(super) async fn undecided(
        &self,
        xid: Xid,
        epoch: Epoch,
        error: &TransactionError<LogError>,
    ) -> bool {
        match error {
            TransactionError::Refused(LogError::Refused { .. } | LogError::Contended { .. }) => {}
            error => {
                tracing::error!(%xid, error = chain(error), "failed to decide at the deadline");
                if let TransactionError::Refused(LogError::Own { source, .. }) = error {
                    self.list(xid, chain(source), epoch).await;
                }
            }
        }
        false
    }

    async fn ask_closed(&self, xid: Xid, branch: &Declared) -> Said {
        let initiator = self.peers.own_name().to_owned();
        let body = wire::Second { xid, branch: branch.index, initiator };
        let (limit, service) = (self.settings.answer, branch.service.as_str());
        let call = self.peers.close((service, &branch.action), &body, limit);
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(true)) => Said::Of(Answer::Done),
            Ok(Ok(false)) => Said::Untried,
            Ok(Err(error)) => Said::Of(judge(&error, self.settings.not_yet)),
            Err(_) => Said::Of(Answer::Unknown(format!("{service} did not answer in time"))),
        }
    }
}
