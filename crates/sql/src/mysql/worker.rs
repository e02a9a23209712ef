//! A thread with a connection: takes closures one by one.

use std::sync::Arc;

use mysql::Conn;
use mysql::prelude::Queryable as _;
use tokio::time::Instant;
use tradewind_base::Rng;

use super::connection::{self, Use};
use super::statement::classify;
use crate::database::Shared;
use crate::error::{Error, ErrorKind};
use crate::job::{self, Job, Ran};
use crate::machine::attempts::{Attempts, Ended, Next};
use crate::stats::{add, add_time};
use crate::transaction::{Engine, Transaction};
use crate::url::Server;

pub(super) struct Worker {
    server: Server,
    purpose: Use,
    connection: Option<Conn>,
    rng: Rng,
}

/// An attempt, and the engine's error where there was one.
struct Attempt {
    ended: Ended,
    error: Option<Error>,
    refused: bool,
}

impl Worker {
    pub(super) fn new(server: Server, purpose: Use) -> Self {
        Self { server, purpose, connection: None, rng: Rng::from_entropy() }
    }

    pub(super) fn run(&mut self, shared: &Arc<Shared>) {
        let queue = match self.purpose {
            Use::Write => &shared.writes,
            Use::Migrate | Use::Read => &shared.reads,
        };
        while let Some(job) = queue.pop() {
            if self.purpose == Use::Read && job.abandoned() {
                job.answer(job::Fate::Closed);
            } else {
                self.transact(shared, job);
            }
        }
    }

    fn transact(&mut self, shared: &Shared, mut job: Box<dyn Job>) {
        let mut attempts = Attempts::new(shared.options.attempts_max);
        loop {
            let attempt = self.attempt(shared, &mut *job);
            let error = attempt.error.unwrap_or_else(|| Error::new(ErrorKind::Other, ""));
            let fate = match attempts.ended(attempt.ended) {
                Next::Own => {
                    add(&shared.counters.refused, u64::from(attempt.refused));
                    match self.purpose {
                        Use::Write => add(&shared.counters.closures, 1),
                        Use::Migrate | Use::Read => add(&shared.counters.reads, 1),
                    }
                    job::Fate::Own
                }
                Next::Failed => job::Fate::Failed(error),
                Next::Unknown => job::Fate::Unknown(error),
                Next::Again(pause) => {
                    add(&shared.counters.reruns, 1);
                    let name = job.name();
                    tracing::debug!(transaction = name, %error, "transaction is run again");
                    let pause = self.rng.jitter(pause, 0.5);
                    match self.purpose {
                        Use::Write => shared.writes.pause(pause),
                        Use::Migrate | Use::Read => shared.reads.pause(pause),
                    }
                    continue;
                }
            };
            job.answer(fate);
            return;
        }
    }

    /// One run of the closure. The connection is kept only when its state is known.
    fn attempt(&mut self, shared: &Shared, job: &mut dyn Job) -> Attempt {
        let taken = match self.connection.take() {
            Some(connection) => Ok(connection),
            None => connection::open(&self.server, &shared.options, self.purpose),
        };
        let mut connection = match taken {
            Ok(connection) => connection,
            Err(error) => return undone(classify(error, "")),
        };
        let begin = match self.purpose {
            Use::Write => "START TRANSACTION",
            Use::Migrate | Use::Read => "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
        };
        if let Err(error) = connection.query_drop(begin) {
            return undone(classify(error, begin));
        }
        let start = Instant::now();
        let engine = Engine::MySql(&mut connection);
        let mut transaction = Transaction::new(engine, shared.options.rows_max);
        let ran = job.run(&mut transaction);
        let worst = transaction.worst();
        add_time(&shared.counters.run_nanos, start.elapsed());
        if let Some(kind) = worst {
            // After a deadlock the server has rolled everything back, after a lock time-out the
            // statement, after a lost connection nobody knows: start over, whatever the closure
            // made of it. The connection is not worth keeping unless it can be rolled back.
            if kind != ErrorKind::Connection && connection.query_drop("ROLLBACK").is_ok() {
                self.connection = Some(connection);
            }
            return undone(Error::new(kind, "").detail("after all attempts"));
        }
        if ran == Ran::Refused || self.purpose == Use::Read {
            // If this fails, the connection is dropped and the server rolls back by itself.
            if connection.query_drop("ROLLBACK").is_ok() {
                self.connection = Some(connection);
            }
            return Attempt { ended: Ended::Refused, error: None, refused: ran == Ran::Refused };
        }
        let attempt = commit(shared, &mut connection);
        if attempt.ended != Ended::Unclear {
            self.connection = Some(connection);
        }
        attempt
    }
}

const fn undone(error: Error) -> Attempt {
    Attempt { ended: Ended::Undone, error: Some(error), refused: false }
}

fn commit(shared: &Shared, connection: &mut Conn) -> Attempt {
    let start = Instant::now();
    let Err(error) = connection.query_drop("COMMIT") else {
        shared.counters.committed(1, start.elapsed());
        return Attempt { ended: Ended::Committed, error: None, refused: false };
    };
    let error = classify(error, "COMMIT");
    // A conflict that the server reports at COMMIT (certification in a cluster) is a rollback;
    // of any other answer, or none, it cannot be said what the server did.
    if matches!(error.kind(), ErrorKind::Deadlock | ErrorKind::Busy)
        && connection.query_drop("ROLLBACK").is_ok()
    {
        return undone(error);
    }
    Attempt { ended: Ended::Unclear, error: Some(error), refused: false }
}
