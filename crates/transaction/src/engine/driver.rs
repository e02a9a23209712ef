//! The driver: sends Confirms and Cancels, aborts or closes what is past its deadline, keeps the
//! leases and cleans.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tradewind_base::id::Xid;
use tradewind_base::{Context, Tasks, TraceContext, fault};
use tradewind_service::answer::chain;
use tradewind_sql::{Error, Transaction, TransactionError};

#[cfg(any(test, feature = "faults"))]
use super::faults::Point;
use super::log::{Epoch, Record};
use super::{Inner, lease, lock, log};
use crate::machine::fence::keep_at_least;
use crate::machine::global::{Answer, Order, Phase};
use crate::peers::{PeerError, Step};
use crate::wire;

/// Most transactions that one look into the log finds.
const FOUND_MAX: u32 = 1024;

/// Looks into the log between two cleanings; while there is more to clean than one takes, each look
/// is one, which keeps up with any load that can be begun.
const CLEAN_EVERY: u32 = 240;

/// Most transactions that one cleaning deletes: a short transaction.
const CLEAN_MAX: u32 = 500;

/// How long what was decided just now waits for what is decided next: nobody waits for Confirms
/// and Cancels, and those that set out together are read, and sent, together. At two hundred
/// transactions a second ten come within it.
const COMPANY: Duration = Duration::from_millis(50);

/// Between attempts to get a first shard.
const EAGER: Duration = Duration::from_millis(100);

/// Finished transactions that are written down without waiting for the next look.
const FINISHED_MAX: usize = 128;

/// Whether the engine lives on here. A test stops it as a crash would: the whole process at the
/// fault point `tcc.{name}.{step}`, or this engine alone at `super::faults::Point`.
macro_rules! pass {
    ($inner:expr, $name:expr, $point:ident, $step:literal) => {{
        fault::point(format_args!(concat!("tcc.{}.", $step), $name));
        #[cfg(any(test, feature = "faults"))]
        let lives = $inner.faults.pass(Point::$point);
        #[cfg(not(any(test, feature = "faults")))]
        let lives = true;
        lives
    }};
}

pub(super) fn start(inner: &Arc<Inner>, woken: mpsc::Receiver<Xid>, tasks: &Tasks) {
    let keeper = Arc::clone(inner);
    tasks.spawn("tcc leases", |cancel| async move { keeper.keep_leases(cancel).await });
    let (driver, owner) = (Arc::clone(inner), tasks.clone());
    tasks.spawn("tcc driver", |cancel| async move {
        Inner::run(&driver, woken, &owner, &cancel).await;
    });
}

/// Marks a transaction as running, until it is dropped, also by a panic.
struct Mark {
    inner: Arc<Inner>,
    xid: Xid,
    /// Marked beyond that: until its end is written down.
    kept: bool,
    /// Its place on the lane.
    _permit: OwnedSemaphorePermit,
}

impl Mark {
    /// `None` where it is running already, or the lane is full: then it stays in the log, where a
    /// later look finds it.
    fn set(inner: &Arc<Inner>, xid: Xid, lane: &Arc<Semaphore>) -> Option<Self> {
        let permit = Arc::clone(lane).try_acquire_owned().ok()?;
        let fresh = lock(&inner.running).insert(xid);
        fresh.then(|| Self { inner: Arc::clone(inner), xid, kept: false, _permit: permit })
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        if !self.kept {
            lock(&self.inner.running).remove(&self.xid);
        }
    }
}

impl Inner {
    #[cfg(any(test, feature = "faults"))]
    fn dead(&self) -> bool {
        self.faults.dead()
    }

    #[cfg(not(any(test, feature = "faults")))]
    #[expect(clippy::unused_self, reason = "the other build asks the faults")]
    const fn dead(&self) -> bool {
        false
    }

