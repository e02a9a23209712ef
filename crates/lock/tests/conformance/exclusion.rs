//! Who holds what.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use tradewind_lock::{AcquireError, Locks as _, Released, Token};
use tradewind_sql::{Database, Error, params};

use crate::support::{PATIENCE, Place, one, quick, several};

/// R7.4: of many tasks in two processes never two are inside, and tokens follow the order.
pub(crate) async fn only_one_holds_at_a_time(place: Place) {
    let processes = [place.process(&quick(10_000)), place.process(&quick(10_000))];
    let (inside, last) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicI64::new(0)));
    let mut workers = Vec::new();
    for number in 0..8 {
        let process = &processes[number % 2];
        let (locks, inside, last) = (process.locks.clone(), Arc::clone(&inside), Arc::clone(&last));
        workers.push(process.start(async move {
            for _ in 0..5 {
                let guard = locks.acquire(one("hot"), PATIENCE).await.unwrap();
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "somebody else is inside");
                let before = last.swap(guard.token().number(), Ordering::SeqCst);
                assert!(before < guard.token().number());
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
                assert_eq!(guard.release().await.unwrap(), Released::Freed);
            }
        }));
    }
    for worker in workers {
        worker.await.unwrap();
    }
    assert_eq!(last.load(Ordering::SeqCst), 40, "each grant has the next token");
}

pub(crate) async fn tokens_increase_over_releases_and_processes(place: Place) {
    let mut before = Token::ZERO;
    for _ in 0..3 {
        let process = place.process(&quick(10_000));
        for _ in 0..2 {
            let guard = process.take(&one("a"), PATIENCE).await;
            assert!(before < guard.token());
            before = guard.token();
            assert_eq!(guard.token_of("a"), Some(before));
            assert_eq!(guard.token_of("b"), None);
            process.run(guard.release()).await.unwrap();
        }
    }
}

pub(crate) async fn several_names_in_opposite_orders_do_not_deadlock(place: Place) {
    let processes = [place.process(&quick(10_000)), place.process(&quick(10_000))];
    let sets = [&["a", "b", "c"][..], &["c", "b", "a"], &["b", "a"], &["c", "a"]];
    let mut workers = Vec::new();
    for (number, set) in sets.into_iter().cycle().take(8).enumerate() {
        let process = &processes[number / 4];
        let (locks, names) = (process.locks.clone(), several(set));
        workers.push(process.start(async move {
            for _ in 0..3 {
                let guard = locks.acquire(names.clone(), PATIENCE).await.unwrap();
                assert_eq!(guard.tokens().count(), names.count());
                guard.release().await.unwrap();
            }
        }));
    }
    for worker in workers {
        worker.await.unwrap();
    }
}

pub(crate) async fn several_names_are_taken_all_or_none(place: Place) {
    let (one_process, other) = (place.process(&quick(10_000)), place.process(&quick(10_000)));
    let held = one_process.take(&one("b"), PATIENCE).await;
    let locks = other.locks.clone();
    let refused = other.run(async move { locks.try_acquire(several(&["a", "b"])).await }).await;
    assert!(matches!(refused, Err(AcquireError::Held { name }) if name.as_str() == "b"));
    // The free one was not taken along.
    let free = one_process.take(&one("a"), Duration::ZERO).await;
    one_process.run(free.release()).await.unwrap();
    one_process.run(held.release()).await.unwrap();
    let both = other.take(&several(&["a", "b"]), PATIENCE).await;
    other.run(both.release()).await.unwrap();
}

/// R7.4, R7.5: the resource refuses the owner that was frozen beyond its lease, by the token in
/// the condition of its write.
pub(crate) async fn the_write_of_a_late_owner_is_refused(place: Place) {
    let (slow, quick) = (place.process(&quick(300)), place.process(&quick(300)));
    let setup = slow.database.transaction("stock", |tx| {
        tx.execute("INSERT INTO stock (id, available, fence) VALUES (1, 10, 0)", &[])
    });
    setup.await.unwrap();
    let late = slow.take(&one("stock:1"), PATIENCE).await;
    assert!(sell(&slow.database, late.token()).await, "while it holds it may write often");
    assert!(sell(&slow.database, late.token()).await);

    let frozen = slow.freeze().await;
    let next = quick.take(&one("stock:1"), PATIENCE).await;
    assert!(late.token() < next.token());
    assert!(sell(&quick.database, next.token()).await);
    // The frozen one sends what it had decided before.
    assert!(!sell(&slow.database, late.token()).await, "the late owner's write was accepted");
    drop(frozen);
    assert!(!late.is_held());
    let left = slow.database.read("left", |tx| {
        tx.query_one("SELECT available FROM stock WHERE id = 1", &[], |row| row.get::<i64>(0))
    });
    assert_eq!(left.await.unwrap(), Some(7));
}

/// Sells one piece if the token is no older than any before.
async fn sell(database: &Database, token: Token) -> bool {
    let sold = database.transaction("sell", move |tx| {
        let sql = "UPDATE stock SET available = available - 1, fence = ?
            WHERE id = 1 AND available >= 1 AND fence <= ?";
        Ok::<_, Error>(tx.execute(sql, params![token, token])? == 1)
    });
    sold.await.unwrap()
}
