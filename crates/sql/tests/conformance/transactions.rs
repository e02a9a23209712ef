//! Scenarios about transactions and reads, for both engines.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use tradewind_sql::{Dialect, Error, ErrorKind, Options, Retry, TransactionError, Value, params};

use crate::support::{Gate, Place, eventually, ids, insert, spawn};

pub(crate) async fn errors_and_panics_touch_nobody_else(place: &Place) {
    // The batch waits for the gate, so its time must not be up when the gate opens.
    let batch_time = Duration::from_secs(60);
    let database = place.open(Options { batch_time, ..Options::default() });
    let gate = Gate::close(&database, 0).await;
    let mut running = Vec::new();
    for id in 1..=60 {
        let database = database.clone();
        running.push(spawn(async move {
            let work = move |tx: &mut tradewind_sql::Transaction<'_>| {
                let sql = "INSERT INTO items (id, amount) VALUES (?, 1)";
                tx.execute(sql, params![id * 10])?;
                assert!(id % 5 != 0, "on purpose");
                // A key that the gate has taken.
                let second = if id % 3 == 0 { 0 } else { id * 10 + 1 };
                tx.execute(sql, params![second])
            };
            (id, database.transaction::<_, Error, _>("pair", work).await)
        }));
    }
    if database.dialect() == Dialect::Sqlite {
        eventually("all are queued", || database.stats().queue == 60).await;
    }
    gate.open().await;
    let mut expected = vec![0];
    for task in running {
        match task.await.unwrap() {
            (id, Err(TransactionError::Database(error))) if id % 5 == 0 => {
                assert_eq!(error.kind(), ErrorKind::Panic);
            }
            (id, Err(TransactionError::Refused(error))) if id % 3 == 0 => {
                assert!(error.is_unique_violation(), "{error}");
            }
            (id, result) => {
                assert_eq!(result.unwrap(), 1);
                expected.extend([id * 10, id * 10 + 1]);
            }
        }
    }
    assert_eq!(ids(&database).await, expected);
    let stats = database.stats();
    assert_eq!((stats.closures, stats.refused), (61, 12 + 16));
    if database.dialect() == Dialect::Sqlite {
        assert_eq!(stats.batch_size_max, 61, "not committed together: {stats:?}");
    }
    database.close().await.unwrap();
}

pub(crate) async fn conditional_updates_never_oversell(place: &Place) {
    const STOCK: i64 = 500;
    let database = place.open(Options::default());
    insert(&database, 1, STOCK).await.unwrap();
    let mut writers = Vec::new();
    for _ in 0..32 {
        let database = database.clone();
        writers.push(spawn(async move {
            let mut sold = 0;
            for round in 0..20 {
                let take = 1 + round % 2;
                let sql = "UPDATE items SET amount = amount - ? WHERE id = 1 AND amount >= ?";
                let work = move |tx: &mut tradewind_sql::Transaction<'_>| {
                    tx.execute(sql, params![take, take])
                };
                let done: Result<u64, TransactionError<Error>> =
                    database.transaction("take", work).await;
                sold += if done.unwrap() == 1 { take } else { 0 };
            }
            sold
        }));
    }
    let mut sold = 0;
    for writer in writers {
        sold += writer.await.unwrap();
    }
    let left = |tx: &mut tradewind_sql::Transaction<'_>| {
        tx.query_one("SELECT amount FROM items WHERE id = 1", &[], |row| row.get::<i64>(0))
    };
    let left = database.read::<_, Error, _>("left", left).await.unwrap().unwrap();
    // 32 writers asked for 30 each, nearly twice the stock.
    assert_eq!((sold + left, left), (STOCK, 0));
    database.close().await.unwrap();
}

