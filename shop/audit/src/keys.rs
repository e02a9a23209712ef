//! ORDER-1 in the direction that one window cannot tell: every placed order has a key that names
//! it.

use std::collections::BTreeSet;

use serde::Deserialize;
use tradewind::audit::Findings;
use tradewind::sql::{Row, Transaction, Value, params};
use tradewind_order::orders::audit::ORDER_1;

use crate::databases::{Databases, ReadError};

/// Keys are kept for seven days after their order is placed: what is younger than this has one.
const KEPT_MS: i64 = 6 * 24 * 3600 * 1000;
/// The most orders that are looked at, the newest first: 64 MB or so of ids.
const ORDERS_MAX: usize = 1_000_000;
/// How many rows one read takes.
const WINDOW: u32 = 10_000;

/// An id begins with the time at which it was made, which is not to the millisecond that of the
/// order.
const ID_AGE_MS: i64 = 3600 * 1000;

// Between two ids: by the time alone, the last window would look at all orders there ever were.
const ORDERS: &str = "SELECT id FROM order_header WHERE id < ? AND ? < id AND ? < created_at_ms \
     AND state IN ('placed', 'cancelling', 'cancelled', 'shipped') ORDER BY id DESC LIMIT ?";
const KEY_BOUND: &str = "SELECT MAX(k) FROM (SELECT expires_ms AS k FROM tradewind_idempotency \
     WHERE ? < expires_ms ORDER BY expires_ms LIMIT ?) w";
const KEYS: &str = "SELECT fixed FROM tradewind_idempotency \
     WHERE ? < expires_ms AND expires_ms <= ? AND operation = 'order.place'";

#[derive(Debug, Deserialize)]
struct Fixed {
    order_id: String,
}

/// Looks for placed orders without a key.
///
/// # Errors
/// When the database cannot be read.
pub(crate) async fn walk(
    databases: &Databases,
    now_ms: i64,
    findings: &mut Findings,
) -> Result<(), ReadError> {
    // The orders first: a key is there before its order, and what it names changes no more.
    let mut orders = orders(databases, now_ms - KEPT_MS).await?;
    findings.checked(&ORDER_1, u64::try_from(orders.len()).unwrap_or(u64::MAX));
    let mut after = i64::MIN;
    while !orders.is_empty() {
        let read = move |tx: &mut Transaction<'_>| {
            let bound = |row: &Row| row.get::<Option<i64>>(0);
            let upto = tx.query_one(KEY_BOUND, params![after, WINDOW], bound)?.flatten();
            let Some(upto) = upto else { return Ok((None, Vec::new())) };
            let text = |row: &Row| row.get::<String>(0);
            Ok((Some(upto), tx.query(KEYS, params![after, upto], text)?))
        };
        let (upto, keys) = databases.order.read("audit: keys", read).await?;
        for fixed in keys {
            if let Ok(fixed) = serde_json::from_str::<Fixed>(&fixed) {
                orders.remove(&bits(&fixed.order_id));
            }
        }
        let Some(upto) = upto else { break };
        after = upto;
    }
    for order in orders {
        let row = format!("order=ord_{order:032x} is placed and no key names it");
        findings.broken(&ORDER_1, row);
    }
    Ok(())
}

async fn orders(databases: &Databases, since_ms: i64) -> Result<BTreeSet<u128>, ReadError> {
    let mut all = BTreeSet::new();
    let mut before = "\u{7f}".to_owned();
    let oldest = first_id(since_ms - ID_AGE_MS);
    while all.len() < ORDERS_MAX {
        let (from, oldest) = (Value::from(before.as_str()), Value::from(oldest.as_str()));
        let read = move |tx: &mut Transaction<'_>| {
            let wanted = [from.clone(), oldest.clone(), since_ms.into(), WINDOW.into()];
            tx.query(ORDERS, &wanted, |row| row.get::<String>(0))
        };
        let found = databases.order.read("audit: placed orders", read).await?;
        all.extend(found.iter().map(|it| bits(it)));
        let full = u32::try_from(found.len()) == Ok(WINDOW);
        match found.into_iter().next_back().filter(|_| full) {
            Some(last) => before = last,
            None => break,
        }
    }
    Ok(all)
}

/// What lies before every id of an order that was made then or later.
fn first_id(at_ms: i64) -> String {
    format!("ord_{:012x}", u64::try_from(at_ms).unwrap_or(0))
}

fn bits(id: &str) -> u128 {
    id.strip_prefix("ord_").and_then(|it| u128::from_str_radix(it, 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use tradewind::base::{Rng, Timestamp};
    use tradewind_order::orders::OrderId;

    use super::*;

    #[test]
    fn the_ids_of_a_time_lie_behind_the_first_one() {
        let id = |at_ms| OrderId::generate(Timestamp::from_millis(at_ms), &mut Rng::seeded(1));
        let now = 1_790_000_000_000;
        assert!(first_id(now) < id(now).to_string());
        assert!(id(now - 1).to_string() < first_id(now));
        assert_eq!(first_id(-1), "ord_000000000000");
    }
}
