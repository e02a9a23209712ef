//! The whole way of an order, and what each guarantee on it costs.
//!
//! - The ceiling: 64 buyers in a closed loop through the gateway, on every core of the machine,
//!   the generator included, everything durable.
//! - An open loop at 30 % and 70 % of it.
//! - At 30 %, in interleaved rounds, the same business steps without the guarantees
//!   ([`parts`]), then with one after the other, up to the whole way. Beside each measurement a
//!   prober feels what one durable step and one exchange cost at that moment.
//! - Locks, the coordinator and MariaDB instead of what is the default.
//! - The broker and the warehouses standing still under load ([`outage`]).
//!
//! An order's CPU and commits are those of all its processes until it has shipped.

mod buyer;
mod estate;
mod measure;
mod outage;
pub(crate) mod parts;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tradewind_base::identity::{USER_HEADER, User};
use tradewind_base::{Clock as _, SystemClock};

use crate::Settings;
use crate::report::{Better, Report};
use crate::sql::mariadb::MariaDb;
use buyer::{Buyer, Caller, ask};
use estate::{Estate, command, free_addresses};
use measure::{Felt, Prober, Sample, closed, open, rest};

/// Buyers of the closed loop.
const BUYERS: usize = 64;
/// Orders per second that must be possible.
const WANTED: f64 = 1000.0;
/// What the whole way may add to the bare steps: durable steps and exchanges.
const STEPS_MAX: f64 = 2.5;
const EXCHANGES_MAX: f64 = 2.0;
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

/// A way to place an order.
struct Way<'a> {
    name: &'static str,
    estate: &'a Estate,
    buyer: Arc<Buyer>,
    rounds: Vec<Sample>,
    felt: Vec<Felt>,
}

