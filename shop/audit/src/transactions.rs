//! The walk over all transactions: fences, logs, and fences again where something is still
//! reserved.

use std::collections::BTreeMap;

use serde::Deserialize;
use tradewind::audit::Findings;
use tradewind::audit::estate::{TX_1, TX_2, TX_3, TX_4};
use tradewind::base::id::Xid;
use tradewind::sql::{Error, Row, Transaction, Value, params};
use tradewind::transaction::wire::coordinator::SERVICE as COORDINATOR;

use crate::databases::{Databases, Place, ReadError};
use crate::facts::{Fence, FenceStatus, Found, Log, Phase};
use crate::machine::transaction::{lost_fence, missing, overdue, unfenced, unfounded, unheard};
use crate::orders::hex;
use crate::{Held, PATIENCE};

/// How many rows one read takes.
const WINDOW: u32 = 5000;
/// Behind every xid, which is visible ASCII.
const END: &str = "\u{7f}";
/// The most of them.
const LATE_MAX: usize = 1000;

/// Xids after the first, up to the second.
type Span = (String, String);
type Fences = BTreeMap<String, Vec<Fence>>;
type Logs = BTreeMap<String, Log>;

const FENCE_BOUND: &str = "SELECT MAX(k), COUNT(*) FROM (SELECT xid AS k FROM tradewind_fence \
     WHERE ? < xid ORDER BY xid LIMIT ?) w";
const BROKER_BOUND: &str = "SELECT MAX(k), COUNT(*) FROM (SELECT xid AS k FROM branch_fence \
     WHERE ? < xid ORDER BY xid LIMIT ?) w";
const LOG_BOUND: &str = "SELECT MAX(k), COUNT(*) FROM (SELECT xid AS k FROM tradewind_tcc \
     WHERE ? < xid ORDER BY xid LIMIT ?) w";
const FENCES: &str = "SELECT xid, branch, initiator, status, changed_ms FROM tradewind_fence \
     WHERE ? < xid AND xid <= ?";
const BROKER_FENCES: &str = "SELECT xid, branch, initiator, state, at_ms FROM branch_fence \
     WHERE ? < xid AND xid <= ?";
const LOG: &str = "SELECT xid, name, phase, deadline_ms, begun_ms, due_ms, stuck, version, \
     branches, implied FROM tradewind_tcc WHERE ? < xid AND xid <= ?";
const DECLARED: &str = "SELECT declared FROM tradewind_tcc WHERE xid = ?";
const VERSION: &str = "SELECT version FROM tradewind_tcc WHERE xid = ?";
const DRIVERS: &str = "SELECT COUNT(*) FROM tradewind_tcc_driver WHERE ? <= until_ms";
// Each by the end of an index.
const FENCED_LAST: &str = "SELECT MAX(m) FROM (\
     SELECT MAX(changed_ms) AS m FROM tradewind_fence WHERE status = 1 \
     UNION ALL SELECT MAX(changed_ms) FROM tradewind_fence WHERE status = 2 \
     UNION ALL SELECT MAX(changed_ms) FROM tradewind_fence WHERE status = 3 \
     UNION ALL SELECT MAX(changed_ms) FROM tradewind_fence WHERE status = 4) w";
const DRIVEN_LAST: &str = "SELECT MAX(m) FROM (\
     SELECT MAX(finished_ms) AS m FROM tradewind_tcc WHERE finished_ms IS NOT NULL \
     UNION ALL SELECT MAX(until_ms) FROM tradewind_tcc_driver) w";

/// What is on the lists of the logs, to be told beside the findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenTransactions {
    /// Not ended yet.
    pub open: u64,
    /// Of these, on the list for a human.
    pub stuck: u64,
}

