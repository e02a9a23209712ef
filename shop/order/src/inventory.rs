//! What the order service asks of inventory, in its own words: the declared client and the part of
//! the answers that it reads. Fields that inventory adds later are ignored.

mod remembered;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tradewind::base::Context;
use tradewind::call::{Asked, CallError, Gather};

pub use remembered::Remembered;

/// The question which products can be bought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// One item per product.
    pub items: Vec<AskItem>,
}

/// One product of the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskItem {
    /// The product.
    pub product_id: i64,
    /// How many.
    pub quantity: u32,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Availability {
    /// One per asked product that is on sale.
    pub items: Vec<AvailableItem>,
    /// The asked products that are not on sale.
    pub unknown: Vec<i64>,
}

/// What there is of one product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AvailableItem {
    /// The product.
    pub product_id: i64,
    /// Its article number.
    pub sku: String,
    /// Its name.
    pub name: String,
    /// Its price in the smallest unit of the currency.
    pub price_cents: i64,
    /// The currency (ISO 4217).
    pub currency: String,
    /// How many can be bought now.
    pub available: i64,
}

/// The inventory service.
#[tradewind::client(service = "inventory")]
pub trait Inventory {
    /// What there is of each product. A question changes nothing, so it may be repeated.
    #[post("/availability", idempotent)]
    async fn availability(&self, #[json] ask: &Ask) -> Result<Availability, CallError>;
}

/// Most products of one question: what inventory takes.
const ASK_ITEMS_MAX: usize = 100;
/// Most questions that go together.
const ASKS_MAX: usize = 32;
/// Most products of a question that goes with others.
const SMALL: usize = ASK_ITEMS_MAX / ASKS_MAX;
/// Exchanges under way.
const PLACES: usize = 4;

/// Inventory, asked for several orders at once when many come at a time: what there is of a
/// product is the same for all who ask at one moment.
#[derive(Clone, Debug)]
pub struct Gathered<I> {
    inventory: I,
    gather: Arc<Gather<Ask, Availability>>,
}

impl<I> Gathered<I> {
    /// Asks `inventory`.
    #[must_use]
    pub fn new(inventory: I) -> Self {
        Self { inventory, gather: Arc::new(Gather::new(PLACES, ASKS_MAX)) }
    }
}

impl<I: Inventory + Sync> Inventory for Gathered<I> {
    async fn availability(&self, ask: &Ask) -> Result<Availability, CallError> {
        if SMALL < ask.items.len() {
            return self.inventory.availability(ask).await;
        }
        let together = |asks: Vec<Ask>| async move {
            let all = merged(&asks);
            // It is asked for several users: of the carrier's context only the time that is left
            // is all theirs.
            let context = Context { user: None, request_id: None, ..Context::current() };
            match Box::pin(context.scope(self.inventory.availability(&all))).await {
                Ok(answer) => asks.iter().map(|it| Some(part(it, &answer))).collect(),
                // Each learns by itself what is wrong.
                Err(_) => Vec::new(),
            }
        };
        match self.gather.ask(ask.clone(), together).await {
            Asked::Answered(answer) => Ok(answer),
            Asked::Alone(_place) => self.inventory.availability(ask).await,
        }
    }
}

/// One question for several; of a product that comes twice the larger quantity.
fn merged(asks: &[Ask]) -> Ask {
    let mut items = BTreeMap::<i64, u32>::new();
    for it in asks.iter().flat_map(|it| &it.items) {
        let quantity = items.entry(it.product_id).or_default();
        *quantity = it.quantity.max(*quantity);
    }
    let item = |(product_id, quantity)| AskItem { product_id, quantity };
    Ask { items: items.into_iter().map(item).collect() }
}

/// What one of the questions would have been answered.
fn part(ask: &Ask, answer: &Availability) -> Availability {
    let asked = |id: i64| ask.items.iter().any(|it| it.product_id == id);
    Availability {
        items: answer.items.iter().filter(|it| asked(it.product_id)).cloned().collect(),
        unknown: answer.unknown.iter().copied().filter(|it| asked(*it)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tradewind::base::Tasks;
    use tradewind::call::{Channel, Client, Identity, Policy};
    use tradewind::discovery::{Discovery, Instance, ServiceName};
    use tradewind::host::testing::Running;
    use tradewind::service::axum::Router;
    use tradewind::service::axum::routing::post;
    use tradewind::service::{Answer, Caller, Json};

    use super::*;

    /// What inventory answers, to the letter; its own test has the same text.
    const GOLDEN: &str = r#"{"items":[{"product_id":41,"sku":"KIT-FLASK-750-SAG","name":"Thermos Flask","price_cents":14400,"currency":"CNY","available":1,"sufficient":false}],"unknown":[900]}"#;

    async fn stand_in(
        Caller(caller): Caller,
        Json(ask): Json<serde_json::Value>,
    ) -> Answer<serde_json::Value> {
        assert_eq!(caller.service, "order");
        let expected = serde_json::json!({"items": [{"product_id": 41, "quantity": 2}]});
        assert_eq!(ask, expected);
        Ok(Json(serde_json::from_str(GOLDEN).unwrap()))
    }

    fn at(address: SocketAddr) -> Instance {
        let service = ServiceName::parse("inventory").unwrap();
        Instance::plain(&service, &address.ip().to_string(), address.port()).unwrap()
    }

    /// R2.1, R2.4: the declared client finds inventory, says who it is, passes over an instance
    /// that is not there any more, and reads the answer.
    #[tokio::test]
    async fn the_client_asks_the_instance_that_is_there() {
        let running =
            Running::start("inventory", Router::new().route("/availability", post(stand_in))).await;
        // Bound to get a port, and gone again.
        let gone = {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            at(listener.local_addr().unwrap())
        };
        let discovery = Discovery::fixed(vec![at(running.address()), gone]);
        let tasks = Tasks::new();
        let order = ServiceName::parse("order").unwrap();
        let caller = Identity::new(order, running.keys().seal().clone());
        let service = ServiceName::parse(InventoryClient::SERVICE).unwrap();
        let client = Client::standard(&tasks);
        let channel = Channel::new(&discovery, client, service, Policy::default(), Some(caller));
        let inventory = InventoryClient::new(channel);
        for _ in 0..4 {
            let ask = Ask { items: vec![AskItem { product_id: 41, quantity: 2 }] };
            let answer = inventory.availability(&ask).await.unwrap();
            assert_eq!((answer.items[0].price_cents, answer.unknown), (14_400, vec![900]));
        }
    }

    /// Each is told of its own products alone, and as much is asked for as the greediest wants.
    #[test]
    fn what_is_asked_together_is_answered_apart() {
        let ask = |items: &[(i64, u32)]| {
            let item = |&(product_id, quantity)| AskItem { product_id, quantity };
            Ask { items: items.iter().map(item).collect() }
        };
        let asks = [ask(&[(2, 1), (41, 2)]), ask(&[(41, 5)]), ask(&[(900, 1)])];
        assert_eq!(merged(&asks), ask(&[(2, 1), (41, 5), (900, 1)]));
        let answer: Availability = serde_json::from_str(GOLDEN).unwrap();
        let parts = asks.map(|it| part(&it, &answer));
        let told = |it: &Availability| {
            (it.items.iter().map(|it| it.product_id).collect(), it.unknown.clone())
        };
        let expected = [(vec![41], vec![]), (vec![41], vec![]), (vec![], vec![900])];
        assert_eq!(parts.each_ref().map(told), expected);
    }

    /// A question that inventory refuses does not fail those that went with it.
    #[tokio::test]
    async fn what_is_refused_together_is_asked_alone() {
        struct Picky(AtomicU32);
        impl Inventory for Picky {
            async fn availability(&self, ask: &Ask) -> Result<Availability, CallError> {
                tokio::task::yield_now().await;
                if 1 < ask.items.len() {
                    self.0.fetch_add(1, Ordering::SeqCst);
                }
                if ask.items.len() != 1 || ask.items[0].product_id == 7 {
                    let (parameter, reason) = ("ask", "wrong".to_owned());
                    return Err(CallError::Invalid { parameter, reason });
                }
                Ok(Availability { items: Vec::new(), unknown: vec![ask.items[0].product_id] })
            }
        }
        let gathered = Gathered::new(Picky(AtomicU32::new(0)));
        let one = async |product_id| {
            let ask = Ask { items: vec![AskItem { product_id, quantity: 1 }] };
            gathered.availability(&ask).await.ok().map(|it| it.unknown)
        };
        // The first four take the places; the other four gather.
        let (a, b, c, d, e, f, g, h) =
            tokio::join!(one(1), one(2), one(3), one(4), one(5), one(6), one(7), one(8));
        for (id, answer) in (1..).zip([a, b, c, d, e, f, g, h]) {
            assert_eq!(answer, (id != 7).then(|| vec![id]));
        }
        assert_eq!(gathered.inventory.0.load(Ordering::SeqCst), 1, "one question for four");
    }
}
