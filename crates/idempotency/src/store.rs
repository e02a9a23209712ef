//! Claim, finish and release, each in a transaction of the caller's.
//!
//! They return an error when the caller's transaction must not be committed; let it out of the
//! closure with `?`.

use std::time::Duration;

use serde_json::Value;
use tradewind_base::Timestamp;
use tradewind_sql::{Dialect, Error, Row, Transaction, params};

use crate::answer::{AnswerError, StoredAnswer};
use crate::fingerprint::Fingerprint;
use crate::key::{Key, Scope};
use crate::machine::{self, Decision, Ending, Fence, Record, State, Terms};

/// One attempt at one intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Who asks, for what.
    pub scope: Scope,
    /// The client's key.
    pub key: Key,
    /// The content.
    pub fingerprint: Fingerprint,
}

/// What a claim came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The work is the caller's.
    Mine {
        /// To be handed to [`finish`] or [`release`].
        fence: Fence,
    },
    /// Another attempt is at work: 409, come back.
    InFlight {
        /// How long its claim lasts at most.
        retry_after: Duration,
    },
    /// The work is done: this is its answer.
    Done(StoredAnswer),
    /// The key is in use for another content: 422.
    Mismatch,
    /// An earlier attempt died or was too slow. Go on with what it fixed: look what became of it,
    /// and bring that to its end.
    Resume {
        /// What the first claim fixed.
        fixed: Value,
        /// To be handed to [`finish`] or [`release`]. The earlier attempt's is void.
        fence: Fence,
    },
}

/// Why the transaction must not be committed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database failed.
    #[error("the table of idempotency keys cannot be used")]
    Sql(#[from] Error),
    /// Another attempt has taken over, or the claim was released: what this one did must not
    /// stand.
    #[error("another attempt has taken over")]
    Superseded,
    /// This attempt has finished before, in a transaction whose commit was not answered. Its
    /// effect stands already.
    #[error("this attempt is finished already")]
    AlreadyDone,
    /// The answer cannot be stored.
    #[error("the answer cannot be stored")]
    Answer(#[from] AnswerError),
    /// What is fixed in the claim is larger than [`FIXED_BYTES_MAX`].
    #[error("what a claim fixes has at most {FIXED_BYTES_MAX} bytes as JSON")]
    FixedTooLarge,
    /// A row was not written by this library.
    #[error("the row of an idempotency key cannot be read")]
    Corrupt,
}

/// The most that a claim can fix, in bytes of JSON.
pub const FIXED_BYTES_MAX: usize = 16 * 1024;
/// The most rows that one [`clean`] takes.
pub const CLEAN_MAX: u32 = 1000;

const NOW_SQLITE: &str = "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)";
// From UTC: the way over local time is ambiguous for one hour of the year.
const NOW_MYSQL: &str =
    "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6)) DIV 1000";
const READ: &str = "SELECT fingerprint, state, fence, lease_until_ms, expires_ms, fixed, status,
        headers, body
    FROM tradewind_idempotency WHERE subject = ? AND operation = ? AND idempotency_key = ?";
const INSERT: &str = "INSERT INTO tradewind_idempotency (subject, operation, idempotency_key,
        fingerprint, state, fence, lease_until_ms, fixed, created_ms, expires_ms)
    VALUES (?, ?, ?, ?, 'claimed', ?, ?, ?, ?, ?)";
const TAKE: &str = "UPDATE tradewind_idempotency
    SET fingerprint = ?, state = 'claimed', fence = ?, lease_until_ms = ?, fixed = ?,
        expires_ms = ?
    WHERE subject = ? AND operation = ? AND idempotency_key = ? AND fence = ? AND state = ?";
const FINISH: &str = "UPDATE tradewind_idempotency
    SET state = 'done', status = ?, headers = ?, body = ?, expires_ms = ?
    WHERE subject = ? AND operation = ? AND idempotency_key = ? AND fence = ?
        AND state = 'claimed'";
const RELEASE: &str = "UPDATE tradewind_idempotency SET state = 'released', expires_ms = ?
    WHERE subject = ? AND operation = ? AND idempotency_key = ? AND fence = ?
        AND state = 'claimed'";
const EXTEND: &str = "UPDATE tradewind_idempotency SET lease_until_ms = ?
    WHERE subject = ? AND operation = ? AND idempotency_key = ? AND fence = ?
        AND state = 'claimed'";
const EXPIRED: &str = "SELECT subject, operation, idempotency_key, fence, state, lease_until_ms
    FROM tradewind_idempotency WHERE expires_ms <= ? ORDER BY expires_ms LIMIT ?";
const DELETE: &str = "DELETE FROM tradewind_idempotency
    WHERE subject = ? AND operation = ? AND idempotency_key = ? AND fence = ? AND state = ?
        AND expires_ms <= ?";
