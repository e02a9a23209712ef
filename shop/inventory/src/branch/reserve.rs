//! `inventory.reserve`: stock for an order.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tradewind::base::{Problem, fault};
use tradewind::service::axum::http::StatusCode;
use tradewind::sql::{Error, Transaction, params};
use tradewind::transaction::{BranchError, Call, Entered, participant};

use super::locking::Locking;
use super::rows::{self, Flow};
use super::{LINES_MAX, QUANTITY_MAX};

/// What an order needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserve {
    /// The order: 1 to 64 characters.
    pub order_id: String,
    /// 1 to 100 lines.
    pub items: Vec<Item>,
}

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The product.
    pub product_id: i64,
    /// How many: at least 1.
    pub quantity: i64,
}

/// The participant.
#[derive(Debug)]
pub(super) struct Stock {
    locking: Locking,
}

/// How soon a Try whose lock was overtaken may come again.
const AGAIN: Duration = Duration::from_millis(100);

const LEFT: &str = "SELECT s.on_hand - s.frozen, p.name FROM stock s \
     JOIN product p ON p.id = s.product_id WHERE s.product_id = ? AND p.status = 'active'";

impl Stock {
    pub(super) const fn new(locking: Locking) -> Self {
        Self { locking }
    }
}

#[participant(action = "inventory.reserve")]
impl Stock {
    async fn enter(&self, call: &Call, it: &Reserve) -> Result<Entered, BranchError> {
        let lines = it.lines()?;
        self.locking.enter(call, lines.into_keys()).await
    }

    fn reserve(
        &self,
        tx: &mut Transaction<'_>,
        call: &Call,
        it: &Reserve,
    ) -> Result<(), BranchError> {
        let tokens = self.locking.tokens(call);
        for (product, quantity) in it.lines()? {
            // Without a token under a lock nothing is written: no stock row has a lower fence.
            let token = tokens.as_ref().map(|it| it.get(&product).copied().unwrap_or(-1));
            // What is not on sale any more is not sold, whatever is left of it.
            let (left, name) = left(tx, product)?.ok_or_else(|| unknown(product))?;
            if !rows::freeze(tx, product, quantity, token)? {
                if quantity <= left && token.is_some() {
                    return Err(BranchError::NotYet(AGAIN));
                }
                return Err(short(product, &name, quantity, left).into());
            }
            rows::reserved(tx, call, &it.order_id, (product, quantity), token)?;
        }
        Ok(())
    }

    fn confirm(
        &self,
        tx: &mut Transaction<'_>,
        call: &Call,
        _: &Reserve,
    ) -> Result<(), BranchError> {
        for line in rows::of_branch(tx, call)? {
            rows::end(tx, &line, Flow::Sale, call.now)?;
        }
        Ok(())
    }

    fn cancel(
        &self,
        tx: &mut Transaction<'_>,
        call: &Call,
        _: &Reserve,
    ) -> Result<(), BranchError> {
        if fault::bug("cancel-forgotten") {
            return Ok(());
        }
        for line in rows::of_branch(tx, call)? {
            rows::end(tx, &line, Flow::Release, call.now)?;
        }
        Ok(())
    }
}

impl Reserve {
    /// The quantity of each product, in their order; checked, as the payload is another's.
    fn lines(&self) -> Result<BTreeMap<i64, i64>, BranchError> {
        let mut problem = Problem::new(
            StatusCode::CONFLICT,
            "inventory.bad-reservation",
            "the reservation is not one; see errors",
        );
        if !(1..=64).contains(&self.order_id.len()) || !self.order_id.is_ascii() {
            problem = problem.field("order_id", "must be 1 to 64 ASCII characters");
        }
        if !(1..=LINES_MAX).contains(&self.items.len()) {
            problem = problem.field("items", format!("must be 1 to {LINES_MAX} lines"));
        }
        let mut lines = BTreeMap::new();
        for (index, it) in self.items.iter().enumerate().take(LINES_MAX) {
            if !(1..=QUANTITY_MAX).contains(&it.quantity) {
                let message = format!("must be from 1 to {QUANTITY_MAX}");
                problem = problem.field(format!("items[{index}].quantity"), message);
            }
            if lines.insert(it.product_id, it.quantity).is_some() {
                let message = "is on an earlier line already";
                problem = problem.field(format!("items[{index}].product_id"), message);
            }
        }
        if problem.errors.is_empty() { Ok(lines) } else { Err(problem.into()) }
    }
}

fn left(tx: &mut Transaction<'_>, product: i64) -> Result<Option<(i64, String)>, Error> {
    tx.query_one(LEFT, params![product], |row| Ok((row.get(0)?, row.get(1)?)))
}

fn unknown(product: i64) -> Problem {
    let detail = format!("product {product} is not on sale");
    Problem::new(StatusCode::CONFLICT, "inventory.unknown-product", detail)
        .title("Unknown product")
        .field(format!("product:{product}"), "is not on sale")
}

fn short(product: i64, name: &str, wanted: i64, left: i64) -> Problem {
    let detail = format!("of product {product} ({name}) {wanted} were ordered and {left} are left");
    Problem::new(StatusCode::CONFLICT, "inventory.insufficient", detail)
        .title("Not enough in stock")
        .field(format!("product:{product}"), format!("only {left} left"))
}
