//! The walk over all messages: what was acknowledged was consumed, what was consumed was committed.

use std::collections::{BTreeMap, BTreeSet};

use tradewind::audit::Findings;
use tradewind::audit::estate::{MSG_2, MSG_3};
use tradewind::sql::{Error, Row, Transaction, Value, params};

use crate::databases::{Databases, Place, ReadError};
use crate::facts::MessageState;
use crate::machine::order::KEPT_MS;
use crate::orders::hex;

/// What was consumed is remembered for thirty days.
const REMEMBERED_MS: i64 = 29 * 24 * 3600 * 1000;
/// How many rows one read takes.
const WINDOW: u32 = 10_000;

const ACKNOWLEDGED: &str = "SELECT message_id, subscriber FROM delivered \
     WHERE ? < message_id AND message_id <= ? AND ? < at_ms";
const ACKNOWLEDGED_BOUND: &str = "SELECT MAX(k), COUNT(*) FROM (SELECT message_id AS k \
     FROM delivered WHERE ? < message_id ORDER BY message_id LIMIT ?) w";
const CONSUMED: &str = "SELECT message_id, at_ms FROM message_consumed \
     WHERE consumer = ? AND ? < message_id AND message_id <= ?";
const CONSUMED_BOUND: &str = "SELECT MAX(k), COUNT(*) FROM (SELECT message_id AS k \
     FROM message_consumed WHERE consumer = ? AND ? < message_id ORDER BY message_id LIMIT ?) w";
const MESSAGES: &str = "SELECT id, state FROM message WHERE ? < id AND id <= ?";

type Id = Vec<u8>;

/// Compares what the broker has delivered with what its subscribers in the shop remember.
///
/// # Errors
/// When a database cannot be read.
pub(crate) async fn walk(
    databases: &Databases,
    now_ms: i64,
    findings: &mut Findings,
) -> Result<(), ReadError> {
    let consumers = [&databases.warehouse, &databases.order];
    let mut after = Id::new();
    loop {
        let next = bound(databases, &consumers, after.clone()).await?;
        // Behind every id, which has 16 bytes.
        let upto = next.clone().unwrap_or_else(|| vec![0xff; 17]);
        window(databases, &consumers, (after, upto), now_ms, findings).await?;
        let Some(last) = next else { return Ok(()) };
        after = last;
    }
}

/// Up to where no table has more rows than one read takes; `None` when that is everything.
async fn bound(
    databases: &Databases,
    consumers: &[&Place],
    after: Id,
) -> Result<Option<Id>, ReadError> {
    let columns = |row: &Row| Ok((row.get::<Option<Id>>(0)?, row.get::<u32>(1)?));
    let from = after.clone();
    let read = move |tx: &mut Transaction<'_>| {
        tx.query_one(ACKNOWLEDGED_BOUND, params![from.clone(), WINDOW], columns)
    };
    let mut ends = vec![databases.broker.read("audit: deliveries", read).await?];
    for it in consumers {
        let (from, name) = (after.clone(), it.service);
        let read = move |tx: &mut Transaction<'_>| {
            tx.query_one(CONSUMED_BOUND, params![name, from.clone(), WINDOW], columns)
        };
        ends.push(it.read("audit: consumed", read).await?);
    }
    Ok(ends.into_iter().flatten().filter(|it| it.1 == WINDOW).filter_map(|it| it.0).min())
}

async fn window(
    databases: &Databases,
    consumers: &[&Place],
    (after, upto): (Id, Id),
    now_ms: i64,
    findings: &mut Findings,
) -> Result<(), ReadError> {
    // An acknowledgement follows from consuming, consuming from the commit: in this order.
    let span = [Value::from(after), Value::from(upto)];
    let given = [span[0].clone(), span[1].clone(), (now_ms - REMEMBERED_MS).into()];
    let read = move |tx: &mut Transaction<'_>| {
        let columns = |row: &Row| Ok((row.get::<Id>(0)?, row.get::<String>(1)?));
        tx.query(ACKNOWLEDGED, &given, columns)
    };
    let acknowledged = databases.broker.read("audit: deliveries", read).await?;
    let mut consumed: BTreeMap<&str, BTreeMap<Id, i64>> = BTreeMap::new();
    for it in consumers {
        let given = [it.service.into(), span[0].clone(), span[1].clone()];
        let read = move |tx: &mut Transaction<'_>| tx.query(CONSUMED, &given, pair);
        let found = it.read("audit: consumed", read).await?;
        consumed.insert(it.service, found.into_iter().collect());
    }
    let read = move |tx: &mut Transaction<'_>| tx.query(MESSAGES, &span, pair);
    let messages = databases.broker.read("audit: messages", read).await?;
    let messages: BTreeMap<Id, i64> = messages.into_iter().collect();

    let mut seen = BTreeSet::new();
    for (id, subscriber) in acknowledged {
        let Some(consumed) = consumed.get(subscriber.as_str()) else { continue };
        findings.checked(&MSG_2, 1);
        if !consumed.contains_key(&id) && seen.insert((id.clone(), subscriber.clone())) {
            let id = hex(&id);
            let row = format!("message={id} {subscriber} acknowledged it and does not remember it");
            findings.broken(&MSG_2, row);
        }
    }
    for (consumer, consumed) in consumed {
        findings.checked(&MSG_3, u64::try_from(consumed.len()).unwrap_or(u64::MAX));
        for (id, at_ms) in consumed {
            let state = messages.get(&id).map(|it| MessageState::of(*it));
            // A message is cleaned a day after everybody had it.
            let cleaned = state.is_none() && at_ms < now_ms - KEPT_MS;
            if !cleaned && !state.is_some_and(MessageState::is_committed) {
                let (id, state) = (hex(&id), state.map(|it| format!("{it:?}")));
                let state = state.unwrap_or_else(|| "unknown".to_owned());
                let row = format!("message={id} consumed by {consumer}; in the broker: {state}");
                findings.broken(&MSG_3, row);
            }
        }
    }
    Ok(())
}

fn pair(row: &Row) -> Result<(Id, i64), Error> {
    Ok((row.get(0)?, row.get(1)?))
}
