//! The buyers: each carries its plan out, repeats what has no definite answer, and notes what it
//! was told.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;
use tradewind_e2e::{Answer, Client};

use crate::ledger::{Cancelling, Entry, Ledger, Told};
use crate::machine::shopping::{Click, Line, Shopping, Then, Visit};
use crate::reply::{Reply, code, short};

/// How long a request is repeated. Longer than anything in the storm lasts, so that an order that
/// stays unknown is a finding.
const DEFINITE_WITHIN: Duration = Duration::from_secs(120);
/// Between two repeats: doubling.
const PAUSE_MS: (u64, u64) = (40, 640);
/// Among how many of the latest orders one of somebody else is picked.
const LATEST: usize = 64;

/// What all buyers share.
#[derive(Debug)]
pub struct Shop {
    /// Where requests are sent: `host:port`.
    pub front: String,
    /// Orders accepted so far.
    pub accepted: AtomicUsize,
    /// Whether it is time to go home.
    pub closing: AtomicBool,
    /// Orders of everybody that were accepted, with their user.
    orders: Mutex<Vec<(String, String)>>,
}

impl Shop {
    /// A shop that is entered at `front`.
    #[must_use]
    pub fn new(front: String) -> Self {
        Self {
            front,
            accepted: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            orders: Mutex::new(Vec::new()),
        }
    }

    fn note(&self, user: &str, order: &str) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.push((user.to_owned(), order.to_owned()));
    }

    /// The ids of all orders that were accepted so far.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.iter().map(|it| it.1.clone()).collect()
    }

    fn foreign(&self, user: &str, pick: u64) -> Option<String> {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = orders.iter().rev().take(LATEST);
        let others: Vec<_> = latest.filter(|it| it.0 != user).collect();
        let pick = usize::try_from(pick % others.len().max(1) as u64).unwrap_or(0);
        others.get(pick).map(|it| it.1.clone())
    }
}

/// One buyer.
#[derive(Debug)]
pub struct Buyer {
    number: usize,
    user: String,
    shop: Arc<Shop>,
    /// The second one is for the second click.
    clients: [Client; 2],
    ledger: Ledger,
}

impl Buyer {
    /// Buyer `number`, logged in as `user` with `token`.
    #[must_use]
    pub fn new(number: usize, user: &str, token: &str, shop: Arc<Shop>) -> Self {
        let client = || Client::new(&*shop.front).bearer(token);
        let clients = [client(), client()];
        Self { number, user: user.to_owned(), shop, clients, ledger: Ledger::default() }
    }

    /// Buys until the shop closes, finishes what it began, and hands its ledger over.
    pub async fn run(mut self, plan: Shopping) -> Ledger {
        for visit in plan {
            if self.shop.closing.load(Ordering::Relaxed) {
                break;
            }
            self.visit(visit).await;
        }
        self.ledger
    }

    async fn visit(&mut self, visit: Visit) {
        let key = format!("buyer-{}-visit-{}", self.number, visit.number);
        let mut entry = Entry {
            buyer: self.number,
            user: self.user.clone(),
            body: body(&key, &visit.lines),
            key,
            lines: visit.lines,
            told: Told::Unknown("never asked".to_owned()),
            points: 0,
            cancelling: Cancelling::Never,
            requests: 0,
            was_unknown: false,
            refused_first: false,
        };
        self.place(&mut entry, visit.click).await;
        if let Told::Accepted(id) = entry.told.clone() {
            self.shop.note(&self.user, &id);
            for then in visit.then {
                self.follow(&mut entry, &id, then, visit.pick).await;
            }
        }
        self.ledger.entries.push(entry);
    }

    /// Asks until the answer is definite.
    async fn place(&mut self, entry: &mut Entry, click: Click) {
        let mut patience = Patience::new();
        let mut click = click;
        loop {
            let mut replies = Vec::new();
            let [one, two] = &mut self.clients;
            match click {
                Click::Once => replies.push(order(one, &entry.key, &entry.body).await),
                Click::Twice => {
                    let (first, second) = tokio::join!(
                        order(one, &entry.key, &entry.body),
                        order(two, &entry.key, &entry.body)
                    );
                    replies.extend([first, second]);
                }
            }
            // The second click is for the first time.
            click = Click::Once;
            entry.requests += u32::try_from(replies.len()).unwrap_or(0);
            for reply in replies {
                self.read_placed(entry, reply);
            }
            if !matches!(entry.told, Told::Unknown(_)) || !patience.wait().await {
                return;
            }
        }
    }

