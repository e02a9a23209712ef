//! Orders: placing, reading, cancelling, and hearing that they shipped.
//!
//! # Placing
//! Two durable steps for the caller, beside each other, and two that nobody waits for:
//!
//! 1. one local transaction: the claim of the idempotency key (which fixes order id and xid), the
//!    begin record of the transaction with its branches, the order in the state *placing*;
//! 2. the Trys of inventory (`inventory.reserve`), points (`points.credit`) and broker (`message`:
//!    the half message `order.placed`), all at once, beside step 1 (after it on MySQL, for the
//!    first order of a process, after a begin that failed, and under a key used here lately);
//! 3. one local transaction: the decision, the order *placed*, its event, the stored answer;
//! 4. the Confirms, repeated until each branch has answered.
//!
//! The buyer is answered after step 2: the transaction is *implied* ([`tradewind::transaction`]), so
//! it is committed then, and step 3 writes that down, with the next commit that somebody waits for.
//! Whoever reads orders of this process before that has it written down first (`deciding`); another
//! instance looks again for a moment at what is *placing*. With `order.parallel_commit` off, and for
//! what an earlier attempt had begun, the answer comes after step 3.
//!
//! A definite failure is a durable abort: the order is *failed*, in the same local transaction.
//! What the business refused (too little stock) stays refused under its key; after anything else
//! the key is free again. When this process dies in between, a repeat of the request goes on with
//! the same order and the same xid; if nobody repeats, every branch is closed at the deadline, and
//! the order is *placed* if all of them are tried, or *failed*. When it dies before step 1 is
//! durable, a repeat begins another order, and what the Trys had reserved for the first is given
//! back after its deadline. The same holds when the client goes away, which ends the work on its
//! request. Where step 1 finds that the key has an order already (a repeat that this process does
//! not know), what the Trys beside it reserved is given back at once.
//!
//! So many orders are in the making at a time as can be decided in their time (`admission`); others
//! wait for a part of theirs, or are refused at once with 503.
//! When the answer has to wait for step 3 and it cannot be told whether that was committed, it is 202
//! with the order to ask for.
//!
//! With `order.transactions = "coordinator"` the same steps mean: step 1 writes the Try of the
//! order's own branch instead of a log; step 2 is one request, with which the coordinator begins and
//! tries all; before step 3 the coordinator decides; step 3 is the own branch's Confirm through the
//! fence, unless the coordinator's call came first, and the stored answer. What began one way ends
//! that way, also when the setting changes in between.
//!
//! # Cancelling
//! A transaction over the order itself, inventory (`inventory.restock`), points (`points.revoke`)
//! and warehouse (`warehouse.void`, which refuses when the order has shipped).

mod admission;
pub mod api;
pub mod audit;
mod cancel;
mod deciding;
mod place;
mod problems;
mod recent;
mod rows;
mod shipped;
mod view;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::timeout;
use tradewind::base::id::Xid;
use tradewind::base::{Clock, Tasks, id_type};
use tradewind::idempotency::{self, Terms};
use tradewind::service::answer::chain;
use tradewind::service::config::Setting;
use tradewind::sql::{self, Database, Transaction, TransactionError};
use tradewind::transaction::wire::coordinator::SERVICE as COORDINATOR;
use tradewind::transaction::{BranchError, Engine, LogError, Peers, Setup, engine};

use crate::machine::Step;
use admission::Admission;
use deciding::Deciding;
use recent::Recent;

pub use view::{Event, Line, OrderView, Page, Summary, Trail};

id_type! {
    /// An order.
    OrderId, "ord"
}

/// The bounds of placing and cancelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The longest time to ask for prices and reservations.
    pub place_limit: Duration,
    /// The most orders in the making at a time; as many more wait for a place.
    pub placing_max: u32,
    /// Whether an order is answered before step 3.
    pub parallel_commit: bool,
    /// The longest time to ask whether an order can be cancelled.
    pub cancel_limit: Duration,
}

/// Who decides the transactions of orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decider {
    /// This service, in its own database.
    #[default]
    Embedded,
    /// The coordinator.
    Coordinator,
}

impl Setting for Decider {
    const EXPECTED: &'static str = "`embedded` or `coordinator`";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "embedded" => Ok(Self::Embedded),
            "coordinator" => Ok(Self::Coordinator),
            other => Err(format!("`{other}` is neither")),
        }
    }

    fn show(&self) -> String {
        let text = match self {
            Self::Embedded => "embedded",
            Self::Coordinator => "coordinator",
        };
        text.to_owned()
    }
}

/// What the handlers work with.
#[derive(Clone, Debug)]
pub(crate) struct Orders<I> {
    database: Database,
    engine: Engine,
    inventory: I,
    clock: Arc<dyn Clock>,
    settings: Settings,
    lease: Duration,
    admission: Admission,
    deciding: Deciding,
    keys: Recent,
    tasks: Tasks,
}

/// What an order's own branch needs to be undone.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Own {
    order_id: OrderId,
}

