//! What only SQLite has: checkpoints, files, other programs on the file.

use std::time::Duration;

use tradewind_sql::{
    Database, DatabaseUrl, Error, ErrorKind, OpenError, Options, TransactionError, params,
};

use crate::support::{ITEMS, eventually, ids, insert, spawn};

fn size(path: &std::path::Path) -> u64 {
    std::fs::metadata(path).map_or(0, |it| it.len())
}

/// One whose batches take all that waits, however long their first closure stands still.
fn unhurried(folder: &std::path::Path) -> Database {
    let url = DatabaseUrl::sqlite(&folder.join("it.db"));
    let options = Options { batch_time: Duration::from_secs(60), ..Options::default() };
    Database::open(&url, options, "test", ITEMS).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_emptied_beside_the_writer_and_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it.db");
    let wal = folder.path().join("it.db-wal");
    let options = Options { wal_pages_checkpoint: 20, wal_pages_max: 200, ..Options::default() };
    let database = Database::open(&DatabaseUrl::sqlite(&path), options, "test", ITEMS).unwrap();
    for id in 0..1000 {
        let work = move |tx: &mut tradewind_sql::Transaction<'_>| {
            let sql = "INSERT INTO items (id, amount, data) VALUES (?, 1, ?)";
            tx.execute(sql, params![id, vec![1_u8; 4000]])
        };
        database.transaction::<_, Error, _>("data", work).await.unwrap();
    }
    eventually("a checkpoint was made", || 0 < database.stats().checkpoints).await;
    // Without checkpoints all 1000 rows, a page and more each, would still be in the log.
    let stats = database.stats();
    assert!(stats.wal_pages < 1000, "{stats:?}");
    assert!(size(&wal) < 1000 * 4096, "{} bytes", size(&wal));
    database.close().await.unwrap();
    assert_eq!(size(&wal), 0);
    assert!(1000 * 4000 < size(&path));
}

/// A log that only grew would make every commit wait for the journal of the file system.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_written_over_from_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it.db");
    let wal = folder.path().join("it.db-wal");
    // So long that it is never shortened.
    let options = Options { wal_pages_checkpoint: 20, ..Options::default() };
    let database = Database::open(&DatabaseUrl::sqlite(&path), options, "test", ITEMS).unwrap();
    let mut begun_anew = 0;
    let mut before = 0;
    for id in 0..1000 {
        insert(&database, id, 1).await.unwrap();
        let pages = database.stats().wal_pages;
        begun_anew += u32::from(pages < before);
        before = pages;
    }
    assert!(3 < begun_anew, "{begun_anew} times");
    assert!(size(&wal) < 500 * 4096, "{} bytes for 1000 commits", size(&wal));
    database.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_waits_for_goes_with_the_next_commit() {
    let folder = tempfile::tempdir().unwrap();
    let url = DatabaseUrl::sqlite(&folder.path().join("it.db"));
    let options = Options { leisure: Duration::from_secs(3600), ..Options::default() };
    let database = Database::open(&url, options, "test", ITEMS).unwrap();
    let at_leisure = |id: i64| {
        let database = database.clone();
        spawn(async move {
            let work = move |tx: &mut tradewind_sql::Transaction<'_>| {
                tx.execute("INSERT INTO items (id, amount) VALUES (?, 1)", params![id])
            };
            database.transaction_at_leisure::<_, Error, _>("at leisure", work).await
        })
    };
    let tasks = [at_leisure(1), at_leisure(2)];
    eventually("both wait", || database.stats().queue == 2).await;
    let before = database.stats().batches;
    insert(&database, 3, 1).await.unwrap();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap(), 1);
    }
    assert_eq!(database.stats().batches, before + 1);
    // The end is nobody's leisure.
    let last = at_leisure(4);
    eventually("it waits", || database.stats().queue == 1).await;
    database.close().await.unwrap();
    assert_eq!(last.await.unwrap().unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_waits_for_has_a_commit_of_its_own_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let url = DatabaseUrl::sqlite(&folder.path().join("it.db"));
    let database = Database::open(&url, Options::default(), "test", ITEMS).unwrap();
    let work = |tx: &mut tradewind_sql::Transaction<'_>| {
        tx.execute("INSERT INTO items (id, amount) VALUES (1, 1)", &[])
    };
    let done = database.transaction_at_leisure::<_, Error, _>("at leisure", work).await;
    assert_eq!(done.unwrap(), 1);
    assert_eq!(ids(&database).await, [1]);
    database.close().await.unwrap();
}

