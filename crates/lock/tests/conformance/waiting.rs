//! Who waits, for how long, and in which order.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use tradewind_lock::{AcquireError, LockConfig, Locks as _};

use crate::support::{PATIENCE, Place, eventually, one, quick, several};

pub(crate) async fn who_waits_in_a_process_is_served_in_order(place: Place) {
    let process = place.process(&quick(10_000));
    let guard = process.take(&one("a"), PATIENCE).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiters = Vec::new();
    for number in 0..6 {
        let (locks, order) = (process.locks.clone(), Arc::clone(&order));
        waiters.push(process.start(async move {
            let names = if number == 3 { several(&["a", "b"]) } else { one("a") };
            let guard = locks.acquire(names, PATIENCE).await.unwrap();
            order.lock().unwrap().push(number);
            guard.release().await.unwrap();
        }));
        // The next one comes when this one stands in line.
        eventually("it waits", || process.locks.entries() == number + 2).await;
    }
    process.run(guard.release()).await.unwrap();
    for waiter in waiters {
        waiter.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(process.locks.entries(), 0);
}

/// A process that always has somebody in line does not keep another process out for ever.
pub(crate) async fn nobody_waits_for_ever_between_processes(place: Place) {
    let (busy, guest) = (place.process(&quick(10_000)), place.process(&quick(10_000)));
    let done = tokio_util::sync::CancellationToken::new();
    let mut loops = Vec::new();
    for _ in 0..3 {
        let (locks, done) = (busy.locks.clone(), done.clone());
        loops.push(busy.start(async move {
            while !done.is_cancelled() {
                let guard = locks.acquire(one("a"), PATIENCE).await.unwrap();
                guard.release().await.unwrap();
            }
        }));
    }
    for _ in 0..3 {
        let guard = guest.take(&one("a"), PATIENCE).await;
        guest.run(guard.release()).await.unwrap();
    }
    done.cancel();
    for it in loops {
        it.await.unwrap();
    }
}

pub(crate) async fn a_wait_ends_at_its_limit(place: Place) {
    let (first, second) = (place.process(&quick(10_000)), place.process(&quick(10_000)));
    let guard = first.take(&one("a"), PATIENCE).await;
    let limit = Duration::from_millis(300);
    // Behind a holder of its own process, and behind one of another.
    for process in [&first, &second] {
        let (locks, begun) = (process.locks.clone(), Instant::now());
        let refused = process.run(async move { locks.acquire(one("a"), limit).await }).await;
        assert!(
            matches!(&refused, Err(AcquireError::WaitLimit { name, .. }) if name.as_str() == "a"),
            "{refused:?}"
        );
        let took = begun.elapsed();
        assert!(limit <= took && took < limit + Duration::from_secs(3), "{took:?}");
    }
    first.run(guard.release()).await.unwrap();
    assert_eq!((first.locks.entries(), second.locks.entries()), (0, 0));
    // What was refused left nothing behind.
    let guard = second.take(&one("a"), Duration::ZERO).await;
    assert_eq!(guard.token().number(), 2);
}

pub(crate) async fn what_is_held_is_refused_at_once_on_wish(place: Place) {
    let (first, second) = (place.process(&quick(10_000)), place.process(&quick(10_000)));
    let guard = first.take(&one("a"), PATIENCE).await;
    for process in [&first, &second] {
        let locks = process.locks.clone();
        let refused = process.run(async move { locks.try_acquire(one("a")).await }).await;
        assert!(matches!(refused, Err(AcquireError::Held { .. })), "{refused:?}");
    }
    first.run(guard.release()).await.unwrap();
    let locks = second.locks.clone();
    let guard = second.run(async move { locks.try_acquire(one("a")).await }).await.unwrap();
    second.run(guard.release()).await.unwrap();
}

pub(crate) async fn a_cancelled_wait_leaves_no_trace(place: Place) {
    let (first, second) = (place.process(&quick(60_000)), place.process(&quick(60_000)));
    let guard = first.take(&one("a"), PATIENCE).await;
    let mut waiters = Vec::new();
    for process in [&first, &second, &second] {
        let locks = process.locks.clone();
        waiters.push(process.start(async move { locks.acquire(one("a"), PATIENCE).await }));
    }
    eventually("they wait", || (first.locks.entries(), second.locks.entries()) == (2, 2)).await;
    for waiter in &waiters {
        waiter.abort();
    }
    eventually("they left", || (first.locks.entries(), second.locks.entries()) == (1, 0)).await;
    first.run(guard.release()).await.unwrap();

    // Cancelled at any moment, also while the store is granting: it must be free soon, although
    // the lease would last a minute.
    for micros in (0..20).map(|it| it * 150) {
        let locks = second.locks.clone();
        let work = async move { locks.acquire(one("a"), PATIENCE).await.map(drop) };
        let limit = Duration::from_micros(micros);
        drop(second.run(async move { tokio::time::timeout(limit, work).await }).await);
    }
    eventually("all is given back", || second.locks.entries() == 0).await;
    let guard = first.take(&one("a"), Duration::from_secs(10)).await;
    first.run(guard.release()).await.unwrap();
}

pub(crate) async fn a_dropped_guard_frees_its_names(place: Place) {
    let (first, second) = (place.process(&quick(60_000)), place.process(&quick(60_000)));
    // Dropped outside of any runtime of its process.
    drop(first.take(&several(&["a", "b"]), PATIENCE).await);
    let guard = second.take(&several(&["b", "a"]), Duration::from_secs(10)).await;
    let thread = std::thread::spawn(move || drop(guard));
    thread.join().unwrap();
    let guard = first.take(&one("b"), Duration::from_secs(10)).await;
    first.run(guard.release()).await.unwrap();
}

pub(crate) async fn too_many_entries_are_refused(place: Place) {
    let process = place.process(&LockConfig { entries_max: 2, ..quick(10_000) });
    let guards = (process.take(&one("a"), PATIENCE).await, process.take(&one("b"), PATIENCE).await);
    let locks = process.locks.clone();
    let refused = process.run(async move { locks.try_acquire(one("c")).await }).await;
    assert!(matches!(refused, Err(AcquireError::Busy)), "{refused:?}");
    process.run(guards.0.release()).await.unwrap();
    let guard = process.take(&one("c"), PATIENCE).await;
    process.run(guard.release()).await.unwrap();
    process.run(guards.1.release()).await.unwrap();
}
