//! What only a server has: deadlocks, and connections that get lost.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Barrier};

use mysql::prelude::Queryable as _;
use tradewind_sql::{
    Database, DatabaseUrl, Error, ErrorKind, Options, Retry, TransactionError, params,
};

use crate::support::{ITEMS, Place, ids, insert, spawn};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_victim_of_a_deadlock_is_run_again() {
    let place = Place::mysql();
    let database = place.open(Options::default());
    insert(&database, 1, 0).await.unwrap();
    insert(&database, 2, 0).await.unwrap();
    let both_hold_one = Arc::new(Barrier::new(2));
    let running: Vec<_> = [(1, 2), (2, 1)]
        .into_iter()
        .map(|(first, second)| {
            let (database, barrier) = (database.clone(), Arc::clone(&both_hold_one));
            let mut fresh = true;
            let work = move |tx: &mut tradewind_sql::Transaction<'_>| {
                let sql = "UPDATE items SET amount = amount + 1 WHERE id = ?";
                tx.execute(sql, params![first])?;
                if std::mem::take(&mut fresh) {
                    barrier.wait();
                }
                // A closure that ignores the error must be run again all the same.
                tx.execute(sql, params![second]).ok();
                Ok::<_, Error>(())
            };
            spawn(async move { database.transaction("cross", work).await })
        })
        .collect();
    for task in running {
        task.await.unwrap().unwrap();
    }
    let sum = |tx: &mut tradewind_sql::Transaction<'_>| {
        tx.query_one("SELECT SUM(amount) FROM items", &[], |row| row.get::<i64>(0))
    };
    assert_eq!(database.read::<_, Error, _>("sum", sum).await.unwrap(), Some(4));
    assert!(1 <= database.stats().reruns);
    database.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reruns_have_a_bound() {
    let place = Place::mysql();
    let options = Options {
        attempts_max: 3,
        lock_wait: std::time::Duration::from_secs(1),
        ..Options::default()
    };
    let database = place.open(options);
    insert(&database, 1, 0).await.unwrap();
    let mut other = place.schema().connect();
    other.query_drop(format!("USE {}", place.schema().name)).unwrap();
    other.query_drop("START TRANSACTION").unwrap();
    other.query_drop("UPDATE items SET amount = 5 WHERE id = 1").unwrap();
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let work = move |tx: &mut tradewind_sql::Transaction<'_>| {
        counted.fetch_add(1, Ordering::SeqCst);
        tx.execute("UPDATE items SET amount = 6 WHERE id = 1", &[])
    };
    let error = database.transaction::<_, Error, _>("stuck", work).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Later);
    assert!(matches!(&error, TransactionError::Database(it) if it.kind() == ErrorKind::Busy));
    assert_eq!(runs.load(Ordering::SeqCst), 3);
    other.query_drop("ROLLBACK").unwrap();
    database.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lost_before_commit_is_replaced() {
    let place = Place::mysql();
    let database = place.open(Options { connections: 1, ..Options::default() });
    let mut admin = place.schema().connect();
    let mut fresh = true;
    let work = move |tx: &mut tradewind_sql::Transaction<'_>| {
        tx.execute("INSERT INTO items (id, amount) VALUES (1, 1)", &[])?;
        if std::mem::take(&mut fresh) {
            let own = tx.query_one("SELECT CONNECTION_ID()", &[], |row| row.get::<i64>(0))?;
            admin.query_drop(format!("KILL {}", own.unwrap_or(0))).unwrap();
        }
        tx.execute("INSERT INTO items (id, amount) VALUES (2, 1)", &[])
    };
    database.transaction::<_, Error, _>("cut", work).await.unwrap();
    assert_eq!(ids(&database).await, [1, 2]);
    assert_eq!(database.stats().reruns, 1);
    database.close().await.unwrap();
}

/// What stands between the library and the server does at the next COMMIT.
const PASS: u32 = 0;
/// Cut the connection before the server sees it.
const CUT_BEFORE: u32 = 1;
/// Let the server do it and cut the connection before the answer.
const CUT_AFTER: u32 = 2;