pub(crate) async fn a_panic_is_an_error_and_the_next_transaction_works(place: &Place) {
    let database = place.open(Options { connections: 1, readers: 1, ..Options::default() });
    for _ in 0..3 {
        let work = |tx: &mut tradewind_sql::Transaction<'_>| -> Result<(), Error> {
            tx.execute("INSERT INTO items (id, amount) VALUES (7, 7)", &[])?;
            panic!("with a text")
        };
        let error = database.transaction("broken", work).await.unwrap_err();
        assert!(
            matches!(&error, TransactionError::Database(it) if it.kind() == ErrorKind::Panic
            && it.to_string().contains("with a text")),
            "{error:?}"
        );
        let read = |_: &mut tradewind_sql::Transaction<'_>| -> Result<(), Error> { panic!("too") };
        database.read("broken", read).await.unwrap_err();
        insert(&database, 8, 8).await.ok();
    }
    assert_eq!(ids(&database).await, [8]);
    database.close().await.unwrap();
}

/// A result that panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "dropped on purpose");
    }
}

pub(crate) async fn a_result_that_panics_when_dropped_stops_nobody(place: &Place) {
    let database = place.open(Options { connections: 1, readers: 1, ..Options::default() });
    for id in 1..=3 {
        let gate = Gate::close(&database, id * 10).await;
        {
            let work = |_: &mut tradewind_sql::Transaction<'_>| Ok::<_, Error>(Bomb);
            let mut write = pin!(database.transaction("bomb", work));
            let polled = write.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending(), "it waits behind the gate");
        }
        gate.open().await;
        insert(&database, id, 1).await.unwrap();
    }
    assert_eq!(ids(&database).await, [1, 2, 3, 10, 20, 30]);
    database.close().await.unwrap();
}

pub(crate) async fn errors_have_the_same_kind(place: &Place) {
    let database = place.open(Options::default());
    insert(&database, 1, 1).await.unwrap();
    for (sql, kind) in [
        ("INSERT INTO items (id, amount) VALUES (1, 1)", ErrorKind::Unique),
        ("INSERT INTO items (id, code, amount) VALUES (2, 'a', 1), (3, 'a', 1)", ErrorKind::Unique),
        ("INSERT INTO items (id, amount) VALUES (2, -1)", ErrorKind::Check),
        ("UPDATE items SET amount = amount - 2 WHERE id = 1", ErrorKind::Check),
        ("INSERT INTO items (id, amount) VALUES (2, NULL)", ErrorKind::NotNull),
        ("INSERT INTO items (id, code) VALUES (2, 'b')", ErrorKind::NotNull),
        ("INSERT INTO items (id, amount, parent) VALUES (2, 1, 99)", ErrorKind::ForeignKey),
        ("INSERT INTO items (id, amount) VALUES (2, 'many')", ErrorKind::Data),
        ("INSERT INTO nowhere (id) VALUES (2)", ErrorKind::Statement),
        ("INSERT INTO items (id, amount VALUES (2", ErrorKind::Statement),
        ("SELECT id FROM items", ErrorKind::Statement),
    ] {
        let work = move |tx: &mut tradewind_sql::Transaction<'_>| tx.execute(sql, &[]);
        let error = database.transaction::<_, Error, _>("wrong", work).await.unwrap_err();
        assert_eq!(error.retry(), Retry::Never);
        let error = error.refused::<()>().unwrap();
        assert_eq!(error.kind(), kind, "{sql}: {error:?}");
    }
    assert_eq!(ids(&database).await, [1]);
    database.close().await.unwrap();
}

pub(crate) async fn reads_see_what_is_committed_and_nothing_else(place: &Place) {
    let database = place.open(Options::default());
    insert(&database, 1, 1).await.unwrap();
    let gate = Gate::close(&database, 2).await;
    assert_eq!(ids(&database).await, [1], "the gate's item is not committed");
    // A snapshot does not change under a reader's feet.
    let (seen, enter) = std::sync::mpsc::sync_channel(1);
    let (go_on, wait) = std::sync::mpsc::sync_channel(1);
    let reader = {
        let database = database.clone();
        spawn(async move {
            let work = move |tx: &mut tradewind_sql::Transaction<'_>| {
                let sql = "SELECT COUNT(*) FROM items";
                let before = tx.query_one(sql, &[], |row| row.get::<i64>(0))?;
                seen.send(()).unwrap();
                wait.recv_timeout(Duration::from_secs(30)).unwrap();
                Ok((before, tx.query_one(sql, &[], |row| row.get::<i64>(0))?))
            };
            database.read::<_, Error, _>("twice", work).await.unwrap()
        })
    };
    eventually("the reader has looked once", || enter.try_recv().is_ok()).await;
    gate.open().await;
    assert_eq!(ids(&database).await, [1, 2], "committed before it was answered");
    go_on.send(()).unwrap();
    assert_eq!(reader.await.unwrap(), (Some(1), Some(1)));
    database.close().await.unwrap();
}

