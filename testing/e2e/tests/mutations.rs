//! Known bugs turn the audit red.
//!
//! An audit that never fires proves nothing. Each test here runs one scenario twice on real
//! processes: as the shop is, and `tradewind audit` finds nothing; then with a bug that a careless
//! programmer could have written (`tradewind_base::fault::bug`), and the audit ends with 1 and names
//! the invariant that broke. Where a constraint of the schema stops the plain mistake, the bug is
//! the one that gets past it, and its place in the code says so.
//!
//! | bug | what goes wrong | found as |
//! |---|---|---|
//! | `fence-skipped` | a Try that comes after its Cancel reserves | TX-4 |
//! | `points-credited-twice` | an account gets more than its ledger says | POINTS-1 |
//! | `stock-without-predicate` | more is reserved than there is | STOCK-2 |
//! | `cancel-forgotten` | a refused order keeps its stock | TX-4 |
//! | `message-before-decision` | what was never placed ships | SHIP-2, MSG-3 |
//! | `dedup-forgotten` | a message that comes again revives a cancelled order | SHIP-2 |
//! | `void-ignored` | what has shipped is cancelled all the same | SHIP-2 |
//! | `close-forgotten` | what was answered as placed is aborted at its deadline | JOIN-4 |
//!
//! A payment that comes after its order was given up, the classic among a shop's bugs, has no place
//! here: orders are paid on delivery, and there is no online payment to come late.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use tradewind_e2e::branch::done;
use tradewind_e2e::trade::{available, basket, place};
use tradewind_e2e::{
    Client, Estate, Settings, Verdict, eventually, insist_on_cancelling, insist_on_placing, wanted,
};

const LIMIT: Duration = Duration::from_secs(30);

/// The product that is bought.
const PRODUCT: i64 = 1;

struct Shop {
    estate: Estate,
    buyer: Client,
}

impl Shop {
    async fn open(more: &[(&'static str, &str)]) -> Self {
        let mut settings: Settings = vec![("order.place_limit", "1s".to_owned())];
        settings.extend(more.iter().map(|(key, value)| (*key, (*value).to_owned())));
        let estate = Estate::start_faulty(settings).await;
        let buyer = estate.alice().await;
        Self { estate, buyer }
    }

    /// An order that is placed.
    async fn placed(&mut self, key: &str) -> String {
        let answer = insist_on_placing(&mut self.buyer, key, &basket(PRODUCT, 1)).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
        answer.json()["id"].as_str().expect("an order has an id").to_owned()
    }

    /// An order that is given up because points does not answer; inventory and broker hold their
    /// reservations by then.
    async fn given_up(&mut self, key: &str) {
        let points = self.estate.process("points");
        points.freeze();
        let answer = place(&mut self.buyer, key, &basket(PRODUCT, 1)).await;
        points.thaw();
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text());
    }

    /// Waits until the warehouse has so many orders in a state.
    async fn warehouse_has(&self, state: &str, count: i64) {
        let sql = format!("SELECT COUNT(*) FROM outbound WHERE state = '{state}'");
        eventually(&format!("{count} orders are {state}"), LIMIT, async || {
            let found = self.estate.count("warehouse", &sql).map_err(|it| format!("{it:#}"))?;
            wanted(found, |it| *it == count)
        })
        .await;
    }

    /// The verdict once everything is settled that can settle.
    async fn is_clean(&self) {
        self.estate.settled().await;
        self.estate.audit(&[]).await.is_clean();
    }

    /// The verdict as soon as the audit sees the harm.
    async fn is_broken(&self, invariants: &[&str]) -> Verdict {
        let verdict = eventually("the audit sees it", LIMIT, async || {
            let verdict = self.estate.audit(&[]).await;
            let found = |it: &&str| verdict.broken.contains_key(*it);
            if invariants.iter().all(found) { Ok(verdict) } else { Err(verdict.text) }
        })
        .await;
        invariants.iter().for_each(|it| verdict.is_broken(it));
        verdict
    }
}

/// R5.3: a Try that is on its way for so long that its Cancel overtakes it.
#[tokio::test]
async fn a_skipped_fence_is_found() {
    let mut shop = Shop::open(&[("warehouse.ship_after", "600s")]).await;
    let too_many = basket(PRODUCT, available(&shop.estate, PRODUCT).await + 1);
    for bug in [false, true] {
        let key = format!("late-{bug}");
        let answer = insist_on_placing(&mut shop.buyer, &key, &too_many).await;
        assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.text());
        shop.estate.settled().await;
        let order = |column: &str| {
            let sql =
                format!("SELECT {column} FROM order_header ORDER BY created_at_ms DESC LIMIT 1");
            shop.estate.text("order", &sql).expect("an order")
        };
        let (xid, id, user) = (order("xid"), order("id"), order("user_id"));
        if bug {
            shop.estate.bug("fence-skipped");
        }
        let payload = json!({"user_id": user, "order_id": id, "points": 5});
        let port = shop.estate.ports.points;
        let mut late = shop.estate.branch("order", port, "points.credit", payload).of(&xid, 2);
        let said = late.reserve().await;
        if bug {
            assert_eq!(said, done("tried"));
            shop.is_broken(&["TX-4"]).await;
        } else {
            assert_eq!(said.status, StatusCode::CONFLICT, "{said:?}");
            shop.is_clean().await;
        }
    }
}