impl Bench<'_> {
    async fn run(mut self) -> anyhow::Result<Report> {
        let folder = self.settings.folder.clone();
        let shop = self.shop(&[]).await?;
        let gateway = Arc::new(shoppers(&shop).await?);
        let ceiling = self.ceiling(&shop, &gateway).await?;
        let rate = (0.3 * ceiling.rate).max(1.0);
        self.loads(&shop, &gateway, &ceiling).await?;
        self.compare(&shop, &gateway, rate, &folder).await?;
        self.outages(&shop, &gateway, rate).await?;
        drop(shop);
        self.instead(rate, &ceiling).await?;
        Ok(self.report)
    }

    fn span(&self, factor: u32) -> Duration {
        self.settings.span * factor
    }

    fn note(&mut self, what: &str, unit: (&'static str, Better), ours: &[f64]) {
        self.report.add((what.to_owned(), unit.0, unit.1), ours, None, None);
    }

    async fn shop(&self, settings: &[(String, String)]) -> anyhow::Result<Estate> {
        Estate::up(&self.binary, &self.settings.folder, settings).await
    }

    async fn ceiling(&mut self, shop: &Estate, buyer: &Arc<Buyer>) -> anyhow::Result<Sample> {
        stock(&shop.data)?;
        closed(shop, buyer, 8, self.span(1)).await?;
        let it = closed(shop, buyer, BUYERS, self.span(5)).await?;
        anyhow::ensure!(0 < it.placed, "no order was placed");
        let (metric, unit) = ("ceiling, orders, 64 buyers".to_owned(), "1/s");
        self.report.add((metric, unit, HIGHER), &[it.rate], Some(("wanted", &[WANTED])), Some(1.0));
        self.note("ceiling, p50", ("ms", LOWER), &[it.p50]);
        self.note("ceiling, p99", ("ms", LOWER), &[it.p99]);
        self.note("ceiling, CPU of an order, all processes", ("ms", LOWER), &[it.cpu]);
        self.note(
            "ceiling, durable commits of an order, all databases",
            ("", LOWER),
            &[it.commits],
        );
        self.note("local transactions of an order", ("", LOWER), &[it.transactions]);
        self.note("ceiling, orders that failed", ("", LOWER), &[measure::count(it.failed)]);
        Ok(it)
    }

    /// The open loop through the gateway.
    async fn loads(
        &mut self,
        shop: &Estate,
        buyer: &Arc<Buyer>,
        ceiling: &Sample,
    ) -> anyhow::Result<()> {
        for (share, name) in [(0.3, "30 %"), (0.7, "70 %")] {
            let it = open(shop, buyer, share * ceiling.rate, self.span(4)).await?;
            self.note(
                &format!("at {name}, orders offered"),
                ("1/s", HIGHER),
                &[share * ceiling.rate],
            );
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

    /// The bare steps, and one guarantee more at a time, in turns.
    async fn compare(
        &mut self,
        shop: &Estate,
        gateway: &Arc<Buyer>,
        rate: f64,
        folder: &Path,
    ) -> anyhow::Result<()> {
        let (parts, order) = self.parts().await?;
        let direct = shop.process("order")?.address;
        let of_parts = |path| Arc::new(Buyer::new(order, path, Vec::new()));
        let direct = Arc::new(Buyer::new(direct, "/orders", vec![sealed_user(&shop.data)?]));
        let way = |name, estate, buyer| Way { name, estate, buyer, rounds: vec![], felt: vec![] };
        let mut ways = [
            way("bare steps", &parts, of_parts("/bare")),
            way("with a key", &parts, of_parts("/keyed")),
            way("with key and message", &parts, of_parts("/told")),
            way("the order service: TCC, key and message", shop, direct),
            way("the whole way, through the gateway", shop, Arc::clone(gateway)),
        ];
        let probes = tempfile::tempdir_in(folder)?;
        let mut prober = Prober::open(probes.path(), Caller::open(order).await?)?;
        for it in &ways {
            closed(it.estate, &it.buyer, 4, self.settings.span / 2).await?;
        }
        for _ in 0..self.settings.rounds {
            for it in &mut ways {
                let (estate, buyer) = (it.estate, &it.buyer);
                let span = self.settings.span * 3 / 2;
                let (sample, felt) = prober.beside(estate, buyer, rate, span).await?;
                it.rounds.push(sample);
                it.felt.push(felt);
            }
        }
        self.prices(&ways);
        Ok(())
    }

    fn prices(&mut self, ways: &[Way<'_>]) {
        let Some((bare, whole)) = ways.first().zip(ways.last()) else { return };
        let each = |way: &Way<'_>, of: fn(&Sample) -> f64| way.rounds.iter().map(of).collect();
        let felt = |of: fn(&Felt) -> f64| -> Vec<f64> {
            ways.iter().flat_map(|it| &it.felt).map(of).collect()
        };
        self.note("one durable step, felt beside the load", ("ms", LOWER), &felt(|it| it.step));
        self.note("one exchange, felt beside the load", ("ms", LOWER), &felt(|it| it.exchange));
        for (what, unit, of) in [
            ("p50", "ms", (|it| it.p50) as fn(&Sample) -> f64),
            ("p99", "ms", |it| it.p99),
            ("CPU of an order", "ms", |it| it.cpu),
            ("durable commits of an order", "", |it| it.commits),
        ] {
            let base: Vec<f64> = each(bare, of);
            for way in ways {
                let rounds: Vec<f64> = each(way, of);
                let peer = (way.name != bare.name).then_some(("bare", base.as_slice()));
                self.report.add(
                    (format!("{what}: {}", way.name), unit, LOWER),
                    &rounds,
                    peer,
                    None,
                );
            }
        }
        let added: Vec<f64> = whole
            .rounds
            .iter()
            .zip(&bare.rounds)
            .map(|(whole, bare)| (whole.p50 - bare.p50).max(0.0))
            .collect();
        let allowed: Vec<f64> = felt(|it| STEPS_MAX * it.step + EXCHANGES_MAX * it.exchange);
        let metric = "p50 that the whole way adds to the bare steps".to_owned();
        let peer = Some(("2.5 durable steps and 2 exchanges", allowed.as_slice()));
        self.report.add((metric, "ms", LOWER), &added, peer, Some(1.0));
    }

    /// The services of the comparison: as many processes as in the shop.
    async fn parts(&self) -> anyhow::Result<(Estate, SocketAddr)> {
        let mut parts = Estate::empty(&self.settings.folder)?;
        let addresses = free_addresses(8)?;
        let mut addresses = addresses.into_iter();
        let mut next = || addresses.next().context("no address");
        let (data, registry) = (parts.data.clone(), next()?);
        for (name, bind) in [("registry", registry), ("broker", next()?)] {
            let mut command = command(&self.binary, &data);
            let urls = format!("discovery.urls=http://{registry}");
            command.args([name, "--supervised", "--set", &urls]);
            command.args(["--set", &format!("{name}.bind={bind}")]);
            parts.add(name, bind, &mut command).await?;
        }
        let own = std::env::current_exe()?;
        let mut last = registry;
        let (stock, goods) = (parts::INVENTORY, parts::WAREHOUSE);
        for name in [stock, stock, parts::POINTS, goods, goods, parts::ORDER] {
            last = next()?;
            let mut command = Command::new(&own);
            command.args(["part", name, "--bind", &last.to_string()]);
            command.arg("--data").arg(&data).args(["--registry", &format!("http://{registry}")]);
            parts.add(name, last, &mut command).await?;
        }
        let buyer = Buyer::new(last, "/bare", Vec::new());
        for _ in 0..100 {
            // Until it has found everybody.
            if buyer.place().await.is_ok_and(|it| it == 201) {
                return Ok((parts, last));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("the services of the comparison place no order")
    }

    async fn outages(
        &mut self,
        shop: &Estate,
        buyer: &Arc<Buyer>,
        rate: f64,
    ) -> anyhow::Result<()> {
        let it = outage::broker(shop, buyer, rate).await?;
        let failed = measure::count(it.failed);
        self.note("broker frozen for 5 s: orders that failed", ("", LOWER), &[failed]);
        self.note("broker back: until no order fails", ("s", LOWER), &[it.back]);
        let before = [it.before];
        let metric = "broker back: p50 of orders".to_owned();
        self.report.add((metric, "ms", LOWER), &[it.after], Some(("before", &before)), None);

        let away = self.settings.outage;
        let it = outage::warehouses(shop, buyer, rate, away).await?;
        let what = format!("warehouses frozen for {} s: orders placed", away.as_secs());
        let offered = [rate];
        self.report.add(
            (what, "1/s", HIGHER),
            &[it.placed],
            Some(("offered", &offered)),
            Some(0.95),
        );
        let failed = measure::count(it.failed);
        self.note("warehouses frozen: orders that failed", ("", LOWER), &[failed]);
        self.note("warehouses back: deliveries that waited", ("", HIGHER), &[it.waiting]);
        self.note("warehouses back: until they were made", ("s", LOWER), &[it.took]);
        let metric = "warehouses back: deliveries under the same load".to_owned();
        self.report.add(
            (metric, "1/s", HIGHER),
            &[it.drained],
            Some(("arrivals", &offered)),
            Some(2.0),
        );
        Ok(())
    }

    /// What can be chosen instead of a default.
    async fn instead(&mut self, rate: f64, ceiling: &Sample) -> anyhow::Result<()> {
        let set = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let locks = [set("inventory.lock", "sql")];
        self.other("locks on products", &locks, None, (rate, ceiling)).await?;
        let coordinator = [set("order.transactions", "coordinator")];
        self.other("coordinator", &coordinator, None, (rate, ceiling)).await?;
        let Some(server) = MariaDb::start(&self.settings.folder).await? else {
            self.report.absent("MariaDB", "the package mariadb-server brings it");
            return Ok(());
        };
        let mut settings = Vec::new();
        for name in ["order", "inventory", "points", "warehouse", "broker"] {
            server.create(&format!("tw_{name}"))?;
            settings.push((format!("{name}.database.url"), server.url_of(&format!("tw_{name}"))));
        }
        self.other("MariaDB", &settings, Some(&server), (rate, ceiling)).await
    }

    async fn other(
        &mut self,
        name: &str,
        settings: &[(String, String)],
        server: Option<&MariaDb>,
        (rate, ceiling): (f64, &Sample),
    ) -> anyhow::Result<()> {
        let mut shop = self.shop(settings).await?;
        match server {
            None => stock(&shop.data)?,
            Some(server) => {
                server.stock(STOCK)?;
                shop.processes.push(estate::Process {
                    name: "mariadbd".to_owned(),
                    pid: server.pid(),
                    address: SocketAddr::from(([127, 0, 0, 1], 9)),
                });
            }
        }
        let buyer = Arc::new(shoppers(&shop).await?);
        closed(&shop, &buyer, 8, self.span(1)).await?;
        let most = closed(&shop, &buyer, BUYERS, self.span(3)).await?;
        let base = [ceiling.rate];
        let metric = format!("{name}: ceiling");
        self.report.add((metric, "1/s", HIGHER), &[most.rate], Some(("default", &base)), None);
        let base = [ceiling.cpu];
        let metric = format!("{name}: CPU of an order at the ceiling");
        self.report.add((metric, "ms", LOWER), &[most.cpu], Some(("default", &base)), None);
        // Never more than it can bear.
        let rate = rate.min(0.7 * most.rate).max(1.0);
        let it = open(&shop, &buyer, rate, self.span(3)).await?;
        self.note(&format!("{name}: p50 at {rate:.0}/s"), ("ms", LOWER), &[it.p50]);
        self.note(&format!("{name}: p99 at {rate:.0}/s"), ("ms", LOWER), &[it.p99]);
        let commits = format!("{name}: durable commits of an order at {rate:.0}/s");
        self.note(&commits, ("", LOWER), &[it.commits]);
        rest(&shop).await
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

/// The gateway's word on a user, for who asks the order service itself.
fn sealed_user(data: &Path) -> anyhow::Result<String> {
    let keys = tradewind_service::Keys::load_or_create(data)?;
    let user = User { id: "usr_bench".into(), name: "Bench".into(), roles: Vec::new() };
    let end = SystemClock::new().now() + Duration::from_secs(3600);
    Ok(format!("{USER_HEADER}: {}\r\n", user.seal(keys.seal(), end)?))
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
