//! Deliveries: claimed, settled, buried, replayed.

use tradewind_base::id::Xid;
use tradewind_base::{Timestamp, TraceContext};
use tradewind_message::wire::MessageId;
use tradewind_sql::{Error, Row, Transaction, params};

use super::{Key, Store, StoreError, bits, bytes, message_id};
use crate::machine::delivery::{Cause, Next};

/// A delivery as a scan saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) key: Key,
    /// `None`: whatever it is, the delivery was just made.
    pub(crate) token: Option<i64>,
}

/// A delivery that is this broker's until its lease ends, with all that is sent.
#[derive(Clone, Debug)]
pub(crate) struct Claimed {
    pub(crate) key: Key,
    pub(crate) token: i64,
    /// The number of the attempt that begins now, from 1.
    pub(crate) attempt: u32,
    pub(crate) last_instance: Option<String>,
    pub(crate) topic: String,
    pub(crate) subject: String,
    pub(crate) kind: String,
    pub(crate) source: String,
    pub(crate) data: String,
    pub(crate) trace: Option<TraceContext>,
    pub(crate) xid: Option<Xid>,
    pub(crate) committed: Timestamp,
}

/// What an attempt came to.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) next: Next,
    pub(crate) status: Option<u16>,
    pub(crate) error: Option<String>,
    pub(crate) instance: Option<String>,
}

/// The end of an attempt, as it is written down.
#[derive(Clone, Debug)]
pub(crate) struct Settled {
    pub(crate) key: Key,
    pub(crate) token: i64,
    pub(crate) attempt: u32,
    pub(crate) outcome: Outcome,
}

impl Settled {
    pub(crate) fn of(it: &Claimed, outcome: Outcome) -> Self {
        Self { key: it.key.clone(), token: it.token, attempt: it.attempt, outcome }
    }
}

impl Store {
    /// What is due on one lane: ready, or in flight with its lease over.
    pub(crate) async fn due(
        &self,
        subscriber: &str,
        topic: &str,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Seen>, StoreError> {
        let (subscriber, topic) = (subscriber.to_owned(), topic.to_owned());
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let work = move |tx: &mut Transaction<'_>| {
            let sql = "SELECT message_id, token FROM delivery
                WHERE subscriber = ? AND topic = ? AND due_ms <= ? ORDER BY due_ms LIMIT ?";
            tx.query(sql, params![&subscriber, &topic, now, limit], |row| {
                let key = Key { message: message_id(row, 0)?, subscriber: subscriber.clone() };
                Ok(Seen { key, token: Some(row.get(1)?) })
            })
        };
        self.database.read("deliveries due", work).await
    }