const POSTPONE: &str = "UPDATE tradewind_idempotency SET expires_ms = ?
    WHERE subject = ? AND operation = ? AND idempotency_key = ? AND fence = ?
        AND state = 'claimed'";

/// The database's own clock: the one that all instances of a service share.
///
/// # Errors
/// When the database fails.
pub fn now(tx: &mut Transaction<'_>) -> Result<Timestamp, Error> {
    let sql = match tx.dialect() {
        Dialect::Sqlite => NOW_SQLITE,
        Dialect::MySql => NOW_MYSQL,
    };
    Ok(tx.query_one(sql, &[], |row| row.get(0))?.unwrap_or_default())
}

/// Claims the key. `fixed` is kept in the row for whoever has to resume: ids that every attempt
/// must use. It is not looked at unless the claim is new.
///
/// # Errors
/// When the database fails, or `fixed` is too large.
pub fn claim(
    tx: &mut Transaction<'_>,
    attempt: &Attempt,
    fixed: &Value,
    now: Timestamp,
    terms: &Terms,
) -> Result<Claim, StoreError> {
    let fixed = fixed.to_string();
    if FIXED_BYTES_MAX < fixed.len() {
        return Err(StoreError::FixedTooLarge);
    }
    // Whoever was faster between the look and the write has changed the row: look again. The first
    // look may be the one that finds nothing, the second finds the other's claim.
    for _ in 0..3 {
        let stored = read(tx, attempt)?;
        let record = stored.as_ref().map(|it| &it.record);
        let written = match machine::claim(record, &attempt.fingerprint, now) {
            Decision::Work(fence) => {
                let old = record.map(|it| (it.fence, it.state));
                write(tx, attempt, old, fence, &fixed, now, terms)?.then_some(Claim::Mine { fence })
            }
            Decision::Resume(fence) => {
                let Some(stored) = stored else { return Err(StoreError::Corrupt) };
                let old = Some((stored.record.fence, stored.record.state));
                let value = serde_json::from_str(&stored.fixed).map_err(|_| StoreError::Corrupt)?;
                write(tx, attempt, old, fence, &stored.fixed, now, terms)?
                    .then_some(Claim::Resume { fixed: value, fence })
            }
            Decision::InFlight(retry_after) => Some(Claim::InFlight { retry_after }),
            Decision::Replay => {
                let answer = stored.and_then(|it| it.answer).ok_or(StoreError::Corrupt)?;
                Some(Claim::Done(answer))
            }
            Decision::Mismatch => Some(Claim::Mismatch),
        };
        if let Some(claim) = written {
            return Ok(claim);
        }
    }
    // Lost three races in one transaction: somebody is at it.
    Ok(Claim::InFlight { retry_after: Duration::from_secs(1) })
}

/// Stores the answer; from now on every attempt gets it. Call it in the transaction of the effect.
///
/// # Errors
/// [`StoreError::Superseded`] and [`StoreError::AlreadyDone`] when the effect of this transaction
/// must not stand; or when the answer cannot be stored or the database fails.
pub fn finish(
    tx: &mut Transaction<'_>,
    attempt: &Attempt,
    fence: Fence,
    answer: &StoredAnswer,
    now: Timestamp,
    terms: &Terms,
) -> Result<(), StoreError> {
    answer.check()?;
    let (scope, key) = (&attempt.scope, attempt.key.as_str());
    let status = answer.status().as_u16();
    let (headers, body) = (answer.headers_text(), answer.body());
    let done = tx.execute(
        FINISH,
        params![
            status,
            headers,
            body,
            now + terms.life,
            scope.subject(),
            scope.operation(),
            key,
            fence
        ],
    )?;
    if done == 1 {
        return Ok(());
    }
    match machine::end(read(tx, attempt)?.map(|it| it.record).as_ref(), fence) {
        Ending::AlreadyDone => Err(StoreError::AlreadyDone),
        // One that counts would have been written.
        Ending::Superseded | Ending::Counts => Err(StoreError::Superseded),
    }
}

/// Gives the key back after work that ended without any effect: it can be used again, also for
/// another content. Not for work whose outcome is unknown. Tells whether the claim was still the
/// caller's.
///
/// # Errors
/// When the database fails.
pub fn release(
    tx: &mut Transaction<'_>,
    attempt: &Attempt,
    fence: Fence,
    now: Timestamp,
    terms: &Terms,
) -> Result<bool, StoreError> {
    let (scope, key) = (&attempt.scope, attempt.key.as_str());
    let expires = now + terms.life;
    let params = params![expires, scope.subject(), scope.operation(), key, fence];
    Ok(tx.execute(RELEASE, params)? == 1)
}

