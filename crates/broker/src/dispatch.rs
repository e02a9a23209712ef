//! Brings what is committed to who subscribed.
//!
//! A commit hands its deliveries over through a bounded queue; what finds no room there, no place
//! on its lane, or an open circuit stays in the table, and is found by the scan: for what is due,
//! and after a crash. One task decides; attempts run in tasks of their own, a bounded number on
//! each lane and in all. What is handed over gathers for a moment, since nobody waits for a
//! delivery: it is claimed in one transaction, travels in one request where the subscriber takes
//! several, and is written down in one transaction again. Another task asks producers about what
//! is undecided, unparks, buries and cleans.

mod check;
mod courier;
mod lanes;
mod push;
mod request;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tradewind_base::{Clock, Tasks, fault, seal};
use tradewind_discovery::Discovery;
use tradewind_http::Client;
use tradewind_message::SigningKey;

use crate::config::Settings;
use crate::machine::delivery::Rules;
use crate::machine::schedule::Schedule;
use crate::store::{Changed, Key, Lane, Seen, Store, SubscriptionRow};

use courier::Courier;
use lanes::{Lanes, Showed};
use push::companies;

/// Deliveries that wait to be looked at; more are left to the scan.
const QUEUE: usize = 4096;
/// How many of them one turn takes at most.
const TURN: usize = 256;
/// How long what is handed over waits for more before it is claimed: at some hundred messages a
/// second several come within it, and to a delivery, for which nobody waits, it is nothing.
const GATHER: Duration = Duration::from_millis(25);
/// How often a commit's parked neighbours, off lanes and finished rows are looked at.
const KEEP_EVERY: Duration = Duration::from_millis(500);
/// How many rows one step of that takes at most.
const KEEP_BATCH: u32 = 100;
/// How often finished rows are removed, unless there are more than one round takes.
const CLEAN_EVERY: Duration = Duration::from_secs(60);
/// How many messages, and how many fence rows, one cleaning transaction removes at most.
const CLEAN_BATCH: u32 = 200;
/// How many such transactions one round has at most.
const CLEAN_BATCHES: u32 = 16;

/// What attempts and checks share.
#[derive(Debug)]
struct Core {
    store: Store,
    clock: Arc<dyn Clock>,
    courier: Courier,
    signing: SigningKey,
    rules: Rules,
    checks: Schedule,
    attempt_limit: Duration,
    lease: Duration,
    retention: Duration,
}

/// The way into the dispatcher. Clones lead to the same one.
#[derive(Clone, Debug)]
pub(crate) struct Dispatcher {
    queue: mpsc::Sender<(Lane, Seen)>,
    look: Arc<Notify>,
    keep: Arc<Notify>,
}

/// What it is made of.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) discovery: Discovery,
    pub(crate) client: Client,
    pub(crate) key: seal::Key,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: Settings,
}

struct Ended {
    lane: Lane,
    showed: Showed,
    /// The subscriber did not take several in one request.
    apart: bool,
}

struct Loop {
    core: Arc<Core>,
    lanes: Lanes,
    tasks: Tasks,
    ended: mpsc::Sender<Ended>,
    scan_every: Duration,
}

impl Dispatcher {
    /// Starts it.
    pub(crate) fn start(parts: Parts, tasks: &Tasks) -> Self {
        let Parts { store, discovery, client, key, clock, settings } = parts;
        let limit = settings.attempt_timeout;
        let signing = SigningKey::derive(&key);
        let core = Arc::new(Core {
            store,
            courier: Courier::new(discovery, client, key, Arc::clone(&clock), limit),
            clock,
            signing,
            rules: settings.rules,
            checks: settings.checks,
            attempt_limit: limit,
            // Connecting to up to three instances may come on top of the limit of the last.
            lease: limit + limit.min(Duration::from_secs(5)),
            retention: settings.retention,
        });
        let (queue, handed) = mpsc::channel(QUEUE);
        let (ended, endings) = mpsc::channel(settings.deliveries_max.max(1));
        let it = Self { queue, look: Arc::new(Notify::new()), keep: Arc::new(Notify::new()) };
        let lanes = Lanes::new(settings.deliveries_per_subscription, settings.deliveries_max);
        let scan_every = settings.scan_every;
        let dispatcher =
            Loop { core: Arc::clone(&core), lanes, tasks: tasks.clone(), ended, scan_every };
        let look = Arc::clone(&it.look);
        tasks.spawn("dispatch", |cancel| async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = dispatcher.run(handed, endings, look) => {}
            }
        });
        let (keep, handle) = (Arc::clone(&it.keep), it.clone());
        tasks.spawn("keep messages", |cancel| async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = core.keep(keep, handle) => {}
            }
        });
        it
    }

    /// Hands over what a commit made. Never waits: what does not fit is found by the scan.
    pub(crate) fn hand_over(&self, changed: &Changed) {
        fault::point(format_args!("message.{}.committed", changed.topic));
        for key in &changed.deliveries {
            let lane = Lane { subscriber: key.subscriber.clone(), topic: changed.topic.clone() };
            let seen = Seen { key: key.clone(), token: None };
            if self.queue.try_send((lane, seen)).is_err() {
                self.look.notify_one();
                return;
            }
        }
    }

    /// Looks at the table now: a subscription changed or dead letters were given another life.
    pub(crate) fn look(&self) {
        self.look.notify_one();
        self.keep.notify_one();
    }
}