fn stand_between(socket: &Path, server: &str, at_commit: &Arc<AtomicU32>) {
    let listener = UnixListener::bind(socket).unwrap();
    let (server, at_commit) = (server.to_owned(), Arc::clone(at_commit));
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let upstream = UnixStream::connect(&server).unwrap();
            relay(&client, &upstream, &at_commit);
        }
    });
}

fn relay(client: &UnixStream, upstream: &UnixStream, at_commit: &Arc<AtomicU32>) {
    // Set while the server's answers are swallowed.
    let mute = Arc::new(AtomicBool::new(false));
    let (mut from, mut to) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
    let (at_commit, muted) = (Arc::clone(at_commit), Arc::clone(&mute));
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let packet = &buffer[..count];
            let commit = packet.ends_with(b"\x03COMMIT");
            match if commit { at_commit.swap(PASS, Ordering::SeqCst) } else { PASS } {
                CUT_BEFORE => break,
                CUT_AFTER => {
                    muted.store(true, Ordering::SeqCst);
                    to.write_all(packet).unwrap();
                    return;
                }
                _ => to.write_all(packet).unwrap(),
            }
        }
        from.shutdown(Shutdown::Both).ok();
        to.shutdown(Shutdown::Both).ok();
    });
    let (mut from, mut to) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if mute.load(Ordering::SeqCst) {
                break;
            }
            to.write_all(&buffer[..count]).ok();
        }
        from.shutdown(Shutdown::Both).ok();
        to.shutdown(Shutdown::Both).ok();
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lost_during_commit_is_an_unknown_outcome() {
    let place = Place::mysql();
    let direct = place.open(Options::default());
    let Some(server) = place.schema().socket() else {
        panic!("this test needs a server on a Unix socket, as `cargo xtask test` starts one")
    };
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("between.sock");
    let at_commit = Arc::new(AtomicU32::new(PASS));
    stand_between(&socket, &server, &at_commit);
    let url = DatabaseUrl::parse(&place.schema().url(Some(&socket))).unwrap();
    let options = Options { connections: 1, ..Options::default() };
    let database = Database::open(&url, options, "test", ITEMS).unwrap();
    insert(&database, 1, 1).await.unwrap();
    for (id, what) in [(2, CUT_BEFORE), (3, CUT_AFTER)] {
        at_commit.store(what, Ordering::SeqCst);
        let error = insert(&database, id, 1).await.unwrap_err();
        assert!(matches!(error, TransactionError::Unknown { .. }), "{error:?}");
        assert_eq!(error.retry(), Retry::AfterLooking);
    }
    // Only the caller can tell which it was, by looking. The database itself goes on.
    assert_eq!(ids(&direct).await, [1, 3]);
    insert(&database, 4, 1).await.unwrap();
    assert_eq!(database.stats().reruns, 0, "a commit in doubt is never repeated");
    direct.close().await.unwrap();
    database.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_of_keys_is_no_reason_to_run_again() {
    let place = Place::mysql();
    let database = place.open(Options::default());
    insert(&database, 1, 0).await.unwrap();
    let error = insert(&database, 1, 0).await.unwrap_err();
    assert!(matches!(&error, TransactionError::Refused(it) if it.is_unique_violation()));
    assert_eq!(database.stats().reruns, 0);
    database.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_was_cut_off_is_taken_up() {
    let place = Place::mysql();
    place.open(Options::default()).close().await.unwrap();
    // As if the process had died between the change and its record.
    let mut admin = place.schema().connect();
    let sql = format!("UPDATE {}.tradewind_migrations SET applied_at = NULL", place.schema().name);
    admin.query_drop(sql).unwrap();
    let database = place.open(Options::default());
    insert(&database, 1, 1).await.unwrap();
    database.close().await.unwrap();
}

#[test]
fn a_server_that_is_not_there_is_named_without_the_password() {
    let url = DatabaseUrl::parse("mysql://me:s3cret@localhost/x?socket=/nowhere/s.sock").unwrap();
    let error = Database::open(&url, Options::default(), "test", ITEMS).unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("mysql://me:***@localhost") && !text.contains("s3cret"), "{text}");
}
