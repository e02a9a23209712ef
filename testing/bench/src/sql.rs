//! The storage seam under the life cycle of a transaction, beside a transaction per step.
//!
//! One life cycle is three steps, each durable before its answer: insert a transaction with three
//! branches, decide it, finish it (which removes it). 64 and 512 callers run life cycles as fast
//! as they are answered. The peers do the same SQL through the same drivers, one transaction per
//! step; on SQLite that is one thread with a queue, as there is one writer anyway.

mod disk;
pub(crate) mod mariadb;
mod peer;
mod workload;

use std::path::Path;

use anyhow::Context as _;
use tradewind_sql::{Database, DatabaseUrl, Options};

use self::mariadb::MariaDb;
use self::workload::{MIGRATIONS, Measured, Store};
use crate::Settings;
use crate::report::{Better, Report};

const CALLERS: [usize; 2] = [64, 512];
/// Connections to the server, ours and the peer's: what one service would use at most.
const CONNECTIONS: usize = 32;

/// A contender with its rounds for each number of callers.
struct Contender {
    engine: Engine,
    rounds: [Vec<Measured>; CALLERS.len()],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    OursOnSqlite,
    PeerOnSqlite,
    OursOnMySql,
    PeerOnMySql,
}

impl Engine {
    const fn on_server(self) -> bool {
        matches!(self, Self::OursOnMySql | Self::PeerOnMySql)
    }
}

/// Runs the bench.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(settings))
}

async fn measure(settings: &Settings) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let server = MariaDb::start(&settings.folder).await?;
    if server.is_none() {
        report.absent("mariadbd", "the package mariadb-server brings it");
    }
    let engines =
        [Engine::OursOnSqlite, Engine::PeerOnSqlite, Engine::OursOnMySql, Engine::PeerOnMySql];
    let mut contenders: Vec<Contender> = engines
        .into_iter()
        .filter(|it| server.is_some() || !it.on_server())
        .map(|engine| Contender { engine, rounds: [const { Vec::new() }; CALLERS.len()] })
        .collect();
    let (mut appended, mut overwritten) = (Vec::new(), Vec::new());
    for _ in 0..settings.rounds {
        let folder = tempfile::tempdir_in(&settings.folder)?;
        let cost = disk::sync_cost(folder.path()).context("cannot measure fdatasync")?;
        appended.push(cost.appended);
        overwritten.push(cost.overwritten);
        for (index, callers) in CALLERS.into_iter().enumerate() {
            for contender in &mut contenders {
                let measured = once(contender.engine, callers, settings, server.as_ref())
                    .await
                    .with_context(|| format!("{:?}, {callers} callers", contender.engine))?;
                contender.rounds[index].push(measured);
            }
        }
    }
    let sync = |what: &str| (format!("fdatasync of 4 KiB, {what}"), "µs", Better::Lower);
    report.add(sync("appended"), &appended, None, None);
    report.add(sync("overwritten"), &overwritten, None, None);
    add(&mut report, &contenders, "SQLite", [Engine::OursOnSqlite, Engine::PeerOnSqlite]);
    add(&mut report, &contenders, "MySQL", [Engine::OursOnMySql, Engine::PeerOnMySql]);
    Ok(report)
}

/// One measurement on an empty database.
async fn once(
    engine: Engine,
    callers: usize,
    settings: &Settings,
    server: Option<&MariaDb>,
) -> anyhow::Result<Measured> {
    let folder = tempfile::tempdir_in(&settings.folder)?;
    let server = server.filter(|_| engine.on_server());
    if let Some(server) = server {
        server.empty()?;
    }
    let store = open(engine, folder.path(), server)?;
    let measured = workload::run(&store, callers, settings.span, server.map(MariaDb::pid)).await?;
    store.close().await?;
    Ok(measured)
}

fn open(engine: Engine, folder: &Path, server: Option<&MariaDb>) -> anyhow::Result<Store> {
    let file = DatabaseUrl::sqlite(&folder.join("it.db"));
    let options = Options { connections: CONNECTIONS, ..Options::default() };
    let server = || server.context("no server");
    let ours = |url: &DatabaseUrl| Database::open(url, options.clone(), "bench", MIGRATIONS);
    Ok(match engine {
        Engine::OursOnSqlite => Store::Ours(ours(&file)?),
        Engine::PeerOnSqlite => Store::Peer(peer::sqlite(&folder.join("it.db"))?),
        Engine::OursOnMySql => Store::Ours(ours(&DatabaseUrl::parse(&server()?.url())?)?),
        Engine::PeerOnMySql => Store::Peer(peer::mysql(&server()?.url(), CONNECTIONS)?),
    })
}

fn add(report: &mut Report, contenders: &[Contender], place: &str, [ours, peer]: [Engine; 2]) {
    let peer_name = match peer {
        Engine::PeerOnSqlite => "rusqlite per step",
        _ => "mysql per step",
    };
    // One fsync serves a batch: an order of magnitude. The server commits in groups by itself; the
    // seam must not cost much there.
    let goal = if ours == Engine::OursOnSqlite { 10.0 } else { 0.9 };
    let of = |engine| contenders.iter().find(|it| it.engine == engine);
    let (Some(ours), Some(peer)) = (of(ours), of(peer)) else { return };
    for (index, callers) in CALLERS.into_iter().enumerate() {
        let mut one = |what: &str, unit, better, goal, get: fn(&Measured) -> f64| {
            let values = |it: &Contender| it.rounds[index].iter().map(get).collect::<Vec<f64>>();
            let name = format!("{place} {what}, {callers} callers");
            let peer_values = values(peer);
            report.add((name, unit, better), &values(ours), Some((peer_name, &peer_values)), goal);
        };
        one("life cycles", "1/s", Better::Higher, Some(goal), |it| it.rate);
        one("step p50", "ms", Better::Lower, None, |it| it.p50_ms);
        one("step p99", "ms", Better::Lower, None, |it| it.p99_ms);
        one("CPU per life cycle", "µs", Better::Lower, None, |it| it.cpu_us);
    }
}