pub(crate) async fn a_read_cannot_write(place: &Place) {
    let database = place.open(Options::default());
    let sql = "INSERT INTO items (id, amount) VALUES (1, 1)";
    let work = move |tx: &mut tradewind_sql::Transaction<'_>| tx.execute(sql, &[]);
    let error = database.read::<_, Error, _>("sly", work).await.unwrap_err();
    assert_eq!(error.refused::<()>().unwrap().kind(), ErrorKind::ReadOnly);
    assert_eq!(ids(&database).await, [] as [i64; 0]);
    database.close().await.unwrap();
}

pub(crate) async fn a_full_queue_is_busy(place: &Place) {
    let database = place.open(Options { queue: 2, connections: 1, ..Options::default() });
    let gate = Gate::close(&database, 0).await;
    let waiting: Vec<_> = (1..=2)
        .map(|id| {
            let database = database.clone();
            spawn(async move { insert(&database, id, 1).await })
        })
        .collect();
    eventually("two wait", || database.stats().queue == 2).await;
    let error = insert(&database, 3, 1).await.unwrap_err();
    assert!(matches!(error, TransactionError::Busy), "{error:?}");
    assert_eq!(error.retry(), Retry::Later);
    gate.open().await;
    for task in waiting {
        task.await.unwrap().unwrap();
    }
    assert_eq!(ids(&database).await, [0, 1, 2]);
    assert_eq!(database.stats().busy, 1);
    database.close().await.unwrap();
}

pub(crate) async fn an_update_counts_the_rows_it_matched(place: &Place) {
    let database = place.open(Options::default());
    insert(&database, 1, 5).await.unwrap();
    let work = |tx: &mut tradewind_sql::Transaction<'_>| {
        let same = tx.execute("UPDATE items SET amount = 5 WHERE id = 1", &[])?;
        let none = tx.execute("UPDATE items SET amount = 5 WHERE id = 2", &[])?;
        Ok::<_, Error>((same, none))
    };
    assert_eq!(database.transaction("count", work).await.unwrap(), (1, 0));
    database.close().await.unwrap();
}

pub(crate) async fn values_survive_the_way_in_and_out(place: &Place) {
    let database = place.open(Options::default());
    let bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let text = "a 'quoted' \"word\" \\ back\\n 价格 🛒 % _ ? \u{0301}";
    let cases = [
        (i64::MAX, Value::from(text), Value::from(bytes)),
        (i64::MIN, Value::from(""), Value::from(Vec::new())),
        (0, Value::Null, Value::Null),
    ];
    for (id, code, data) in cases {
        let (sent_code, sent_data) = (code.clone(), data.clone());
        let work = move |tx: &mut tradewind_sql::Transaction<'_>| {
            let sql = "INSERT INTO items (id, code, amount, data) VALUES (?, ?, 1, ?)";
            tx.execute(sql, params![id, sent_code.clone(), sent_data.clone()])?;
            let sql = "SELECT id, code, data, amount = 1 FROM items WHERE id = ?";
            tx.query_one(sql, params![id], |row| {
                Ok((
                    row.get::<i64>(0)?,
                    row.get::<Value>(1)?,
                    row.get::<Value>(2)?,
                    row.get::<bool>(3)?,
                ))
            })
        };
        let back = database.transaction::<_, Error, _>("values", work).await.unwrap();
        assert_eq!(back, Some((id, code, data, true)));
    }
    // Literals mean the same, too: no backslash escapes, `||` joins, double quotes are names.
    let literals = |tx: &mut tradewind_sql::Transaction<'_>| {
        let sql = r#"SELECT 'a\n' || 'b' AS "the text" FROM "items" WHERE id = 0"#;
        tx.query_one(sql, &[], |row| row.get::<String>(0))
    };
    let back = database.read::<_, Error, _>("literals", literals).await.unwrap();
    assert_eq!(back.as_deref(), Some(r"a\nb"));
    database.close().await.unwrap();
}

