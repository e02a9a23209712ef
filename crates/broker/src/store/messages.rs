//! Messages: stored, decided, asked about.

use tradewind_base::id::Xid;
use tradewind_base::{Timestamp, TraceContext};
use tradewind_message::wire::{CheckAt, MessageId, Receipt, State};
use tradewind_sql::{Dialect, Error, Transaction, TransactionError, params};

use super::{Key, Store, StoreError, bits, bytes, code, message_id, state, xid_bytes};
use crate::machine::message::{Step, Word, decide};

/// A message to be stored.
#[derive(Clone, Debug)]
pub(crate) struct NewMessage {
    pub(crate) id: MessageId,
    pub(crate) topic: String,
    pub(crate) key: String,
    pub(crate) kind: String,
    pub(crate) source: String,
    pub(crate) data: String,
    pub(crate) trace: Option<TraceContext>,
}

/// Whose word decides over a message.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// Nobody's: it is published.
    Direct,
    /// A local transaction's.
    Half { check: CheckAt, first_check: Timestamp },
    /// A distributed transaction's.
    Branch { xid: Xid, branch: u16, initiator: String, first_check: Timestamp },
}

/// Why a message did not change as wanted. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MessageError {
    #[error("the database failed")]
    Sql(#[from] Error),
    #[error("there is no message {0}")]
    Unknown(MessageId),
    #[error("message {0} exists with other content")]
    Reused(MessageId),
    #[error("message {id} is {state:?} already")]
    Conflict { id: MessageId, state: State },
    #[error("message {0} follows its transaction")]
    OfBranch(MessageId),
}

/// What became of a message, and what is to be delivered because of that.
#[derive(Clone, Debug)]
pub(crate) struct Changed {
    pub(crate) receipt: Receipt,
    pub(crate) topic: String,
    pub(crate) deliveries: Vec<Key>,
}

/// A message whose producer is to be asked.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) id: MessageId,
    pub(crate) service: String,
    pub(crate) path: Option<String>,
    pub(crate) branch: Option<(Xid, u16)>,
    pub(crate) checks: u32,
}