    fn read_placed(&mut self, entry: &mut Entry, reply: Reply) {
        let told = match reply {
            Reply::Unknown(why) => {
                *self.ledger.unknown.entry(format!("place: {why}")).or_default() += 1;
                entry.was_unknown = true;
                Told::Unknown(why)
            }
            Reply::Definite(answer) if answer.status == StatusCode::CREATED => {
                let order = answer.json();
                entry.points = order["points"].as_i64().unwrap_or_default();
                self.check_lines(entry, &order);
                Told::Accepted(order["id"].as_str().unwrap_or_default().to_owned())
            }
            Reply::Definite(answer) if answer.status == StatusCode::CONFLICT => {
                Told::Refused(code(&answer))
            }
            Reply::Definite(answer) => {
                self.wrong(entry, "an order", &answer);
                Told::Unknown(short(&answer))
            }
        };
        match (&entry.told, &told) {
            (Told::Accepted(before), Told::Accepted(now)) if before != now => {
                let what = format!("{}: one key, two orders: {before} and {now}", entry.key);
                self.ledger.wrong.push(what);
            }
            (Told::Refused(_), Told::Accepted(_)) => {
                entry.refused_first = true;
                entry.told = told;
            }
            // What is definite stays so.
            (Told::Accepted(_), Told::Refused(_)) => entry.refused_first = true,
            (Told::Accepted(_) | Told::Refused(_), _) => {}
            (Told::Unknown(_), _) => entry.told = told,
        }
    }

    /// The order in an answer is the one that was asked for.
    fn check_lines(&mut self, entry: &Entry, order: &Value) {
        let mut lines: Vec<_> = order["lines"].as_array().map_or_else(Vec::new, |it| {
            let number = |it: &Value, name: &str| it[name].as_i64().unwrap_or_default();
            it.iter().map(|it| (number(it, "product_id"), number(it, "quantity"))).collect()
        });
        let mut asked: Vec<_> = entry.lines.iter().map(|it| (it.product, it.quantity)).collect();
        lines.sort_unstable();
        asked.sort_unstable();
        if lines != asked || !order["address"].as_str().is_some_and(|it| it.contains(&entry.key)) {
            self.ledger.wrong.push(format!("{}: the answer is about another order", entry.key));
        }
    }

    async fn follow(&mut self, entry: &mut Entry, id: &str, then: Then, pick: u64) {
        match then {
            Then::Look => self.look(entry, id).await,
            Then::Repeat => self.place(entry, Click::Once).await,
            Then::OtherBody => {
                let mut other = entry.body.clone();
                other["address"] = json!("2 Other Street");
                let reply = order(&mut self.clients[0], &entry.key, &other).await;
                entry.requests += 1;
                self.expect(entry, "another body", reply, StatusCode::UNPROCESSABLE_ENTITY);
            }
            Then::Foreign => {
                let Some(other) = self.shop.foreign(&self.user, pick) else { return };
                let (read, cancel) = (path(&other), format!("{}/cancel", path(&other)));
                let client = &mut self.clients[0];
                let replies = [Reply::read(client.get(&read).await), post(client, &cancel).await];
                for reply in replies {
                    self.expect(entry, "an order of another", reply, StatusCode::NOT_FOUND);
                }
            }
            Then::RepeatOld => {
                let accepted: Vec<_> = self.ledger.accepted().collect();
                let pick = usize::try_from(pick % accepted.len().max(1) as u64).unwrap_or(0);
                let Some((old, it)) = accepted.get(pick) else { return };
                let (old, key, body) = ((*old).to_owned(), it.key.clone(), it.body.clone());
                if let Reply::Definite(answer) = order(&mut self.clients[0], &key, &body).await {
                    let same = answer.status == StatusCode::CREATED && answer.json()["id"] == *old;
                    if !same {
                        self.wrong(entry, &format!("a repeat of {key} ({old})"), &answer);
                    }
                }
            }
            Then::Cancel { after, click, again } => {
                tokio::time::sleep(after).await;
                self.cancel(entry, id, click).await;
                if again {
                    self.cancel(entry, id, Click::Once).await;
                }
            }
        }
    }

