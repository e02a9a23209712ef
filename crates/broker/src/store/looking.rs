//! Looking things up.

use serde::Serialize;
use tradewind_base::id::Xid;
use tradewind_message::wire::{MessageId, State};
use tradewind_sql::{Error, Row, Transaction, params};

use super::{Store, StoreError, bits, bytes, message_id, state};

/// A message with where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Detail {
    pub(crate) id: MessageId,
    pub(crate) state: State,
    pub(crate) topic: String,
    pub(crate) key: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) source: String,
    pub(crate) xid: Option<Xid>,
    pub(crate) branch: Option<u16>,
    pub(crate) created_ms: i64,
    pub(crate) committed_ms: Option<i64>,
    pub(crate) sequence: Option<i64>,
    pub(crate) checks: u32,
    pub(crate) check_ms: Option<i64>,
    pub(crate) last_error: Option<String>,
    pub(crate) trace: Option<String>,
    pub(crate) data_bytes: usize,
    pub(crate) deliveries: Vec<DeliveryView>,
}

/// One delivery of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct DeliveryView {
    pub(crate) subscriber: String,
    /// `ready`, `in-flight`, `delivered` or `dead`.
    pub(crate) state: &'static str,
    pub(crate) attempts: u32,
    pub(crate) due_ms: Option<i64>,
    pub(crate) at_ms: Option<i64>,
    pub(crate) last_status: Option<u16>,
    pub(crate) last_error: Option<String>,
    pub(crate) last_instance: Option<String>,
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct DeadLetter {
    pub(crate) id: MessageId,
    pub(crate) subscriber: String,
    pub(crate) topic: String,
    pub(crate) key: String,
    pub(crate) reason: String,
    pub(crate) attempts: u32,
    pub(crate) last_status: Option<u16>,
    pub(crate) last_error: Option<String>,
    pub(crate) at_ms: i64,
}

const COLUMNS_BY_ID: &str = "SELECT id, state, topic, msg_key, kind, source, xid, branch,
    created_ms, committed_ms, sequence, checks, check_ms, last_error, trace, LENGTH(data)
    FROM message WHERE id = ?";
const COLUMNS_BY_KEY: &str = "SELECT id, state, topic, msg_key, kind, source, xid, branch,
    created_ms, committed_ms, sequence, checks, check_ms, last_error, trace, LENGTH(data)
    FROM message WHERE msg_key = ? ORDER BY created_ms, id LIMIT ?";
const COLUMNS_PARKED: &str = "SELECT id, state, topic, msg_key, kind, source, xid, branch,
    created_ms, committed_ms, sequence, checks, check_ms, last_error, trace, LENGTH(data)
    FROM message WHERE state IN (4, 5) ORDER BY created_ms, id LIMIT ?";