    /// Renews the leases until the end, then lets them go.
    async fn keep_leases(&self, cancel: CancellationToken) {
        let every = self.settings.lease / 3;
        let mut renewed = Instant::now();
        while !self.dead() {
            let (owner, lease) = (self.owner.clone(), self.settings.lease);
            let asked = Instant::now();
            let round =
                self.database.transaction("tcc leases", move |tx| lease::round(tx, &owner, lease));
            let mut pause = every;
            match round.await {
                Ok(held) => {
                    renewed = asked;
                    if held.is_empty() {
                        pause = EAGER.min(every);
                    }
                    *lock(&self.held) = held;
                }
                Err(error) => {
                    let error: TransactionError<Error> = error;
                    tracing::warn!(error = chain(&error), "failed to renew the leases of the log");
                    if self.settings.lease <= renewed.elapsed() {
                        lock(&self.held).clear();
                    }
                }
            }
            tokio::select! {
                () = cancel.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        lock(&self.held).clear();
        if self.dead() {
            return;
        }
        let owner = self.owner.clone();
        let released =
            self.database.transaction("tcc release", move |tx| lease::release(tx, &owner));
        if let Err(error) = released.await {
            let error: TransactionError<Error> = error;
            tracing::debug!(error = chain(&error), "failed to let the leases of the log go");
        }
    }

    /// Drives what is handed over and what the log says is due.
    async fn run(
        this: &Arc<Self>,
        mut woken: mpsc::Receiver<Xid>,
        tasks: &Tasks,
        cancel: &CancellationToken,
    ) {
        // Two lanes: repeats that hang do not hold up what was decided just now.
        let lane = || Arc::new(Semaphore::new(this.settings.at_once.max(1)));
        let (fresh, found) = (lane(), lane());
        let mut look = tokio::time::interval(this.settings.poll);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut looks, mut behind) = (0_u32, false);
        loop {
            let (xids, lane) = tokio::select! {
                () = cancel.cancelled() => break,
                Some(xid) = woken.recv() => (with_company(xid, &mut woken).await, &fresh),
                _ = look.tick() => {
                    looks = looks.wrapping_add(1);
                    let clean = behind || looks.is_multiple_of(CLEAN_EVERY);
                    if clean && !this.dead() {
                        behind = this.clean().await;
                    }
                    (this.look().await, &found)
                }
            };
            let marks = xids.into_iter().filter_map(|xid| Mark::set(this, xid, lane)).collect();
            for (mark, record) in this.load(marks).await {
                let inner = Arc::clone(this);
                tasks.spawn_plain("tcc transaction", |cancel| async move {
                    // All of it, not only the field that is set.
                    let mut mark = mark;
                    mark.kept = tokio::select! {
                        () = cancel.cancelled() => false,
                        kept = Box::pin(inner.drive(record)) => kept,
                    };
                });
            }
            if FINISHED_MAX <= lock(&this.finished).len() {
                this.write_finished().await;
            }
        }
        this.write_finished().await;
    }

    async fn look(&self) -> Vec<Xid> {
        if self.dead() {
            return Vec::new();
        }
        self.write_finished().await;
        let (owner, now) = (self.owner.clone(), self.clock.now());
        let ahead = now + self.settings.backoff.longest;
        let found = self
            .database
            .read("tcc due", move |tx| log::due(tx, &owner, now, ahead, FOUND_MAX))
            .await;
        found.unwrap_or_else(|error: TransactionError<Error>| {
            tracing::warn!(error = chain(&error), "failed to look into the transaction log");
            Vec::new()
        })
    }

    /// Reads the transactions that are marked, all at once.
    async fn load(&self, marks: Vec<Mark>) -> Vec<(Mark, Record)> {
        let xids: Vec<_> = marks.iter().map(|it| it.xid).collect();
        if xids.is_empty() {
            return Vec::new();
        }
        let read = move |tx: &mut Transaction<'_>| {
            xids.iter().map(|it| log::load(tx, *it)).collect::<Result<Vec<_>, Error>>()
        };
        match self.database.read("tcc load", read).await {
            Ok(records) => marks
                .into_iter()
                .zip(records)
                .filter_map(|(mark, record)| Some((mark, record?)))
                .collect(),
            Err(error) => {
                let error: TransactionError<Error> = error;
                tracing::warn!(error = chain(&error), "failed to read decided transactions");
                Vec::new()
            }
        }
    }

