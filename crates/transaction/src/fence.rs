//! The fence in the participant's database: one row for each branch, written in the same local
//! transaction as the branch's effect.
//!
//! The rules are the table of [`crate::machine::fence`]; here is how they meet a database with
//! other writers. A Try, a Cancel and a Close insert first and let the primary key decide, so that nobody
//! reads a row that is not there yet (on MySQL that read would lock the gap, and two of them would
//! deadlock). A row leaves TRIED by an UPDATE that names TRIED. What the effect refuses undoes the
//! row too.

use std::time::Duration;

use tradewind_base::id::Xid;
use tradewind_base::{Timestamp, fault};
use tradewind_sql::{Error, Migration, Transaction, params};

use crate::machine::fence::{
    Call as Which, Refusal, Status, Verdict, decide, keep_at_least, timely,
};

/// How many migrations [`migrations`] gives.
pub const MIGRATIONS: usize = 2;

/// The fence table, as migrations of the participant's own set, numbered from `first`.
#[must_use]
pub const fn migrations(first: u32) -> [Migration; MIGRATIONS] {
    [
        Migration {
            version: first,
            name: "create the fence",
            sqlite: "CREATE TABLE tradewind_fence (
                xid TEXT NOT NULL,
                branch INTEGER NOT NULL,
                action TEXT NOT NULL,
                initiator TEXT NOT NULL,
                status INTEGER NOT NULL CHECK (status BETWEEN 1 AND 4),
                deadline_ms INTEGER NOT NULL,
                changed_ms INTEGER NOT NULL,
                reservation TEXT NOT NULL,
                PRIMARY KEY (xid, branch)
            ) STRICT, WITHOUT ROWID",
            mysql: "CREATE TABLE tradewind_fence (
                xid CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
                branch INT NOT NULL,
                action VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
                initiator VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
                status TINYINT NOT NULL CHECK (status BETWEEN 1 AND 4),
                deadline_ms BIGINT NOT NULL,
                changed_ms BIGINT NOT NULL,
                reservation MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
                PRIMARY KEY (xid, branch)
            ) ENGINE=InnoDB",
        },
        Migration {
            version: first + 1,
            name: "find fence rows by state and age",
            sqlite: "CREATE INDEX tradewind_fence_age ON tradewind_fence (status, changed_ms)",
            mysql: "CREATE INDEX tradewind_fence_age ON tradewind_fence (status, changed_ms)",
        },
    ]
}

/// Which branch a call is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The transaction.
    pub xid: Xid,
    /// The branch's number within it.
    pub branch: u16,
    /// The action of the participant.
    pub action: String,
    /// The service that decides.
    pub initiator: String,
}

/// A reservation whose outcome this participant does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limbo {
    /// The branch.
    pub key: Key,
    /// When its transaction should have been decided.
    pub deadline: Timestamp,
    /// Since when it is reserved.
    pub since: Timestamp,
}

struct Row {
    action: String,
    initiator: String,
    status: Status,
    reservation: String,
}

/// How often a row may change under a call before the call gives up; each change is final but
/// one, so two are enough.
const LOOKS: usize = 3;

