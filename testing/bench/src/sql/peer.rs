//! The peers: the same steps through the bare drivers, a transaction for each.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::Context as _;
use mysql::prelude::Queryable as _;
use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use super::workload::{
    BEGIN, BRANCH, DEADLINE, DECIDE, FINISH, FINISH_BRANCHES, MIGRATIONS, PAYLOAD, Step, TARGETS,
};

type Request = (Step, i64, oneshot::Sender<anyhow::Result<u64>>);

/// Threads with a connection each, behind one queue.
#[derive(Clone)]
pub(crate) struct Peer {
    queue: SyncSender<Request>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

/// More than there are callers, so that putting in never blocks.
const QUEUE: usize = 4096;

impl Peer {
    fn start(work: Vec<impl FnMut(Step, i64) -> anyhow::Result<u64> + Send + 'static>) -> Self {
        let (queue, receiver) = sync_channel(QUEUE);
        let receiver = Arc::new(Mutex::new(receiver));
        let threads = work.into_iter().map(|mut work| {
            let receiver: Arc<Mutex<Receiver<Request>>> = Arc::clone(&receiver);
            std::thread::spawn(move || {
                loop {
                    let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((step, id, answer)) = next else { return };
                    // The caller may be gone.
                    drop(answer.send(work(step, id)));
                }
            })
        });
        let threads = Arc::new(Mutex::new(threads.collect()));
        Self { queue, threads }
    }

    pub(crate) async fn step(&self, step: Step, id: i64) -> anyhow::Result<u64> {
        let (answer, done) = oneshot::channel();
        self.queue.try_send((step, id, answer)).ok().context("the queue is full")?;
        done.await?
    }

    pub(crate) fn close(self) -> anyhow::Result<()> {
        let Self { queue, threads } = self;
        drop(queue);
        let threads = std::mem::take(&mut *threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a thread of the peer panicked"))?;
        }
        Ok(())
    }
}

/// rusqlite with the settings that ours has.
pub(crate) fn sqlite(path: &Path) -> anyhow::Result<Peer> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -16_384)?;
    for migration in MIGRATIONS {
        connection.execute(migration.sqlite, [])?;
    }
    let work = move |step, id| {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let touched = sqlite_step(&connection, step, id)?;
        connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(u64::try_from(touched)?)
    };
    Ok(Peer::start(vec![work]))
}

fn sqlite_step(connection: &Connection, step: Step, id: i64) -> rusqlite::Result<usize> {
    match step {
        Step::Begin => {
            for (number, target) in (0_i64..).zip(TARGETS) {
                connection.prepare_cached(BRANCH)?.execute(params![id, number, target])?;
            }
            connection.prepare_cached(BEGIN)?.execute(params![id, DEADLINE, &PAYLOAD[..]])
        }
        Step::Decide => connection.prepare_cached(DECIDE)?.execute([id]),
        Step::Finish => {
            connection.prepare_cached(FINISH_BRANCHES)?.execute([id])?;
            connection.prepare_cached(FINISH)?.execute([id])
        }
    }
}

/// The mysql crate with as many connections as ours has.
pub(crate) fn mysql(url: &str, connections: usize) -> anyhow::Result<Peer> {
    let options = mysql::Opts::from_url(url)?;
    let mut first = mysql::Conn::new(options.clone())?;
    for migration in MIGRATIONS {
        first.query_drop(migration.mysql)?;
    }
    let work = (0..connections).map(|_| {
        let mut connection = mysql::Conn::new(options.clone())?;
        connection.query_drop("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")?;
        Ok(move |step, id| {
            connection.query_drop("START TRANSACTION")?;
            let touched = mysql_step(&mut connection, step, id)?;
            connection.query_drop("COMMIT")?;
            Ok(touched)
        })
    });
    Ok(Peer::start(work.collect::<anyhow::Result<Vec<_>>>()?))
}

fn mysql_step(connection: &mut mysql::Conn, step: Step, id: i64) -> mysql::Result<u64> {
    match step {
        Step::Begin => {
            for (number, target) in (0_i64..).zip(TARGETS) {
                connection.exec_drop(BRANCH, (id, number, target))?;
            }
            connection.exec_drop(BEGIN, (id, DEADLINE, &PAYLOAD[..]))?;
        }
        Step::Decide => connection.exec_drop(DECIDE, (id,))?,
        Step::Finish => {
            connection.exec_drop(FINISH_BRANCHES, (id,))?;
            connection.exec_drop(FINISH, (id,))?;
        }
    }
    Ok(connection.affected_rows())
}
