//! What a participant does unasked: it asks for outcomes, and it cleans.

use std::sync::Arc;

use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tradewind_sql::Error;

use super::Participants;
use super::routes::Settled;
use crate::Peers;
use crate::fence::{self, Limbo};
use crate::wire::Decision;

/// Most reservations that are asked about in one round.
const ROUND_MAX: u32 = 100;

/// Most questions at a time.
const AT_ONCE: usize = 8;

/// Rounds between two cleanings; while there is more to clean than one takes, each round is one.
const CLEAN_EVERY: u32 = 60;

/// Most rows of one state that one transaction of a cleaning deletes: a short one.
const CLEAN_MAX: u32 = 200;

/// Most transactions of one cleaning: with a round each second it keeps up with any load that can
/// be reserved for, and leaves the database to others in between.
const CLEAN_TRANSACTIONS: u32 = 16;

pub(super) struct Resolver {
    pub(super) all: Participants,
    pub(super) peers: Peers,
}

impl Resolver {
    pub(super) async fn run(&self, cancel: CancellationToken) {
        let (mut round, mut behind) = (0_u32, false);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(self.all.settings.resolve_every) => {}
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.round() => {}
            }
            round = round.wrapping_add(1);
            if behind || round.is_multiple_of(CLEAN_EVERY) {
                tokio::select! {
                    () = cancel.cancelled() => return,
                    left = self.clean() => behind = left,
                }
            }
        }
    }

    async fn round(&self) {
        let settings = self.all.settings;
        let wait = i64::try_from((settings.skew + settings.resolve_after).as_millis());
        let now = self.all.clock.now().millis();
        let before = now.saturating_sub(wait.unwrap_or(i64::MAX));
        let before = tradewind_base::Timestamp::from_millis(before);
        let found = self
            .all
            .database
            .read("tcc limbo", move |tx| fence::limbo(tx, before, ROUND_MAX))
            .await;
        match found {
            Ok(limbo) => {
                let asked = futures_util::stream::iter(limbo).map(|it| self.resolve(it));
                let open: Vec<bool> = asked.buffer_unordered(AT_ONCE).collect().await;
                let open = open.into_iter().filter(|it| *it).count();
                if 0 < open {
                    tracing::warn!(open, "reservations past their deadline have no outcome yet");
                }
            }
            Err(error) => tracing::warn!(%error, "failed to look for open reservations"),
        }
    }

    /// Whether it is still open.
    async fn resolve(&self, limbo: Limbo) -> bool {
        let key = limbo.key;
        let Some(action) = self.all.actions.get(key.action.as_str()) else {
            tracing::error!(xid = %key.xid, action = key.action, "no such participant any more");
            return true;
        };
        let (action, all) = (Arc::clone(action), self.all.clone());
        let decision = match self.peers.outcome(&key.initiator, key.xid).await {
            Ok(decision) => decision,
            Err(error) => {
                let (xid, initiator) = (key.xid, key.initiator.as_str());
                tracing::debug!(%xid, initiator, %error, "the outcome of a reservation is unknown");
                return true;
            }
        };
        let xid = key.xid;
        let settled = Settled { key, now: all.clock.now() };
        let result = match decision {
            Decision::Undecided => return true,
            Decision::Committed => action.confirm(all, settled).await,
            Decision::Aborted => action.cancel(all, settled).await,
        };
        match &result {
            Ok(()) => tracing::info!(%xid, ?decision, "settled a reservation by asking"),
            Err(failure) => tracing::warn!(%xid, ?decision, %failure, "failed to settle"),
        }
        result.is_err()
    }

    /// Whether there may be more to clean.
    async fn clean(&self) -> bool {
        let (now, settings) = (self.all.clock.now(), self.all.settings);
        for _ in 0..CLEAN_TRANSACTIONS {
            let cleaned = self.all.database.transaction_at_leisure("tcc clean", move |tx| {
                fence::clean(tx, now, settings.keep, settings.skew, CLEAN_MAX)
            });
            match cleaned.await {
                Ok(count) => {
                    tracing::debug!(count, "cleaned the fence");
                    if count < CLEAN_MAX as usize {
                        return false;
                    }
                }
                Err(error) => {
                    let error: tradewind_sql::TransactionError<Error> = error;
                    tracing::warn!(%error, "failed to clean the fence");
                    return false;
                }
            }
        }
        true
    }
}
