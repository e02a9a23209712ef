//! The invariants of orders, over this service's own database.
//!
//! The words of each are in its constant; how it is looked for is in [`CHECKS`].

use std::collections::BTreeMap;

use serde::Deserialize;
use tradewind::audit::estate::TX_1;
use tradewind::audit::{Check, Columns, First, Invariant, Look, Page, Window};
use tradewind::sql::{Error, Row, Transaction, Value, params};

/// ORDER-1.
pub const ORDER_1: Invariant = Invariant {
    number: "ORDER-1",
    statement: "an idempotency key places one order, and every placed order has its key",
};
/// ORDER-2.
pub const ORDER_2: Invariant = Invariant {
    number: "ORDER-2",
    statement: "an order takes only legal steps, and its events tell all of them",
};
/// ORDER-3.
pub const ORDER_3: Invariant =
    Invariant { number: "ORDER-3", statement: "the lines of an order add up to its total" };
/// JOIN-2.
pub const JOIN_2: Invariant = Invariant {
    number: "JOIN-2",
    statement: "what was done under an idempotency key was one transaction",
};

const ORDERS: &str = "SELECT MAX(k), COUNT(*) FROM (SELECT id AS k FROM order_header \
     WHERE ? < id ORDER BY id LIMIT ?) w";

const GAPS: &str = "SELECT id, state, version, events, latest FROM (SELECT h.id, h.state, \
     h.version, (SELECT COUNT(*) FROM order_event e WHERE e.order_id = h.id) AS events, \
     (SELECT e.to_state FROM order_event e WHERE e.order_id = h.id AND e.version = h.version) \
         AS latest \
     FROM order_header h WHERE ? < h.id AND h.id <= ?) w \
     WHERE events <> version OR latest IS NULL OR latest <> state ORDER BY id";
const JUMPS: &str = "SELECT b.order_id, b.version, b.from_state, a.to_state FROM order_event b \
     JOIN order_event a ON a.order_id = b.order_id AND a.version = b.version - 1 \
     WHERE ? < b.order_id AND b.order_id <= ? \
     AND (b.from_state IS NULL OR b.from_state <> a.to_state) ORDER BY b.order_id";
// The table of crate::machine; a test compares them.
const STEPS: &str = "SELECT order_id, version, step, from_state, to_state FROM order_event \
     WHERE ? < order_id AND order_id <= ? AND NOT (version = 1 AND from_state IS NULL \
     AND to_state = 'placing') \
     AND COALESCE(from_state, '') || ' ' || step || ' ' || to_state NOT IN (\
     'placing place placed', 'placing fail failed', 'placed cancel cancelling', \
     'placed ship shipped', 'cancelling cancel-done cancelled', \
     'cancelling cancel-undone placed') ORDER BY order_id, version";
const SUMS: &str = "SELECT id, total_cents, line_sum FROM (SELECT h.id, h.total_cents, \
     COALESCE((SELECT SUM(l.line_total_cents) FROM order_line l WHERE l.order_id = h.id), 0) \
         AS line_sum \
     FROM order_header h WHERE ? < h.id AND h.id <= ?) w \
     WHERE total_cents <> line_sum ORDER BY id";
// A log in another database has no rows here and is compared by the audit of the whole shop.
const PLACING: &str = "SELECT h.id, h.state, t.xid, t.phase FROM order_header h \
     JOIN tradewind_tcc t ON t.xid = h.xid WHERE ? < h.id AND h.id <= ? \
     AND CASE WHEN h.state = 'placing' THEN 1 WHEN h.state = 'failed' THEN 3 ELSE 2 END \
     <> CASE WHEN t.phase = 1 THEN 1 WHEN t.phase IN (2, 4) THEN 2 ELSE 3 END ORDER BY h.id";
const CANCELLING: &str = "SELECT h.id, h.state, t.xid, t.phase FROM order_header h \
     JOIN tradewind_tcc t ON t.xid = h.cancel_xid WHERE ? < h.id AND h.id <= ? \
     AND CASE WHEN h.state = 'cancelling' THEN 1 WHEN h.state = 'cancelled' THEN 2 ELSE 3 END \
     <> CASE WHEN t.phase = 1 THEN 1 WHEN t.phase IN (2, 4) THEN 2 ELSE 3 END ORDER BY h.id";

const LOG: &[&str] = &["order", "state", "xid", "phase"];

/// What is looked for.
pub const CHECKS: &[Check] = &[
    Check {
        invariant: &ORDER_1,
        what: "the key and its order disagree",
        window: 2000,
        look: Look::Code { first: First::Number, look: keys_and_orders },
    },
    Check {
        invariant: &JOIN_2,
        what: "the key fixed another transaction than the order has",
        window: 2000,
        look: Look::Code { first: First::Number, look: keys_and_transactions },
    },
    check(
        &ORDER_2,
        "its events have gaps or do not end in its state",
        &["order", "state", "version", "events", "last_event"],
        GAPS,
    ),
    check(
        &ORDER_2,
        "an event does not start where the one before it ended",
        &["order", "version", "from", "before"],
        JUMPS,
    ),
    check(
        &ORDER_2,
        "a step that is not in the table",
        &["order", "version", "step", "from", "to"],
        STEPS,
    ),
    check(&ORDER_3, "its lines add up to something else", &["order", "total", "lines"], SUMS),
    check(&TX_1, "its state is not what the transaction decided", LOG, PLACING),
    check(&TX_1, "its state is not what the cancellation decided", LOG, CANCELLING),
];