pub(crate) async fn sums_and_counts_are_integers(place: &Place) {
    let database = place.open(Options::default());
    for id in 1..=3 {
        insert(&database, id, id * 1_000_000_007).await.unwrap();
    }
    let work = |tx: &mut tradewind_sql::Transaction<'_>| {
        let sql = "SELECT SUM(amount), COUNT(*), MAX(id), SUM(id = 2) FROM items";
        tx.query_one(sql, &[], |row| {
            Ok([row.get::<i64>(0)?, row.get(1)?, row.get(2)?, row.get(3)?])
        })
    };
    let sums = database.read::<_, Error, _>("sums", work).await.unwrap();
    assert_eq!(sums, Some([6_000_000_042, 3, 3, 1]));
    database.close().await.unwrap();
}

pub(crate) async fn a_statement_that_takes_too_long_is_stopped_alone(place: &Place) {
    let options = Options {
        run_time_max: Duration::from_millis(300),
        batch_time: Duration::from_secs(60),
        ..Options::default()
    };
    let database = place.open(options);
    let many = |tx: &mut tradewind_sql::Transaction<'_>| {
        for id in 1..=300 {
            tx.execute("INSERT INTO items (id, amount) VALUES (?, 1)", params![id])?;
        }
        Ok::<_, Error>(())
    };
    database.transaction("many", many).await.unwrap();
    let gate = Gate::close(&database, 0).await;
    let mut running = Vec::new();
    for number in 1..=3_i64 {
        let database = database.clone();
        running.push(spawn(async move {
            let work = move |tx: &mut tradewind_sql::Transaction<'_>| {
                tx.execute("INSERT INTO items (id, amount) VALUES (?, 1)", params![1000 + number])?;
                if number != 2 {
                    return Ok(0);
                }
                // 300^5 rows: years.
                let sql = "INSERT INTO items (id, amount)
                    SELECT MAX(a.id + b.id + c.id + d.id + e.id) + 5000, 1
                    FROM items a, items b, items c, items d, items e";
                tx.execute(sql, &[])
            };
            database.transaction::<_, Error, _>("long", work).await
        }));
    }
    gate.open().await;
    for (number, task) in (1..).zip(running) {
        let result = task.await.unwrap();
        if number == 2 {
            let error = result.unwrap_err().refused::<()>().unwrap();
            assert_eq!(error.kind(), ErrorKind::Interrupted, "{error:?}");
        } else {
            result.unwrap();
        }
    }
    let late: Vec<i64> = ids(&database).await.into_iter().filter(|it| 1000 < *it).collect();
    assert_eq!(late, [1001, 1003]);
    database.close().await.unwrap();
}

pub(crate) async fn statements_that_end_transactions_are_refused(place: &Place) {
    let database = place.open(Options::default());
    for sql in ["COMMIT", "ROLLBACK", "BEGIN", "SAVEPOINT x", "CREATE TABLE x (id INTEGER)"] {
        let work = move |tx: &mut tradewind_sql::Transaction<'_>| {
            tx.execute("INSERT INTO items (id, amount) VALUES (1, 1)", &[])?;
            tx.execute(sql, &[])
        };
        let error = database.transaction::<_, Error, _>("sly", work).await.unwrap_err();
        assert_eq!(error.refused::<()>().unwrap().kind(), ErrorKind::Statement);
    }
    assert_eq!(ids(&database).await, [] as [i64; 0]);
    database.close().await.unwrap();
}

