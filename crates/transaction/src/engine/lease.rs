//! Leases of the log's shards, by the database's clock.

use std::collections::BTreeMap;
use std::time::Duration;

use tradewind_sql::{Dialect, Error, Transaction, params};

use crate::machine::shares::{Lease, plan};

/// Into how many parts the log is cut: the most instances that can drive at a time.
pub(super) const SHARDS: u16 = 16;

/// Shards held, with their epochs.
pub(super) type Held = BTreeMap<u16, i64>;

/// One round: says that `owner` lives, renews, lets go and takes. Answers what is held now.
pub(super) fn round(tx: &mut Transaction<'_>, owner: &str, lease: Duration) -> Result<Held, Error> {
    let now = database_now(tx)?;
    let until = now.saturating_add(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX));
    tx.execute("DELETE FROM tradewind_tcc_driver WHERE until_ms < ?", params![now])?;
    let sql = "UPDATE tradewind_tcc_driver SET until_ms = ? WHERE owner = ?";
    if tx.execute(sql, params![until, owner])? == 0 {
        let sql = "INSERT INTO tradewind_tcc_driver (owner, until_ms) VALUES (?, ?)";
        tx.execute(sql, params![owner, until])?;
    }
    let sql = "SELECT COUNT(*) FROM tradewind_tcc_driver";
    let live: usize = tx.query_one(sql, &[], |row| row.get(0))?.unwrap_or(1);
    let sql = "SELECT shard, owner, epoch, until_ms FROM tradewind_tcc_shard ORDER BY shard";
    let rows: Vec<(u16, String, i64, i64)> =
        tx.query(sql, &[], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    if rows.len() != usize::from(SHARDS) {
        create(tx)?;
        return Ok(Held::new());
    }
    let leases: Vec<_> = rows
        .iter()
        .map(|(_, holder, _, until)| match (*until < now, holder == owner) {
            (true, _) => Lease::Free,
            (false, true) => Lease::Mine,
            (false, false) => Lease::Theirs,
        })
        .collect();
    let plan = plan(&leases, live);
    let epoch_of = |shard: u16| rows.get(usize::from(shard)).map_or(0, |it| it.2);
    let mut held = Held::new();
    for shard in plan.renew {
        let epoch = epoch_of(shard);
        let sql = "UPDATE tradewind_tcc_shard SET until_ms = ?
            WHERE shard = ? AND owner = ? AND epoch = ?";
        if tx.execute(sql, params![until, shard, owner, epoch])? == 1 {
            held.insert(shard, epoch);
        }
    }
    for shard in plan.release {
        let sql = "UPDATE tradewind_tcc_shard SET until_ms = 0 WHERE shard = ? AND owner = ?";
        tx.execute(sql, params![shard, owner])?;
    }
    for shard in plan.take {
        let epoch = epoch_of(shard);
        let sql = "UPDATE tradewind_tcc_shard SET owner = ?, epoch = epoch + 1, until_ms = ?
            WHERE shard = ? AND epoch = ? AND until_ms < ?";
        if tx.execute(sql, params![owner, until, shard, epoch, now])? == 1 {
            held.insert(shard, epoch + 1);
        }
    }
    Ok(held)
}

/// Lets everything go, so that others need not wait for the leases to end.
pub(super) fn release(tx: &mut Transaction<'_>, owner: &str) -> Result<(), Error> {
    tx.execute("UPDATE tradewind_tcc_shard SET until_ms = 0 WHERE owner = ?", params![owner])?;
    tx.execute("DELETE FROM tradewind_tcc_driver WHERE owner = ?", params![owner])?;
    Ok(())
}

/// The rows of the shards, whoever comes first.
fn create(tx: &mut Transaction<'_>) -> Result<(), Error> {
    for shard in 0..SHARDS {
        let sql = "INSERT INTO tradewind_tcc_shard (shard, owner, epoch, until_ms)
            VALUES (?, '', 0, 0)";
        match tx.execute(sql, params![shard]) {
            Err(error) if !error.is_unique_violation() => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}

fn database_now(tx: &mut Transaction<'_>) -> Result<i64, Error> {
    let sql = match tx.dialect() {
        Dialect::Sqlite => "SELECT CAST(unixepoch('now', 'subsec') * 1000 AS INTEGER)",
        Dialect::MySql => "SELECT CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)",
    };
    Ok(tx.query_one(sql, &[], |row| row.get(0))?.unwrap_or(0))
}