impl Store {
    /// Stores a message that is decided, with its deliveries.
    pub(crate) async fn publish(
        &self,
        message: NewMessage,
        now: Timestamp,
    ) -> Result<Changed, TransactionError<MessageError>> {
        let work = move |tx: &mut Transaction<'_>| {
            if insert(tx, &message, &Origin::Direct, now)? {
                return change(tx, message.id, Word::Commit, now);
            }
            let it = same(tx, &message)?;
            match it.receipt.state {
                State::Committed | State::ParkedUnrouted | State::Done => Ok(it),
                _ => Err(MessageError::Reused(message.id)),
            }
        };
        self.database.transaction("publish", work).await
    }

    /// Stores a half message.
    pub(crate) async fn prepare(
        &self,
        message: NewMessage,
        check: CheckAt,
        first_check: Timestamp,
        now: Timestamp,
    ) -> Result<Changed, TransactionError<MessageError>> {
        let origin = Origin::Half { check, first_check };
        let work = move |tx: &mut Transaction<'_>| {
            insert(tx, &message, &origin, now)?;
            same(tx, &message)
        };
        self.database.transaction("prepare", work).await
    }

    /// The word of a producer, or of a human, about a half message.
    pub(crate) async fn say(
        &self,
        id: MessageId,
        word: Word,
        now: Timestamp,
    ) -> Result<Changed, TransactionError<MessageError>> {
        let work = move |tx: &mut Transaction<'_>| {
            let sql = "SELECT 1 FROM message WHERE id = ? AND xid IS NOT NULL";
            if tx.query_one(sql, params![bytes(id)], |_| Ok(()))?.is_some()
                && word != Word::GiveUpAsking
            {
                return Err(MessageError::OfBranch(id));
            }
            change(tx, id, word, now)
        };
        self.database.transaction("decide message", work).await
    }

    /// The messages that are to be asked about now. They come again at their next time.
    pub(crate) async fn questions(
        &self,
        now: Timestamp,
        again: Timestamp,
        limit: u32,
    ) -> Result<Vec<Question>, StoreError> {
        let look = move |tx: &mut Transaction<'_>| {
            let sql = "SELECT id, check_ms FROM message WHERE check_ms <= ?
                ORDER BY check_ms LIMIT ?";
            tx.query(sql, params![now, limit], |row| {
                Ok((message_id(row, 0)?, row.get::<Timestamp>(1)?))
            })
        };
        let due = self.database.read("checks due", look).await?;
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let take = move |tx: &mut Transaction<'_>| {
            let mut questions = Vec::with_capacity(due.len());
            for (id, at) in &due {
                let sql = "UPDATE message SET check_ms = ?, checks = checks + 1
                    WHERE id = ? AND check_ms = ? AND state = 1";
                if tx.execute(sql, params![again, bytes(*id), *at])? == 1 {
                    questions.extend(question(tx, *id)?);
                }
            }
            Ok(questions)
        };
        self.database.transaction("take checks", take).await
    }

    /// Sets when a message is asked about again, and why it was not answered.
    pub(crate) async fn ask_again(
        &self,
        id: MessageId,
        at: Timestamp,
        reason: String,
    ) -> Result<(), StoreError> {
        let work = move |tx: &mut Transaction<'_>| {
            let sql = "UPDATE message SET check_ms = ?, last_error = ? WHERE id = ? AND state = 1";
            tx.execute(sql, params![at, &reason, bytes(id)])
        };
        self.database.transaction("ask again", work).await.map(|_| ())
    }

    /// Routes parked messages whose topic has a subscriber now.
    pub(crate) async fn unpark(
        &self,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<Changed>, StoreError> {
        let look = move |tx: &mut Transaction<'_>| {
            let sql = "SELECT m.id FROM message m WHERE m.state = 5 AND EXISTS (
                    SELECT 1 FROM subscription s WHERE s.topic = m.topic AND s.active = 1)
                ORDER BY m.created_ms LIMIT ?";
            tx.query(sql, params![limit], |row| message_id(row, 0))
        };
        let found = self.database.read("parked", look).await?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let work = move |tx: &mut Transaction<'_>| {
            let mut changed = Vec::new();
            for id in &found {
                let sql = "UPDATE message SET state = 2 WHERE id = ? AND state = 5";
                if tx.execute(sql, params![bytes(*id)])? == 0 {
                    continue;
                }
                let Some((_, topic, sequence)) = current(tx, *id)? else { continue };
                let deliveries = route(tx, *id, &topic, now)?;
                let state =
                    if deliveries.is_empty() { State::ParkedUnrouted } else { State::Committed };
                let sql = "UPDATE message SET state = ?, open_count = ? WHERE id = ?";
                tx.execute(sql, params![code(state), count(&deliveries), bytes(*id)])?;
                let receipt = Receipt { id: *id, state, sequence };
                changed.push(Changed { receipt, topic, deliveries });
            }
            Ok(changed)
        };
        self.database.transaction("unpark", work).await
    }
}

