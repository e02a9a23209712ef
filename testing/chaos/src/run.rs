//! One run: an estate, its links, its buyers, the storm, the calm after it, the verdict.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tradewind_e2e::{Client, Estate, Ports, Settings, Storage};

use crate::audit::{Audits, audit};
use crate::books;
use crate::buyer::{Buyer, Shop};
use crate::ledger::Ledger;
use crate::machine::Seed;
use crate::machine::shopping::{Product, Shopping};
use crate::machine::storm::{PROCESSES, PROCESSES_WITH_COORDINATOR, Storm};
use crate::proxy::Link;
use crate::report::Report;
use crate::verdict;
use crate::weather::{Weather, there};

/// How many buy at the same time.
pub const BUYERS: usize = 16;
/// How often each kind of process dies at least.
pub const DEATHS: u32 = 2;
/// The users that the buyers are logged in as, with their passwords.
pub const USERS: [(&str, &str); 3] =
    [("alice", "alice-demo"), ("bob", "bob-demo"), ("carol", "carol-demo")];
/// Everything is settled this long after the storm, whatever was broken in it.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);
/// How many errors of each server are shown.
const ERRORS_MAX: usize = 10;
/// Of a storm with few orders; each order more adds to it.
const STORM_LIMIT: Duration = Duration::from_secs(600);
const STORM_LIMIT_PER_ORDER: Duration = Duration::from_millis(300);

/// Who decides the transactions of orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decider {
    /// The engine within the order service.
    Order,
    /// The coordinator, one more process that dies.
    Coordinator,
}

/// What kind of run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// From what the plan is made.
    pub seed: Seed,
    /// How many orders are accepted at least.
    pub orders: usize,
    /// Where the servers keep their data.
    pub storage: Storage,
    /// Who decides.
    pub decider: Decider,
}

impl Options {
    /// As the environment says: `TRADEWIND_CHAOS_SEED`, `TRADEWIND_CHAOS_ORDERS`; otherwise any
    /// seed and `orders`.
    ///
    /// # Panics
    /// When a variable is no number.
    #[must_use]
    pub fn of_environment(orders: usize, storage: Storage) -> Self {
        let number = |name: &str| {
            let text = std::env::var(name).ok()?;
            Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name}={text} is no number")))
        };
        let any = || {
            use std::hash::{BuildHasher as _, Hasher as _, RandomState};
            // Short enough to be typed.
            RandomState::new().build_hasher().finish() % 1_000_000
        };
        let seed = Seed(number("TRADEWIND_CHAOS_SEED").unwrap_or_else(any));
        let orders = number("TRADEWIND_CHAOS_ORDERS")
            .map_or(orders, |it| usize::try_from(it).unwrap_or(usize::MAX));
        Self { seed, orders, storage, decider: Decider::Order }
    }

    /// The same with the coordinator deciding.
    #[must_use]
    pub const fn with_coordinator(self) -> Self {
        Self { decider: Decider::Coordinator, ..self }
    }

    /// The processes that there are.
    const fn processes(self) -> &'static [&'static str] {
        match self.decider {
            Decider::Order => PROCESSES,
            Decider::Coordinator => PROCESSES_WITH_COORDINATOR,
        }
    }
}

/// What a run found wrong.
#[derive(Debug)]
pub struct Failure {
    /// All findings.
    pub findings: Vec<String>,
    /// Where the data and the logs are.
    pub folder: PathBuf,
    /// What the run was.
    pub report: String,
}

/// Runs it all, prints what happened, and panics with everything that was found wrong.
///
/// # Panics
/// When something is.
pub async fn check(options: Options) {
    println!("chaos: seed {}, {} orders", options.seed.0, options.orders);
    match run(options).await {
        Ok(report) => println!("{report}"),
        Err(it) => panic!(
            "{}{}\nlogs and data: {}\nagain, as far as a seed goes: TRADEWIND_CHAOS_SEED={}",
            it.report,
            it.findings.join("\n"),
            it.folder.display(),
            options.seed.0,
        ),
    }
}

