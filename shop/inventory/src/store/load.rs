//! Loading the first day's catalogue.

use std::collections::BTreeMap;

use tradewind::base::Timestamp;
use tradewind::sql::{Error, Transaction, params};

use crate::catalogue::{self, Article, CURRENCY};

/// The name of the load; a later catalogue would be another load.
const NAME: &str = "catalogue-1";

const CLAIM: &str = "INSERT INTO data_load (name, at_ms) VALUES (?, ?)";
const CLAIMED: &str = "SELECT COUNT(*) FROM data_load WHERE name = ?";
const CATEGORY: &str = "INSERT INTO category (slug, title, position) VALUES (?, ?, ?)";
const PRODUCT: &str = "INSERT INTO product \
     (id, sku, name, category, attributes, price_cents, currency, status, version) \
     VALUES (?, ?, ?, ?, ?, ?, ?, 'active', 1)";
const STOCK: &str = "INSERT INTO stock (product_id, on_hand, frozen, version) VALUES (?, ?, 0, 1)";
const FLOW: &str = "INSERT INTO stock_flow (product_id, kind, on_hand_change, frozen_change, \
     on_hand_after, frozen_after, reference, at_ms) VALUES (?, 'initial', ?, 0, ?, 0, ?, ?)";

/// Claims the load and does it: all or nothing, once per database. Says whether it did.
pub(super) fn first_day(tx: &mut Transaction<'_>, now: Timestamp) -> Result<bool, Error> {
    let before = tx.query_one(CLAIMED, params![NAME], |row| row.get::<i64>(0))?;
    if before.unwrap_or(0) != 0 {
        return Ok(false);
    }
    match tx.execute(CLAIM, params![NAME, now.millis()]) {
        Ok(_) => {}
        // Another process claimed it between the two statements; MySQL made us wait for its
        // commit before it told.
        Err(error) if error.is_unique_violation() => return Ok(false),
        Err(error) => return Err(error),
    }
    for (position, it) in (1_i64..).zip(catalogue::categories()) {
        tx.execute(CATEGORY, params![it.slug, it.title, position])?;
    }
    for article in catalogue::articles() {
        insert(tx, &article, now)?;
    }
    Ok(true)
}

fn insert(tx: &mut Transaction<'_>, it: &Article, now: Timestamp) -> Result<(), Error> {
    let attributes: BTreeMap<_, _> = it.attributes.iter().copied().collect();
    // A map of texts: serialisation has nothing to fail on.
    let attributes = serde_json::to_string(&attributes).unwrap_or_default();
    tx.execute(
        PRODUCT,
        params![
            it.id,
            it.sku.as_str(),
            it.name.as_str(),
            it.category,
            attributes,
            it.price_cents,
            CURRENCY
        ],
    )?;
    tx.execute(STOCK, params![it.id, it.on_hand])?;
    tx.execute(FLOW, params![it.id, it.on_hand, it.on_hand, NAME, now.millis()])?;
    Ok(())
}
