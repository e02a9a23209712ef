//! The whole way of an order, and what each guarantee on it costs.
//!
//! - The most there is to have: 64 buyers in a closed loop through the gateway, on every core of the
//!   machine, the generator included, everything durable.
//! - The ceiling: the highest rate of an open loop at which every order is placed. A closed loop
//!   does not know it: its buyers ask less as soon as the shop is slow.
//! - An open loop at 30 % and 70 % of it, after a second that is not timed.
//! - At 30 %, in interleaved rounds, the same business steps without the guarantees
//!   ([`parts`]), then with one after the other, up to the whole way. Beside each measurement a
//!   prober feels what one durable step and one exchange cost at that moment.
//! - Twice the ceiling, and after it ([`overload`]).
//! - The broker and the warehouses standing still under load ([`outage`]).
//! - Locks, the coordinator and MariaDB instead of what is the default.
//!
//! With `--against` only the ceiling and an open loop, by turns with another build ([`turns`]).
//!
//! An order's CPU and commits are those of all its processes until it has shipped.

mod buyer;
mod compare;
mod diary;
mod estate;
mod instead;
mod measure;
mod outage;
mod overload;
pub(crate) mod parts;
pub(crate) mod train;
mod turns;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use crate::Settings;
use crate::report::{Better, Report};
use buyer::{Buyer, ask};
use estate::Estate;
use measure::{Sample, closed, open};

/// Buyers of the closed loop.
const BUYERS: usize = 64;
/// Orders per second that must be possible.
const WANTED: f64 = 1000.0;
/// Where the ceiling is looked for, in shares of what the buyers of the closed loop get.
const CEILINGS: [f64; 8] = [1.1, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4];
/// The load at which the price of each guarantee is measured, in ceilings.
const USUAL: f64 = 0.3;
/// Stock that is added to every product.
const STOCK: i64 = 100_000_000;

const LOWER: Better = Better::Lower;
const HIGHER: Better = Better::Higher;

pub(crate) fn run(settings: &Settings) -> anyhow::Result<Report> {
    let binary = crate::dist::binary()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(Bench { settings, binary, report: Report::default() }.run())
}

struct Bench<'a> {
    settings: &'a Settings,
    binary: PathBuf,
    report: Report,
}