/// The first closure of a batch has no savepoint: what it wrote goes all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_that_refuses_takes_no_neighbour_along() {
    let folder = tempfile::tempdir().unwrap();
    let database = unhurried(folder.path());
    let (enter, entered) = std::sync::mpsc::sync_channel(1);
    let (go_on, wait) = std::sync::mpsc::sync_channel(1);
    let sender = database.clone();
    let first = spawn(async move {
        let work = move |tx: &mut tradewind_sql::Transaction<'_>| {
            tx.execute("INSERT INTO items (id, amount) VALUES (1, 1)", &[])?;
            enter.send(()).unwrap();
            wait.recv_timeout(Duration::from_secs(30)).unwrap();
            tx.execute("INSERT INTO items (id, amount) VALUES (1, 1)", &[])
        };
        sender.transaction::<_, Error, _>("first", work).await
    });
    eventually("it runs", || entered.try_recv().is_ok()).await;
    let sender = database.clone();
    let second = spawn(async move { insert(&sender, 2, 1).await });
    eventually("another waits", || database.stats().queue == 1).await;
    go_on.send(()).unwrap();
    let TransactionError::Refused(error) = first.await.unwrap().unwrap_err() else { panic!() };
    assert!(error.is_unique_violation());
    second.await.unwrap().unwrap();
    assert_eq!(ids(&database).await, [2]);
    let stats = database.stats();
    assert_eq!((stats.reruns, stats.batch_size_max), (0, 2), "one batch, each ran once");
    database.close().await.unwrap();
}