impl Loop {
    async fn run(
        mut self,
        mut handed: mpsc::Receiver<(Lane, Seen)>,
        mut endings: mpsc::Receiver<Ended>,
        look: Arc<Notify>,
    ) {
        let mut next = Instant::now();
        let mut fresh: Vec<(Lane, Seen)> = Vec::with_capacity(TURN);
        let mut gathered = Instant::now();
        loop {
            let room = TURN - fresh.len();
            tokio::select! {
                Some(it) = endings.recv() => {
                    let mut hungry = self.end(&it);
                    while let Ok(it) = endings.try_recv() {
                        hungry |= self.end(&it);
                    }
                    if hungry {
                        next = Instant::now();
                    }
                }
                // None when all ways in are gone.
                more @ 1.. = handed.recv_many(&mut fresh, room), if 0 < room => {
                    if more == fresh.len() {
                        gathered = Instant::now() + GATHER;
                    }
                    if fresh.len() == TURN {
                        self.admit(&mut fresh);
                    }
                }
                () = tokio::time::sleep_until(gathered), if !fresh.is_empty() => {
                    self.admit(&mut fresh);
                }
                () = look.notified() => next = Instant::now(),
                () = tokio::time::sleep_until(next) => {
                    let seen = self.scan().await;
                    // What the scan has begun need not be begun again.
                    fresh.retain(|(_, it)| !seen.contains(&it.key));
                    next = Instant::now() + self.scan_every;
                }
            }
        }
    }

    fn end(&mut self, it: &Ended) -> bool {
        let now = self.core.clock.monotonic();
        if it.apart {
            self.lanes.apart(&it.lane, now);
        }
        self.lanes.end(&it.lane, it.showed, now)
    }

    /// Starts what was handed over, as far as there is room.
    fn admit(&mut self, fresh: &mut Vec<(Lane, Seen)>) {
        let mut by_lane: BTreeMap<Lane, Vec<Seen>> = BTreeMap::new();
        for (lane, seen) in fresh.drain(..) {
            by_lane.entry(lane).or_default().push(seen);
        }
        for (lane, mut seen) in by_lane {
            let room = self.lanes.room(&lane, self.core.clock.monotonic());
            if room < seen.len() {
                seen.truncate(room);
                self.lanes.waiting(&lane);
            }
            self.begin(lane, seen);
        }
    }

    /// Looks for what is due on every lane with room, and begins it: says what.
    async fn scan(&mut self) -> BTreeSet<Key> {
        let mut begun = BTreeSet::new();
        match self.core.store.subscriptions().await {
            Ok(rows) => {
                let courier = &self.core.courier;
                self.lanes.update(rows, self.core.clock.monotonic(), |it| courier.instances(it));
            }
            Err(error) => tracing::warn!(error = %error, "cannot read subscriptions"),
        }
        for (lane, room) in self.lanes.open(self.core.clock.monotonic()) {
            // The total may have been used up by the lanes before.
            let room = room.min(self.lanes.room(&lane, self.core.clock.monotonic()));
            if room == 0 {
                self.lanes.waiting(&lane);
                continue;
            }
            let now = self.core.clock.now();
            match self.core.store.due(&lane.subscriber, &lane.topic, now, room).await {
                Ok(seen) => {
                    if seen.len() == room {
                        // A full lane's next deliveries wait for a place, not for the clock.
                        self.lanes.waiting(&lane);
                    }
                    begun.extend(seen.iter().map(|it| it.key.clone()));
                    self.begin(lane, seen);
                }
                Err(error) => tracing::warn!(error = %error, "cannot look for deliveries"),
            }
        }
        begun
    }

