//! Who gets which topic, durably.

use serde::Serialize;
use tradewind_base::Timestamp;
use tradewind_sql::{Error, Transaction, params};

use super::{Store, StoreError};

/// The most subscriptions: bounds what a scan looks at.
pub(crate) const SUBSCRIPTIONS_MAX: i64 = 1000;

/// A subscriber's deliveries of one topic: what limits and circuits are kept for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Lane {
    pub(crate) subscriber: String,
    pub(crate) topic: String,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct SubscriptionRow {
    pub(crate) subscriber: String,
    pub(crate) topic: String,
    pub(crate) service: String,
    pub(crate) path: String,
    /// The most deliveries of one request; 0 and 1: each alone.
    pub(crate) together: u32,
    pub(crate) active: bool,
}

impl SubscriptionRow {
    pub(crate) fn lane(&self) -> Lane {
        Lane { subscriber: self.subscriber.clone(), topic: self.topic.clone() }
    }
}

impl Store {
    /// All subscriptions.
    pub(crate) async fn subscriptions(&self) -> Result<Vec<SubscriptionRow>, StoreError> {
        let work = |tx: &mut Transaction<'_>| {
            let sql = "SELECT subscriber, topic, service, path, together, active
                FROM subscription ORDER BY topic, subscriber";
            tx.query(sql, params![], |row| {
                Ok(SubscriptionRow {
                    subscriber: row.get(0)?,
                    topic: row.get(1)?,
                    service: row.get(2)?,
                    path: row.get(3)?,
                    together: row.get(4)?,
                    active: row.get(5)?,
                })
            })
        };
        self.database.read("subscriptions", work).await
    }

    /// Makes or changes a subscription and turns it on; `false` when there are too many.
    pub(crate) async fn subscribe(
        &self,
        it: SubscriptionRow,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let work = move |tx: &mut Transaction<'_>| {
            let sql = "UPDATE subscription
                SET service = ?, path = ?, together = ?, active = 1, changed_ms = ?
                WHERE topic = ? AND subscriber = ?";
            let row = params![&it.service, &it.path, it.together, now, &it.topic, &it.subscriber];
            if tx.execute(sql, row)? == 1 {
                return Ok(true);
            }
            let count = "SELECT COUNT(*) FROM subscription";
            let count = tx.query_one(count, params![], |row| row.get::<i64>(0))?;
            if SUBSCRIPTIONS_MAX <= count.unwrap_or(0) {
                return Ok(false);
            }
            let insert = "INSERT INTO subscription
                (service, path, together, active, changed_ms, topic, subscriber)
                VALUES (?, ?, ?, 1, ?, ?, ?)";
            match tx.execute(insert, row) {
                // Another instance of the service declared the same a moment ago.
                Err(error) if error.is_unique_violation() => tx.execute(sql, row).map(|_| true),
                done => done.map(|_| true),
            }
        };
        self.database.transaction("subscribe", work).await
    }

    /// Turns a subscription off; `false` when there is none.
    pub(crate) async fn unsubscribe(&self, lane: Lane, now: Timestamp) -> Result<bool, StoreError> {
        let work = move |tx: &mut Transaction<'_>| -> Result<bool, Error> {
            let sql = "UPDATE subscription SET active = 0, changed_ms = ?
                WHERE topic = ? AND subscriber = ?";
            Ok(tx.execute(sql, params![now, &lane.topic, &lane.subscriber])? == 1)
        };
        self.database.transaction("unsubscribe", work).await
    }
}
