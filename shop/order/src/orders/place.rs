//! Placing an order.

mod decide;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tradewind::base::id::Xid;
use tradewind::base::identity::User;
use tradewind::base::{Context, Problem, Rng, Timestamp};
use tradewind::idempotency::{Attempt, Claim, Fence, Fingerprint, Key, Scope, StoredAnswer, store};
use tradewind::message::wire::{ACTION, BROKER};
use tradewind::message::{Draft as Message, MessageId};
use tradewind::service::Failure;
use tradewind::service::axum::http::StatusCode;
use tradewind::sql::{Transaction, TransactionError, params};
use tradewind::transaction::engine::MayCommit;
use tradewind::transaction::{Declaration, LogError, Tried};

use super::admission::{End, Entry};
use super::api::from_orders;
use super::problems::{self, database};
use super::rows::{self, New};
use super::view::OrderView;
use super::{OrderId, Orders, Own, PLACE, WorkError};
use crate::SERVICE;
use crate::api::price;
use crate::basket::Draft;
use crate::fields::{Mistakes, Object, text};
use crate::inventory::Inventory;
use crate::machine::State;
use crate::quote::Quote;

/// The topic of the message about a placed order.
pub const PLACED_TOPIC: &str = "order.placed";
/// The longest address, in characters.
pub const ADDRESS_CHARS_MAX: usize = 400;
/// How many cents earn a point.
const CENTS_PER_POINT: i64 = 100;
/// The shortest time that is given to the reservations, however long the prices took.
const TRY_FLOOR: Duration = Duration::from_millis(50);
/// An attempt that is resumed needs this much of its time, or it is given up.
const DECIDE: Duration = Duration::from_millis(1100);
/// The part of its time that an order waits for a place.
const PATIENCE: u32 = 4;
/// Answers that say that there was too little time.
const LATE: [StatusCode; 2] = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
/// How often a claim is looked at again within one request.
const ROUNDS: usize = 4;

/// What came of a request for an order.
#[derive(Debug)]
pub(super) enum Placed {
    /// It is placed.
    Now(StoredAnswer),
    /// It had been placed before; this is the answer of then.
    Before(StoredAnswer),
    /// Whether it is placed cannot be told yet.
    Unknown(OrderId),
}

/// An order that can begin.
#[derive(Clone, Debug)]
struct Plan {
    declaration: Declaration,
    order: Arc<New>,
}

/// What the claim of a key fixes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Fixed {
    order_id: OrderId,
    xid: Xid,
}

/// What the first durable step came to.
#[derive(Debug)]
enum Begun {
    /// The order begins or goes on.
    Work(Box<Work>),
    /// What an earlier attempt had begun has no time left: it is to be given up.
    Late(Box<Work>),
    /// What an earlier attempt had begun is given up for good: the key is free.
    GivenUp(Xid),
    Done(StoredAnswer),
    InFlight,
    Mismatch,
}

/// What came of giving up what had begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GivenUp {
    /// It is aborted and the key is free.
    Now,
    /// That cannot be told.
    Unknown,
    /// It is committed, or to be.
    Not(MayCommit),
}

#[derive(Clone, Debug)]
struct Work {
    declaration: Declaration,
    order_id: OrderId,
    fence: Fence,
    /// The order and when it began, unless an earlier attempt did.
    begun: Option<(Arc<New>, Timestamp)>,
}

const KNOWN: &str = "SELECT COUNT(*) FROM tradewind_idempotency \
     WHERE subject = ? AND operation = ? AND idempotency_key = ?";

