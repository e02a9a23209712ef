//! The life cycle of a transaction, and callers that run it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tradewind_sql::{Database, Error, Migration, Transaction, params};

use super::peer::Peer;
use crate::machine_facts::cpu_time;

/// The tables, as the transaction log of a service would have them.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "create transactions",
        sqlite: "CREATE TABLE transactions (
            id INTEGER PRIMARY KEY, state INTEGER NOT NULL, deadline INTEGER NOT NULL,
            payload BLOB NOT NULL
        ) STRICT",
        mysql: "CREATE TABLE transactions (
            id BIGINT PRIMARY KEY, state TINYINT NOT NULL, deadline BIGINT NOT NULL,
            payload VARBINARY(200) NOT NULL
        ) ENGINE=InnoDB",
    },
    Migration {
        version: 2,
        name: "create branches",
        sqlite: "CREATE TABLE branches (
            transaction_id INTEGER NOT NULL, number INTEGER NOT NULL, state INTEGER NOT NULL,
            target TEXT NOT NULL, PRIMARY KEY (transaction_id, number)
        ) STRICT, WITHOUT ROWID",
        mysql: "CREATE TABLE branches (
            transaction_id BIGINT NOT NULL, number TINYINT NOT NULL, state TINYINT NOT NULL,
            target VARCHAR(100) NOT NULL, PRIMARY KEY (transaction_id, number)
        ) ENGINE=InnoDB",
    },
];

pub(crate) const BEGIN: &str = "INSERT INTO transactions VALUES (?, 0, ?, ?)";
pub(crate) const BRANCH: &str = "INSERT INTO branches VALUES (?, ?, 0, ?)";
pub(crate) const DECIDE: &str = "UPDATE transactions SET state = 1 WHERE id = ? AND state = 0";
pub(crate) const FINISH: &str = "DELETE FROM transactions WHERE id = ? AND state = 1";
pub(crate) const FINISH_BRANCHES: &str = "DELETE FROM branches WHERE transaction_id = ?";
pub(crate) const DEADLINE: i64 = 1_700_000_000_000;
pub(crate) const PAYLOAD: [u8; 120] = [0x5a; 120];
pub(crate) const TARGETS: [&str; 3] = ["inventory/reserve", "points/credit", "broker/half-message"];

/// A step of the life cycle.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Begin,
    Decide,
    Finish,
}

/// Where the life cycles are stored.
pub(crate) enum Store {
    Ours(Database),
    Peer(Peer),
}

impl Store {
    /// Does one step; answered when it is durable.
    async fn step(&self, step: Step, id: i64) -> anyhow::Result<()> {
        let touched = match self {
            Self::Peer(peer) => peer.step(step, id).await?,
            Self::Ours(database) => {
                let work = move |tx: &mut Transaction<'_>| closure(tx, step, id);
                database.transaction::<_, Error, _>("step", work).await?
            }
        };
        anyhow::ensure!(touched == 1, "{step:?} of {id} touched {touched} rows");
        Ok(())
    }

    pub(crate) async fn close(self) -> anyhow::Result<()> {
        match self {
            Self::Ours(database) => Ok(database.close().await?),
            Self::Peer(peer) => peer.close(),
        }
    }
}

fn closure(tx: &mut Transaction<'_>, step: Step, id: i64) -> Result<u64, Error> {
    match step {
        Step::Begin => {
            for (number, target) in (0_i64..).zip(TARGETS) {
                tx.execute(BRANCH, params![id, number, target])?;
            }
            tx.execute(BEGIN, params![id, DEADLINE, &PAYLOAD[..]])
        }
        Step::Decide => tx.execute(DECIDE, params![id]),
        Step::Finish => {
            tx.execute(FINISH_BRANCHES, params![id])?;
            tx.execute(FINISH, params![id])
        }
    }
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// Life cycles per second.
    pub(crate) rate: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// CPU of client and server per life cycle.
    pub(crate) cpu_us: f64,
}

/// Runs life cycles from `callers` tasks for `span`.
pub(crate) async fn run(
    store: &Store,
    callers: usize,
    span: Duration,
    server: Option<u32>,
) -> anyhow::Result<Measured> {
    let cpu = || {
        let server = server.map_or(Duration::ZERO, |pid| cpu_time(&pid.to_string()));
        cpu_time("self") + server
    };
    let next = Arc::new(AtomicI64::new(1));
    let (start, cpu_before) = (Instant::now(), cpu());
    let until = start + span;
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (store, next) = (store.handle(), Arc::clone(&next));
        tasks.spawn(async move { caller(&store, &next, until).await });
    }
    let mut steps = histogram()?;
    let mut cycles = 0_u32;
    while let Some(done) = tasks.join_next().await {
        let (count, own) = done??;
        cycles += count;
        steps.add(own)?;
    }
    let (took, used) = (start.elapsed().as_secs_f64(), cpu() - cpu_before);
    anyhow::ensure!(0 < cycles, "no life cycle was finished");
    let at =
        |quantile| Duration::from_micros(steps.value_at_quantile(quantile)).as_secs_f64() * 1e3;
    Ok(Measured {
        rate: f64::from(cycles) / took,
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        cpu_us: used.as_secs_f64() * 1e6 / f64::from(cycles),
    })
}

impl Store {
    fn handle(&self) -> Self {
        match self {
            Self::Ours(database) => Self::Ours(database.clone()),
            Self::Peer(peer) => Self::Peer(peer.clone()),
        }
    }
}

async fn caller(
    store: &Store,
    next: &AtomicI64,
    until: Instant,
) -> anyhow::Result<(u32, Histogram<u64>)> {
    let (mut cycles, mut steps) = (0, histogram()?);
    while Instant::now() < until {
        let id = next.fetch_add(1, Ordering::Relaxed);
        for step in [Step::Begin, Step::Decide, Step::Finish] {
            let start = Instant::now();
            store.step(step, id).await?;
            steps.saturating_record(u64::try_from(start.elapsed().as_micros())?);
        }
        cycles += 1;
    }
    Ok((cycles, steps))
}

/// Steps in µs, up to a minute.
fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000, 2)?)
}