/// Why a local transaction was rolled back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkError {
    #[error("the database failed")]
    Sql(#[from] sql::Error),
    #[error("the idempotency key cannot be used")]
    Key(#[from] idempotency::StoreError),
    #[error("the transaction log did not take the step")]
    Log(#[from] LogError),
    #[error("order {0} cannot take this step")]
    Moved(OrderId),
    #[error("a row of order {order} cannot be read: {what}")]
    Row { order: String, what: &'static str },
    #[error("the key is free, and there is no price yet")]
    Unpriced,
    #[error("an answer cannot be written")]
    Answer(#[from] serde_json::Error),
}

type Failed = TransactionError<WorkError>;

const PLACE: &str = "order.place";
const CANCEL: &str = "order.cancel";

/// Why an order failed that nobody decided about in time.
const UNDECIDED: &str = "the time for a decision ran out; nothing was ordered";

/// How long the pauses between two cleanings of idempotency keys are.
const CLEAN_EVERY: Duration = Duration::from_secs(600);
/// How many keys one transaction cleans.
const CLEAN_BATCH: u32 = 500;

/// The engine of the order service: its log, or the fence of its own branches, lies in `database`.
pub(crate) fn engine(
    database: &Database,
    clock: &Arc<dyn Clock>,
    peers: Peers,
    (settings, decider): (engine::Settings, Decider),
    tasks: &Tasks,
) -> Deciders {
    let deciding = Deciding::default();
    let mut setup = Setup::new(database.clone(), Arc::clone(clock), peers).settings(settings);
    if decider == Decider::Coordinator {
        setup = setup.coordinator(COORDINATOR);
    }
    for (name, done, undone) in
        [(PLACE, Step::Place, Step::Fail), (CANCEL, Step::CancelDone, Step::CancelUndone)]
    {
        let (confirm, cancel) = (own(clock, &deciding, done), own(clock, &deciding, undone));
        setup = setup.on_commit(name, confirm).on_abort(name, cancel);
    }
    Deciders { engine: setup.start(tasks), deciding }
}

/// Who decides about orders, and what is answered of it before it is written down.
#[derive(Debug)]
pub(crate) struct Deciders {
    engine: Engine,
    deciding: Deciding,
}

/// Takes `step` of the order that an own branch is about.
fn own(
    clock: &Arc<dyn Clock>,
    deciding: &Deciding,
    step: Step,
) -> impl Fn(&mut Transaction<'_>, Xid, &Value) -> Result<(), BranchError> + Send + Sync + use<> {
    let (clock, deciding) = (Arc::clone(clock), deciding.clone());
    move |tx, xid, own| {
        let failed = |it: WorkError| BranchError::Failed(Box::new(it));
        let own: Own =
            serde_json::from_value(own.clone()).map_err(|it| failed(WorkError::Answer(it)))?;
        // What was answered is what is written down.
        let answered = deciding.since(own.order_id).filter(|_| step == Step::Place);
        let now = answered.unwrap_or_else(|| clock.now());
        rows::step(tx, own.order_id, step, Some(xid), now).map_err(failed)?;
        if step == Step::Fail {
            // Whoever aborts with a better reason says it after this.
            rows::note_reason(tx, own.order_id, UNDECIDED)?;
        }
        Ok(())
    }
}

impl<I> Orders<I> {
    pub(crate) fn new(
        database: Database,
        deciders: Deciders,
        inventory: I,
        clock: Arc<dyn Clock>,
        settings: Settings,
        tasks: &Tasks,
    ) -> Self {
        // A claim outlives the transaction it is for, and not by much: after a crash a repeat need
        // not wait long.
        let lease = settings.place_limit.saturating_mul(2).saturating_add(Duration::from_secs(2));
        let admission = Admission::new(settings.placing_max);
        let (Deciders { engine, deciding }, tasks) = (deciders, tasks.clone());
        Self {
            database,
            engine,
            inventory,
            clock,
            settings,
            lease,
            admission,
            deciding,
            keys: Recent::default(),
            tasks,
        }
    }

    pub(crate) const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Has what was answered written down before it is read: whoever asks is somebody who waits.
    async fn written(&self, wait: deciding::Wait) {
        if wait.is_over() {
            return;
        }
        // They are queued at leisure, and go with the next that is not.
        let nudge = async {
            let nudged =
                self.database.transaction("order asked", |_| Ok::<_, sql::Error>(())).await;
            if let Err(error) = nudged {
                tracing::debug!(error = chain(&error), "nothing hurries what was answered");
            }
        };
        // What is not written down by then is read as it is: still placing.
        let both = async { tokio::join!(nudge, wait.ended()) };
        let _ended = timeout(deciding::PATIENCE, both).await;
    }

    fn terms(&self) -> Terms {
        Terms { lease: self.lease, ..Terms::default() }
    }

    /// Forgets idempotency keys whose time is over, in the background.
    pub(crate) fn clean(&self, tasks: &Tasks) {
        let (database, terms) = (self.database.clone(), self.terms());
        tasks.spawn("clean idempotency keys", move |cancel| async move {
            loop {
                let work = move |tx: &mut Transaction<'_>| {
                    let now = idempotency::store::now(tx)?;
                    let cleaned = idempotency::store::clean(tx, now, &terms, CLEAN_BATCH)?;
                    Ok::<_, WorkError>(cleaned)
                };
                match database.transaction("clean keys", work).await {
                    Ok(count) if u32::try_from(count) == Ok(CLEAN_BATCH) => continue,
                    Ok(_) => {}
                    Err(error) => tracing::warn!(error = chain(&error), "cannot clean keys"),
                }
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = tokio::time::sleep(CLEAN_EVERY) => {}
                }
            }
        });
    }
}

#[cfg(test)]
mod tests;
