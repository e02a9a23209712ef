use std::time::Duration;

use tradewind_base::Timestamp;
use tradewind_sql::{
    Database, DatabaseUrl, Error, Migration, Options, Transaction, TransactionError, params,
};

use super::*;

const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "create it",
    sqlite: "CREATE TABLE it (id INTEGER PRIMARY KEY, good INTEGER NOT NULL, at_ms INTEGER)",
    mysql: "DO 0",
}];
const ONE: Invariant = Invariant { number: "ONE-1", statement: "all are good" };
const CODE: Invariant = Invariant { number: "ONE-2", statement: "all are good, says the code" };
const BOUND: &str =
    "SELECT MAX(k), COUNT(*) FROM (SELECT id AS k FROM it WHERE ? < id ORDER BY id LIMIT ?) w";

const fn rows(broken: &'static str, recent: Option<Duration>) -> Look {
    let (first, columns) = (First::Number, &["id", "good"] as &[&str]);
    Look::Rows(Columns { first, columns, bound: BOUND, broken, recent })
}

fn even(tx: &mut Transaction<'_>, it: &Window) -> Result<Page, Error> {
    let sql = "SELECT id, good FROM it WHERE ? < id ORDER BY id LIMIT ?";
    let found: Vec<(i64, i64)> =
        tx.query(sql, &[it.after.clone(), it.rows.into()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let broken = found.iter().filter(|it| it.1 == 0).map(|it| format!("id={}", it.0)).collect();
    let last = found.last().map(|it| it.0.into());
    Ok(Page { last, checked: u64::try_from(found.len()).unwrap(), broken })
}

const CHECKS: &[Check] = &[
    Check {
        invariant: &ONE,
        what: "is bad",
        window: 7,
        look: rows("SELECT id, good FROM it WHERE ? < id AND id <= ? AND good = 0", None),
    },
    Check {
        invariant: &ONE,
        what: "is bad and new",
        window: 1000,
        look: rows(
            "SELECT id, good FROM it WHERE ? < id AND id <= ? AND good = 0 AND ? < at_ms",
            Some(Duration::from_millis(10)),
        ),
    },
    Check {
        invariant: &CODE,
        what: "is bad",
        window: 10,
        look: Look::Code { first: First::Number, look: even },
    },
];

async fn database(folder: &tempfile::TempDir, bad: &'static [i64]) -> Database {
    let url = DatabaseUrl::sqlite(&folder.path().join("it.db"));
    let database = Database::open(&url, Options::default(), "it", MIGRATIONS).unwrap();
    let fill = move |tx: &mut Transaction<'_>| {
        for id in 1..=300_i64 {
            let good = !bad.contains(&id);
            tx.execute("INSERT INTO it VALUES (?, ?, ?)", params![id, good, id])?;
        }
        Ok(())
    };
    let filled: Result<(), TransactionError<Error>> = database.transaction("fill", fill).await;
    filled.unwrap();
    database
}

/// R0.1: every row is looked at once, whatever the size of a window.
#[tokio::test]
async fn rows_that_break_an_invariant_are_found_in_every_window() {
    let folder = tempfile::tempdir().unwrap();
    let database = database(&folder, &[1, 7, 8, 299]).await;
    let now = Timestamp::from_millis(308);
    let found = run(&database, CHECKS, now).await.unwrap();
    let one = found.get("ONE-1").unwrap();
    assert_eq!((one.checked, one.violations), (600, 5));
    assert_eq!(one.rows[0], "id=1 good=0: is bad");
    assert_eq!(one.rows[4], "id=299 good=0: is bad and new");
    let code = found.get("ONE-2").unwrap();
    assert_eq!((code.checked, code.violations), (300, 4));
    let all = database.read("all", move |tx| all(tx, CHECKS, now)).await;
    let all: Result<Vec<Violation>, TransactionError<Error>> = all;
    assert_eq!(all.unwrap().len(), 9);
}

#[tokio::test]
async fn many_violations_are_counted_and_the_first_kept() {
    let mut found = Findings::new();
    for it in 0..250 {
        found.broken(&ONE, it.to_string());
    }
    let mut both = found.clone();
    both.merge(found);
    let one = both.get("ONE-1").unwrap();
    assert_eq!((one.violations, one.rows.len()), (500, ROWS_MAX));
}
