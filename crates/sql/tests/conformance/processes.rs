//! Processes that die, and processes that share a file.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use tradewind_sql::{Database, DatabaseUrl, Error, Options};

use crate::child::{Running, command};
use crate::support::{ITEMS, Place, ids, insert};

/// Nothing that was answered is missing, and no transaction is there by halves.
fn whole(found: &[i64], acknowledged: &BTreeSet<i64>) {
    let found: BTreeSet<i64> = found.iter().copied().collect();
    let missing: Vec<_> = acknowledged.difference(&found).collect();
    assert!(missing.is_empty(), "answered but not there: {missing:?}");
    let halves: Vec<_> = found.iter().filter(|id| !found.contains(&-**id)).collect();
    assert!(halves.is_empty(), "half a transaction: {halves:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_under_load_loses_nothing_that_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it.db");
    let mut acknowledged = BTreeSet::new();
    for round in 1..=4_usize {
        let child = Running::start(&command("insert", &path));
        let enough = acknowledged.len() + 200 * round;
        while acknowledged.len() < enough {
            match child.next().expect("the child makes progress") {
                (word, id) if word == "done" => assert!(acknowledged.insert(id), "{id} twice"),
                (word, _) if word == "open" => {}
                other => panic!("{other:?}"),
            }
        }
        // In the middle of whatever it does; what it reported until then counts.
        for (word, id) in child.kill() {
            assert_eq!(word, "done");
            assert!(acknowledged.insert(id), "{id} twice");
        }
        let url = DatabaseUrl::sqlite(&path);
        let database = Database::open(&url, Options::default(), "test", ITEMS).unwrap();
        whole(&ids(&database).await, &acknowledged);
        database.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_on_one_file_share_it_fairly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it.db");
    let url = DatabaseUrl::sqlite(&path);
    let database = Database::open(&url, Options::default(), "test", ITEMS).unwrap();
    insert(&database, 1, 0).await.unwrap();
    let children = [(); 2].map(|()| Running::start(&command("share", &path)));
    for child in &children {
        assert_eq!(child.next(), Some(("open".to_owned(), 0)));
    }
    let amount = |tx: &mut tradewind_sql::Transaction<'_>| {
        tx.query_one("SELECT amount FROM items WHERE id = 1", &[], |row| row.get::<i64>(0))
    };
    // Long enough for a share to mean something, on any disk. This process takes turns, too.
    let (start, mut own) = (Instant::now(), 0);
    while own < 20 || start.elapsed() < Duration::from_secs(2) {
        own += 1;
        insert(&database, 1 + own, 0).await.unwrap();
    }
    let mut counts = Vec::new();
    for child in children {
        let reports = child.end();
        assert_eq!(reports.len(), 1, "{reports:?}");
        assert_eq!(reports[0].0, "counted");
        counts.push(reports[0].1);
    }
    let total = database.read::<_, Error, _>("amount", amount).await.unwrap().unwrap();
    assert_eq!(counts.iter().sum::<i64>(), total, "every count is there once: {counts:?}");
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(*most < least * 3, "one of them starved: {counts:?}");
    database.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_databases_in_one_process_share_a_file() {
    let place = Place::sqlite();
    let (one, two) = (place.open(Options::default()), place.open(Options::default()));
    for id in 0..20 {
        let (a, b) = tokio::join!(insert(&one, 2 * id, 1), insert(&two, 2 * id + 1, 1));
        a.unwrap();
        b.unwrap();
    }
    assert_eq!(ids(&one).await.len(), 40);
    one.close().await.unwrap();
    two.close().await.unwrap();
}