/// Savepoints are dear, so none is made until a refusal leaves writes behind; one that wrote
/// nothing costs nobody a second run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_in_the_middle_that_refuses_takes_no_neighbour_along() {
    let folder = tempfile::tempdir().unwrap();
    let database = unhurried(folder.path());
    // Its second statement refuses; before it, nothing or a row.
    let refusing = |first: &'static str| {
        let sender = database.clone();
        spawn(async move {
            let work = move |tx: &mut tradewind_sql::Transaction<'_>| {
                tx.execute(first, &[])?;
                tx.execute("INSERT INTO items (id, amount) VALUES (NULL, NULL)", &[])
            };
            sender.transaction::<_, Error, _>("refuses", work).await
        })
    };
    let inserting = |id| {
        let sender = database.clone();
        spawn(async move { insert(&sender, id, 1).await })
    };
    for (round, first, reruns) in [
        (1, "UPDATE items SET amount = 7 WHERE id = 999", 0),
        (2, "UPDATE items SET amount = 7 WHERE id = 1001", 3),
        // From now on there are savepoints for a while.
        (3, "UPDATE items SET amount = 8 WHERE id = 1001", 3),
    ] {
        let (enter, entered) = std::sync::mpsc::sync_channel(1);
        let (go_on, wait) = std::sync::mpsc::sync_channel(1);
        let sender = database.clone();
        let gate = spawn(async move {
            let work = move |_: &mut tradewind_sql::Transaction<'_>| {
                let _again = enter.try_send(());
                let _again = wait.recv_timeout(Duration::from_secs(30));
                Ok(())
            };
            sender.transaction::<_, Error, _>("gate", work).await
        });
        eventually("it runs", || entered.try_recv().is_ok()).await;
        let before = database.stats();
        let mut neighbours = Vec::new();
        let mut refused = None;
        for place in 1..=3 {
            if place == 2 {
                refused = Some(refusing(first));
            } else {
                neighbours.push(inserting(1000 * round + place));
            }
            let waiting = u64::try_from(place).unwrap();
            eventually("it waits", || database.stats().queue == waiting).await;
        }
        go_on.send(()).unwrap();
        drop(go_on);
        gate.await.unwrap().unwrap();
        refused.unwrap().await.unwrap().unwrap_err().refused::<()>().unwrap();
        for it in neighbours {
            it.await.unwrap().unwrap();
        }
        let stats = database.stats();
        assert_eq!(stats.batches, before.batches + 1, "round {round}");
        assert_eq!(stats.reruns, reruns, "round {round}");
    }
    assert_eq!(ids(&database).await, [1001, 1003, 2001, 2003, 3001, 3003]);
    let touched = "SELECT COUNT(*) FROM items WHERE amount <> 1";
    let count = |tx: &mut tradewind_sql::Transaction<'_>| {
        tx.query_one(touched, &[], |row| row.get::<i64>(0))
    };
    assert_eq!(database.read::<_, Error, _>("touched", count).await.unwrap(), Some(0));
    database.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_made_is_nobody_elses_to_read_or_lock() {
    use std::os::unix::fs::PermissionsExt as _;

    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("deep/data");
    let url = DatabaseUrl::sqlite(&folder.join("it.db"));
    let database = Database::open(&url, Options::default(), "test", ITEMS).unwrap();
    insert(&database, 0, 0).await.unwrap();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(folder.parent().unwrap()), mode(&folder)), (0o700, 0o700));
    let mut modes: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|it| it.unwrap())
        .map(|it| (it.file_name().into_string().unwrap(), mode(&it.path())))
        .collect();
    modes.sort_unstable();
    let names = ["it.db", "it.db-next", "it.db-shm", "it.db-turn", "it.db-wal"];
    assert_eq!(modes, names.map(|it| (it.to_owned(), 0o600)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_read_does_not_stop_the_writer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it.db");
    let options = Options { wal_pages_checkpoint: 20, wal_pages_max: 100, ..Options::default() };
    let database = Database::open(&DatabaseUrl::sqlite(&path), options, "test", ITEMS).unwrap();
    insert(&database, 0, 0).await.unwrap();
    let (seen, looked) = std::sync::mpsc::sync_channel(1);
    let (go_on, wait) = std::sync::mpsc::sync_channel(1);
    let reader = database.clone();
    let reader = spawn(async move {
        let work = move |tx: &mut tradewind_sql::Transaction<'_>| {
            let count = "SELECT COUNT(*) FROM items";
            tx.query_one(count, &[], |row| row.get::<i64>(0))?;
            seen.send(()).unwrap();
            wait.recv_timeout(Duration::from_secs(30)).unwrap();
            tx.query_one(count, &[], |row| row.get::<i64>(0))
        };
        reader.read::<_, Error, _>("long", work).await.unwrap()
    });
    eventually("the reader has its snapshot", || looked.try_recv().is_ok()).await;
    for id in 1..=100 {
        insert(&database, id, 0).await.unwrap();
    }
    go_on.send(()).unwrap();
    assert_eq!(reader.await.unwrap(), Some(1));
    assert_eq!(ids(&database).await.len(), 101);
    database.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_program_that_holds_the_file_is_waited_for_and_then_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it.db");
    let options = Options { lock_wait: Duration::from_millis(100), ..Options::default() };
    let database = Database::open(&DatabaseUrl::sqlite(&path), options, "test", ITEMS).unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = insert(&database, 1, 1).await.unwrap_err();
    let TransactionError::Database(error) = error else { panic!("{error:?}") };
    assert_eq!(error.kind(), ErrorKind::Busy);
    other.execute_batch("ROLLBACK").unwrap();
    insert(&database, 2, 1).await.unwrap();
    assert_eq!(ids(&database).await, [2]);
    database.close().await.unwrap();
}

#[test]
fn what_is_no_database_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it.db");
    std::fs::write(&path, "this is no database, only text that is long enough to be read").unwrap();
    let url = DatabaseUrl::sqlite(&path);
    let error = Database::open(&url, Options::default(), "test", ITEMS).unwrap_err();
    let OpenError::Connect { source, .. } = error else { panic!("{error:?}") };
    assert_eq!(source.kind(), ErrorKind::Storage);
    let url = DatabaseUrl::sqlite(&path.join("below-a-file.db"));
    let error = Database::open(&url, Options::default(), "test", ITEMS).unwrap_err();
    assert!(matches!(error, OpenError::File { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folders_are_made_and_two_names_of_a_file_are_one_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/it.db");
    let one =
        Database::open(&DatabaseUrl::sqlite(&path), Options::default(), "test", ITEMS).unwrap();
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let two =
        Database::open(&DatabaseUrl::sqlite(&link), Options::default(), "test", ITEMS).unwrap();
    insert(&one, 1, 1).await.unwrap();
    insert(&two, 2, 1).await.unwrap();
    assert_eq!(ids(&one).await, [1, 2]);
    assert!(!folder.path().join("link.db-turn").exists(), "the turn belongs to the file");
    one.close().await.unwrap();
    two.close().await.unwrap();
}