impl Store {
    /// One message.
    pub(crate) async fn message(&self, id: MessageId) -> Result<Option<Detail>, StoreError> {
        let work = move |tx: &mut Transaction<'_>| {
            let Some(mut it) = tx.query_one(COLUMNS_BY_ID, params![bytes(id)], detail)? else {
                return Ok(None);
            };
            it.deliveries = deliveries(tx, id)?;
            Ok(Some(it))
        };
        self.database.read("message", work).await
    }

    /// The messages about something, oldest first.
    pub(crate) async fn messages_of(
        &self,
        key: String,
        limit: u32,
    ) -> Result<Vec<Detail>, StoreError> {
        let work = move |tx: &mut Transaction<'_>| {
            let mut found = tx.query(COLUMNS_BY_KEY, params![&key, limit], detail)?;
            for it in &mut found {
                it.deliveries = deliveries(tx, it.id)?;
            }
            Ok(found)
        };
        self.database.read("messages by key", work).await
    }

    /// The messages of a distributed transaction, as long as its branches are remembered.
    pub(crate) async fn messages_of_xid(&self, xid: Xid) -> Result<Vec<Detail>, StoreError> {
        let work = move |tx: &mut Transaction<'_>| {
            let sql = "SELECT branch FROM branch_fence WHERE xid = ? ORDER BY branch LIMIT 200";
            let bits = xid.as_u128().to_be_bytes().to_vec();
            let branches = tx.query(sql, params![bits], |row| row.get::<u16>(0))?;
            let mut found = Vec::new();
            for branch in branches {
                let id = MessageId::of_branch(xid, branch);
                if let Some(mut it) = tx.query_one(COLUMNS_BY_ID, params![bytes(id)], detail)? {
                    it.deliveries = deliveries(tx, id)?;
                    found.push(it);
                }
            }
            Ok(found)
        };
        self.database.read("messages by xid", work).await
    }

    /// The parked messages, oldest first.
    pub(crate) async fn parked(&self, limit: u32) -> Result<Vec<Detail>, StoreError> {
        let work = move |tx: &mut Transaction<'_>| tx.query(COLUMNS_PARKED, params![limit], detail);
        self.database.read("parked messages", work).await
    }

    /// The dead letters, oldest first; those of one subscriber or topic when given.
    pub(crate) async fn dead(
        &self,
        subscriber: Option<String>,
        topic: Option<String>,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let work = move |tx: &mut Transaction<'_>| {
            let sql = "SELECT d.message_id, d.subscriber, d.topic, m.msg_key, d.reason, d.attempts,
                    d.last_status, d.last_error, d.at_ms
                FROM dead_letter d JOIN message m ON m.id = d.message_id
                WHERE (? IS NULL OR d.subscriber = ?) AND (? IS NULL OR d.topic = ?)
                ORDER BY d.at_ms, d.message_id LIMIT ?";
            let (by, of) = (subscriber.as_ref(), topic.as_ref());
            tx.query(sql, params![by, by, of, of, limit], |row| {
                Ok(DeadLetter {
                    id: message_id(row, 0)?,
                    subscriber: row.get(1)?,
                    topic: row.get(2)?,
                    key: row.get(3)?,
                    reason: row.get(4)?,
                    attempts: row.get(5)?,
                    last_status: row.get(6)?,
                    last_error: row.get(7)?,
                    at_ms: row.get(8)?,
                })
            })
        };
        self.database.read("dead letters", work).await
    }
}

fn detail(row: &Row) -> Result<Detail, Error> {
    let branch: Option<u16> = row.get(7)?;
    let xid = match branch {
        Some(_) => Some(Xid::from_u128(bits(row, 6)?)),
        None => None,
    };
    Ok(Detail {
        id: message_id(row, 0)?,
        state: state(row.get(1)?),
        topic: row.get(2)?,
        key: row.get(3)?,
        kind: row.get(4)?,
        source: row.get(5)?,
        xid,
        branch,
        created_ms: row.get(8)?,
        committed_ms: row.get(9)?,
        sequence: row.get(10)?,
        checks: row.get(11)?,
        check_ms: row.get(12)?,
        last_error: row.get(13)?,
        trace: row.get(14)?,
        data_bytes: row.get(15)?,
        deliveries: Vec::new(),
    })
}

fn deliveries(tx: &mut Transaction<'_>, id: MessageId) -> Result<Vec<DeliveryView>, Error> {
    let sql = "SELECT subscriber, in_flight, attempts, due_ms, last_status, last_error,
            last_instance
        FROM delivery WHERE message_id = ? ORDER BY subscriber";
    let mut all = tx.query(sql, params![bytes(id)], |row| {
        let state = if row.get::<bool>(1)? { "in-flight" } else { "ready" };
        view(row, state, (Some(3), None))
    })?;
    let sql = "SELECT subscriber, 0, attempts, at_ms, last_status, last_error, last_instance
        FROM dead_letter WHERE message_id = ? ORDER BY subscriber";
    all.extend(tx.query(sql, params![bytes(id)], |row| view(row, "dead", (None, Some(3))))?);
    let sql = "SELECT subscriber, 0, attempts, at_ms, NULL, NULL, instance
        FROM delivered WHERE message_id = ? ORDER BY subscriber";
    all.extend(tx.query(sql, params![bytes(id)], |row| view(row, "delivered", (None, Some(3))))?);
    Ok(all)
}

fn view(
    row: &Row,
    state: &'static str,
    (due, at): (Option<usize>, Option<usize>),
) -> Result<DeliveryView, Error> {
    let time = |column: Option<usize>| column.map(|it| row.get(it)).transpose();
    Ok(DeliveryView {
        subscriber: row.get(0)?,
        state,
        attempts: row.get(2)?,
        due_ms: time(due)?,
        at_ms: time(at)?,
        last_status: row.get(4)?,
        last_error: row.get(5)?,
        last_instance: row.get(6)?,
    })
}