/// Compares every transaction's log with the fences of all who take part. Tells besides whether
/// anything is held for transactions that are in no log.
///
/// # Errors
/// When a database cannot be read.
pub(crate) async fn walk(
    databases: &Databases,
    now_ms: i64,
    findings: &mut Findings,
) -> Result<(OpenTransactions, Held), ReadError> {
    let alive_ms = alive(databases, now_ms).await?;
    let mut held = Held::No;
    for it in [&TX_1, &TX_2, &TX_3, &TX_4] {
        findings.checked(it, 0);
    }
    let mut tally = OpenTransactions::default();
    let mut late = Vec::new();
    let mut after = String::new();
    loop {
        let next = bound(databases, &after).await?;
        let span = (after, next.clone().unwrap_or_else(|| END.to_owned()));
        let (logs, unheard) = window(databases, &span, (now_ms, alive_ms), findings).await?;
        held = held.or(unheard);
        for (xid, log) in logs {
            let open = !log.phase.fate().over;
            tally.open += u64::from(open);
            tally.stuck += u64::from(open && log.stuck);
            if overdue(&xid, &log, now_ms, now_ms).is_some() && late.len() < LATE_MAX {
                late.push((xid, log));
            }
        }
        let Some(last) = next else { break };
        after = last;
    }
    overdue_ones(databases, late, now_ms, findings).await?;
    Ok((tally, held))
}

/// Up to where no table has more rows than one read takes; `None` when that is everything.
async fn bound(databases: &Databases, after: &str) -> Result<Option<String>, ReadError> {
    let mut ends = Vec::new();
    let tables = databases.fenced().map(|it| (it, FENCE_BOUND));
    let tables: Vec<_> = tables.chain(databases.logs().map(|it| (it, LOG_BOUND))).collect();
    for (place, sql) in tables {
        let from = after.to_owned();
        let read = move |tx: &mut Transaction<'_>| {
            let columns = |row: &Row| Ok((row.get::<Option<String>>(0)?, row.get::<u32>(1)?));
            tx.query_one(sql, params![from.as_str(), WINDOW], columns)
        };
        ends.push(place.read("audit: fences", read).await?);
    }
    let from = bytes(after);
    let read = move |tx: &mut Transaction<'_>| {
        let columns = |row: &Row| {
            let last: Option<Vec<u8>> = row.get(0)?;
            Ok((last.map(|it| text(&it)), row.get::<u32>(1)?))
        };
        tx.query_one(BROKER_BOUND, params![from.clone(), WINDOW], columns)
    };
    ends.push(databases.broker.read("audit: fences", read).await?);
    Ok(ends.into_iter().flatten().filter(|it| it.1 == WINDOW).filter_map(|it| it.0).min())
}

async fn window(
    databases: &Databases,
    span: &Span,
    (now_ms, alive_ms): (i64, i64),
    findings: &mut Findings,
) -> Result<(Logs, Held), ReadError> {
    let fences = fences(databases, span).await?;
    let logs = logs(databases, span).await?;
    let count = u64::try_from(fences.values().map(Vec::len).sum::<usize>()).unwrap_or(u64::MAX);
    for it in [&TX_1, &TX_3, &TX_4] {
        findings.checked(it, count);
    }
    findings.checked(&TX_2, u64::try_from(logs.len()).unwrap_or(u64::MAX));
    let (mut last, mut held): (Option<&String>, _) = (None, Held::No);
    for (xid, of) in &fences {
        let log = logs.get(xid);
        let unheard = unheard(xid, log, of, alive_ms);
        held = held.or(Held::too_long(!unheard.is_empty()));
        for found in unfounded(xid, log, of, now_ms).into_iter().chain(unheard) {
            tell(databases, of, found, findings)?;
        }
        if !missing(xid, log, of).is_empty() {
            last = last.max(Some(xid));
        }
    }
    let nothing = Vec::new();
    for (xid, log) in &logs {
        if !unfenced(log, fences.get(xid).unwrap_or(&nothing), now_ms).is_empty() {
            last = last.max(Some(xid));
        }
    }
    let Some(last) = last else { return Ok((logs, held)) };
    // They may have ended between the two reads: what is read now is newer than the logs.
    let fences = self::fences(databases, &(span.0.clone(), last.clone())).await?;
    for (xid, of) in &fences {
        for found in missing(xid, logs.get(xid), of) {
            tell(databases, of, found, findings)?;
        }
    }
    for (xid, log) in &logs {
        for branch in unfenced(log, fences.get(xid).unwrap_or(&nothing), now_ms) {
            if xid <= last
                && let Some(service) = declared(databases, log, xid, branch).await?
            {
                let found = lost_fence(xid, branch, &service);
                findings.broken(found.invariant, found.row);
            }
        }
    }
    Ok((logs, held))
}

