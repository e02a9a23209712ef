//! The shop whose processes die, and the comparison of its books.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::Value;
use tokio::task::JoinSet;
use tradewind_e2e::trade::{available, basket, points};
use tradewind_e2e::{
    Answer, Client, Estate, Process, Settings, alive, eventually, insist_on_cancelling,
    insist_on_placing,
};

use crate::LIMIT;

/// The product that is bought.
pub(crate) const PRODUCT: i64 = 1;

/// A shop whose processes die, with what it had at first.
pub(crate) struct Shop {
    pub(crate) estate: Estate,
    token: String,
    pub(crate) stock: i64,
    points: i64,
}

impl Shop {
    /// Leases and limits are short, so that what a dead process held is soon free.
    pub(crate) async fn open(ship_after: &str) -> Self {
        Self::open_with(&[("warehouse.ship_after", ship_after)]).await
    }

    pub(crate) async fn open_with(more: &[(&'static str, &str)]) -> Self {
        let settings = [
            ("order.place_limit", "1s"),
            ("order.cancel_limit", "2s"),
            ("broker.attempt_timeout", "1s"),
            ("warehouse.ship_after", "600s"),
        ];
        let settings = settings.iter().chain(more);
        let settings: Settings = settings.map(|(key, value)| (*key, (*value).to_owned())).collect();
        let estate = Estate::start_faulty(settings).await;
        let token = estate.token().await;
        let stock = available(&estate, PRODUCT).await;
        let points = points(&mut estate.gateway().bearer(&token)).await;
        Self { estate, token, stock, points }
    }

    pub(crate) fn buyer(&self) -> Client {
        self.estate.gateway().bearer(&self.token)
    }

    /// A process that may have died a moment ago, once it is back.
    pub(crate) async fn running(&self, name: &str) -> Process {
        eventually(&format!("{name} runs"), LIMIT, async || {
            let found = self.estate.processes().into_iter().find(|it| it.name == name);
            found.filter(|it| alive(it.pid)).ok_or_else(|| "it does not".to_owned())
        })
        .await
    }

    /// Orders that nobody disturbs.
    pub(crate) async fn orders(&self, count: usize) -> Vec<Value> {
        let mut orders = Vec::new();
        let mut buyer = self.buyer();
        for number in 0..count {
            let key = format!("calm-{number}");
            orders.push(placed(insist_on_placing(&mut buyer, &key, &basket(PRODUCT, 1)).await));
        }
        self.estate.settled().await;
        orders
    }

    /// Places one order for each point and has a process die there meanwhile.
    pub(crate) async fn place_through(&self, deaths: &[&str]) -> Vec<Value> {
        let mut buyers = JoinSet::new();
        for (number, point) in deaths.iter().enumerate() {
            self.estate.arm(point);
            let (mut buyer, key) = (self.buyer(), format!("{point}-{number}"));
            buyers.spawn(async move {
                placed(insist_on_placing(&mut buyer, &key, &basket(PRODUCT, 1)).await)
            });
            self.estate.died(point).await;
        }
        buyers.join_all().await
    }

    /// Cancels one order for each point and has a process die there meanwhile.
    pub(crate) async fn cancel_through(&self, deaths: &[&str], orders: &[Value]) {
        let mut buyers = JoinSet::new();
        for (point, order) in deaths.iter().zip(orders) {
            self.estate.arm(point);
            let (mut buyer, id) = (self.buyer(), id(order));
            buyers.spawn(async move { cancelled(&insist_on_cancelling(&mut buyer, &id).await) });
            self.estate.died(point).await;
        }
        buyers.join_all().await;
    }

    /// Waits for the end of everything and compares: these orders of one piece each stand, so many
    /// are cancelled, and there is nothing else.
    pub(crate) async fn agrees(&self, standing: &[Value], cancelled: i64) {
        let estate = &self.estate;
        estate.settled().await;
        let mut ids: Vec<_> = standing.iter().map(id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), standing.len(), "two buyers got one order: {ids:?}");
        let count = i64::try_from(standing.len()).unwrap();
        let number = |server: &str, sql: &str| estate.count(server, sql).unwrap();
        let orders = "SELECT COUNT(*) FROM order_header WHERE state IN ('placed', 'shipped')";
        assert_eq!(number("order", orders), count, "orders that stand");
        let orders = "SELECT COUNT(*) FROM order_header WHERE state = 'cancelled'";
        assert_eq!(number("order", orders), cancelled, "orders that are cancelled");
        let outbound = "SELECT COUNT(*) FROM outbound WHERE state IN ('received', 'shipped')";
        assert_eq!(number("warehouse", outbound), count, "shipments");
        let outbound = "SELECT COUNT(*) FROM outbound WHERE state = 'void'";
        assert_eq!(number("warehouse", outbound), cancelled, "shipments that are void");
        assert_eq!(number("broker", "SELECT COUNT(*) FROM dead_letter"), 0, "dead letters");
        let earned: i64 = standing.iter().map(|it| it["points"].as_i64().unwrap()).sum();
        assert_eq!(available(estate, PRODUCT).await, self.stock - count, "stock");
        assert_eq!(points(&mut self.buyer()).await, self.points + earned, "points");
        estate.audit(&ids).await.is_clean();
    }
}

/// Asks for an order once.
pub(crate) async fn ask(buyer: &mut Client, key: &str, body: &Value) -> anyhow::Result<Answer> {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    let body = Bytes::from(body.to_string());
    buyer.send(Method::POST, "/order/orders", &headers, body).await
}

pub(crate) fn placed(answer: Answer) -> Value {
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    answer.json()
}

pub(crate) fn cancelled(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
}

pub(crate) fn id(order: &Value) -> String {
    order["id"].as_str().unwrap_or_else(|| panic!("no order: {order}")).to_owned()
}
