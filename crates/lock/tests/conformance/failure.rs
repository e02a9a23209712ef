//! What happens when holders die, freeze, or stay for too long.

use std::time::Duration;

use tokio::time::Instant;
use tradewind_lock::{LeaseStore as _, LockConfig, Locks as _, Loss, Released, SqlStore, Take};

use crate::support::{PATIENCE, Place, one, quick};

/// R7.1: a dead owner's lock frees itself within the lease.
pub(crate) async fn a_dead_holder_is_replaced_when_its_lease_is_over(place: Place) {
    let lease = Duration::from_millis(800);
    let (first, second) = (place.process(&quick(800)), place.process(&quick(800)));
    let dead = first.take(&one("a"), PATIENCE).await;
    let token = dead.token();
    let died = Instant::now();
    first.kill();
    let guard = second.take(&one("a"), PATIENCE).await;
    assert!(token < guard.token());
    // The last renewal was before the death; the rest is what a slow machine needs.
    assert!(died.elapsed() < lease * 4, "{:?}", died.elapsed());
    assert!(!dead.is_held(), "both believe");
    second.run(guard.release()).await.unwrap();
}

/// R7.1: the lease is renewed as long as the owner lives.
pub(crate) async fn renewal_keeps_a_hold_for_many_leases(place: Place) {
    let (first, second) = (place.process(&quick(1500)), place.process(&quick(1500)));
    let guard = first.take(&one("a"), PATIENCE).await;
    let locks = second.locks.clone();
    let wait =
        second.run(async move { locks.acquire(one("a"), Duration::from_millis(4000)).await });
    assert!(wait.await.is_err(), "it was taken from its living owner");
    assert!(guard.is_held() && !guard.lost().is_cancelled());
    assert_eq!(guard.loss(), None);
    assert_eq!(first.run(guard.release()).await.unwrap(), Released::Freed);
    let guard = second.take(&one("a"), PATIENCE).await;
    assert_eq!(guard.token().number(), 2, "renewals give no new token");
}

/// A renewal that is on its way while the hold is released neither keeps nor brings back the lock.
pub(crate) async fn a_release_beside_a_renewal_frees_the_names(place: Place) {
    let store = SqlStore::new(place.process(&quick(10_000)).database.clone());
    let (names, lease) = (one("a"), Duration::from_secs(60));
    for round in 0..30 {
        let owner = format!("owner-{round}");
        let Take::Granted(tokens) = store.take(&owner, &names, lease).await.unwrap() else {
            panic!("round {round}: it was not freed")
        };
        let renewals = (
            store.renew(&owner, &names, &tokens, lease),
            store.renew(&owner, &names, &tokens, lease),
        );
        let release = store.release(&owner, &names);
        let (one, other, freed) = tokio::join!(renewals.0, renewals.1, release);
        assert!(one.is_ok() && other.is_ok());
        assert!(freed.unwrap(), "round {round}");
    }
}

/// R7.4: two owners are forced; the first knows it before it does anything more.
pub(crate) async fn a_frozen_owner_learns_that_it_lost(place: Place) {
    let (first, second) = (place.process(&quick(300)), place.process(&quick(300)));
    let slow = first.take(&one("a"), PATIENCE).await;
    let frozen = first.freeze().await;
    let next = second.take(&one("a"), PATIENCE).await;
    // No task of the first has run since, but its clock has: it does not believe any more.
    assert!(!slow.is_held());
    assert!(slow.lost().is_cancelled());
    assert_eq!(slow.loss(), Some(Loss::Expired));
    assert_eq!(slow.left(), Duration::ZERO);
    drop(frozen);
    let cut = first.run(async move {
        let cut = slow.run(std::future::pending::<()>()).await;
        (cut.is_err(), slow.release().await)
    });
    let (cut, released) = cut.await;
    assert!(cut);
    assert_eq!(released.unwrap(), Released::AlreadyLost);
    assert!(next.is_held(), "the late release freed another's lock");
    second.run(next.release()).await.unwrap();
}

pub(crate) async fn a_hold_ends_when_it_is_too_old(place: Place) {
    let config = LockConfig { hold_max: Duration::from_millis(500), ..quick(300) };
    let process = place.process(&config);
    let guard = process.take(&one("a"), PATIENCE).await;
    tokio::time::timeout(PATIENCE, guard.lost().cancelled()).await.unwrap();
    assert_eq!(guard.loss(), Some(Loss::TooLong));
    // Others of the same process do not wait for the guard to be dropped.
    let next = process.take(&one("a"), PATIENCE).await;
    assert!(guard.token() < next.token());
}

pub(crate) async fn a_server_that_ends_tells_its_holders(place: Place) {
    let process = place.process(&quick(60_000));
    let guard = process.take(&one("a"), PATIENCE).await;
    let tasks = process.tasks.clone();
    let ending = process.start(async move { tasks.shutdown(PATIENCE).await });
    tokio::time::timeout(PATIENCE, guard.lost().cancelled()).await.unwrap();
    assert_eq!(guard.loss(), Some(Loss::Stopped));
    drop(guard);
    ending.await.unwrap().unwrap();
    // It let go in time, so it was released: nobody has to wait for the lease.
    let other = place.process(&quick(60_000));
    let guard = other.take(&one("a"), Duration::from_secs(5)).await;
    other.run(guard.release()).await.unwrap();
    let locks = process.locks.clone();
    assert!(process.run(async move { locks.acquire(one("b"), PATIENCE).await }).await.is_err());
}