/// Makes the claim last a lease from now, for work that takes long. Tells whether it was still the
/// caller's.
///
/// # Errors
/// When the database fails.
pub fn extend(
    tx: &mut Transaction<'_>,
    attempt: &Attempt,
    fence: Fence,
    now: Timestamp,
    terms: &Terms,
) -> Result<bool, StoreError> {
    let (scope, key) = (&attempt.scope, attempt.key.as_str());
    let until = now + terms.lease;
    let params = params![until, scope.subject(), scope.operation(), key, fence];
    Ok(tx.execute(EXTEND, params)? == 1)
}

/// Deletes rows that have expired, at most `limit` and [`CLEAN_MAX`] of them, and tells how many
/// it looked at: as many as the limit means that there may be more. Claimed rows stay for a whole
/// life after their lease.
///
/// # Errors
/// When the database fails.
pub fn clean(
    tx: &mut Transaction<'_>,
    now: Timestamp,
    terms: &Terms,
    limit: u32,
) -> Result<usize, StoreError> {
    type Found = (String, String, String, Fence, String, Timestamp);
    let rows: Vec<Found> = tx.query(EXPIRED, params![now, limit.min(CLEAN_MAX)], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
    })?;
    for (subject, operation, key, fence, state, lease_until) in &rows {
        let Some(known) = State::parse(state)? else { return Err(StoreError::Corrupt) };
        let record = Record {
            fingerprint: Fingerprint::stored(String::new()),
            state: known,
            fence: *fence,
            lease_until: *lease_until,
            expires: now,
        };
        if machine::may_clean(&record, now, terms) {
            tx.execute(DELETE, params![subject, operation, key, *fence, state, now])?;
        } else {
            // Out of the way of the next batch.
            let later = *lease_until + terms.life;
            tx.execute(POSTPONE, params![later, subject, operation, key, *fence])?;
        }
    }
    Ok(rows.len())
}

/// What became of the attempt that has this fence, as far as the table knows.
pub(crate) fn ending(
    tx: &mut Transaction<'_>,
    attempt: &Attempt,
    fence: Fence,
) -> Result<Ending, StoreError> {
    Ok(machine::end(read(tx, attempt)?.map(|it| it.record).as_ref(), fence))
}

struct Stored {
    record: Record,
    fixed: String,
    answer: Option<StoredAnswer>,
}

fn read(tx: &mut Transaction<'_>, attempt: &Attempt) -> Result<Option<Stored>, StoreError> {
    let (scope, key) = (&attempt.scope, attempt.key.as_str());
    let params = params![scope.subject(), scope.operation(), key];
    let row = tx.query_one(READ, params, |row: &Row| {
        let state = State::parse(&row.get::<String>(1)?)?;
        let answer = match (row.get(6)?, row.get::<Option<String>>(7)?, row.get(8)?) {
            (Some(status), Some(headers), Some(body)) => {
                StoredAnswer::stored(status, &headers, body)
            }
            _ => None,
        };
        let (fence, lease_until, expires) = (row.get(2)?, row.get(3)?, row.get(4)?);
        let fingerprint = Fingerprint::stored(row.get(0)?);
        Ok(state
            .map(|state| Stored {
                record: Record { fingerprint, state, fence, lease_until, expires },
                fixed: String::new(),
                answer,
            })
            .map(|it| (it, row.get::<String>(5))))
    })?;
    match row {
        None => Ok(None),
        Some(None) => Err(StoreError::Corrupt),
        Some(Some((stored, fixed))) => Ok(Some(Stored { fixed: fixed?, ..stored })),
    }
}

/// Writes a claim; `false` when somebody else was faster.
fn write(
    tx: &mut Transaction<'_>,
    attempt: &Attempt,
    old: Option<(Fence, State)>,
    fence: Fence,
    fixed: &str,
    now: Timestamp,
    terms: &Terms,
) -> Result<bool, StoreError> {
    let (scope, key) = (&attempt.scope, attempt.key.as_str());
    let (subject, operation) = (scope.subject(), scope.operation());
    let fingerprint = attempt.fingerprint.as_str();
    let (until, expires) = (now + terms.lease, now + terms.life);
    let written = match old {
        None => tx.execute(
            INSERT,
            params![subject, operation, key, fingerprint, fence, until, fixed, now, expires],
        ),
        Some((old, state)) => tx.execute(
            TAKE,
            params![
                fingerprint,
                fence,
                until,
                fixed,
                expires,
                subject,
                operation,
                key,
                old,
                state.as_str()
            ],
        ),
    };
    match written {
        Ok(count) => Ok(count == 1),
        Err(error) if error.is_unique_violation() => Ok(false),
        Err(error) => Err(error.into()),
    }
}