/// Stores a message as prepared; `false` when its id is known.
pub(super) fn insert(
    tx: &mut Transaction<'_>,
    it: &NewMessage,
    origin: &Origin,
    now: Timestamp,
) -> Result<bool, Error> {
    let (xid, branch, service, path, check) = match origin {
        Origin::Direct => (None, None, None, None, None),
        Origin::Half { check, first_check } => {
            (None, None, Some(&check.service), Some(&check.path), Some(*first_check))
        }
        Origin::Branch { xid, branch, initiator, first_check } => {
            (Some(xid_bytes(*xid)), Some(*branch), Some(initiator), None, Some(*first_check))
        }
    };
    let sql = "INSERT INTO message (id, state, topic, msg_key, kind, source, data, trace, xid,
            branch, check_service, check_path, check_ms, created_ms)
        VALUES (?, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let done = tx.execute(
        sql,
        params![
            bytes(it.id),
            &it.topic,
            &it.key,
            &it.kind,
            &it.source,
            &it.data,
            it.trace.map(|it| it.to_string()),
            xid,
            branch,
            service,
            path,
            check,
            now
        ],
    );
    match done {
        Ok(_) => Ok(true),
        Err(error) if error.is_unique_violation() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Where a message stands, if it is the one that was given.
fn same(tx: &mut Transaction<'_>, it: &NewMessage) -> Result<Changed, MessageError> {
    let sql =
        "SELECT state, topic, msg_key, kind, source, data, sequence FROM message WHERE id = ?";
    let found = tx.query_one(sql, params![bytes(it.id)], |row| {
        let texts = [row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?];
        Ok((row.get::<i64>(0)?, texts, row.get(6)?))
    })?;
    let Some((found, texts, sequence)) = found else { return Err(MessageError::Unknown(it.id)) };
    let wanted = [&it.topic, &it.key, &it.kind, &it.source, &it.data];
    if texts.iter().zip(wanted).any(|(a, b): (&String, _)| a != b) {
        return Err(MessageError::Reused(it.id));
    }
    let receipt = Receipt { id: it.id, state: state(found), sequence };
    Ok(Changed { receipt, topic: it.topic.clone(), deliveries: Vec::new() })
}

/// Says `word` about a message, with everything that follows.
pub(super) fn change(
    tx: &mut Transaction<'_>,
    id: MessageId,
    word: Word,
    now: Timestamp,
) -> Result<Changed, MessageError> {
    // Take the row before deciding: the lock keeps the state as it is read. On SQLite nobody else
    // writes meanwhile.
    if tx.dialect() == Dialect::MySql {
        tx.execute("UPDATE message SET id = id WHERE id = ?", params![bytes(id)])?;
    }
    let Some((before, topic, sequence)) = current(tx, id)? else {
        return Err(MessageError::Unknown(id));
    };
    let after = match decide(before, word, true) {
        Step::Enter(after) => after,
        Step::Stay => {
            let receipt = Receipt { id, state: before, sequence };
            return Ok(Changed { receipt, topic, deliveries: Vec::new() });
        }
        Step::Conflict => return Err(MessageError::Conflict { id, state: before }),
    };
    let mut receipt = Receipt { id, state: after, sequence };
    let mut deliveries = Vec::new();
    if word == Word::Commit {
        deliveries = route(tx, id, &topic, now)?;
        if let Step::Enter(after) = decide(before, word, !deliveries.is_empty()) {
            receipt.state = after;
        }
        tx.execute("UPDATE sequence SET latest = latest + 1 WHERE id = 1", params![])?;
        let sql = "SELECT latest FROM sequence WHERE id = 1";
        receipt.sequence = tx.query_one(sql, params![], |row| row.get(0))?;
        let sql = "UPDATE message SET state = ?, sequence = ?, committed_ms = ?, open_count = ?,
            check_ms = NULL WHERE id = ?";
        let open = count(&deliveries);
        let (state, sequence) = (code(receipt.state), receipt.sequence);
        tx.execute(sql, params![state, sequence, now, open, bytes(id)])?;
    } else {
        let ended = (after == State::Cancelled).then_some(now);
        let sql = "UPDATE message SET state = ?, ended_ms = ?, check_ms = NULL WHERE id = ?";
        tx.execute(sql, params![code(after), ended, bytes(id)])?;
    }
    Ok(Changed { receipt, topic, deliveries })
}

type Current = (State, String, Option<i64>);

fn current(tx: &mut Transaction<'_>, id: MessageId) -> Result<Option<Current>, Error> {
    let sql = "SELECT state, topic, sequence FROM message WHERE id = ?";
    tx.query_one(sql, params![bytes(id)], |row| Ok((state(row.get(0)?), row.get(1)?, row.get(2)?)))
}

/// One delivery for each who subscribes now. Who comes later gets later messages.
fn route(
    tx: &mut Transaction<'_>,
    id: MessageId,
    topic: &str,
    now: Timestamp,
) -> Result<Vec<Key>, Error> {
    let sql = "SELECT subscriber FROM subscription WHERE topic = ? AND active = 1";
    let subscribers = tx.query(sql, params![topic], |row| row.get::<String>(0))?;
    let sql = "INSERT INTO delivery
        (message_id, subscriber, topic, attempts, token, due_ms, in_flight)
        VALUES (?, ?, ?, 0, 0, ?, 0)";
    for it in &subscribers {
        tx.execute(sql, params![bytes(id), it, topic, now])?;
    }
    let key = |subscriber| Key { message: id, subscriber };
    Ok(subscribers.into_iter().map(key).collect())
}

fn count(deliveries: &[Key]) -> i64 {
    i64::try_from(deliveries.len()).unwrap_or(i64::MAX)
}

fn question(tx: &mut Transaction<'_>, id: MessageId) -> Result<Option<Question>, Error> {
    let sql = "SELECT check_service, check_path, xid, branch, checks FROM message WHERE id = ?";
    tx.query_one(sql, params![bytes(id)], |row| {
        let branch: Option<u16> = row.get(3)?;
        let branch = match branch {
            Some(it) => Some((Xid::from_u128(bits(row, 2)?), it)),
            None => None,
        };
        let service: Option<String> = row.get(0)?;
        Ok(Question {
            id,
            service: service.unwrap_or_default(),
            path: row.get(1)?,
            branch,
            checks: row.get(4)?,
        })
    })
}