    /// Claims and sends in tasks of their own; each gives its place back however it ends.
    fn begin(&mut self, lane: Lane, seen: Vec<Seen>) {
        if seen.is_empty() {
            return;
        }
        let count = seen.len();
        let together = self.lanes.together(&lane, self.core.clock.monotonic());
        let Some(to) = self.lanes.begin(&lane, count).cloned() else { return };
        let (core, ended, tasks) = (Arc::clone(&self.core), self.ended.clone(), self.tasks.clone());
        let to = Arc::new(to);
        self.tasks.spawn_plain("claim deliveries", move |_| async move {
            let mut places: Vec<_> =
                (0..count).map(|_| Place::new(ended.clone(), lane.clone())).collect();
            let now = core.clock.now();
            let claimed = core.store.claim(seen, now, now + core.lease).await;
            let claimed = claimed.unwrap_or_else(|error| {
                tracing::warn!(error = %error, "deliveries not claimed");
                Vec::new()
            });
            for all in companies(claimed, together) {
                // Claimed are at most as many as places were taken.
                let places = places.split_off(places.len().saturating_sub(all.len()));
                let (core, to) = (Arc::clone(&core), Arc::clone(&to));
                tasks.spawn_plain("deliver", |cancel| async move {
                    let pushed = tokio::select! {
                        biased;
                        pushed = core.push(&all, &to) => Some(pushed),
                        () = cancel.cancelled() => None,
                    };
                    match pushed {
                        Some(pushed) => {
                            for (mut place, showed) in places.into_iter().zip(pushed.showed) {
                                place.tell(showed, pushed.apart);
                            }
                        }
                        // Perhaps sent: whoever delivers it next sends it again, which is allowed.
                        None => core.put_back(&all).await,
                    }
                });
            }
        });
    }
}

/// A place on a lane; given back when dropped, also by a panic.
struct Place {
    ended: mpsc::Sender<Ended>,
    lane: Option<Lane>,
    showed: Showed,
    apart: bool,
}

impl Place {
    fn new(ended: mpsc::Sender<Ended>, lane: Lane) -> Self {
        Self { ended, lane: Some(lane), showed: Showed::Nothing, apart: false }
    }

    const fn tell(&mut self, showed: Showed, apart: bool) {
        self.showed = showed;
        self.apart = apart;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(lane) = self.lane.take() else { return };
        // As many fit as there are places, so this fails only when the loop has ended.
        let it = Ended { lane, showed: self.showed, apart: self.apart };
        if self.ended.try_send(it).is_err() {
            tracing::debug!("a place came back after the end");
        }
    }
}

impl Core {
    /// Everything that is not a delivery, again and again.
    async fn keep(&self, keep: Arc<Notify>, dispatcher: Dispatcher) {
        // What piled up while no broker ran goes first.
        let mut cleaned = None;
        loop {
            let changed = self.check_back().await;
            let mut more = !changed.is_empty();
            for it in &changed {
                dispatcher.hand_over(it);
            }
            match self.store.unpark(KEEP_BATCH, self.clock.now()).await {
                Ok(changed) => {
                    more |= changed.len() == KEEP_BATCH as usize;
                    for it in &changed {
                        tracing::info!(msg.id = %it.receipt.id, topic = it.topic, "message unparked");
                        dispatcher.hand_over(it);
                    }
                }
                Err(error) => tracing::warn!(error = %error, "cannot look for parked messages"),
            }
            more |= self.bury().await;
            if cleaned.is_none_or(|it| CLEAN_EVERY <= self.clock.monotonic() - it) {
                // What is left over is taken in the next round already.
                if !self.clean().await {
                    cleaned = Some(self.clock.monotonic());
                }
            }
            if !more {
                tokio::select! {
                    () = keep.notified() => {}
                    () = tokio::time::sleep(KEEP_EVERY) => {}
                }
            }
        }
    }

    /// What waits for a subscriber that is gone becomes dead letters.
    async fn bury(&self) -> bool {
        let mut more = false;
        let rows: Vec<SubscriptionRow> = self.store.subscriptions().await.unwrap_or_default();
        for it in rows.iter().filter(|it| !it.active) {
            let (now, limit) = (self.clock.now(), KEEP_BATCH as usize);
            match self.store.bury_lane(&it.subscriber, &it.topic, now, limit).await {
                Ok(count) => more |= count == limit,
                Err(error) => tracing::warn!(error = %error, "cannot bury deliveries"),
            }
        }
        more
    }

    /// Whether there may be more to clean. Check-backs wait no longer than for this many batches.
    async fn clean(&self) -> bool {
        let retention = i64::try_from(self.retention.as_millis()).unwrap_or(i64::MAX);
        let now = self.clock.now().millis();
        let before = tradewind_base::Timestamp::from_millis(now.saturating_sub(retention));
        for _ in 0..CLEAN_BATCHES {
            match self.store.clean(before, CLEAN_BATCH).await {
                Ok(0) => return false,
                Ok(rows) => tracing::debug!(rows, "finished rows removed"),
                Err(error) => {
                    tracing::warn!(error = %error, "cannot remove finished rows");
                    return false;
                }
            }
        }
        true
    }
}