/// Runs it all and gives the verdict.
///
/// # Errors
/// Everything that was found wrong.
///
/// # Panics
/// When there is no estate to begin with.
pub async fn run(options: Options) -> Result<Report, Failure> {
    let (ports, links) = links();
    let settings = settings(options.decider, &links);
    let links: Vec<_> = links.into_iter().map(|it| it.start(options.seed)).collect();
    let mut estate = Estate::start_at(ports, options.storage, settings).await;
    let mut report = Report::new(options);
    let found = Run { options, estate: &estate, links: &links }.all(&mut report).await;
    let mut findings = match found {
        Ok(findings) => findings,
        Err(error) => vec![format!("the run was cut short: {error:#}")],
    };
    report.links = links.iter().map(|it| (it.name(), it.done())).collect();
    if findings.is_empty() {
        return Ok(report);
    }
    findings.truncate(200);
    let folder = estate.keep();
    let report = report.to_string();
    let mut text = format!("{report}\n");
    for it in &findings {
        writeln!(text, "- {it}").expect("a text takes more");
    }
    drop(std::fs::write(folder.join("findings.txt"), text));
    Err(Failure { findings, folder, report })
}

/// A link that is not started yet.
struct Gap {
    name: &'static str,
    /// The setting that has others come through it.
    key: Option<&'static str>,
    listener: std::net::TcpListener,
    server: u16,
}

impl Gap {
    fn port(&self) -> u16 {
        self.listener.local_addr().expect("a listener has an address").port()
    }

    fn start(self, seed: Seed) -> Link {
        Link::start(self.name, seed, self.listener, self.server)
    }
}

/// The links of an estate: one in front of every process but the registry, which its clients watch
/// in a stream.
fn links() -> (Ports, Vec<Gap>) {
    let ports = Ports::free();
    let gap = |name, key, server| Gap { name, key, listener: tradewind_e2e::listener(), server };
    let gaps = vec![
        gap("gateway", None, ports.gateway),
        gap("order", Some("order.advertise"), ports.order),
        gap("coordinator", Some("coordinator.advertise"), ports.coordinator),
        gap("broker", Some("broker.advertise"), ports.broker),
        gap("points", Some("points.advertise"), ports.points),
        gap("inventory-a", Some("inventory.advertise"), ports.inventory[0]),
        gap("inventory-b", Some("up.inventory_second_advertise"), ports.inventory[1]),
        gap("warehouse-a", Some("warehouse.advertise"), ports.warehouse[0]),
        gap("warehouse-b", Some("up.warehouse_second_advertise"), ports.warehouse[1]),
    ];
    (ports, gaps)
}

fn settings(decider: Decider, links: &[Gap]) -> Settings {
    let mut settings = vec![("warehouse.ship_after", "1s".to_owned())];
    if decider == Decider::Coordinator {
        settings.push(("order.transactions", "coordinator".to_owned()));
    }
    for it in links {
        settings.extend(it.key.map(|key| (key, format!("127.0.0.1:{}", it.port()))));
    }
    settings
}

struct Run<'a> {
    options: Options,
    estate: &'a Estate,
    links: &'a [Link],
}

