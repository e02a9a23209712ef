//! Faults of the store, under paused time: what a real one does only by bad luck.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use tradewind_base::{SystemClock, Tasks};

use crate::{
    AcquireError, Guard, LeaseStore, Leased, LockConfig, Locks as _, Loss, Names, Released,
    StoreError, Take, Token,
};

/// What the store does when it is asked next; when nothing is planned, it does as it should.
#[derive(Clone, Copy, Debug)]
enum Plan {
    /// Fails without doing anything.
    Fail,
    /// Fails for good.
    Refuse,
    /// Does it, and its answer is lost.
    LoseAnswer,
    /// Does it, and answers after this time.
    Slow(Duration),
    /// Never answers.
    Hang,
    /// Somebody else has it.
    Taken,
}

#[derive(Default)]
struct Fake {
    owner: String,
    tokens: i64,
    takes: VecDeque<Plan>,
    renewals: VecDeque<Plan>,
    releases: VecDeque<Plan>,
    /// When it was asked, and for what.
    log: Vec<(&'static str, Instant)>,
}

#[derive(Clone, Default)]
struct FakeStore(Arc<Mutex<Fake>>);

fn failure(transient: bool, uncertain: bool) -> StoreError {
    StoreError { transient, uncertain, source: "on purpose".into() }
}

impl FakeStore {
    /// Does one step as planned: `act` is the step itself.
    async fn step<T>(
        &self,
        name: &'static str,
        queue: fn(&mut Fake) -> &mut VecDeque<Plan>,
        act: impl FnOnce(&mut Fake, bool) -> T,
    ) -> Result<T, StoreError> {
        let plan = {
            let mut fake = self.0.lock().unwrap();
            fake.log.push((name, Instant::now()));
            queue(&mut fake).pop_front()
        };
        match plan {
            Some(Plan::Fail) => Err(failure(true, false)),
            Some(Plan::Refuse) => Err(failure(false, false)),
            Some(Plan::Hang) => std::future::pending().await,
            Some(Plan::Taken) => Ok(act(&mut self.0.lock().unwrap(), true)),
            Some(Plan::LoseAnswer) => {
                drop(act(&mut self.0.lock().unwrap(), false));
                Err(failure(true, true))
            }
            Some(Plan::Slow(time)) => {
                let done = act(&mut self.0.lock().unwrap(), false);
                tokio::time::sleep(time).await;
                Ok(done)
            }
            None => Ok(act(&mut self.0.lock().unwrap(), false)),
        }
    }

    fn owner(&self) -> String {
        self.0.lock().unwrap().owner.clone()
    }

    fn count(&self, name: &str) -> usize {
        self.0.lock().unwrap().log.iter().filter(|it| it.0 == name).count()
    }

    fn plan(&self, change: impl FnOnce(&mut Fake)) {
        change(&mut self.0.lock().unwrap());
    }
}

impl LeaseStore for FakeStore {
    async fn take(&self, owner: &str, names: &Names, _: Duration) -> Result<Take, StoreError> {
        self.step(
            "take",
            |it| &mut it.takes,
            |fake, taken| {
                if taken || !fake.owner.is_empty() {
                    let name = names.first().unwrap().clone();
                    return Take::Held { name, remaining: Duration::from_secs(10) };
                }
                owner.clone_into(&mut fake.owner);
                fake.tokens += 1;
                Take::Granted(vec![Token::from_number(fake.tokens); names.count()])
            },
        )
        .await
    }

    async fn renew(
        &self,
        owner: &str,
        _: &Names,
        _: &[Token],
        _: Duration,
    ) -> Result<bool, StoreError> {
        self.step("renew", |it| &mut it.renewals, |fake, taken| !taken && fake.owner == owner).await
    }

