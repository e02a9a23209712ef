//! What all chapters use: the buyers, and questions to the estate.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use super::estate::Estate;
use super::proof::{Held, Unmet, hold, until};
use super::story::{Story, money};
use super::web::{Answer, Ask, Web, list, number, text};
use super::wire::Wire;

/// How long what goes on in the background may take: confirming, delivering, shipping. Within it a
/// machine that is busy with other things has time, too.
pub(super) const SETTLE_LIMIT: Duration = Duration::from_secs(15);

/// The product that most chapters buy.
pub(super) const TEA: i64 = 1;

/// Everything a chapter works with.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    pub(super) story: Story,
    pub(super) estate: &'a Estate,
    pub(super) wire: &'a Wire,
    pub(super) web: &'a Web,
    pub(super) alice: Buyer,
    pub(super) bob: Buyer,
    /// How long an order may take until it is placed or refused.
    pub(super) place_limit: Duration,
    told_placed: RefCell<BTreeSet<String>>,
}

/// A user of the shop who has logged in.
#[derive(Clone, Debug)]
pub(super) struct Buyer {
    name: &'static str,
    token: String,
}

/// An order that was placed.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) id: String,
    pub(super) xid: String,
    pub(super) message: String,
    pub(super) points: i64,
    total: String,
    took: Duration,
}

/// What orders change, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Books {
    /// How many of the product can be bought.
    pub(super) stock: i64,
    /// The points of the buyer.
    pub(super) points: i64,
    /// Those that depend on orders which are being placed.
    pub(super) pending: i64,
    /// The orders of the buyer that were placed.
    pub(super) orders: usize,
}

impl Buyer {
    /// Logs in with the password of a demo user.
    async fn log_in(web: &Web, estate: &Estate, name: &'static str) -> Held<Self> {
        let body = json!({"username": name, "password": format!("{name}-demo")});
        let answer = web.send(estate.ports.gateway, Ask::post("/order/login", &body)).await?;
        let token = text(&answer.ok()?, "access_token").to_owned();
        Ok(Self { name, token })
    }
}

impl<'a> Scene<'a> {
    /// A scene in a running estate, with two buyers who have logged in.
    pub(super) async fn set(
        story: Story,
        estate: &'a Estate,
        wire: &'a Wire,
        web: &'a Web,
        place_limit: Duration,
    ) -> Held<Self> {
        let alice = Buyer::log_in(web, estate, "alice").await?;
        let bob = Buyer::log_in(web, estate, "bob").await?;
        let told_placed = RefCell::default();
        Ok(Self { story, estate, wire, web, alice, bob, place_limit, told_placed })
    }

    /// A question to the shop, through the gateway.
    pub(super) async fn shop(&self, buyer: &Buyer, path: &str) -> Held<Value> {
        let ask = Ask::get(path).bearer(&buyer.token);
        self.web.send(self.estate.ports.gateway, ask).await?.ok()
    }

    /// Tells of the request for an order before it is sent.
    pub(super) fn asks_for_order(&self, key: &str, product: i64, quantity: i64) {
        let line = format!(
            "POST /order/orders  Idempotency-Key: {key}  product {product}, quantity {quantity}"
        );
        self.story.asks(line);
    }

    /// One request for an order.
    pub(super) async fn order(
        &self,
        buyer: &Buyer,
        key: &str,
        product: i64,
        quantity: i64,
    ) -> Held<Answer> {
        let items = json!([{"product_id": product, "quantity": quantity}]);
        let body = json!({"items": items, "address": "1 Harbour Road"});
        let ask = Ask::post("/order/orders", &body).bearer(&buyer.token);
        let ask = ask.with("idempotency-key", key);
        let answer = self.web.send(self.estate.ports.gateway, ask).await?;
        if answer.status == StatusCode::CREATED {
            self.told_placed.borrow_mut().insert(Order::read(&answer)?.id);
        }
        Ok(answer)
    }

    /// The ids of all orders that a buyer was told are placed.
    pub(super) fn told_placed(&self) -> Vec<String> {
        self.told_placed.borrow().iter().cloned().collect()
    }