impl Run<'_> {
    async fn all(&self, report: &mut Report) -> anyhow::Result<Vec<String>> {
        let catalogue = verdict::catalogue(self.estate).await?;
        let tokens = tokens(self.estate).await?;
        let mut ledger = self.storm(report, &catalogue, &tokens).await?;
        let mut findings = std::mem::take(&mut ledger.wrong);
        findings.append(&mut report.false_alarms);
        let begun = Instant::now();
        findings.extend(self.settle(&mut report.left).await);
        report.settling = begun.elapsed();
        let written = ledger.entries.iter().map(|it| json!(it).to_string() + "\n");
        let written: String = written.collect();
        std::fs::write(self.estate.data().join("ledger.jsonl"), written)?;
        findings.extend(books::wrong(self.estate, self.options.decider));
        findings.extend(verdict::of(self.estate, &ledger, &catalogue, &tokens).await?);
        let accepted: Vec<_> = ledger.accepted().map(|it| it.0.to_owned()).collect();
        findings.extend(audit(self.estate, &accepted).await?);
        report.ledger = ledger.sums();
        report.unknown = ledger.unknown.clone();
        if report.unknown.keys().any(|it| it.contains(": 500 ")) {
            report.errors = self.errors();
        }
        Ok(findings)
    }

    /// What the servers logged as errors: the last of each, the newest first.
    fn errors(&self) -> Vec<String> {
        let logs = self.estate.logs();
        let each = logs.split("--- ").flat_map(|log| {
            let (name, lines) = log.split_once('\n').unwrap_or_default();
            let errors = lines.lines().rev().filter(|it| it.contains(" ERROR "));
            errors.take(ERRORS_MAX).map(move |it| format!("{name}: {it}"))
        });
        each.collect()
    }

    async fn storm(
        &self,
        report: &mut Report,
        catalogue: &[Product],
        tokens: &[(String, String)],
    ) -> anyhow::Result<Ledger> {
        let options = self.options;
        let shop = Arc::new(Shop::new(self.front()));
        let mut buyers = JoinSet::new();
        for number in 0..BUYERS {
            let (user, token) = &tokens[number % tokens.len()];
            let plan = Shopping::new(options.seed, number, catalogue);
            buyers.spawn(Buyer::new(number, user, token, Arc::clone(&shop)).run(plan));
        }
        self.links.iter().for_each(Link::roughen);
        let begun = Instant::now();
        let weather = Arc::new(Weather::default());
        let (end, log) = (Notify::new(), Mutex::new(Vec::new()));
        let limit = u32::try_from(options.orders).unwrap_or(u32::MAX);
        let limit = begun + STORM_LIMIT + STORM_LIMIT_PER_ORDER * limit;
        let storm = Storm::new(options.seed, options.processes());
        let audits = Audits::default();
        let enough = async {
            loop {
                let accepted = shop.accepted.load(Ordering::Relaxed);
                if options.orders <= accepted && weather.deaths(options.processes(), DEATHS) {
                    break Ok(());
                }
                if limit <= Instant::now() {
                    let suffered = weather.suffered();
                    break Err(format!("only {accepted} orders were accepted ({suffered:?})"));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let reached = tokio::select! {
            reached = enough => reached,
            raged = Arc::clone(&weather).rage(self.estate, storm, &end, &log) => {
                raged?;
                Err("the storm ended too early".to_owned())
            }
            never = audits.repeat(self.estate, || shop.ids()) => match never {},
        };
        report.storm = begun.elapsed();
        shop.closing.store(true, Ordering::Relaxed);
        thaw(self.estate);
        // The links stay as they are until the last buyer has its answer.
        let mut ledger = Ledger::default();
        while let Some(it) = buyers.join_next().await {
            ledger.add(it?);
        }
        self.links.iter().for_each(Link::calm);
        report.suffered = weather.suffered();
        (report.audits, report.false_alarms) = audits.found();
        let log = log.into_inner().unwrap_or_else(PoisonError::into_inner);
        std::fs::write(self.estate.data().join("storm.txt"), log.join("\n"))?;
        ledger.wrong.extend(reached.err());
        Ok(ledger)
    }

    /// Where buyers go: through the first link.
    fn front(&self) -> String {
        self.links[0].address().to_string()
    }

    /// Waits until everything is at its end; what is not is a finding.
    /// `left` becomes what was open when, so that a slow end shows its cause.
    async fn settle(&self, left: &mut Vec<(Duration, String)>) -> Vec<String> {
        let begun = Instant::now();
        let end = begun + SETTLED_WITHIN;
        for name in self.options.processes() {
            if let Err(error) = there(self.estate, name).await {
                return vec![format!("{error:#}")];
            }
        }
        loop {
            let mut open = books::open(self.estate, self.options.decider);
            let copies: usize = self.links.iter().map(Link::pending).sum();
            open.extend((0 < copies).then(|| format!("{copies} second copies on their way")));
            if open.is_empty() {
                return Vec::new();
            }
            let open = open.join("; ");
            if left.last().is_none_or(|it| it.1 != open) {
                left.push((begun.elapsed(), open.clone()));
            }
            if end <= Instant::now() {
                let late = format!("not settled within {SETTLED_WITHIN:?}: ");
                return vec![late + &open];
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Lets everything go on that stands still.
fn thaw(estate: &Estate) {
    for it in estate.processes() {
        if tradewind_e2e::alive(it.pid) {
            it.thaw();
        }
    }
}

/// A token for each user.
async fn tokens(estate: &Estate) -> anyhow::Result<Vec<(String, String)>> {
    let mut tokens = Vec::new();
    for (user, password) in USERS {
        let mut client = Client::new(format!("127.0.0.1:{}", estate.ports.gateway));
        let body = json!({"username": user, "password": password});
        let answer = client.post("/order/login", &body).await?;
        let token = answer.json()["access_token"].as_str().map(str::to_owned);
        let token = token.ok_or_else(|| anyhow::anyhow!("no token: {}", answer.text()))?;
        tokens.push((user.to_owned(), token));
    }
    Ok(tokens)
}