    /// Takes deliveries until `lease`; what somebody else took, or is not due, is left out.
    pub(crate) async fn claim(
        &self,
        seen: Vec<Seen>,
        now: Timestamp,
        lease: Timestamp,
    ) -> Result<Vec<Claimed>, StoreError> {
        let work = move |tx: &mut Transaction<'_>| {
            let mut claimed = Vec::with_capacity(seen.len());
            for it in &seen {
                let (id, subscriber) = (bytes(it.key.message), &it.key.subscriber);
                let sql = "UPDATE delivery
                    SET in_flight = 1, due_ms = ?, token = token + 1, attempts = attempts + 1
                    WHERE message_id = ? AND subscriber = ? AND due_ms <= ? AND token = ?";
                let token = it.token.unwrap_or(0);
                let taken = params![lease, id.clone(), subscriber, now, token];
                if tx.execute(sql, taken)? == 0 {
                    continue;
                }
                let sql = "SELECT d.message_id, d.subscriber, d.token, d.attempts, d.last_instance,
                        m.topic, m.msg_key, m.kind, m.source, m.data, m.trace, m.xid, m.committed_ms
                    FROM delivery d JOIN message m ON m.id = d.message_id
                    WHERE d.message_id = ? AND d.subscriber = ?";
                claimed.extend(tx.query_one(sql, params![id, subscriber], read)?);
            }
            Ok(claimed)
        };
        self.database.transaction_at_leisure("claim deliveries", work).await
    }

    /// Writes what attempts came to, all in one transaction. Of each: `false` when a later attempt
    /// has the word.
    pub(crate) async fn settle(
        &self,
        mut all: Vec<Settled>,
        now: Timestamp,
    ) -> Result<Vec<bool>, StoreError> {
        // Two that touch the same messages wait for each other instead of both for both.
        all.sort_by(|one, other| one.key.cmp(&other.key));
        let work = move |tx: &mut Transaction<'_>| {
            all.iter().map(|it| settle(tx, it, now)).collect::<Result<Vec<_>, _>>()
        };
        self.database.transaction_at_leisure("settle deliveries", work).await
    }

    /// Makes dead letters of what waits on a lane whose subscription is off.
    pub(crate) async fn bury_lane(
        &self,
        subscriber: &str,
        topic: &str,
        now: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let seen = self.due(subscriber, topic, now, limit).await?;
        if seen.is_empty() {
            return Ok(0);
        }
        let (subscriber, topic) = (subscriber.to_owned(), topic.to_owned());
        let work = move |tx: &mut Transaction<'_>| {
            let sql =
                "SELECT 1 FROM subscription WHERE subscriber = ? AND topic = ? AND active = 0";
            if tx.query_one(sql, params![&subscriber, &topic], |_| Ok(()))?.is_none() {
                return Ok(0);
            }
            let mut buried = 0;
            for it in &seen {
                buried += usize::from(bury(tx, &it.key, Cause::Off, now)?);
            }
            Ok(buried)
        };
        self.database.transaction_at_leisure("bury deliveries", work).await
    }

    /// Gives dead letters another life; those of one subscriber, topic or message when given.
    pub(crate) async fn replay(
        &self,
        subscriber: Option<String>,
        topic: Option<String>,
        message: Option<MessageId>,
        limit: u32,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let work = move |tx: &mut Transaction<'_>| {
            let sql = "SELECT message_id, subscriber FROM dead_letter
                WHERE (? IS NULL OR subscriber = ?) AND (? IS NULL OR topic = ?)
                    AND (? IS NULL OR message_id = ?) ORDER BY at_ms LIMIT ?";
            let id = message.map(bytes);
            let (by, of) = (subscriber.as_ref(), topic.as_ref());
            let found = tx.query(sql, params![by, by, of, of, id.clone(), id, limit], |row| {
                Ok(Key { message: message_id(row, 0)?, subscriber: row.get(1)? })
            })?;
            let mut replayed = 0;
            for key in found {
                let at = params![now, bytes(key.message), &key.subscriber];
                // The token goes on, so that a late word of the first life is not taken for one of
                // the second.
                let sql = "INSERT INTO delivery (message_id, subscriber, topic, attempts, token,
                        due_ms, in_flight, last_status, last_error, last_instance)
                    SELECT message_id, subscriber, topic, 0, token + 1,
                        ?, 0, last_status, last_error, last_instance
                    FROM dead_letter WHERE message_id = ? AND subscriber = ?";
                if tx.execute(sql, at)? == 1 {
                    remove(tx, &key, Table::DeadLetter)?;
                    replayed += 1;
                }
            }
            Ok(replayed)
        };
        self.database.transaction("replay", work).await
    }
}

#[derive(Clone, Copy)]
enum Table {
    Delivery,
    DeadLetter,
}

fn remove(tx: &mut Transaction<'_>, key: &Key, table: Table) -> Result<bool, Error> {
    let sql = match table {
        Table::Delivery => "DELETE FROM delivery WHERE message_id = ? AND subscriber = ?",
        Table::DeadLetter => "DELETE FROM dead_letter WHERE message_id = ? AND subscriber = ?",
    };
    Ok(tx.execute(sql, params![bytes(key.message), &key.subscriber])? == 1)
}