    /// One request for an order that is placed with it, told.
    pub(super) async fn placed(&self, key: &str, product: i64, quantity: i64) -> Held<Order> {
        self.asks_for_order(key, product, quantity);
        let answer = self.order(&self.alice, key, product, quantity).await?;
        let order = Order::read(&answer)?;
        self.story.gets(order.told());
        Ok(order)
    }

    /// What orders of this product change for this buyer.
    pub(super) async fn books(&self, buyer: &Buyer, product: i64) -> Held<Books> {
        let account = self.shop(buyer, "/points/accounts/me").await?;
        let orders = self.shop(buyer, "/order/orders?size=100").await?;
        let placed = list(&orders, "items").iter().filter(|it| text(it, "state") != "failed");
        Ok(Books {
            stock: self.stock(product).await?,
            points: number(&account, "balance")?,
            pending: number(&account, "pending")?,
            orders: placed.count(),
        })
    }

    /// How many of a product can be bought.
    pub(super) async fn stock(&self, product: i64) -> Held<i64> {
        let product = self.shop(&self.alice, &format!("/inventory/products/{product}")).await?;
        number(&product, "available")
    }

    /// Waits until the books are as they must be in the end.
    pub(super) async fn books_become(&self, product: i64, wanted: Books) -> Held<Books> {
        until(SETTLE_LIMIT, async || {
            let seen = self.books(&self.alice, product).await?;
            hold(seen == wanted, wanted.told(), seen.told())?;
            Ok(seen)
        })
        .await
    }

    /// Waits until an order has shipped.
    pub(super) async fn shipped(&self, order: &Order) -> Held {
        let path = format!("/order/orders/{}", order.id);
        until(SETTLE_LIMIT, async || {
            let seen = self.shop(&self.alice, &path).await?;
            let state = text(&seen, "state");
            hold(state == "shipped", "the order shipped", format!("the order {state}"))
        })
        .await
    }

    /// Waits until nothing is on its way to Alice any more: what a chapter counts is then its own.
    pub(super) async fn all_shipped(&self) -> Held {
        until(SETTLE_LIMIT, async || {
            let orders = self.shop(&self.alice, "/order/orders?size=100").await?;
            let open = |it: &&Value| !matches!(text(it, "state"), "shipped" | "failed");
            match list(&orders, "items").iter().find(open) {
                Some(it) => Err(Unmet::new("all earlier orders shipped", it)),
                None => Ok(()),
            }
        })
        .await
    }

    /// What the broker knows of a message.
    pub(super) async fn message(&self, id: &str) -> Held<Value> {
        let path = format!("/messages/v1/messages/{id}");
        self.web.inside(self.estate.ports.broker, &self.estate.keys()?, &path).await
    }

    /// What the warehouse knows.
    pub(super) async fn warehouse(&self, path: &str) -> Held<Value> {
        let [first, _] = self.estate.ports.warehouse;
        self.web.inside(first, &self.estate.keys()?, path).await
    }
}

impl Buyer {
    /// The name, as people write it.
    pub(super) fn title(&self) -> String {
        let mut name = self.name.to_owned();
        if let Some(first) = name.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        name
    }
}

impl Order {
    /// The order of an answer 201.
    pub(super) fn read(answer: &Answer) -> Held<Self> {
        let it = answer.with(StatusCode::CREATED)?;
        let field = |name| match text(&it, name) {
            "" => Err(Unmet::new(format!("an order with `{name}`"), &it)),
            found => Ok(found.to_owned()),
        };
        Ok(Self {
            id: field("id")?,
            xid: field("xid")?,
            message: field("message_id")?,
            points: number(&it, "points")?,
            total: money(number(&it, "total_cents")?, text(&it, "currency")),
            took: answer.took,
        })
    }

    /// The answer in a line.
    pub(super) fn told(&self) -> String {
        let Self { id, total, took, .. } = self;
        format!("201 in {}: {id} is placed, {total}", super::story::span(*took))
    }
}

impl Books {
    /// In a line.
    pub(super) fn told(&self) -> String {
        let Self { stock, points, pending, orders } = self;
        format!("stock {stock}, points {points} ({pending} pending), orders {orders}")
    }
}