const fn check(
    invariant: &'static Invariant,
    what: &'static str,
    columns: &'static [&'static str],
    broken: &'static str,
) -> Check {
    let look = Columns { first: First::Text, columns, bound: ORDERS, broken, recent: None };
    Check { invariant, what, window: 2000, look: Look::Rows(look) }
}

/// A row of the table of keys.
#[derive(Clone, Debug)]
struct KeyRow {
    key: String,
    state: String,
    fixed: Option<Fixed>,
    headers: Option<String>,
    status: Option<u16>,
}

/// What a claim fixes.
#[derive(Clone, Debug, Deserialize)]
struct Fixed {
    order_id: String,
    xid: String,
}

/// State and xid of orders, by id.
type Heads = BTreeMap<String, (String, String)>;

// By expiry: it only ever moves on, so that no key is passed over.
const KEY_BOUND: &str = "SELECT MAX(k), COUNT(*) FROM (SELECT expires_ms AS k \
     FROM tradewind_idempotency WHERE ? < expires_ms ORDER BY expires_ms LIMIT ?) w";
const KEYS: &str = "SELECT idempotency_key, state, fixed, headers, status FROM tradewind_idempotency \
     WHERE ? < expires_ms AND expires_ms <= ? AND operation = 'order.place'";
const HEADS: &str = "SELECT id, state, xid FROM order_header WHERE ? <= id AND id <= ? LIMIT ?";
const HEAD: &str = "SELECT id, state, xid FROM order_header WHERE id = ?";

fn keys_and_orders(tx: &mut Transaction<'_>, window: &Window) -> Result<Page, Error> {
    keys(tx, window, |it, heads| {
        let Some(fixed) = &it.fixed else { return Some("fixes no order".to_owned()) };
        let order = &fixed.order_id;
        let Some((state, _)) = heads.get(order) else {
            // With a free key nothing was left behind; a claim is written with its order.
            return Some(format!("order={order} is missing"));
        };
        let placed = matches!(state.as_str(), "placed" | "cancelling" | "cancelled" | "shipped");
        let fits = match it.state.as_str() {
            // A refusal is an answer as well, and its order never was.
            "done" if it.status == Some(409) => state == "failed",
            "done" => placed && it.headers.as_ref().is_none_or(|it| it.contains(order.as_str())),
            "released" => !placed,
            _ => true,
        };
        (!fits).then(|| format!("order={order} order_state={state}"))
    })
}

fn keys_and_transactions(tx: &mut Transaction<'_>, window: &Window) -> Result<Page, Error> {
    keys(tx, window, |it, heads| {
        let fixed = it.fixed.as_ref()?;
        let (_, xid) = heads.get(&fixed.order_id)?;
        let (order, claimed) = (&fixed.order_id, &fixed.xid);
        (xid != claimed).then(|| format!("order={order} xid={xid} claimed={claimed}"))
    })
}

fn keys(
    tx: &mut Transaction<'_>,
    window: &Window,
    mut wrong: impl FnMut(&KeyRow, &Heads) -> Option<String>,
) -> Result<Page, Error> {
    let bound = |row: &Row| Ok((row.get::<Value>(0)?, row.get::<u64>(1)?));
    let wanted = [window.after.clone(), window.rows.into()];
    let found = tx.query_one(KEY_BOUND, &wanted, bound)?;
    let Some((last, checked)) = found.filter(|(last, _)| *last != Value::Null) else {
        return Ok(Page::default());
    };
    let rows = tx.query(KEYS, &[window.after.clone(), last.clone()], |row| {
        let fixed: String = row.get(2)?;
        let fixed = serde_json::from_str(&fixed).ok();
        let (key, state, headers, status) = (row.get(0)?, row.get(1)?, row.get(3)?, row.get(4)?);
        Ok(KeyRow { key, state, fixed, headers, status })
    })?;
    let heads = heads(tx, &rows, window.rows)?;
    let broken = rows.iter().filter_map(|it| {
        let why = wrong(it, &heads)?;
        Some(format!("key={} key_state={} {why}", it.key, it.state))
    });
    Ok(Page { last: Some(last), checked, broken: broken.collect() })
}

/// The heads of the orders that the keys name: most lie close together, and come in one answer.
fn heads(tx: &mut Transaction<'_>, rows: &[KeyRow], window: u32) -> Result<Heads, Error> {
    let named = || rows.iter().filter_map(|it| it.fixed.as_ref()).map(|it| &it.order_id);
    let (Some(first), Some(last)) = (named().min(), named().max()) else {
        return Ok(Heads::new());
    };
    let head = |row: &Row| Ok((row.get::<String>(0)?, (row.get(1)?, row.get(2)?)));
    let limit = window.saturating_mul(2);
    let close = tx.query(HEADS, params![first.as_str(), last.as_str(), limit], head)?;
    let mut heads: Heads = close.into_iter().collect();
    for id in named() {
        if !heads.contains_key(id) {
            heads.extend(tx.query_one(HEAD, params![id.as_str()], head)?);
        }
    }
    Ok(heads)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{State, Step};

    /// R0.1: what the audit calls legal is what the machine does.
    #[test]
    fn the_steps_of_the_audit_are_those_of_the_machine() {
        for from in State::ALL {
            for step in Step::ALL {
                for to in State::ALL {
                    let (a, b, c) = (from.as_str(), step.as_str(), to.as_str());
                    let listed = STEPS.contains(&format!("'{a} {b} {c}'"));
                    assert_eq!(listed, from.after(step) == Some(to), "{a} {b} {c}");
                }
            }
        }
    }
}