fn settle(tx: &mut Transaction<'_>, it: &Settled, now: Timestamp) -> Result<bool, Error> {
    let (key, token, attempt, outcome) = (&it.key, it.token, it.attempt, &it.outcome);
    match outcome.next {
        Next::Done => done(tx, key, attempt, outcome, now),
        Next::Again { due, attempts } => again(tx, key, token, (due, attempts), outcome),
        Next::Dead(cause) => {
            let note = "UPDATE delivery SET last_status = ?, last_error = ?, last_instance = ?
                WHERE message_id = ? AND subscriber = ? AND token = ?";
            let (status, error) = (outcome.status, outcome.error.as_ref());
            let instance = outcome.instance.as_ref();
            let at = params![status, error, instance, bytes(key.message), &key.subscriber, token];
            if tx.execute(note, at)? == 0 {
                return Ok(false);
            }
            bury(tx, key, cause, now)
        }
    }
}

/// An acknowledgement counts whenever it comes: the effect has happened.
fn done(
    tx: &mut Transaction<'_>,
    key: &Key,
    attempt: u32,
    outcome: &Outcome,
    now: Timestamp,
) -> Result<bool, Error> {
    if !remove(tx, key, Table::Delivery)? && !remove(tx, key, Table::DeadLetter)? {
        return Ok(false);
    }
    let sql = "INSERT INTO delivered (message_id, subscriber, attempts, instance, at_ms)
        VALUES (?, ?, ?, ?, ?)";
    let (id, instance) = (bytes(key.message), outcome.instance.as_ref());
    tx.execute(sql, params![id.clone(), &key.subscriber, attempt, instance, now])?;
    // MySQL assigns from left to right: what reads the count comes before what changes it.
    let sql = "UPDATE message SET
            ended_ms = CASE WHEN open_count = 1 THEN ? ELSE ended_ms END,
            state = CASE WHEN open_count = 1 THEN 6 ELSE state END,
            open_count = open_count - 1
        WHERE id = ? AND open_count > 0";
    tx.execute(sql, params![now, id])?;
    Ok(true)
}

fn again(
    tx: &mut Transaction<'_>,
    key: &Key,
    token: i64,
    (due, attempts): (Timestamp, u32),
    outcome: &Outcome,
) -> Result<bool, Error> {
    let sql = "UPDATE delivery SET in_flight = 0, due_ms = ?, attempts = ?, last_status = ?,
            last_error = ?, last_instance = ?
        WHERE message_id = ? AND subscriber = ? AND token = ?";
    let (status, error) = (outcome.status, outcome.error.as_ref());
    let row = params![
        due,
        attempts,
        status,
        error,
        outcome.instance.as_ref(),
        bytes(key.message),
        &key.subscriber,
        token
    ];
    Ok(tx.execute(sql, row)? == 1)
}

fn bury(tx: &mut Transaction<'_>, key: &Key, cause: Cause, now: Timestamp) -> Result<bool, Error> {
    let sql = "INSERT INTO dead_letter (message_id, subscriber, topic, attempts, token, reason,
            last_status, last_error, last_instance, at_ms)
        SELECT message_id, subscriber, topic, attempts, token, ?,
            last_status, last_error, last_instance, ?
        FROM delivery WHERE message_id = ? AND subscriber = ?";
    let id = bytes(key.message);
    let moved = tx.execute(sql, params![cause.as_str(), now, id, &key.subscriber])?;
    Ok(moved == 1 && remove(tx, key, Table::Delivery)?)
}

fn read(row: &Row) -> Result<Claimed, Error> {
    let trace: Option<String> = row.get(10)?;
    let xid: Option<Vec<u8>> = row.get(11)?;
    let xid = match xid {
        Some(_) => Some(Xid::from_u128(bits(row, 11)?)),
        None => None,
    };
    Ok(Claimed {
        key: Key { message: message_id(row, 0)?, subscriber: row.get(1)? },
        token: row.get(2)?,
        attempt: row.get(3)?,
        last_instance: row.get(4)?,
        topic: row.get(5)?,
        subject: row.get(6)?,
        kind: row.get(7)?,
        source: row.get(8)?,
        data: row.get(9)?,
        trace: trace.as_deref().and_then(TraceContext::parse),
        xid,
        committed: row.get::<Option<Timestamp>>(12)?.unwrap_or_default(),
    })
}