    async fn release(&self, owner: &str, _: &Names) -> Result<bool, StoreError> {
        self.step(
            "release",
            |it| &mut it.releases,
            |fake, taken| {
                let mine = !taken && fake.owner == owner;
                if mine {
                    fake.owner.clear();
                }
                mine
            },
        )
        .await
    }
}

fn locks(store: &FakeStore) -> Leased<FakeStore> {
    let clock = Arc::new(SystemClock::new());
    Leased::over(store.clone(), LockConfig::default(), clock, &Tasks::new()).unwrap()
}

async fn take(locks: &Leased<FakeStore>) -> Result<Guard, AcquireError> {
    locks.acquire(Names::one("a").unwrap(), Duration::from_secs(30)).await
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_for_a_moment_is_asked_again() {
    let store = FakeStore::default();
    store.plan(|it| it.takes = [Plan::Fail, Plan::Fail].into());
    let guard = take(&locks(&store)).await.unwrap();
    assert_eq!(store.count("take"), 3);
    drop(guard);
    let locks = locks(&store);
    store.plan(|it| it.takes = [Plan::Refuse].into());
    assert!(matches!(take(&locks).await, Err(AcquireError::Store(_))));
    assert_eq!(locks.entries(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_grant_whose_answer_was_lost_is_given_back() {
    let store = FakeStore::default();
    store.plan(|it| it.takes = [Plan::LoseAnswer].into());
    let locks = locks(&store);
    let tried = locks.try_acquire(Names::one("a").unwrap()).await;
    assert!(matches!(tried, Err(AcquireError::Store(_))), "{tried:?}");
    assert_eq!((store.owner().as_str(), store.count("release")), ("", 1));
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_comes_too_late_is_given_back() {
    let store = FakeStore::default();
    store.plan(|it| it.takes = [Plan::Slow(Duration::from_secs(7))].into());
    let guard = take(&locks(&store)).await.unwrap();
    // The first was almost over when it came; the second is whole.
    assert_eq!((guard.token().number(), store.count("release")), (2, 1));
    assert!(guard.left() > Duration::from_secs(8));
}

#[tokio::test(start_paused = true)]
async fn a_grant_after_the_limit_is_given_back() {
    let store = FakeStore::default();
    store.plan(|it| it.takes = [Plan::Slow(Duration::from_secs(3))].into());
    let locks = locks(&store);
    let names = Names::one("a").unwrap();
    let begun = Instant::now();
    let refused = locks.acquire(names, Duration::from_secs(1)).await;
    assert!(matches!(refused, Err(AcquireError::WaitLimit { .. })), "{refused:?}");
    assert_eq!(begun.elapsed(), Duration::from_secs(2), "the limit and the grace");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((store.owner().as_str(), locks.entries()), ("", 0));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_comes_at_each_third_and_failures_are_repeated_within_the_lease() {
    let store = FakeStore::default();
    let guard = take(&locks(&store)).await.unwrap();
    store.plan(|it| it.renewals = [Plan::Fail, Plan::LoseAnswer, Plan::Fail].into());
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(guard.is_held());
    let fake = store.0.lock().unwrap();
    let renewals: Vec<_> = fake.log.iter().filter(|it| it.0 == "renew").map(|it| it.1).collect();
    assert!((18..=24).contains(&renewals.len()), "{}", renewals.len());
    let third = Duration::from_millis(3333);
    let first = renewals[0] - begun;
    assert!(third <= first && first < third + Duration::from_millis(5), "{first:?}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_loses_the_hold_before_its_lease_ends() {
    let store = FakeStore::default();
    let guard = take(&locks(&store)).await.unwrap();
    store.plan(|it| it.renewals = [Plan::Hang].into());
    let begun = Instant::now();
    guard.lost().cancelled().await;
    let lasted = begun.elapsed();
    assert!(Duration::from_secs(8) < lasted && lasted < Duration::from_millis(9000), "{lasted:?}");
    assert_eq!(guard.loss(), Some(Loss::Expired));
    assert_eq!(guard.release().await.unwrap(), Released::AlreadyLost);
    assert_eq!(store.owner(), "", "what it still had is free");
}

#[tokio::test(start_paused = true)]
async fn an_answer_after_the_end_does_not_bring_a_hold_back() {
    let store = FakeStore::default();
    let guard = take(&locks(&store)).await.unwrap();
    store.plan(|it| it.renewals = [Plan::Slow(Duration::from_secs(6))].into());
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(guard.loss(), Some(Loss::Expired));
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_another_has_taken_is_lost_at_the_next_renewal() {
    let store = FakeStore::default();
    let locks = locks(&store);
    let guard = take(&locks).await.unwrap();
    store.plan(|it| it.renewals = [Plan::Taken].into());
    guard.lost().cancelled().await;
    assert_eq!(guard.loss(), Some(Loss::Taken));
    let cut = guard.run(std::future::pending::<()>()).await;
    assert_eq!(cut.unwrap_err().0, Loss::Taken);
    // Whoever waits in this process need not wait for the guard to be dropped.
    assert_eq!(locks.entries(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_release_is_repeated_until_the_store_knows_and_ends_with_the_lease() {
    let store = FakeStore::default();
    let locks = locks(&store);
    let guard = take(&locks).await.unwrap();
    store.plan(|it| it.releases = [Plan::Fail, Plan::Fail, Plan::Fail].into());
    assert_eq!(guard.release().await.unwrap(), Released::Freed);
    assert_eq!(store.count("release"), 4);

    let guard = take(&locks).await.unwrap();
    store.plan(|it| it.releases = [Plan::Hang].into());
    let begun = Instant::now();
    assert!(guard.release().await.is_err());
    assert_eq!(begun.elapsed(), Duration::from_secs(10));
    assert_eq!(locks.entries(), 0);
    // No renewal outlives the release.
    let renewals = store.count("renew");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(store.count("renew"), renewals);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_another_process_does_not_ask_in_a_hot_loop() {
    let store = FakeStore::default();
    store.plan(|it| "foreign".clone_into(&mut it.owner));
    let refused = take(&locks(&store)).await;
    assert!(matches!(refused, Err(AcquireError::WaitLimit { .. })));
    // 30 s at pauses of 100 to 200 ms.
    let asked = store.count("take");
    assert!((150..=330).contains(&asked), "{asked}");
}
