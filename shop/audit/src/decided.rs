//! What a log that others write as well says of some transactions.

use std::collections::{BTreeMap, BTreeSet};

use tradewind::sql::{Error, Row, Transaction, params};

use crate::databases::{Place, ReadError};
use crate::facts::Phase;

/// The most rows that are read together.
const ROWS_MAX: usize = 10_000;

const BETWEEN: &str = "SELECT xid, phase FROM tradewind_tcc WHERE ? <= xid AND xid <= ? \
     ORDER BY xid LIMIT ?";
const ONE: &str = "SELECT xid, phase FROM tradewind_tcc WHERE xid = ?";

/// The phases of the transactions that `log` has of these.
///
/// Most lie close together and come in one answer. But an old order may be cancelled today, and
/// then the whole log lies in between, with the transactions of everybody: of that only a part is
/// read, and what is not in it is asked for one by one.
///
/// # Errors
/// When the database cannot be read.
pub(crate) async fn phases(
    log: &Place,
    wanted: BTreeSet<String>,
) -> Result<BTreeMap<String, Phase>, ReadError> {
    within(log, wanted, ROWS_MAX).await
}

async fn within(
    log: &Place,
    wanted: BTreeSet<String>,
    rows_max: usize,
) -> Result<BTreeMap<String, Phase>, ReadError> {
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let read = move |tx: &mut Transaction<'_>| {
        let (first, last) = (wanted.first(), wanted.last());
        let (first, last) = (first.map_or("", String::as_str), last.map_or("", String::as_str));
        let limit = i64::try_from(rows_max).unwrap_or(i64::MAX);
        let mut found = tx.query(BETWEEN, params![first, last, limit], phase)?;
        if rows_max <= found.len() {
            let seen = found.last().map(|it| it.0.clone()).unwrap_or_default();
            for xid in wanted.iter().filter(|it| seen < **it) {
                found.extend(tx.query_one(ONE, params![xid], phase)?);
            }
        }
        found.retain(|it| wanted.contains(&it.0));
        Ok(found.into_iter().filter_map(|(xid, phase)| Some((xid, phase?))).collect())
    };
    log.read("audit: log", read).await
}

fn phase(row: &Row) -> Result<(String, Option<Phase>), Error> {
    Ok((row.get(0)?, Phase::of(row.get(1)?)))
}

#[cfg(test)]
mod tests {
    use tradewind::sql::{Database, DatabaseUrl, Options, TransactionError};
    use tradewind::transaction::engine;

    use super::*;

    fn xid(number: i64) -> String {
        format!("txn_{number:032x}")
    }

    /// However far apart they lie, and however much of others lies in between.
    #[tokio::test]
    async fn all_that_are_wanted_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::sqlite(&folder.path().join("log.db"));
        let log = Database::open(&url, Options::default(), "log", &engine::migrations(1)).unwrap();
        let fill = |tx: &mut Transaction<'_>| {
            for number in 0..300 {
                let sql = "INSERT INTO tradewind_tcc (xid, name, shard, phase, version, \
                     deadline_ms, begun_ms, stuck, declared, branches) \
                     VALUES (?, 'it', 0, ?, 0, 0, 0, 0, '[]', '[]')";
                tx.execute(sql, params![xid(number), 1 + number % 5])?;
            }
            Ok(())
        };
        let filled: Result<(), TransactionError<Error>> = log.transaction("fill", fill).await;
        filled.unwrap();
        let place = Place::open("coordinator", &url, "tradewind_tcc").await.unwrap();
        for wanted in [vec![], vec![7], vec![0, 1, 2, 5], vec![3, 150, 298, 299, 4000]] {
            let expected: BTreeMap<_, _> = wanted
                .iter()
                .filter(|it| **it < 300)
                .map(|it| (xid(*it), Phase::of(1 + it % 5).unwrap()))
                .collect();
            for rows_max in [1, 3, 100, 10_000] {
                let wanted = wanted.iter().map(|it| xid(*it)).collect();
                let found = within(&place, wanted, rows_max).await.unwrap();
                assert_eq!(found, expected, "{rows_max}");
            }
        }
    }
}
