//! Looking: how far a transaction is, what was decided, what needs a human.

use tradewind_base::Timestamp;
use tradewind_base::id::Xid;
use tradewind_service::answer::chain;
use tradewind_sql::{Error, Transaction, TransactionError};

use super::log::{self, Record};
use super::{Engine, Inner, own};
use crate::machine::fence::Status;
use crate::machine::global::Phase;
use crate::wire::{Decision, Outcome, Stuck, StuckBranch};

/// What the log knows of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// How far it is.
    pub phase: Phase,
    /// Until when it can be committed.
    pub deadline: Timestamp,
    /// Its name.
    pub name: String,
    /// When it began.
    pub begun: Timestamp,
    /// The coordinator that decides it; none: this engine.
    pub coordinator: Option<String>,
}

/// Where a transaction is known.
enum Known {
    Log(Box<Record>),
    Own(own::Own),
    Nothing,
}

impl Engine {
    /// What is known here of `xid`; `None` also for what has finished long ago. Of a transaction
    /// that a coordinator drives only the decision is known.
    ///
    /// # Errors
    /// When the database fails.
    pub fn find(&self, tx: &mut Transaction<'_>, xid: Xid) -> Result<Option<Found>, Error> {
        Ok(match log::load(tx, xid)? {
            Some(it) => Some(Found {
                phase: it.global.phase,
                deadline: it.global.deadline,
                name: it.name,
                begun: it.begun,
                coordinator: None,
            }),
            None => self.inner.own(tx, xid)?.map(|it| Found {
                phase: it.phase(),
                deadline: it.deadline,
                name: it.key.action,
                begun: it.begun,
                coordinator: Some(it.key.initiator),
            }),
        })
    }

    /// How far `xid` is, also where a coordinator drives it; when that does not say, what is known
    /// here.
    ///
    /// # Errors
    /// As [`tradewind_sql::Database::read`].
    pub async fn progress(&self, xid: Xid) -> Result<Option<Phase>, TransactionError<Error>> {
        let engine = self.clone();
        let work = move |tx: &mut Transaction<'_>| engine.find(tx, xid);
        let Some(found) = self.inner.database.read("tcc progress", work).await? else {
            return Ok(None);
        };
        let Some(coordinator) = found.coordinator else { return Ok(Some(found.phase)) };
        let asked = self.inner.peers.progress(&coordinator, xid);
        match tokio::time::timeout(self.inner.settings.decide, asked).await {
            Ok(Ok(view)) => Ok(Some(view.phase)),
            Ok(Err(_)) | Err(_) => Ok(Some(found.phase)),
        }
    }

    /// What was decided. An unknown transaction is aborted: that is made durable first, so that it
    /// cannot begin any more. While a coordinator that decides does not say, it is undecided.
    ///
    /// # Errors
    /// As [`tradewind_sql::Database::transaction`].
    pub async fn outcome(&self, xid: Xid) -> Result<Outcome, TransactionError<Error>> {
        let now = self.inner.clock.now();
        let database = &self.inner.database;
        let engine = self.clone();
        let look = move |tx: &mut Transaction<'_>| {
            Ok::<_, Error>(match log::load(tx, xid)? {
                Some(record) => Known::Log(Box::new(record)),
                None => engine.inner.own(tx, xid)?.map_or(Known::Nothing, Known::Own),
            })
        };
        let phase = match database.read("tcc outcome", look).await? {
            Known::Log(record) if record.global.expired(now) => {
                // Nobody may drive just now, and the one who asks holds a reservation.
                let aborted = Box::pin(self.abort_now(xid, "asked about after its deadline")).await;
                if let Err(error) = aborted {
                    tracing::warn!(%xid, error = chain(&error), "failed to abort when asked");
                }
                let work = move |tx: &mut Transaction<'_>| log::load(tx, xid);
                let record = database.read("tcc outcome", work).await?;
                record.map_or(Phase::Trying, |it| it.global.phase)
            }
            Known::Log(record) => record.global.phase,
            Known::Own(own) if own.status == Status::Tried => {
                let asked = self.inner.peers.outcome(&own.key.initiator, xid).await;
                let decision = asked.unwrap_or(Decision::Undecided);
                return Ok(Outcome { xid, decision });
            }
            Known::Own(own) => own.phase(),
            Known::Nothing => {
                let work = move |tx: &mut Transaction<'_>| {
                    if log::tombstone(tx, xid, now)? {
                        return Ok::<_, Error>(Phase::Aborted);
                    }
                    // It began in between; a row that cannot be read is nobody's decision.
                    Ok(log::load(tx, xid)?.map_or(Phase::Trying, |it| it.global.phase))
                };
                database.transaction("tcc tombstone", work).await?
            }
        };
        Ok(Outcome { xid, decision: decision(phase) })
    }

    /// The branches that a human should look at.
    ///
    /// # Errors
    /// As [`tradewind_sql::Database::read`].
    pub async fn stuck(&self) -> Result<Stuck, TransactionError<Error>> {
        let work = |tx: &mut Transaction<'_>| log::stuck(tx, Stuck::MAX);
        let records = self.inner.database.read("tcc stuck", work).await?;
        let branches = records.iter().flat_map(|record| {
            record.global.branches.iter().filter(|it| it.stuck()).map(|branch| {
                let declared = record.declared.iter().find(|it| it.index == branch.index);
                // Only the own branch is not declared.
                let (service, action) = declared.map_or_else(
                    || (self.inner.peers.own_name(), record.name.as_str()),
                    |it| (it.service.as_str(), it.action.as_str()),
                );
                StuckBranch {
                    xid: record.global.xid,
                    name: record.name.clone(),
                    decision: decision(record.global.phase),
                    branch: branch.index,
                    service: service.to_owned(),
                    action: action.to_owned(),
                    reason: branch.trouble.clone().unwrap_or_default(),
                    attempts: branch.attempts,
                    next_attempt_ms: branch.next.millis(),
                }
            })
        });
        Ok(Stuck { branches: branches.collect() })
    }
}

impl Inner {
    /// The own branch of a transaction that a coordinator decides. Without callbacks for own
    /// branches there is no fence to look into.
    pub(super) fn own(
        &self,
        tx: &mut Transaction<'_>,
        xid: Xid,
    ) -> Result<Option<own::Own>, Error> {
        if self.hooks.commit.is_empty() { Ok(None) } else { own::find(tx, xid) }
    }
}

const fn decision(phase: Phase) -> Decision {
    match phase {
        Phase::Trying => Decision::Undecided,
        Phase::Committing | Phase::Committed => Decision::Committed,
        Phase::Aborting | Phase::Aborted => Decision::Aborted,
    }
}