/// R5.3: the account and its ledger part.
#[tokio::test]
async fn points_that_are_credited_twice_are_found() {
    let mut shop = Shop::open(&[("warehouse.ship_after", "600s")]).await;
    shop.placed("right").await;
    shop.is_clean().await;
    shop.estate.bug("points-credited-twice");
    shop.placed("wrong").await;
    shop.is_broken(&["POINTS-1"]).await;
}

/// R7.5: somebody buys more than there is.
#[tokio::test]
async fn stock_that_is_taken_without_looking_is_found() {
    let mut shop = Shop::open(&[("warehouse.ship_after", "600s")]).await;
    let too_many = basket(PRODUCT, available(&shop.estate, PRODUCT).await + 1);
    let answer = insist_on_placing(&mut shop.buyer, "right", &too_many).await;
    assert_eq!(answer.json()["code"], "inventory.insufficient", "{}", answer.text());
    shop.is_clean().await;
    shop.estate.bug("stock-without-predicate");
    let answer = insist_on_placing(&mut shop.buyer, "wrong", &too_many).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    shop.is_broken(&["STOCK-2"]).await;
}

/// R5.1: what a given-up order held stays taken.
#[tokio::test]
async fn a_forgotten_cancel_is_found() {
    let mut shop = Shop::open(&[("warehouse.ship_after", "600s")]).await;
    shop.given_up("right").await;
    shop.is_clean().await;
    shop.estate.bug("cancel-forgotten");
    shop.given_up("wrong").await;
    shop.is_broken(&["TX-4"]).await;
}

/// R6.2: an order that is given up ships.
#[tokio::test]
async fn a_message_that_is_sent_before_the_decision_is_found() {
    let mut shop = Shop::open(&[("warehouse.ship_after", "100ms")]).await;
    shop.given_up("right").await;
    shop.is_clean().await;
    shop.estate.bug("message-before-decision");
    shop.given_up("wrong").await;
    shop.is_broken(&["SHIP-2", "MSG-3"]).await;
}

/// R6.3: a broker that dies before it wrote down an acknowledgement delivers once more, after the
/// order was cancelled.
#[tokio::test]
async fn a_forgotten_dedup_row_is_found() {
    // Its claim on the delivery outlives the broker by four seconds: time to cancel.
    let settings = [("broker.attempt_timeout", "2s"), ("warehouse.ship_after", "3s")];
    let mut shop = Shop::open(&settings).await;
    for bug in [false, true] {
        if bug {
            shop.estate.bug("dedup-forgotten");
        }
        let point = "message.order.placed.delivered";
        shop.estate.arm(point);
        let id = shop.placed(&format!("again-{bug}")).await;
        shop.estate.died(point).await;
        let answer = insist_on_cancelling(&mut shop.buyer, &id).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        if bug {
            shop.is_broken(&["SHIP-2"]).await;
        } else {
            shop.is_clean().await;
        }
    }
}

/// TX-5: the order service dies between its answer and writing it down, and whoever comes next does
/// not ask whether all was tried.
#[tokio::test]
async fn an_answer_that_is_forgotten_is_found() {
    let mut shop = Shop::open(&[("warehouse.ship_after", "600s")]).await;
    let point = "tcc.order.place.answered";
    for bug in [false, true] {
        if bug {
            shop.estate.bug("close-forgotten");
        }
        shop.estate.arm(point);
        eventually("it answers and dies", LIMIT, async || {
            let key = format!("answered-{bug}");
            let answer = place(&mut shop.buyer, &key, &basket(PRODUCT, 1)).await;
            wanted(answer, |_| shop.estate.has_died(point))
        })
        .await;
        // Its death is mostly faster than its answer, which comes to the same: it was given.
        let sql = "SELECT id FROM order_header ORDER BY created_at_ms DESC LIMIT 1";
        let id = shop.estate.text("order", sql).expect("an order");
        shop.estate.settled().await;
        let verdict = shop.estate.audit(&[id]).await;
        if bug { verdict.is_broken("JOIN-4") } else { verdict.is_clean() }
    }
}

/// SHIP-2: an order is cancelled while the news that it shipped is on its way.
#[tokio::test]
async fn a_void_that_ignores_what_has_shipped_is_found() {
    // Time to be seen as received, and to freeze the broker.
    let mut shop = Shop::open(&[("warehouse.ship_after", "4s")]).await;
    for (bug, shipped) in [(false, 1), (true, 2)] {
        if bug {
            shop.estate.bug("void-ignored");
        }
        let id = shop.placed(&format!("shipped-{bug}")).await;
        shop.warehouse_has("received", 1).await;
        // From here nobody tells the order service.
        let broker = shop.estate.process("broker");
        broker.freeze();
        shop.warehouse_has("shipped", shipped).await;
        let answer = insist_on_cancelling(&mut shop.buyer, &id).await;
        broker.thaw();
        if bug {
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
            shop.is_broken(&["SHIP-2"]).await;
        } else {
            assert_eq!(answer.json()["code"], "order.shipped", "{}", answer.text());
            shop.is_clean().await;
        }
    }
}