    /// Does what is due for one transaction. Whether it stays marked as running, until its end is
    /// written down.
    async fn drive(&self, record: Record) -> bool {
        let xid = record.global.xid;
        let Some(epoch) = self.epoch(record.shard) else { return false };
        if record.global.phase != Phase::Trying {
            return self.second_phase(record, epoch).await;
        }
        let now = self.clock.now();
        let closing = record.global.due(now, &self.settings.backoff);
        if closing.is_none() && !record.global.expired(now)
            || !pass!(self, record.name, BeforeTimeout, "before-timeout")
        {
            return false;
        }
        let name = record.name.clone();
        let decided = match closing {
            Some((_, due)) => Box::pin(self.close(record, due, epoch)).await,
            None => self.time_out(xid, epoch).await,
        };
        if !decided || !pass!(self, name, AfterTimeout, "after-timeout") {
            return false;
        }
        let loaded = self.database.read("tcc load", move |tx| log::load(tx, xid)).await;
        let record: Result<_, TransactionError<Error>> = loaded;
        let Ok(Some(record)) = record else { return false };
        self.second_phase(record, epoch).await
    }

    pub(super) async fn time_out(&self, xid: Xid, epoch: Epoch) -> bool {
        let reason = "undecided at its deadline";
        // The closure needs what a task cannot lend: a second, cheap handle on the same things.
        let hooks = Arc::clone(&self.hooks);
        let clock = Arc::clone(&self.clock);
        let aborted = self
            .database
            .transaction("tcc time-out", move |tx: &mut Transaction<'_>| {
                super::abort::abort(tx, &*clock, &hooks, (xid, true), reason, Some(epoch))
            })
            .await;
        match aborted {
            Ok(now) => {
                tracing::info!(%xid, now, "a transaction was undecided at its deadline");
                true
            }
            Err(error) => self.undecided(xid, epoch, &error).await,
        }
    }

    /// Puts a transaction on the list for a human whose own branch cannot be settled.
    pub(super) async fn list(&self, xid: Xid, why: String, epoch: Epoch) {
        let (now, backoff) = (self.clock.now(), self.settings.backoff);
        let jitter = lock(&self.rng).unit();
        let listed = self.database.transaction("tcc list", move |tx| {
            let Some(mut record) = log::load(tx, xid)? else { return Ok(false) };
            record.global.own_failed(why.clone(), now, &backoff, jitter);
            let due = record.global.next();
            log::store(tx, &record, now, due, None, Some(epoch))
        });
        if let Err(error) = listed.await {
            let error: TransactionError<Error> = error;
            tracing::warn!(%xid, error = chain(&error), "failed to list a transaction");
        }
    }

    /// One round of the second phase.
    async fn second_phase(&self, mut record: Record, epoch: Epoch) -> bool {
        let now = self.clock.now();
        let Some((order, due)) = record.global.due(now, &self.settings.backoff) else {
            return false;
        };
        if due.is_empty() || !pass!(self, record.name, BeforeSend, "before-send") {
            return false;
        }
        let trace = record.trace.as_deref().and_then(TraceContext::parse);
        let context = Context { trace, ..Context::default() };
        let asked = due.into_iter().map(|index| self.ask(&record, index, order));
        let answers = context.scope(join_all(asked)).await;
        if !pass!(self, record.name, AfterSend, "after-send") {
            return false;
        }
        let now = self.clock.now();
        for (index, answer) in answers {
            let jitter = lock(&self.rng).unit();
            if let Answer::Alarm(why) = &answer {
                tracing::error!(xid = %record.global.xid, branch = index, why, "needs a human");
            }
            record.global.answered(index, order, answer, now, &self.settings.backoff, jitter);
        }
        if matches!(record.global.phase, Phase::Committed | Phase::Aborted) {
            if !pass!(self, record.name, BeforeFinish, "before-finish") {
                return false;
            }
            // Forgetting this costs repeats that do nothing, so it waits for company.
            lock(&self.finished).push((record, epoch));
            return true;
        }
        let due = record.global.next();
        let stored = self.database.transaction_at_leisure("tcc progress", move |tx| {
            log::store(tx, &record, now, due, None, Some(epoch))
        });
        if let Err(error) = stored.await {
            let error: TransactionError<Error> = error;
            tracing::warn!(error = chain(&error), "failed to store the progress of a transaction");
        }
        false
    }

    async fn ask(&self, record: &Record, index: u16, order: Order) -> (u16, Answer) {
        let Some(declared) = record.declared.iter().find(|it| it.index == index) else {
            return (index, Answer::Alarm("the branch is not declared".to_owned()));
        };
        let xid = record.global.xid;
        let initiator = self.peers.own_name().to_owned();
        let body = wire::Second { xid, branch: index, initiator };
        let limit = self.settings.answer;
        let (service, action) = (declared.service.as_str(), declared.action.as_str());
        let call = async {
            match order {
                Order::Confirm => self.peers.confirm((service, action), body, limit).await,
                Order::Cancel => {
                    self.peers.branch(service, action, Step::Cancel, (xid, &body), limit).await
                }
                // Its answer says more: see `close`. Nothing of the second phase asks for it.
                Order::Close => self.peers.close((service, action), &body, limit).await.map(drop),
            }
        };
        let answer = match tokio::time::timeout(limit, call).await {
            Ok(Ok(())) => Answer::Done,
            Ok(Err(error)) => judge(&error, self.settings.not_yet),
            Err(_) => Answer::Unknown(format!("{service} did not answer in time")),
        };
        (index, answer)
    }

    /// Writes down what has finished, all together.
    async fn write_finished(&self) {
        if self.dead() {
            return;
        }
        let finished = std::mem::take(&mut *lock(&self.finished));
        if finished.is_empty() {
            return;
        }
        let now = self.clock.now();
        let xids: Vec<_> = finished.iter().map(|it| it.0.global.xid).collect();
        let written = self.database.transaction_at_leisure("tcc finished", move |tx| {
            for (record, epoch) in &finished {
                log::store(tx, record, now, None, None, Some(*epoch))?;
            }
            Ok::<_, Error>(())
        });
        if let Err(error) = written.await {
            tracing::warn!(error = chain(&error), "failed to write down finished transactions");
        }
        let mut running = lock(&self.running);
        for xid in xids {
            running.remove(&xid);
        }
    }

    /// Whether there may be more to clean.
    async fn clean(&self) -> bool {
        // A tombstone must outlive the longest transaction that could still begin under its id.
        let keep = self.settings.keep.max(keep_at_least(Duration::ZERO));
        let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        let before = self.clock.now().millis().saturating_sub(keep);
        let cleaned = self
            .database
            .transaction_at_leisure("tcc clean", move |tx| log::clean(tx, before, CLEAN_MAX));
        match cleaned.await {
            Ok(count) => CLEAN_MAX as usize <= count,
            Err(error) => {
                let error: TransactionError<Error> = error;
                tracing::warn!(error = chain(&error), "failed to clean the transaction log");
                false
            }
        }
    }
}

/// Answers that say that it cannot be.
const ALARMS: [&str; 4] = [wire::CONFLICT, wire::NO_TRY, wire::MISMATCH, wire::ENDED];

/// What else is decided within [`COMPANY`].
async fn with_company(first: Xid, woken: &mut mpsc::Receiver<Xid>) -> Vec<Xid> {
    tokio::time::sleep(COMPANY).await;
    let more = std::iter::from_fn(|| woken.try_recv().ok());
    std::iter::once(first).chain(more.take(FOUND_MAX as usize)).collect()
}

/// What an answer that is no success means in the second phase.
pub(super) fn judge(error: &PeerError, not_yet: Duration) -> Answer {
    let PeerError::Call(error) = error else { return Answer::Unknown(chain(error)) };
    if error.status() == Some(StatusCode::TOO_EARLY) {
        return Answer::NotYet(not_yet);
    }
    match error.problem() {
        Some(problem) if ALARMS.contains(&problem.code.as_str()) => {
            Answer::Alarm(format!("{}: {}", problem.code, problem.detail))
        }
        Some(_) | None => Answer::Unknown(chain(error)),
    }
}
