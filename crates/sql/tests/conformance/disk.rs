//! Full disks and disks that fail.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tradewind_sql::{
    Database, DatabaseUrl, Error, ErrorKind, Options, Retry, TransactionError, params,
};

use crate::child::{Report, Running, command};
use crate::support::{Gate, ITEMS, Place, eventually, ids, insert, spawn};

async fn insert_data(
    database: &Database,
    id: i64,
    bytes: usize,
) -> Result<u64, TransactionError<Error>> {
    let work = move |tx: &mut tradewind_sql::Transaction<'_>| {
        let sql = "INSERT INTO items (id, amount, data) VALUES (?, 1, ?)";
        tx.execute(sql, params![id, vec![0_u8; bytes]])
    };
    database.transaction("data", work).await
}

/// The kind of failure, whether the closure saw it or the commit did.
fn kind(error: TransactionError<Error>) -> ErrorKind {
    match error {
        TransactionError::Refused(error) | TransactionError::Database(error) => error.kind(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_database_fails_who_needs_space_and_serves_the_others() {
    let place = Place::sqlite();
    // The batch waits for the gate, so its time must not be up when the gate opens.
    let batch_time = Duration::from_secs(60);
    let database = place.open(Options { pages_max: Some(64), batch_time, ..Options::default() });
    insert_data(&database, 1, 100_000).await.unwrap();
    let gate = Gate::close(&database, 0).await;
    // In one batch: small ones before and after one that is too large by far.
    let mut running = Vec::new();
    for (count, (id, bytes)) in (1..).zip([(10, 10), (11, 400_000), (12, 10)]) {
        let sender = database.clone();
        running.push(spawn(async move { insert_data(&sender, id, bytes).await }));
        eventually("it is queued", || database.stats().queue == count).await;
    }
    gate.open().await;
    let mut results = Vec::new();
    for task in running {
        results.push(task.await.unwrap());
    }
    let error = results.remove(1).unwrap_err();
    assert_eq!(kind(error), ErrorKind::Full);
    for result in results {
        result.unwrap();
    }
    assert_eq!(ids(&database).await, [0, 1, 10, 12]);
    // The gate and the first small one had run when the large one ended the transaction for all.
    assert_eq!(database.stats().reruns, 3);
    // Space returns.
    let free =
        |tx: &mut tradewind_sql::Transaction<'_>| tx.execute("DELETE FROM items WHERE id = 1", &[]);
    database.transaction::<_, Error, _>("free", free).await.unwrap();
    insert_data(&database, 13, 100_000).await.unwrap();
    database.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_ends_the_transaction_takes_no_neighbour_along() {
    let place = Place::sqlite();
    let batch_time = Duration::from_secs(60);
    let database = place.open(Options { batch_time, ..Options::default() });
    insert(&database, 1, 1).await.unwrap();
    for (first, hide) in [(100, false), (200, true)] {
        let gate = Gate::close(&database, first).await;
        let mut running = Vec::new();
        for (count, id) in (1..).zip(first + 1..first + 4) {
            let sender = database.clone();
            let work = move |tx: &mut tradewind_sql::Transaction<'_>| {
                tx.execute("INSERT INTO items (id, amount) VALUES (?, 1)", params![id])?;
                if id != first + 2 {
                    return Ok(0);
                }
                let lost =
                    tx.execute("INSERT OR ROLLBACK INTO items (id, amount) VALUES (1, 1)", &[]);
                if hide { Ok(0) } else { lost }
            };
            let done = async move { sender.transaction::<_, Error, _>("it", work).await };
            running.push(spawn(done));
            eventually("it is queued", || database.stats().queue == count).await;
        }
        gate.open().await;
        let mut results = Vec::new();
        for task in running {
            results.push(task.await.unwrap());
        }
        match results.remove(1).unwrap_err() {
            TransactionError::Refused(error) if !hide => assert!(error.is_unique_violation()),
            // The closure thought that all was well. It was not, and it is told.
            TransactionError::Database(error) if hide => assert!(error.is_unique_violation()),
            other => panic!("{other:?}"),
        }
        for result in results {
            result.unwrap();
        }
    }
    assert_eq!(ids(&database).await, [1, 100, 101, 103, 200, 201, 203]);
    database.close().await.unwrap();
}

fn numbers(reports: &[Report], word: &str) -> BTreeSet<i64> {
    reports.iter().filter(|it| it.0 == word).map(|it| it.1).collect()
}

/// Everything answered is there, everything that failed is not, unknown ones may be.
async fn as_answered(path: &Path, reports: &[Report]) {
    let url = DatabaseUrl::sqlite(path);
    let database = Database::open(&url, Options::default(), "test", ITEMS).unwrap();
    let found: BTreeSet<i64> = ids(&database).await.into_iter().collect();
    assert!(found.is_superset(&numbers(reports, "done")));
    assert!(found.is_disjoint(&numbers(reports, "Full")));
    assert!(found.iter().all(|id| found.contains(&-id)), "half a transaction");
    database.close().await.unwrap();
}

/// A write that fails with anything but "no space" leaves the commit in doubt: the process stops,
/// and what it answered before is there after recovery.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_in_doubt_aborts_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it.db");
    let (reports, signal) = Running::start(&limited("grow", &path)).wait();
    assert_eq!(signal, Some(6), "SIGABRT: {:?}", reports.last());
    assert!(!numbers(&reports, "done").is_empty());
    as_answered(&path, &reports).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_in_doubt_poisons_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it.db");
    let (reports, signal) = Running::start(&limited("poison", &path)).wait();
    assert_eq!(signal, None);
    assert!(!numbers(&reports, "done").is_empty());
    assert!(!numbers(&reports, "unknown").is_empty(), "{:?}", reports.last());
    assert_eq!(numbers(&reports, "closed").len(), 16, "every worker is refused in the end");
    as_answered(&path, &reports).await;
}

/// A child whose files may not grow beyond 4 MiB: writes then fail with EFBIG.
fn limited(role: &str, path: &Path) -> Vec<String> {
    // The signal would end the process before the write can fail; shells count in 512 bytes.
    let script = r#"trap '' XFSZ; ulimit -f 8192; exec "$@""#;
    let mut words = ["sh", "-c", script, "sh"].map(str::to_owned).to_vec();
    words.extend(command(role, path));
    words
}

/// A child with a file system of 6 MiB, in a mount name space of its own, which needs no root
/// where user name spaces are allowed. `None` where they are not.
fn small_disk(folder: &Path) -> Option<Vec<String>> {
    let script = r#"mount -t tmpfs -o size=6m none "$0" && exec "$@""#;
    let folder_name = folder.display().to_string();
    let flags = ["-rm", "-m"].into_iter().find(|flags| {
        let mut probe = Command::new("unshare");
        probe.args([flags, "sh", "-c", script, &folder_name, "true"]);
        probe.output().is_ok_and(|it| it.status.success())
    })?;
    let words = ["unshare", flags, "sh", "-c", script, &folder_name];
    let mut words = words.map(str::to_owned).to_vec();
    words.extend(command("grow", &folder.join("it.db")));
    Some(words)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_an_error_and_no_doubt() {
    let folder = tempfile::tempdir().unwrap();
    let Some(words) = small_disk(folder.path()) else {
        println!("not shown: this machine allows neither mounting nor user name spaces");
        return;
    };
    let child = Running::start(&words);
    let mut full = 0;
    let mut done = 0;
    while full < 50 {
        match child.next().expect("a full disk stops nobody") {
            (word, _) if word == "Full" => full += 1,
            (word, _) if word == "done" => done += 1,
            (word, _) if word == "open" => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(0 < done);
    // It ends in order: the process was not aborted.
    child.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn space_that_returns_is_used() {
    let place = Place::sqlite();
    let database = place.open(Options { pages_max: Some(40), ..Options::default() });
    let mut id = 0;
    let error = loop {
        id += 1;
        match insert_data(&database, id, 20_000).await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.retry(), Retry::Never, "what the closure refused is its caller's to judge");
    assert_eq!(kind(error), ErrorKind::Full);
    let free = |tx: &mut tradewind_sql::Transaction<'_>| tx.execute("DELETE FROM items", &[]);
    database.transaction::<_, Error, _>("free", free).await.unwrap();
    insert_data(&database, id, 20_000).await.unwrap();
    database.close().await.unwrap();
}