/// Passes a Try through the fence: `Ok(Ok(()))` when it is reserved, now or by an earlier call.
///
/// # Errors
/// What the database or `effect` say; the caller's transaction must then not commit. A refusal of
/// the fence is the inner result; it has changed nothing.
pub fn reserve<E: From<Error>>(
    tx: &mut Transaction<'_>,
    key: &Key,
    reservation: &str,
    deadline: Timestamp,
    (now, skew): (Timestamp, Duration),
    effect: impl FnOnce(&mut Transaction<'_>) -> Result<(), E>,
) -> Result<Result<(), Refusal>, E> {
    if fault::bug("fence-skipped") {
        // A row is written and nobody looks at the one that is there.
        insert(tx, key, Status::Tried, deadline, now, reservation)?;
        effect(tx)?;
        return Ok(Ok(()));
    }
    if let Err(refusal) = timely(deadline, now, skew) {
        // A repeat of what was taken in time is still answered.
        let row = read(tx, key)?;
        return Ok(match row {
            Some(row) if fits(&row, key) => match decide(Some(row.status), Which::Try) {
                Verdict::Done if row.reservation == reservation => Ok(()),
                Verdict::Refuse(other) => Err(other),
                Verdict::Done | Verdict::Insert(_) | Verdict::Move(_) => Err(Refusal::Mismatch),
            },
            Some(_) => Err(Refusal::Mismatch),
            None => Err(refusal),
        });
    }
    if insert(tx, key, Status::Tried, deadline, now, reservation)? {
        effect(tx)?;
        return Ok(Ok(()));
    }
    let Some(row) = read(tx, key)? else { return Ok(Err(Refusal::Ended)) };
    if !fits(&row, key) || row.reservation != reservation && row.status == Status::Tried {
        return Ok(Err(Refusal::Mismatch));
    }
    Ok(match decide(Some(row.status), Which::Try) {
        Verdict::Refuse(refusal) => Err(refusal),
        Verdict::Done | Verdict::Insert(_) | Verdict::Move(_) => Ok(()),
    })
}

/// Passes a Confirm through the fence. `effect` gets the reservation as it was tried.
///
/// # Errors
/// As [`reserve`].
pub fn confirm<E: From<Error>>(
    tx: &mut Transaction<'_>,
    key: &Key,
    now: Timestamp,
    effect: impl FnOnce(&mut Transaction<'_>, &str) -> Result<(), E>,
) -> Result<Result<(), Refusal>, E> {
    finish(tx, key, Which::Confirm, now, effect)
}

/// Passes a Cancel through the fence. `effect` gets the reservation as it was tried; it is not
/// called when there was no Try.
///
/// # Errors
/// As [`reserve`].
pub fn cancel<E: From<Error>>(
    tx: &mut Transaction<'_>,
    key: &Key,
    now: Timestamp,
    effect: impl FnOnce(&mut Transaction<'_>, &str) -> Result<(), E>,
) -> Result<Result<(), Refusal>, E> {
    if insert(tx, key, Status::Suspended, Timestamp::from_millis(0), now, "")? {
        return Ok(Ok(()));
    }
    finish(tx, key, Which::Cancel, now, effect)
}

/// Closes a branch: whether it is tried, or was. If not, it never will be.
///
/// # Errors
/// What the database says. [`Refusal::Mismatch`] is the inner result.
pub fn close(
    tx: &mut Transaction<'_>,
    key: &Key,
    now: Timestamp,
) -> Result<Result<bool, Refusal>, Error> {
    if insert(tx, key, Status::Suspended, Timestamp::from_millis(0), now, "")? {
        return Ok(Ok(false));
    }
    let row = read(tx, key)?;
    if row.as_ref().is_some_and(|it| !fits(it, key)) {
        return Ok(Err(Refusal::Mismatch));
    }
    Ok(match decide(row.map(|it| it.status), Which::Close) {
        Verdict::Done => Ok(true),
        Verdict::Refuse(Refusal::Suspended) => Ok(false),
        // Its row was cleaned meanwhile: it ended long ago.
        Verdict::Refuse(_) | Verdict::Insert(_) | Verdict::Move(_) => Err(Refusal::Ended),
    })
}

fn finish<E: From<Error>>(
    tx: &mut Transaction<'_>,
    key: &Key,
    which: Which,
    now: Timestamp,
    effect: impl FnOnce(&mut Transaction<'_>, &str) -> Result<(), E>,
) -> Result<Result<(), Refusal>, E> {
    for _ in 0..LOOKS {
        let row = read(tx, key)?;
        if row.as_ref().is_some_and(|it| !fits(it, key)) {
            return Ok(Err(Refusal::Mismatch));
        }
        match (decide(row.as_ref().map(|it| it.status), which), row) {
            (Verdict::Done, _) => return Ok(Ok(())),
            (Verdict::Refuse(refusal), _) => return Ok(Err(refusal)),
            (Verdict::Move(status), Some(row)) => {
                let sql = "UPDATE tradewind_fence SET status = ?, changed_ms = ?
                    WHERE xid = ? AND branch = ? AND status = 1";
                let xid = key.xid.to_string();
                if tx.execute(sql, params![status.number(), now, xid, key.branch])? == 1 {
                    effect(tx, &row.reservation)?;
                    return Ok(Ok(()));
                }
            }
            // Only a Cancel inserts, and it has tried that before: its row was cleaned meanwhile.
            (Verdict::Insert(_) | Verdict::Move(_), _) => {}
        }
    }
    Ok(Err(Refusal::Conflict))
}

/// Reservations past their deadline whose outcome is unknown here, oldest first.
///
/// # Errors
/// What the database says.
pub fn limbo(tx: &mut Transaction<'_>, before: Timestamp, max: u32) -> Result<Vec<Limbo>, Error> {
    let sql = "SELECT xid, branch, action, initiator, deadline_ms, changed_ms FROM tradewind_fence
        WHERE status = 1 AND deadline_ms < ? ORDER BY changed_ms LIMIT ?";
    let rows = tx.query(sql, params![before, max], |row| {
        let xid: String = row.get(0)?;
        let limbo = |xid| {
            let (branch, action, initiator) = (row.get(1)?, row.get(2)?, row.get(3)?);
            let key = Key { xid, branch, action, initiator };
            Ok(Limbo { key, deadline: row.get(4)?, since: row.get(5)? })
        };
        xid.parse().ok().map(limbo).transpose()
    })?;
    Ok(rows.into_iter().flatten().collect())
}

/// Deletes up to `max` final rows that are older than `keep`, which is raised to what keeps late
/// Trys out. TRIED rows are never deleted. Answers how many were.
///
/// # Errors
/// What the database says.
pub fn clean(
    tx: &mut Transaction<'_>,
    now: Timestamp,
    keep: Duration,
    skew: Duration,
    max: u32,
) -> Result<usize, Error> {
    let keep = keep.max(keep_at_least(skew));
    let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
    let before = now.millis().saturating_sub(keep);
    let mut cleaned = 0;
    for status in [Status::Committed, Status::RolledBack, Status::Suspended] {
        let sql = "SELECT xid, branch FROM tradewind_fence
            WHERE status = ? AND changed_ms < ? ORDER BY changed_ms LIMIT ?";
        let keys: Vec<(String, u16)> =
            tx.query(sql, params![status.number(), before, max], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        for (xid, branch) in keys {
            let sql = "DELETE FROM tradewind_fence WHERE xid = ? AND branch = ? AND status <> 1";
            tx.execute(sql, params![xid, branch])?;
            cleaned += 1;
        }
    }
    Ok(cleaned)
}

fn fits(row: &Row, key: &Key) -> bool {
    row.action == key.action && row.initiator == key.initiator
}

fn insert(
    tx: &mut Transaction<'_>,
    key: &Key,
    status: Status,
    deadline: Timestamp,
    now: Timestamp,
    reservation: &str,
) -> Result<bool, Error> {
    let sql = "INSERT INTO tradewind_fence
        (xid, branch, action, initiator, status, deadline_ms, changed_ms, reservation)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    let values = params![
        key.xid.to_string(),
        key.branch,
        &key.action,
        &key.initiator,
        status.number(),
        deadline,
        now,
        reservation
    ];
    match tx.execute(sql, values) {
        Ok(_) => Ok(true),
        Err(error) if error.is_unique_violation() => Ok(false),
        Err(error) => Err(error),
    }
}

fn read(tx: &mut Transaction<'_>, key: &Key) -> Result<Option<Row>, Error> {
    let sql = "SELECT action, initiator, status, reservation FROM tradewind_fence
        WHERE xid = ? AND branch = ?";
    tx.query_one(sql, params![key.xid.to_string(), key.branch], |row| {
        let number: u8 = row.get(2)?;
        Ok(Row {
            action: row.get(0)?,
            initiator: row.get(1)?,
            // The table's CHECK allows no other number.
            status: Status::from_number(number).unwrap_or(Status::Suspended),
            reservation: row.get(3)?,
        })
    })
}
