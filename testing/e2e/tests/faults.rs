//! Real processes die at every step of an order, and the books agree afterwards.
//!
//! Each test arms points at which the next process that comes by is killed (`tradewind_base::fault`),
//! has buyers place or cancel orders who repeat themselves until they know, and waits until nothing
//! is left to do. Then every order that a buyer was told of exists exactly once, stock, points and
//! shipments say the same, and `tradewind audit` finds nothing.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tradewind_e2e::branch::{Said, done, refused};
use tradewind_e2e::trade::{available, basket, points};
use tradewind_e2e::{
    Answer, Client, Estate, Process, Settings, alive, eventually, insist_on_cancelling,
    insist_on_placing, wanted,
};

const LIMIT: Duration = Duration::from_secs(30);

/// The product that is bought.
const PRODUCT: i64 = 1;

/// A shop whose processes die, with what it had at first.
struct Shop {
    estate: Estate,
    token: String,
    stock: i64,
    points: i64,
}

impl Shop {
    /// Leases and limits are short, so that what a dead process held is soon free.
    async fn open(ship_after: &str) -> Self {
        Self::open_with(&[("warehouse.ship_after", ship_after)]).await
    }

    async fn open_with(more: &[(&'static str, &str)]) -> Self {
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

    fn buyer(&self) -> Client {
        self.estate.gateway().bearer(&self.token)
    }

    /// A process that may have died a moment ago, once it is back.
    async fn running(&self, name: &str) -> Process {
        eventually(&format!("{name} runs"), LIMIT, async || {
            let found = self.estate.processes().into_iter().find(|it| it.name == name);
            found.filter(|it| alive(it.pid)).ok_or_else(|| "it does not".to_owned())
        })
        .await
    }

    /// Orders that nobody disturbs.
    async fn orders(&self, count: usize) -> Vec<Value> {
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
    async fn place_through(&self, deaths: &[&str]) -> Vec<Value> {
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
    async fn cancel_through(&self, deaths: &[&str], orders: &[Value]) {
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
    async fn agrees(&self, standing: &[Value], cancelled: i64) {
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
async fn ask(buyer: &mut Client, key: &str, body: &Value) -> anyhow::Result<Answer> {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    let body = Bytes::from(body.to_string());
    buyer.send(Method::POST, "/order/orders", &headers, body).await
}

fn placed(answer: Answer) -> Value {
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    answer.json()
}

fn cancelled(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
}

fn id(order: &Value) -> String {
    order["id"].as_str().unwrap_or_else(|| panic!("no order: {order}")).to_owned()
}

/// R5.2: whoever places the order dies between any two of its durable steps.
#[tokio::test]
async fn an_order_is_placed_once_however_its_initiator_dies() {
    let shop = Shop::open("600s").await;
    let orders = shop
        .place_through(&[
            "tcc.order.place.begun",
            "tcc.order.place.tried",
            "tcc.order.place.decided",
            "tcc.order.place.before-send",
            "tcc.order.place.after-send",
            "tcc.order.place.before-finish",
        ])
        .await;
    shop.agrees(&orders, 0).await;
}

/// R5.2: whoever cancels the order dies between any two durable steps.
#[tokio::test]
async fn an_order_is_cancelled_once_however_its_initiator_dies() {
    let shop = Shop::open("600s").await;
    let mut orders = shop.orders(7).await;
    let deaths = [
        "tcc.order.cancel.begun",
        "tcc.order.cancel.tried",
        "tcc.order.cancel.decided",
        "tcc.order.cancel.before-send",
        "tcc.order.cancel.after-send",
        "tcc.order.cancel.before-finish",
    ];
    shop.cancel_through(&deaths, &orders).await;
    shop.agrees(&orders.split_off(6), 6).await;
}

/// R5.2: it dies undecided, and once more around the time-out that ends what nobody went on with.
#[tokio::test]
async fn what_nobody_decides_is_undone_however_its_initiator_dies() {
    // The dead process's lease on the log must end before the broker asks what became of the
    // order: to be asked after the deadline is another way to end it.
    let shop = Shop::open_with(&[("order.place_limit", "3s")]).await;
    let calm = shop.orders(1).await;
    let (mut buyer, basket) = (shop.buyer(), basket(PRODUCT, 1));
    for (number, end) in ["before-timeout", "after-timeout"].into_iter().enumerate() {
        let (tried, end) = ("tcc.order.place.tried", format!("tcc.order.place.{end}"));
        shop.estate.arm(tried);
        shop.estate.arm(&end);
        let key = format!("undecided-{number}");
        // Until it dies, and not again: a buyer who repeats would have the order go on.
        eventually("it dies undecided", LIMIT, async || {
            let answer = ask(&mut buyer, &key, &basket).await;
            wanted(format!("{answer:?}"), |_| shop.estate.has_died(tried))
        })
        .await;
        shop.estate.died(&end).await;
    }
    shop.estate.settled().await;
    assert_eq!(available(&shop.estate, PRODUCT).await, shop.stock - 1, "all is undone");
    let (tried, end) = ("tcc.order.cancel.tried", "tcc.order.cancel.after-timeout");
    shop.estate.arm(tried);
    shop.estate.arm(end);
    let path = format!("/order/orders/{}/cancel", id(&calm[0]));
    eventually("it dies undecided", LIMIT, async || {
        let answer = buyer.post(&path, &json!({})).await;
        wanted(format!("{answer:?}"), |_| shop.estate.has_died(tried))
    })
    .await;
    shop.estate.died(end).await;
    shop.estate.settled().await;
    // The buyers come back, and get an order each.
    let mut orders = calm;
    for number in 0..2 {
        let key = format!("undecided-{number}");
        orders.push(placed(insist_on_placing(&mut buyer, &key, &basket).await));
    }
    shop.agrees(&orders, 0).await;
}

/// R5.2: a coordinator decides, and it or the order service that asks it dies between any two
/// steps.
#[tokio::test]
async fn an_order_is_placed_once_however_its_coordinator_dies() {
    let shop = Shop::open_with(&[("order.transactions", "coordinator")]).await;
    let orders = shop
        .place_through(&[
            "coordinator.begun",
            "tcc.order.place.tried",
            "coordinator.tried",
            "tcc.order.place.coordinated",
            "coordinator.committed",
            "tcc.order.place.decided",
            "tcc.order/order.place.before-send",
            "tcc.order/order.place.after-send",
            "tcc.order/order.place.before-finish",
        ])
        .await;
    shop.agrees(&orders, 0).await;
}

/// R5.2: the same for a cancelling, and for what the coordinator gives up.
#[tokio::test]
async fn an_order_is_cancelled_once_however_its_coordinator_dies() {
    let shop = Shop::open_with(&[("order.transactions", "coordinator")]).await;
    let deaths = [
        "coordinator.begun",
        "tcc.order.cancel.tried",
        "coordinator.tried",
        "tcc.order.cancel.coordinated",
        "coordinator.committed",
        "tcc.order.cancel.decided",
        "tcc.order/order.cancel.before-send",
        "tcc.order/order.cancel.after-send",
    ];
    let orders = shop.orders(deaths.len()).await;
    shop.cancel_through(&deaths, &orders).await;
    let (too_many, mut buyer) = (basket(PRODUCT, shop.stock + 1), shop.buyer());
    for point in ["coordinator.aborted", "tcc.order.place.aborted"] {
        shop.estate.arm(point);
        let answer = insist_on_placing(&mut buyer, point, &too_many).await;
        assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.text());
        shop.estate.died(point).await;
    }
    shop.agrees(&[], i64::try_from(deaths.len()).unwrap()).await;
}

/// R5.2, R5.3: each participant of a placing dies before its effect, and between effect and answer.
#[tokio::test]
async fn an_order_is_placed_once_however_its_participants_die() {
    let shop = Shop::open("600s").await;
    let orders = shop
        .place_through(&[
            "tcc.points.credit.try.received",
            "tcc.message.try.received",
            "tcc.inventory.reserve.try.received",
            "tcc.points.credit.try.done",
            "tcc.message.try.done",
            "tcc.inventory.reserve.try.done",
            "tcc.points.credit.confirm.received",
            "tcc.message.confirm.received",
            "tcc.inventory.reserve.confirm.received",
            "tcc.points.credit.confirm.done",
            "tcc.message.confirm.done",
            "tcc.inventory.reserve.confirm.done",
            // With the lock of the product in its hand.
            "tcc.inventory.reserve.try.entered",
        ])
        .await;
    shop.agrees(&orders, 0).await;
}

/// R5.2, R5.3: each participant of a cancelling dies before its effect, and between effect and
/// answer.
#[tokio::test]
async fn an_order_is_cancelled_once_however_its_participants_die() {
    let shop = Shop::open("600s").await;
    let deaths = [
        "tcc.points.revoke.try.received",
        "tcc.warehouse.void.try.received",
        "tcc.inventory.restock.try.received",
        "tcc.points.revoke.try.done",
        "tcc.warehouse.void.try.done",
        "tcc.inventory.restock.try.done",
        "tcc.points.revoke.confirm.received",
        "tcc.warehouse.void.confirm.received",
        "tcc.inventory.restock.confirm.received",
        "tcc.points.revoke.confirm.done",
        "tcc.warehouse.void.confirm.done",
        "tcc.inventory.restock.confirm.done",
    ];
    let orders = shop.orders(deaths.len()).await;
    shop.cancel_through(&deaths, &orders).await;
    shop.agrees(&[], i64::try_from(deaths.len()).unwrap()).await;
}

/// R5.1, R5.2: an order that inventory or points refuse is undone whoever dies meanwhile.
#[tokio::test]
async fn a_refused_order_leaves_nothing_whoever_dies() {
    let shop = Shop::open("600s").await;
    let too_many = basket(PRODUCT, shop.stock + 1);
    let mut buyer = shop.buyer();
    for point in [
        "tcc.order.place.before-abort",
        "tcc.order.place.aborted",
        "tcc.points.credit.cancel.received",
        "tcc.message.cancel.received",
        "tcc.inventory.reserve.cancel.received",
        "tcc.points.credit.cancel.done",
        "tcc.message.cancel.done",
    ] {
        shop.estate.arm(point);
        let answer = insist_on_placing(&mut buyer, point, &too_many).await;
        assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.text());
        assert_eq!(answer.json()["code"], "inventory.insufficient", "{}", answer.text());
        shop.estate.died(point).await;
    }
    // Here inventory has reserved, and what it must undo is real.
    let point = "tcc.inventory.reserve.cancel.done";
    shop.estate.arm(point);
    let points = shop.running("points").await;
    points.freeze();
    let answer = ask(&mut buyer, "frozen", &basket(PRODUCT, 2)).await;
    shop.estate.died(point).await;
    points.thaw();
    let answer = answer.unwrap();
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text());
    shop.agrees(&[], 0).await;
}

/// R5.2: a cancelling that cannot go on is undone whoever dies meanwhile, and can be had later.
#[tokio::test]
async fn a_refused_cancelling_leaves_nothing_whoever_dies() {
    let shop = Shop::open("600s").await;
    let deaths = [
        "tcc.order.cancel.before-abort",
        "tcc.order.cancel.aborted",
        "tcc.points.revoke.cancel.received",
        "tcc.inventory.restock.cancel.received",
        "tcc.warehouse.void.cancel.received",
        "tcc.points.revoke.cancel.done",
        "tcc.inventory.restock.cancel.done",
        "tcc.warehouse.void.cancel.done",
    ];
    let orders = shop.orders(deaths.len()).await;
    for (point, order) in deaths.iter().zip(&orders) {
        // Nothing is armed here: who runs now does not die before it is frozen.
        let frozen = [shop.running("warehouse-a").await, shop.running("warehouse-b").await];
        frozen.iter().for_each(Process::freeze);
        shop.estate.arm(point);
        let (mut buyer, id) = (shop.buyer(), id(order));
        // Attempts run into the frozen warehouses until one is undone, or dies of it.
        eventually("the cancelling is refused", LIMIT, async || {
            let answer = buyer.post(&format!("/order/orders/{id}/cancel"), &json!({})).await;
            let code = answer.map_or(Value::Null, |it| it.json()["code"].clone());
            wanted(code, |it| it == "order.unavailable" || shop.estate.has_died(point))
        })
        .await;
        frozen.iter().for_each(Process::thaw);
        shop.estate.died(point).await;
    }
    let mut buyers = JoinSet::new();
    for order in &orders {
        let (mut buyer, id) = (shop.buyer(), id(order));
        buyers.spawn(async move { cancelled(&insist_on_cancelling(&mut buyer, &id).await) });
    }
    buyers.join_all().await;
    shop.agrees(&[], i64::try_from(deaths.len()).unwrap()).await;
}

/// R6.1, R6.2: whoever carries a message dies on every step of its way; each order ships once.
#[tokio::test]
async fn each_order_ships_once_whoever_carries_the_messages_dies() {
    let shop = Shop::open("100ms").await;
    let orders = shop
        .place_through(&[
            "message.order.placed.committed",
            "message.order.placed.received",
            "warehouse.shipped",
            "message.order.shipped.received",
            "message.order.placed.claimed",
            "message.order.placed.consumed",
            "message.order.shipped.taken",
            "message.order.shipped.consumed",
            "message.order.placed.delivered",
            "message.order.shipped.relayed",
        ])
        .await;
    shop.agrees(&orders, 0).await;
    let shipped = "SELECT COUNT(*) FROM order_header WHERE state = 'shipped'";
    let count = i64::try_from(orders.len()).unwrap();
    assert_eq!(shop.estate.count("order", shipped).unwrap(), count);
}

/// R6.1, R6.2: the broker dies on the way of the second message.
#[tokio::test]
async fn each_shipment_is_told_once_however_the_broker_dies() {
    let shop = Shop::open("100ms").await;
    let orders = shop
        .place_through(&[
            "message.order.shipped.committed",
            "message.order.shipped.claimed",
            "message.order.shipped.delivered",
        ])
        .await;
    shop.agrees(&orders, 0).await;
}

/// R5.3: what the wire can do to a branch: a Try after its Cancel, a Cancel without Try, a doubled
/// Confirm, a Confirm without Try. Each real participant answers by the fence table, and nothing of
/// it stays.
#[tokio::test]
async fn participants_answer_by_the_fence_whatever_the_wire_does() {
    let shop = Shop::open("600s").await;
    let order = shop.orders(1).await.remove(0);
    let (ports, order_id) = (shop.estate.ports, id(&order));
    let made_up = "ord_made-up";
    let items = json!([{"product_id": PRODUCT, "quantity": 1}]);
    let award = |points: i64| json!({"user_id": "made-up", "order_id": made_up, "points": points});
    let message = json!({
        "topic": "nobody.listens", "key": made_up, "type": "test", "source": "test", "data": {},
    });
    for (port, action, payload) in [
        (ports.inventory[0], "inventory.reserve", json!({"order_id": made_up, "items": items})),
        (ports.inventory[1], "inventory.restock", json!({"order_id": order_id})),
        (ports.points, "points.credit", award(7)),
        (
            ports.points,
            "points.revoke",
            json!({
                "user_id": "u", "order_id": order_id, "points": order["points"],
            }),
        ),
        (ports.warehouse[0], "warehouse.void", json!({"order_id": order_id})),
        (ports.broker, "message", message),
    ] {
        let branch = || shop.estate.branch("order", port, action, payload.clone());
        // A Cancel without a Try, twice; then the late Try. The initiator has given up by then.
        let mut suspended = branch();
        assert_eq!(suspended.outcome(ports.order).await, "aborted");
        assert_eq!(suspended.cancel().await, done("cancelled"), "{action}");
        assert_eq!(suspended.cancel().await, done("cancelled"), "{action}");
        let late = suspended.reserve().await;
        assert!(is_refused(&late), "{action}: {late:?}");
        let conflict = suspended.confirm().await;
        assert!(is_refused(&conflict), "{action}: {conflict:?}");
        // A Confirm without a Try.
        let nothing = branch().confirm().await;
        assert!(is_refused(&nothing), "{action}: {nothing:?}");
        // A Try whose time is over.
        let mut expired = branch();
        expired.deadline_ms -= 60_000;
        let expired = expired.reserve().await;
        assert!(is_refused(&expired), "{action}: {expired:?}");
    }
    shop.agrees(&[order], 0).await;
}

/// R5.3: doubled Trys, Confirms and Cancels of the branches of real orders have one effect.
#[tokio::test]
async fn doubled_calls_of_a_branch_have_one_effect() {
    let shop = Shop::open_with(&[("order.place_limit", "3s")]).await;
    let ports = shop.estate.ports;
    let [one, two] = ports.inventory;
    let text = |column: &str| {
        let sql = format!("SELECT {column} FROM order_header WHERE state IN ('placing', 'failed')");
        shop.estate.text("order", &sql)
    };
    // An order that waits for points: its branch in inventory is tried, and open.
    let points = shop.running("points").await;
    points.freeze();
    let mut buyer = shop.buyer();
    let basket = basket(PRODUCT, 2);
    let waiting = ask(&mut buyer, "waits", &basket);
    let meanwhile = async {
        let taken =
            async || wanted(available(&shop.estate, PRODUCT).await, |it| *it == shop.stock - 2);
        eventually("inventory has reserved", LIMIT, taken).await;
        let items = json!([{"product_id": PRODUCT, "quantity": 2}]);
        let payload = json!({"order_id": text("id").unwrap(), "items": items});
        let branch = shop.estate.branch("order", one, "inventory.reserve", payload.clone());
        let mut branch = branch.of(&text("xid").unwrap(), 1);
        for port in [one, two, one] {
            branch = branch.at(port);
            assert_eq!(branch.reserve().await, done("tried"));
        }
        assert_eq!(available(&shop.estate, PRODUCT).await, shop.stock - 2);
        // Another service than the initiator has no say, whomever it speaks for.
        for initiator in ["points", "order"] {
            let foreign = shop.estate.branch("points", one, "inventory.reserve", payload.clone());
            let mut foreign = foreign.of(&text("xid").unwrap(), 1).on_behalf_of(initiator);
            let said = foreign.cancel().await;
            assert!(!said.status.is_success(), "{initiator}: {said:?}");
        }
        branch
    };
    let (answer, mut branch) = tokio::join!(waiting, meanwhile);
    points.thaw();
    assert_eq!(answer.unwrap().status, StatusCode::SERVICE_UNAVAILABLE);
    shop.estate.settled().await;
    for port in [one, two] {
        branch = branch.at(port);
        assert_eq!(branch.cancel().await, done("cancelled"));
        assert_eq!(branch.confirm().await, refused("tcc.conflict"));
        let late = branch.reserve().await;
        assert!(is_refused(&late), "{late:?}");
    }
    assert_eq!(available(&shop.estate, PRODUCT).await, shop.stock);
    // A real order's Confirms, once more: the driver has sent them already.
    let order = shop.orders(1).await.remove(0);
    let xid = order["xid"].as_str().unwrap();
    for (port, action, branch) in [
        (one, "inventory.reserve", 1),
        (two, "inventory.reserve", 1),
        (ports.points, "points.credit", 2),
        (ports.broker, "message", 3),
    ] {
        let mut branch = shop.estate.branch("order", port, action, Value::Null).of(xid, branch);
        assert_eq!(branch.confirm().await, done("confirmed"), "{action}");
        assert_eq!(branch.confirm().await, done("confirmed"), "{action}");
        let cancel = branch.cancel().await;
        assert_eq!(cancel.status, StatusCode::CONFLICT, "{action}: {cancel:?}");
    }
    eventually("the alarm is in the log", LIMIT, async || {
        wanted(shop.estate.logs(), |it| it.contains("a branch call that must not be"))
    })
    .await;
    shop.agrees(&[order], 0).await;
}

fn is_refused(said: &Said) -> bool {
    said.status == StatusCode::CONFLICT
}
