//! The log: one row for each transaction, in the initiating service's database.

use tradewind_base::Timestamp;
use tradewind_base::id::Xid;
use tradewind_sql::{Error, Row, Transaction, Value, params};

use super::declaration::{Declaration, Declared};
use crate::machine::global::{Branch, Global, Phase};

/// A row of the log.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) global: Global,
    pub(super) name: String,
    pub(super) shard: u16,
    pub(super) version: i64,
    pub(super) begun: Timestamp,
    pub(super) trace: Option<String>,
    pub(super) own: Option<String>,
    pub(super) declared: Vec<Declared>,
}

/// Which lease a change must still hold; none for the initiator's own decision, which any instance
/// may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Epoch {
    pub(super) shard: u16,
    pub(super) epoch: i64,
}

/// Inserts the begin record; `false` when the xid is taken.
pub(super) fn insert(
    tx: &mut Transaction<'_>,
    declaration: &Declaration,
    shard: u16,
    now: Timestamp,
) -> Result<bool, Error> {
    let it = declaration;
    let global = Global::begin(it.xid, it.deadline, it.branches.iter().map(|branch| branch.index));
    let values = [
        Value::from(it.xid.to_string()),
        it.name.as_ref().into(),
        shard.into(),
        Phase::Trying.number().into(),
        0.into(),
        it.deadline.into(),
        now.into(),
        global.next().into(),
        None::<i64>.into(),
        0.into(),
        None::<String>.into(),
        it.trace.map(|trace| trace.to_string()).into(),
        it.own.as_ref().map(ToString::to_string).into(),
        json(&it.branches).into(),
        json(&global.branches).into(),
        it.implied.into(),
    ];
    insert_row(tx, &values)
}

/// Writes down that an unknown xid is aborted; `false` when it is known by now.
pub(super) fn tombstone(tx: &mut Transaction<'_>, xid: Xid, now: Timestamp) -> Result<bool, Error> {
    let values = [
        Value::from(xid.to_string()),
        "".into(),
        0.into(),
        Phase::Aborted.number().into(),
        0.into(),
        now.into(),
        now.into(),
        None::<i64>.into(),
        now.into(),
        0.into(),
        "asked about before it began".into(),
        None::<String>.into(),
        None::<String>.into(),
        "[]".into(),
        "[]".into(),
        false.into(),
    ];
    insert_row(tx, &values)
}