/// A finding; if the log that would explain it is not there, the end of the audit: without it
/// nothing is known of the transactions in it, and the shop has them.
fn tell(
    databases: &Databases,
    fences: &[Fence],
    found: Found,
    findings: &mut Findings,
) -> Result<(), ReadError> {
    if fences.iter().any(|it| databases.lacks(&it.initiator)) {
        return Err(ReadError::Missing { service: COORDINATOR, row: found.row });
    }
    findings.broken(found.invariant, found.row);
    Ok(())
}

async fn fences(databases: &Databases, span: &Span) -> Result<Fences, ReadError> {
    let mut all = Fences::new();
    // Who decides elsewhere is not judged here.
    let initiators = databases.deciders();
    let mut keep = |rows: Vec<Option<(String, Fence)>>| {
        for (xid, fence) in rows.into_iter().flatten() {
            if initiators.contains(&fence.initiator.as_str()) {
                all.entry(xid).or_default().push(fence);
            }
        }
    };
    let places: Vec<_> = databases.fenced().collect();
    for it in places {
        let (service, given) = (it.service, [Value::from(&span.0), Value::from(&span.1)]);
        let read = move |tx: &mut Transaction<'_>| {
            tx.query(FENCES, &given, |row| fence(row, row.get(0)?, service))
        };
        keep(it.read("audit: fences", read).await?);
    }
    let given = [Value::from(bytes(&span.0)), Value::from(bytes(&span.1))];
    let read = move |tx: &mut Transaction<'_>| {
        tx.query(BROKER_FENCES, &given, |row| fence(row, text(&row.get::<Vec<u8>>(0)?), "broker"))
    };
    keep(databases.broker.read("audit: fences", read).await?);
    Ok(all)
}

fn fence(row: &Row, xid: String, service: &'static str) -> Result<Option<(String, Fence)>, Error> {
    let Some(status) = FenceStatus::of(row.get(3)?) else { return Ok(None) };
    let (branch, initiator, changed_ms) = (row.get(1)?, row.get(2)?, row.get(4)?);
    Ok(Some((xid, Fence { service, branch, initiator, status, changed_ms })))
}

/// What of a branch's state in the log matters here.
#[derive(Debug, Deserialize)]
struct Branch {
    index: u16,
    done: bool,
}

async fn logs(databases: &Databases, span: &Span) -> Result<Logs, ReadError> {
    let mut all = Logs::new();
    let places: Vec<_> = databases.logs().collect();
    for it in places {
        let (service, given) = (it.service, [Value::from(&span.0), Value::from(&span.1)]);
        let read = move |tx: &mut Transaction<'_>| tx.query(LOG, &given, |row| log(row, service));
        all.extend(it.read("audit: log", read).await?.into_iter().flatten());
    }
    Ok(all)
}

fn log(row: &Row, service: &'static str) -> Result<Option<(String, Log)>, Error> {
    let Some(phase) = Phase::of(row.get(2)?) else { return Ok(None) };
    let branches: String = row.get(8)?;
    let branches: Vec<Branch> = serde_json::from_str(&branches).unwrap_or_default();
    // What is undecided has only said that it is tried.
    let decided = phase != Phase::Trying;
    let answered = branches.iter().filter(|it| decided && it.done && it.index != 0);
    let log = Log {
        service,
        name: row.get(1)?,
        phase,
        deadline_ms: row.get(3)?,
        begun_ms: row.get(4)?,
        due_ms: row.get(5)?,
        stuck: row.get(6)?,
        version: row.get(7)?,
        implied: row.get(9)?,
        answered: answered.map(|it| it.index).collect(),
    };
    Ok(Some((row.get(0)?, log)))
}

async fn version(place: &Place, xid: &str) -> Result<Option<i64>, ReadError> {
    let xid = xid.to_owned();
    let read = move |tx: &mut Transaction<'_>| {
        tx.query_one(VERSION, params![xid.as_str()], |row| row.get::<i64>(0))
    };
    place.read("audit: version", read).await
}