impl<I: Inventory + Clone + Send + Sync + 'static> Orders<I> {
    /// Places the order that `body` describes, once for each key of the user.
    pub(super) async fn place(
        &self,
        user: &User,
        key: Key,
        body: &Value,
    ) -> Result<Placed, Failure> {
        let begun = Instant::now();
        let patience = self.settings.place_limit / PATIENCE;
        let Some(entry) = self.admission.enter(patience).await else {
            return Err(problems::crowded());
        };
        // Whoever writes it down after the answer takes its place along.
        let mut entry = Some(entry);
        let placed = Box::pin(self.place_now(user, key, (body, begun), &mut entry)).await;
        if let Some(entry) = entry {
            entry.leave(match &placed {
                Ok(Placed::Now(_)) => End::Timely,
                Err(failure) if LATE.contains(&failure.problem().status) => End::Late,
                Ok(_) | Err(_) => End::Other,
            });
        }
        placed
    }

    async fn place_now(
        &self,
        user: &User,
        key: Key,
        (body, begun): (&Value, Instant),
        entry: &mut Option<Entry>,
    ) -> Result<Placed, Failure> {
        let scope = Scope::new(&user.id, PLACE).map_err(|it| Failure::internal(&it))?;
        let attempt = Attempt { scope, key, fingerprint: Fingerprint::of_json(body) };
        let mut plan = match Box::pin(self.plan(user, body, begun)).await {
            Ok(plan) => Some(plan),
            // A repeat gets its answer also when there are no prices to be had any more.
            Err(_) if self.known(&attempt).await? => None,
            Err(failure) => return Err(failure),
        };
        let mut waited = false;
        for _ in 0..ROUNDS {
            let (begun, tried) = Box::pin(self.begin_trying(&attempt, plan.take())).await;
            match begun {
                Ok(Begun::Work(work)) => return self.carry(&attempt, *work, tried, entry).await,
                // Another may begin once that is durable.
                Ok(Begun::Late(work)) => match self.give_up_late(&attempt, &work).await? {
                    GivenUp::Now => {}
                    GivenUp::Unknown => return Ok(Placed::Unknown(work.order_id)),
                    GivenUp::Not(leave) => return self.commit_found(&attempt, &work, leave).await,
                },
                Ok(Begun::GivenUp(xid)) => self.engine.settle(xid),
                Ok(Begun::Done(answer)) => return Ok(Placed::Before(answer)),
                Ok(Begun::InFlight) => {
                    let answered = self.deciding.of_user(&user.id);
                    if waited || answered.is_over() {
                        return Err(problems::in_flight());
                    }
                    // It may be the one that was just answered: then its answer is there in a moment,
                    // and needs no price.
                    waited = true;
                    self.written(answered).await;
                    continue;
                }
                Ok(Begun::Mismatch) => return Err(problems::mismatch()),
                Err(TransactionError::Refused(WorkError::Unpriced)) => {}
                // It waited for the database until its time was over.
                Err(TransactionError::Refused(WorkError::Log(LogError::Refused { .. }))) => {
                    return Err(problems::too_late("ordered").into());
                }
                Err(error) => return Err(database(&error)),
            }
            plan = Some(self.plan(user, body, Instant::now()).await?);
        }
        Err(problems::in_flight())
    }

    /// Whether somebody used the key before.
    async fn known(&self, attempt: &Attempt) -> Result<bool, Failure> {
        let Attempt { scope, key, .. } = attempt.clone();
        let work = move |tx: &mut Transaction<'_>| {
            let key = params![scope.subject(), scope.operation(), key.as_str()];
            let count = tx.query_one(KNOWN, key, |row| row.get::<i64>(0))?;
            Ok::<_, WorkError>(count != Some(0))
        };
        self.database.read("known key", work).await.map_err(|it| database(&it))
    }

    /// Checks the body, asks for prices, and declares the transaction.
    async fn plan(&self, user: &User, body: &Value, begun: Instant) -> Result<Plan, Failure> {
        let (address, mistakes) = address(body);
        let draft = Draft::read_among(body, &["items", "address"]).with(mistakes);
        let limit = self.settings.place_limit;
        let priced = timeout(limit, price(&self.inventory, draft)).await;
        let (_, quote) = priced.unwrap_or_else(|_| {
            let detail = "inventory did not answer in time; nothing was ordered; try again";
            let status = StatusCode::GATEWAY_TIMEOUT;
            Err(Problem::new(status, "order.inventory-timeout", detail).into())
        })?;
        // A part is for the abort and the answer, so that the limit holds for the caller.
        let left = limit.saturating_sub(begun.elapsed() + limit / 20).max(TRY_FLOOR);
        self.declare(user, address, quote, left)
    }

    fn declare(
        &self,
        user: &User,
        address: String,
        quote: Quote,
        left: Duration,
    ) -> Result<Plan, Failure> {
        let internal = |error: &dyn std::error::Error| Failure::internal(error);
        let id = OrderId::generate(self.clock.now(), &mut Rng::from_entropy());
        let points = quote.total_cents / CENTS_PER_POINT;
        let lines: Vec<_> = quote
            .lines
            .iter()
            .map(|it| {
                json!({
                    "product_id": it.product_id, "sku": it.sku, "name": it.name,
                    "quantity": it.quantity,
                })
            })
            .collect();
        let items: Vec<_> = quote
            .lines
            .iter()
            .map(|it| json!({"product_id": it.product_id, "quantity": it.quantity}))
            .collect();
        let data = json!({
            "order_id": id, "user_id": user.id, "address": address, "lines": lines,
            "total_cents": quote.total_cents, "currency": quote.currency,
        });
        let message = Message::new(&*self.clock, PLACED_TOPIC, &id.to_string(), SERVICE, &data)
            .map_err(|it| internal(&it))?;
        let mut declared = self
            .engine
            .declare(PLACE, left)
            .own(&Own { order_id: id })
            .and_then(|it| {
                let payload = json!({"order_id": id, "items": items});
                it.branch("inventory", "inventory.reserve", &payload)
            })
            .map_err(|it| internal(&it))?;
        let mut branch = 2;
        if 0 < points {
            let payload = json!({"user_id": user.id, "order_id": id, "points": points});
            declared =
                declared.branch("points", "points.credit", &payload).map_err(|it| internal(&it))?;
            branch = 3;
        }
        let mut declaration =
            declared.branch(BROKER, ACTION, &message.branch()).map_err(|it| internal(&it))?;
        if self.settings.parallel_commit {
            declaration = declaration.implied();
        }
        let xid = declaration.xid();
        let order = New {
            id,
            user_id: user.id.clone(),
            address,
            total_cents: quote.total_cents,
            currency: quote.currency,
            points,
            xid,
            message_id: MessageId::of_branch(xid, branch),
            trace: Context::current().trace,
            lines: quote.lines,
        };
        Ok(Plan { declaration, order: Arc::new(order) })
    }

    /// Durable step 1, and beside it the second, unless the key is known from before: then the first
    /// is not likely to begin anything.
    async fn begin_trying(
        &self,
        attempt: &Attempt,
        plan: Option<Plan>,
    ) -> (Result<Begun, TransactionError<WorkError>>, Option<Tried>) {
        let new = self.keys.note(attempt);
        let plan = match plan {
            Some(plan) if new => plan,
            plan => return (self.begin(attempt, plan).await, None),
        };
        let declaration = plan.declaration.clone();
        let begin = self.begin(attempt, Some(plan));
        let begins = |begun: &Result<Begun, _>| match begun {
            Ok(Begun::Work(work)) => Some(work.declaration.xid() == declaration.xid()),
            Ok(_) | Err(TransactionError::Refused(_)) => Some(false),
            Err(_) => None,
        };
        self.engine.try_beside(&declaration, begin, begins).await
    }

    /// Durable step 1. Without a plan, only what an earlier attempt left is looked at.
    async fn begin(
        &self,
        attempt: &Attempt,
        plan: Option<Plan>,
    ) -> Result<Begun, TransactionError<WorkError>> {
        let (this, attempt, terms) = (self.clone(), attempt.clone(), self.terms());
        let work = move |tx: &mut Transaction<'_>| {
            let now = store::now(tx)?;
            let fixed = plan
                .as_ref()
                .map_or(Value::Null, |it| json!({"order_id": it.order.id, "xid": it.order.xid}));
            match store::claim(tx, &attempt, &fixed, now, &terms)? {
                Claim::Mine { fence } => {
                    let plan = plan.as_ref().ok_or(WorkError::Unpriced)?;
                    this.engine.begin(tx, &plan.declaration)?;
                    let begun = this.clock.now();
                    rows::insert(tx, &plan.order, begun)?;
                    let begun = Some((Arc::clone(&plan.order), begun));
                    let (declaration, order_id) = (plan.declaration.clone(), plan.order.id);
                    Ok(Begun::Work(Box::new(Work { declaration, order_id, fence, begun })))
                }
                Claim::Resume { fixed, fence } => this.resume(tx, &attempt, &fixed, fence),
                Claim::InFlight { .. } => Ok(Begun::InFlight),
                Claim::Done(answer) => Ok(Begun::Done(answer)),
                Claim::Mismatch => Ok(Begun::Mismatch),
            }
        };
        self.database.transaction("order begin", work).await
    }

    /// Goes on with what an earlier attempt fixed before it died.
    fn resume(
        &self,
        tx: &mut Transaction<'_>,
        attempt: &Attempt,
        fixed: &Value,
        fence: Fence,
    ) -> Result<Begun, WorkError> {
        let Fixed { order_id, xid } = Fixed::deserialize(fixed)?;
        let (text, now) = (order_id.to_string(), store::now(tx)?);
        let missing = || WorkError::Row { order: text.clone(), what: "it is missing" };
        // The log first. On MySQL each look sees what others have committed by then: an order that
        // is seen first can be decided before its log is seen.
        let undecided = self.engine.resume(tx, xid)?;
        let header = rows::header(tx, &text)?.ok_or_else(missing)?;
        match header.state {
            State::Placing => {
                // The decision and the order's state change together: without it this cannot be.
                let declaration = undecided.ok_or(WorkError::Moved(order_id))?;
                let late = declaration.deadline() <= self.clock.now() + DECIDE;
                let work = Box::new(Work { declaration, order_id, fence, begun: None });
                Ok(if late { Begun::Late(work) } else { Begun::Work(work) })
            }
            State::Failed => {
                store::release(tx, attempt, fence, now, &self.terms())?;
                Ok(Begun::GivenUp(xid))
            }
            State::Placed | State::Cancelling | State::Cancelled | State::Shipped => {
                let answer = answer(OrderView::read(tx, header)?)?;
                store::finish(tx, attempt, fence, &answer, now, &self.terms())?;
                Ok(Begun::Done(answer))
            }
        }
    }
}

/// The answer about a placed order.
fn answer(view: OrderView) -> Result<StoredAnswer, WorkError> {
    let location = from_orders(&view.id);
    Ok(StoredAnswer::json(201, &serde_json::to_value(view)?).located(&location))
}

/// The address in a body, and what is wrong with it. The rest of the body is the basket's.
fn address(body: &Value) -> (String, Mistakes) {
    let mut mistakes = Mistakes::default();
    let Some(fields) = body.as_object() else { return (String::new(), mistakes) };
    let only = fields.get_key_value("address").map(|it| (it.0.clone(), it.1.clone()));
    let only = Value::Object(only.into_iter().collect());
    let expected = "a text of 1 to 400 characters";
    let plain = |it: &str| {
        let printable = it.chars().all(|it| it == '\n' || !it.is_control());
        !it.trim().is_empty() && it.chars().count() <= ADDRESS_CHARS_MAX && printable
    };
    let found = Object::body(&only, &["address"], &mut mistakes)
        .and_then(|it| it.field("address", expected, &mut mistakes, |it| text(it, plain)));
    (found.unwrap_or_default().to_owned(), mistakes)
}