impl Bench<'_> {
    async fn run(mut self) -> anyhow::Result<Report> {
        if let Some(other) = &self.settings.against {
            self.turns(other).await?;
            return Ok(self.report);
        }
        let folder = self.settings.folder.clone();
        let shop = self.shop(&[]).await?;
        let gateway = Arc::new(shoppers(&shop).await?);
        let most = self.most(&shop, &gateway).await?;
        let ceiling = self.ceiling(&shop, &gateway, &most).await?;
        let usual = |most: f64| (USUAL * most).max(1.0);
        let rate = usual(ceiling);
        self.loads(&shop, &gateway, ceiling).await?;
        self.overload(&shop, &gateway, ceiling).await?;
        // A share of what there is to have is more orders with each gain of it; a share of what must
        // be possible stays the same.
        let also = [usual(most.rate), usual(WANTED)];
        self.compare(&shop, &gateway, (rate, &also), &folder).await?;
        self.warehouse_outage(&shop, &gateway, rate).await?;
        drop(shop);
        self.broker_outage(rate).await?;
        self.instead(rate, &most).await?;
        Ok(self.report)
    }

    fn span(&self, factor: u32) -> Duration {
        self.settings.span * factor
    }

    fn note(&mut self, what: &str, unit: (&'static str, Better), ours: &[f64]) {
        self.report.add((what.to_owned(), unit.0, unit.1), ours, None, None);
    }

    /// One figure of ours beside one of a peer.
    fn beside(
        &mut self,
        what: &str,
        (unit, better): (&'static str, Better),
        ours: f64,
        (peer, theirs): (&'static str, f64),
        goal: Option<f64>,
    ) {
        self.report.add((what.to_owned(), unit, better), &[ours], Some((peer, &[theirs])), goal);
    }

    async fn shop(&self, settings: &[(String, String)]) -> anyhow::Result<Estate> {
        Estate::up(&self.binary, &self.settings.folder, settings).await
    }

    async fn most(&mut self, shop: &Estate, buyer: &Arc<Buyer>) -> anyhow::Result<Sample> {
        stock(&shop.data)?;
        closed(shop, buyer, 8, self.span(1)).await?;
        let it = closed(shop, buyer, BUYERS, self.span(5)).await?;
        anyhow::ensure!(0 < it.placed, "no order was placed");
        self.against_wanted("64 buyers, orders", it.rate);
        self.note("64 buyers, p50", ("ms", LOWER), &[it.p50]);
        self.note("64 buyers, p99", ("ms", LOWER), &[it.p99]);
        self.note("64 buyers, CPU of an order, all processes", ("ms", LOWER), &[it.cpu]);
        let commits = "64 buyers, durable commits of an order, all databases";
        self.note(commits, ("", LOWER), &[it.commits]);
        self.note("local transactions of an order", ("", LOWER), &[it.transactions]);
        self.note("64 buyers, orders that failed", ("", LOWER), &[measure::count(it.failed)]);
        Ok(it)
    }

    /// The highest of the rates at which every order is placed.
    async fn ceiling(
        &mut self,
        shop: &Estate,
        buyer: &Arc<Buyer>,
        most: &Sample,
    ) -> anyhow::Result<f64> {
        for share in CEILINGS {
            let rate = share * most.rate;
            let it = open(shop, buyer, rate, self.span(8)).await?;
            if it.failed == 0 {
                self.against_wanted("ceiling, orders in an open loop, all placed", rate);
                self.note("ceiling, p50", ("ms", LOWER), &[it.p50]);
                self.note("ceiling, p99", ("ms", LOWER), &[it.p99]);
                self.note("ceiling, CPU of an order", ("ms", LOWER), &[it.cpu]);
                return Ok(rate);
            }
            let what = format!("offered {rate:.0}/s: orders that failed");
            self.note(&what, ("", LOWER), &[measure::count(it.failed)]);
        }
        anyhow::bail!("orders fail at every rate that was tried")
    }

    fn against_wanted(&mut self, what: &str, rate: f64) {
        let peer = Some(("wanted", [WANTED].as_slice()));
        self.report.add((what.to_owned(), "1/s", HIGHER), &[rate], peer, Some(1.0));
    }

    /// The open loop through the gateway.
    async fn loads(
        &mut self,
        shop: &Estate,
        buyer: &Arc<Buyer>,
        ceiling: f64,
    ) -> anyhow::Result<()> {
        for (share, name) in [(USUAL, "30 %"), (0.7, "70 %")] {
            let it = open(shop, buyer, share * ceiling, self.span(4)).await?;
            let offered = format!("at {name}, orders offered");
            self.note(&offered, ("1/s", HIGHER), &[share * ceiling]);
            self.note(&format!("at {name}, p50"), ("ms", LOWER), &[it.p50]);
            self.note(&format!("at {name}, p99"), ("ms", LOWER), &[it.p99]);
            self.note(&format!("at {name}, CPU of an order"), ("ms", LOWER), &[it.cpu]);
            self.note(
                &format!("at {name}, durable commits of an order"),
                ("", LOWER),
                &[it.commits],
            );
            self.note(
                &format!("at {name}, orders that failed"),
                ("", LOWER),
                &[measure::count(it.failed)],
            );
        }
        Ok(())
    }
}

/// Buyers at the gateway: the demo users.
async fn shoppers(shop: &Estate) -> anyhow::Result<Buyer> {
    let gateway = shop.process("gateway")?.address;
    let mut users = Vec::new();
    for name in ["alice", "bob", "carol"] {
        let body = format!(r#"{{"username":"{name}","password":"{name}-demo"}}"#);
        let (status, text) = ask(gateway, "POST", "/order/login", "", &body).await?;
        anyhow::ensure!(status == 200, "{name} cannot log in: {status} {text}");
        let answer: serde_json::Value = serde_json::from_str(&text)?;
        let token = answer.get("access_token").and_then(|it| it.as_str()).context("no token")?;
        users.push(format!("authorization: Bearer {token}\r\n"));
    }
    Ok(Buyer::new(gateway, "/order/orders", users))
}

/// Adds stock to every product, as a first delivery that the audit counts in.
fn stock(data: &Path) -> anyhow::Result<()> {
    let mut connection = rusqlite::Connection::open(data.join("inventory.db"))?;
    connection.busy_timeout(Duration::from_secs(10))?;
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    transaction.execute("UPDATE stock SET on_hand = on_hand + ?", [STOCK])?;
    transaction.execute(STOCK_FLOW, [STOCK])?;
    Ok(transaction.commit()?)
}

/// Takes how much was added to each product.
pub(crate) const STOCK_FLOW: &str = "INSERT INTO stock_flow (product_id, kind, on_hand_change, \
     frozen_change, on_hand_after, frozen_after, reference, at_ms) \
     SELECT product_id, 'initial', ?, 0, on_hand, frozen, 'bench', 0 FROM stock";