/// The service of a branch, if its fences were read.
async fn declared(
    databases: &Databases,
    log: &Log,
    xid: &str,
    branch: u16,
) -> Result<Option<String>, ReadError> {
    #[derive(Debug, Deserialize)]
    struct Declared {
        index: u16,
        service: String,
    }
    let Some(place) = databases.logs().find(|it| it.service == log.service) else {
        return Ok(None);
    };
    let xid = xid.to_owned();
    let read = move |tx: &mut Transaction<'_>| {
        tx.query_one(DECLARED, params![xid.as_str()], |row| row.get::<String>(0))
    };
    let text = place.read("audit: declared", read).await?.unwrap_or_default();
    let all: Vec<Declared> = serde_json::from_str(&text).unwrap_or_default();
    let service = all.into_iter().find(|it| it.index == branch).map(|it| it.service);
    Ok(service.filter(|it| {
        it == databases.broker.service || databases.fenced().any(|place| place.service == it)
    }))
}

/// Transactions that seem to be left alone are looked at again a little later. If none of a log
/// has moved, they are; whether anybody drives that log or not: it may be gone for good.
async fn overdue_ones(
    databases: &Databases,
    late: Vec<(String, Log)>,
    now_ms: i64,
    findings: &mut Findings,
) -> Result<(), ReadError> {
    if late.is_empty() {
        return Ok(());
    }
    tokio::time::sleep(PATIENCE).await;
    let later_ms = now_ms + i64::try_from(PATIENCE.as_millis()).unwrap_or(0);
    let driven = driven(databases, later_ms).await?;
    let alive_ms = if driven.contains(&true) { now_ms } else { last_seen(databases).await? };
    let places: Vec<_> = databases.logs().collect();
    for (place, driven) in places.into_iter().zip(driven) {
        let mut alone = Vec::new();
        let mut moved = false;
        for (xid, log) in late.iter().filter(|it| it.1.service == place.service) {
            if version(place, xid).await? == Some(log.version) {
                alone.extend(overdue(xid, log, now_ms, alive_ms));
            } else {
                moved = true;
            }
        }
        let left = if driven { "" } else { ", and nobody drives its log" };
        for found in alone.into_iter().filter(|_| !moved) {
            findings.broken(found.invariant, format!("{}{left}", found.row));
        }
    }
    Ok(())
}

/// Which of the logs somebody drives.
async fn driven(databases: &Databases, now_ms: i64) -> Result<Vec<bool>, ReadError> {
    let mut driven = Vec::new();
    let places: Vec<_> = databases.logs().collect();
    for place in places {
        let read = move |tx: &mut Transaction<'_>| {
            tx.query_one(DRIVERS, params![now_ms], |row| row.get::<i64>(0))
        };
        driven.push(place.read("audit: drivers", read).await? != Some(0));
    }
    Ok(driven)
}

/// When the shop was last seen alive: now, if it is. A shop has one life: if one of its logs is
/// driven, the others should be as well.
///
/// # Errors
/// When a database cannot be read.
pub(crate) async fn alive(databases: &Databases, now_ms: i64) -> Result<i64, ReadError> {
    let driven = driven(databases, now_ms).await?.contains(&true);
    if driven { Ok(now_ms) } else { last_seen(databases).await }
}

/// When the shop last did anything for a transaction, or meant to.
async fn last_seen(databases: &Databases) -> Result<i64, ReadError> {
    let fenced = databases.fenced().map(|it| (it, FENCED_LAST));
    let places: Vec<_> = fenced.chain(databases.logs().map(|it| (it, DRIVEN_LAST))).collect();
    let mut last = 0;
    for (place, sql) in places {
        let read =
            move |tx: &mut Transaction<'_>| tx.query_one(sql, &[], |row| row.get::<Option<i64>>(0));
        last = last.max(place.read("audit: last seen", read).await?.flatten().unwrap_or(0));
    }
    Ok(last)
}

/// An xid as the broker's tables have it: 16 bytes. What lies behind every xid lies behind these.
fn bytes(xid: &str) -> Vec<u8> {
    match xid.parse::<Xid>() {
        Ok(it) => it.as_u128().to_be_bytes().to_vec(),
        Err(_) if xid.is_empty() => Vec::new(),
        Err(_) => vec![0xff; 17],
    }
}

fn text(xid: &[u8]) -> String {
    format!("txn_{}", hex(xid))
}