    /// Every order that was accepted is there, in a state that it can be in.
    async fn look(&mut self, entry: &mut Entry, id: &str) {
        let reply = Reply::read(self.clients[0].get(&path(id)).await);
        let Reply::Definite(answer) = reply else { return };
        let order = answer.json();
        let state = order["state"].as_str().unwrap_or_default();
        // Whoever answered may have died before it wrote that down: then it is found out later.
        let legal = match entry.cancelling {
            Cancelling::Never => ["placing", "placed", "shipped"].contains(&state),
            Cancelling::Cancelled => state == "cancelled",
            Cancelling::TooLate => state == "shipped",
            Cancelling::Unknown(_) => {
                ["placing", "placed", "shipped", "cancelling", "cancelled"].contains(&state)
            }
        };
        if answer.status != StatusCode::OK || order["id"] != id || !legal {
            self.wrong(entry, "a look at an accepted order", &answer);
        }
    }

    async fn cancel(&mut self, entry: &mut Entry, id: &str, click: Click) {
        let path = format!("{}/cancel", path(id));
        let (mut patience, mut click) = (Patience::new(), click);
        loop {
            let [one, two] = &mut self.clients;
            let replies = match click {
                Click::Once => vec![post(one, &path).await],
                Click::Twice => {
                    let (first, second) = tokio::join!(post(one, &path), post(two, &path));
                    vec![first, second]
                }
            };
            click = Click::Once;
            entry.requests += u32::try_from(replies.len()).unwrap_or(0);
            for reply in replies {
                self.read_cancelled(entry, reply);
            }
            let open = matches!(entry.cancelling, Cancelling::Unknown(_) | Cancelling::Never);
            if !open || !patience.wait().await {
                return;
            }
        }
    }

    fn read_cancelled(&mut self, entry: &mut Entry, reply: Reply) {
        let now = match reply {
            Reply::Unknown(why) => {
                *self.ledger.unknown.entry(format!("cancel: {why}")).or_default() += 1;
                Cancelling::Unknown(why)
            }
            Reply::Definite(answer) if answer.status == StatusCode::OK => {
                if answer.json()["state"] != "cancelled" {
                    self.wrong(entry, "a cancellation", &answer);
                }
                Cancelling::Cancelled
            }
            Reply::Definite(answer) if code(&answer) == "order.shipped" => Cancelling::TooLate,
            Reply::Definite(answer) => {
                self.wrong(entry, "a cancellation", &answer);
                Cancelling::Unknown(short(&answer))
            }
        };
        match (&entry.cancelling, &now) {
            (Cancelling::Cancelled, Cancelling::TooLate)
            | (Cancelling::TooLate, Cancelling::Cancelled) => {
                let what = format!("{}: cancelled and shipped both", entry.key);
                self.ledger.wrong.push(what);
            }
            (Cancelling::Cancelled | Cancelling::TooLate, _) => {}
            (Cancelling::Never | Cancelling::Unknown(_), _) => entry.cancelling = now,
        }
    }

    /// A definite answer has this status.
    fn expect(&mut self, entry: &Entry, what: &str, reply: Reply, status: StatusCode) {
        if let Reply::Definite(answer) = reply
            && answer.status != status
        {
            self.wrong(entry, what, &answer);
        }
    }

    fn wrong(&mut self, entry: &Entry, what: &str, answer: &Answer) {
        let text = format!("{} ({}): {what} got {}", entry.key, self.user, short(answer));
        self.ledger.wrong.push(text);
    }
}

/// Waits a little longer each time, and not for ever.
struct Patience {
    end: Instant,
    pause: u64,
}

impl Patience {
    fn new() -> Self {
        Self { end: Instant::now() + DEFINITE_WITHIN, pause: PAUSE_MS.0 }
    }

    /// Whether to try once more.
    async fn wait(&mut self) -> bool {
        tokio::time::sleep(Duration::from_millis(self.pause)).await;
        self.pause = (self.pause * 2).min(PAUSE_MS.1);
        Instant::now() < self.end
    }
}

fn body(key: &str, lines: &[Line]) -> Value {
    let items: Vec<_> =
        lines.iter().map(|it| json!({"product_id": it.product, "quantity": it.quantity})).collect();
    // With the key in its address, an order that nobody knows of can be told whose it is.
    json!({"items": items, "address": format!("{key}, 1 Harbour Road")})
}

fn path(id: &str) -> String {
    format!("/order/orders/{id}")
}

async fn order(client: &mut Client, key: &str, body: &Value) -> Reply {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    let body = Bytes::from(body.to_string());
    Reply::read(client.send(Method::POST, "/order/orders", &headers, body).await)
}

async fn post(client: &mut Client, path: &str) -> Reply {
    Reply::read(client.post(path, &json!({})).await)
}