fn insert_row(tx: &mut Transaction<'_>, values: &[Value]) -> Result<bool, Error> {
    let sql = "INSERT INTO tradewind_tcc (xid, name, shard, phase, version, deadline_ms, begun_ms,
        due_ms, finished_ms, stuck, reason, trace, own, declared, branches, implied)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    match tx.execute(sql, values) {
        Ok(_) => Ok(true),
        Err(error) if error.is_unique_violation() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads a row. A row that cannot be understood is none, and is told in the log.
pub(super) fn load(tx: &mut Transaction<'_>, xid: Xid) -> Result<Option<Record>, Error> {
    let sql = "SELECT xid, name, shard, phase, version, deadline_ms, begun_ms, trace, own,
        declared, branches, implied FROM tradewind_tcc WHERE xid = ?";
    Ok(tx.query_one(sql, params![xid.to_string()], record)?.flatten())
}

/// The oldest transactions that a human should look at.
pub(super) fn stuck(tx: &mut Transaction<'_>, max: u32) -> Result<Vec<Record>, Error> {
    let sql = "SELECT xid, name, shard, phase, version, deadline_ms, begun_ms, trace, own,
        declared, branches, implied FROM tradewind_tcc
        WHERE stuck = 1 AND due_ms IS NOT NULL ORDER BY begun_ms LIMIT ?";
    Ok(tx.query(sql, params![max], record)?.into_iter().flatten().collect())
}

fn record(row: &Row) -> Result<Option<Record>, Error> {
    let (text, number): (String, u8) = (row.get(0)?, row.get(3)?);
    let (declared, branches): (String, String) = (row.get(9)?, row.get(10)?);
    let parsed = (
        text.parse::<Xid>(),
        Phase::from_number(number),
        serde_json::from_str::<Vec<Declared>>(&declared),
        serde_json::from_str::<Vec<Branch>>(&branches),
    );
    let (Ok(xid), Some(phase), Ok(declared), Ok(branches)) = parsed else {
        tracing::error!(xid = text, "a row of the transaction log cannot be read");
        return Ok(None);
    };
    Ok(Some(Record {
        global: Global { xid, phase, deadline: row.get(5)?, implied: row.get(11)?, branches },
        name: row.get(1)?,
        shard: row.get(2)?,
        version: row.get(4)?,
        begun: row.get(6)?,
        trace: row.get(7)?,
        own: row.get(8)?,
        declared,
    }))
}

/// Stores what the machine made of a record, if nobody changed it since it was read (and the lease
/// is still held). `false` when somebody did.
pub(super) fn store(
    tx: &mut Transaction<'_>,
    record: &Record,
    now: Timestamp,
    due: Option<Timestamp>,
    reason: Option<&str>,
    lease: Option<Epoch>,
) -> Result<bool, Error> {
    let global = &record.global;
    let over = matches!(global.phase, Phase::Committed | Phase::Aborted).then_some(now);
    let xid = global.xid.to_string();
    let stuck = global.stuck();
    let phase = global.phase.number();
    let branches = json(&global.branches);
    let changed = match lease {
        None => {
            let sql = "UPDATE tradewind_tcc SET phase = ?, branches = ?, due_ms = ?,
                finished_ms = ?, stuck = ?, reason = COALESCE(?, reason), version = version + 1
                WHERE xid = ? AND version = ?";
            let values = params![phase, branches, due, over, stuck, reason, xid, record.version];
            tx.execute(sql, values)?
        }
        Some(Epoch { shard, epoch }) => {
            let sql = "UPDATE tradewind_tcc SET phase = ?, branches = ?, due_ms = ?,
                finished_ms = ?, stuck = ?, reason = COALESCE(?, reason), version = version + 1
                WHERE xid = ? AND version = ? AND EXISTS
                (SELECT 1 FROM tradewind_tcc_shard WHERE shard = ? AND epoch = ?)";
            let values = params![
                phase,
                branches,
                due,
                over,
                stuck,
                reason,
                xid,
                record.version,
                shard,
                epoch
            ];
            tx.execute(sql, values)?
        }
    };
    Ok(changed == 1)
}

/// The ids of transactions that are due and whose shard `owner` holds. What is due further ahead
/// than `ahead` was planned before the wall clock stepped back.
pub(super) fn due(
    tx: &mut Transaction<'_>,
    owner: &str,
    now: Timestamp,
    ahead: Timestamp,
    max: u32,
) -> Result<Vec<Xid>, Error> {
    // Two queries, because one with OR walks the whole index, past everything that has finished.
    let sql = "SELECT t.xid FROM tradewind_tcc t
        JOIN tradewind_tcc_shard s ON s.shard = t.shard
        WHERE t.due_ms <= ? AND s.owner = ? ORDER BY t.due_ms LIMIT ?";
    let mut found = tx.query(sql, params![now, owner, max], |row| row.get::<String>(0))?;
    let sql = "SELECT t.xid FROM tradewind_tcc t
        JOIN tradewind_tcc_shard s ON s.shard = t.shard
        WHERE t.due_ms > ? AND (t.phase IN (2, 3) OR t.implied = 1 AND t.deadline_ms < ?)
        AND s.owner = ? ORDER BY t.due_ms LIMIT ?";
    found.extend(tx.query(sql, params![ahead, now, owner, max], |row| row.get::<String>(0))?);
    Ok(found.iter().filter_map(|it| it.parse().ok()).collect())
}

/// Deletes up to `max` transactions that finished before `before`.
pub(super) fn clean(tx: &mut Transaction<'_>, before: i64, max: u32) -> Result<usize, Error> {
    let sql = "SELECT xid FROM tradewind_tcc WHERE finished_ms < ? ORDER BY finished_ms LIMIT ?";
    let found = tx.query(sql, params![before, max], |row| row.get::<String>(0))?;
    for xid in &found {
        let sql = "DELETE FROM tradewind_tcc WHERE xid = ? AND finished_ms IS NOT NULL";
        tx.execute(sql, params![xid])?;
    }
    Ok(found.len())
}

fn json<T: serde::Serialize>(it: &T) -> String {
    // Strings, numbers and values that were JSON before: nothing to fail on.
    serde_json::to_string(it).unwrap_or_else(|_| "[]".to_owned())
}