pub(crate) async fn answers_have_a_bound(place: &Place) {
    let database = place.open(Options { rows_max: 2, ..Options::default() });
    for id in 1..=3 {
        insert(&database, id, 1).await.unwrap();
    }
    for (sql, expected) in [
        ("SELECT id FROM items LIMIT 2", None),
        ("SELECT id FROM items", Some(ErrorKind::TooManyRows)),
    ] {
        let work = move |tx: &mut tradewind_sql::Transaction<'_>| {
            let rows = tx.query(sql, &[], |row| row.get::<i64>(0));
            // The connection is still good after an answer that was left early.
            tx.query_one("SELECT 1 FROM items WHERE id = 3", &[], |row| row.get::<i64>(0))?;
            rows
        };
        let result = database.read::<_, Error, _>("rows", work).await;
        assert_eq!(result.err().map(|it| it.refused::<()>().unwrap().kind()), expected, "{sql}");
    }
    let two = |tx: &mut tradewind_sql::Transaction<'_>| {
        tx.query_one("SELECT id FROM items LIMIT 2", &[], |row| row.get::<i64>(0))
    };
    let error = database.read::<_, Error, _>("two", two).await.unwrap_err();
    assert_eq!(error.refused::<()>().unwrap().kind(), ErrorKind::TooManyRows);
    database.close().await.unwrap();
}

pub(crate) async fn dropping_the_future_does_not_stop_the_work(place: &Place) {
    let database = place.open(Options { connections: 1, ..Options::default() });
    let gate = Gate::close(&database, 0).await;
    {
        let mut future = pin!(insert(&database, 1, 1));
        let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
    }
    gate.open().await;
    // The one writer takes them in order, so this one comes after the one that was dropped.
    insert(&database, 2, 1).await.unwrap();
    assert_eq!(ids(&database).await, [0, 1, 2]);
    database.close().await.unwrap();
}

pub(crate) async fn closing_does_what_is_queued_and_then_refuses(place: &Place) {
    let database = place.open(Options { connections: 1, ..Options::default() });
    let gate = Gate::close(&database, 0).await;
    let queued = {
        let database = database.clone();
        spawn(async move { insert(&database, 1, 1).await })
    };
    eventually("it is queued", || database.stats().queue == 1).await;
    let closing = {
        let database = database.clone();
        spawn(async move { database.close().await })
    };
    let mut refused = None;
    let mut id = 10;
    while refused.is_none() {
        // Until close() has begun this one is queued, too; then it is refused at once.
        let attempt = insert(&database, id, 1);
        refused = tokio::time::timeout(Duration::from_millis(5), attempt).await.ok();
        id += 1;
    }
    assert!(matches!(refused, Some(Err(TransactionError::Closed))), "{refused:?}");
    gate.open().await;
    queued.await.unwrap().unwrap();
    closing.await.unwrap().unwrap();
    database.close().await.unwrap();
    let late = |_: &mut tradewind_sql::Transaction<'_>| Ok::<_, Error>(());
    let late = database.read("late", late).await;
    assert!(matches!(late, Err(TransactionError::Closed)));
    let again = place.open(Options::default());
    assert_eq!(ids(&again).await[..2], [0, 1]);
    again.close().await.unwrap();
}

pub(crate) async fn dropping_the_last_handle_ends_the_threads(place: &Place) {
    let threads = |set: &str| {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names =
            tasks.flatten().filter_map(|it| std::fs::read_to_string(it.path().join("comm")).ok());
        names.filter(|name| name.starts_with(set)).count()
    };
    // Each engine has its own name: the two tests run in one process.
    let set = match place.url.to_string().starts_with("sqlite") {
        true => "endlite",
        false => "endserv",
    };
    let database =
        tradewind_sql::Database::open(&place.url, Options::default(), set, crate::support::ITEMS)
            .unwrap();
    let other = database.clone();
    drop(database);
    insert(&other, 1, 1).await.unwrap();
    // A thread has its name once it runs.
    eventually("the threads run", || 2 < threads(set)).await;
    drop(other);
    eventually("all threads have ended", || threads(set) == 0).await;
}
