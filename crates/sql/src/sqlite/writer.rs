//! The writer thread: drives a [`Batch`] with a connection.

use std::sync::Arc;

use rusqlite::{Connection, ErrorCode};
use tokio::time::Instant;

use super::connection::Limited;
use super::statement::classify;
use super::turn::Turn;
use crate::database::Shared;
use crate::error::{Error, ErrorKind};
use crate::job::{self, Job, Ran};
use crate::machine::batch::{Batch, Bounds, Event, Fate, Step, Way};
use crate::options::OnUnknownCommit;
use crate::stats::{add, add_time};
use crate::transaction::{Engine, Transaction};

/// So many batches are guarded after one in which a refusal made all run again.
const GUARDED: u32 = 32;

#[expect(clippy::needless_pass_by_value, reason = "the thread owns its connection")]
pub(super) fn run(shared: &Arc<Shared>, writer: Limited, mut turn: Turn) {
    let mut guarded: u32 = 0;
    while let Some(first) = shared.writes.pop() {
        let waited = Instant::now();
        let held = match turn.take() {
            Ok(held) => held,
            Err(error) => {
                let reason = Error::new(ErrorKind::Storage, "").caused_by(error);
                first.answer(job::Fate::Failed(reason));
                continue;
            }
        };
        add_time(&shared.counters.turn_nanos, waited.elapsed());
        let mut drive = Drive {
            shared,
            writer: &writer,
            jobs: vec![Some((first, None))],
            began: Instant::now(),
            failure: None,
            held: Some(held),
            mixed: false,
        };
        let way = if guarded == 0 { Way::Bare } else { Way::Guarded };
        if drive.run_batch(way) {
            poison(shared, drive.failure.as_ref());
        }
        guarded = if drive.mixed { GUARDED } else { guarded.saturating_sub(1) };
    }
}

/// The outcome of a commit is unknown: what this process believes about the data may be wrong.
fn poison(shared: &Shared, failure: Option<&Error>) {
    let cause = failure.map_or_else(String::new, chain);
    let database = shared.set;
    match shared.options.on_unknown_commit {
        OnUnknownCommit::Abort => {
            tracing::error!(database, cause, "outcome of a commit is unknown, aborting to recover");
            std::process::abort();
        }
        OnUnknownCommit::Poison => {
            tracing::error!(database, cause, "outcome of a commit is unknown, database closed");
            shared.give_up();
        }
    }
}

fn chain(error: &Error) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// A closure and how its last run ended. `None` once it is answered.
type Slot = Option<(Box<dyn Job>, Option<Ran>)>;

struct Drive<'a> {
    shared: &'a Shared,
    writer: &'a Limited,
    jobs: Vec<Slot>,
    began: Instant,
    /// The engine's last error.
    failure: Option<Error>,
    /// Given back before the answers of a whole batch go out.
    held: Option<super::turn::Held<'a>>,
    /// Whether a refusal left its writes among those of others.
    mixed: bool,
}

impl Drive<'_> {
    /// Whether the batch ended with the database poisoned.
    fn run_batch(&mut self, way: Way) -> bool {
        let options = &self.shared.options;
        let bounds = Bounds { closures: options.batch_max.max(1), time: options.batch_time };
        let mut batch = Batch::new(bounds, way);
        loop {
            let event = match batch.step() {
                Step::Begin => self.batch("BEGIN IMMEDIATE"),
                Step::Choose if self.shared.writes.len() == 0 => Event::Empty,
                Step::Choose => Event::Waiting(self.began.elapsed()),
                Step::Run { closure, way } => self.run(closure, way),
                Step::Commit => self.commit(batch.taken()),
                Step::RollBack => self.roll_back(),
                Step::Answer(closure, fate) => self.answer(closure, fate),
                Step::AnswerAll(fate) => {
                    self.held = None;
                    for closure in 0..batch.taken() {
                        self.answer(closure, fate);
                    }
                    Event::Done
                }
                Step::End { poisoned } => return poisoned,
            };
            batch.on(event);
        }
    }

    fn connection(&self) -> &Connection {
        &self.writer.connection
    }

    fn batch(&mut self, sql: &'static str) -> Event {
        match self.sql(sql) {
            Ok(()) => Event::Done,
            Err(source) => {
                self.failure = Some(classify(source, sql));
                Event::Failed
            }
        }
    }

    /// Statements of our own are prepared once.
    fn sql(&self, sql: &'static str) -> rusqlite::Result<()> {
        self.connection().prepare_cached(sql)?.execute([]).map(drop)
    }

    fn run(&mut self, closure: usize, way: Way) -> Event {
        if closure == self.jobs.len() {
            // Choose saw it, and this thread alone takes from the queue.
            match self.shared.writes.try_pop() {
                Some(job) => self.jobs.push(Some((job, None))),
                None => return Event::Lost { refused: false },
            }
        }
        // The first has nobody before it, so the whole transaction is its savepoint.
        let saved = way == Way::Guarded && 0 < closure;
        if saved && self.batch("SAVEPOINT closure") != Event::Done {
            return self.undone(false);
        }
        let Some(Some((job, last))) = self.jobs.get_mut(closure) else {
            return Event::Lost { refused: false };
        };
        if last.is_some() {
            add(&self.shared.counters.reruns, 1);
        }
        let start = Instant::now();
        let rows_max = self.shared.options.rows_max;
        let changes = self.writer.connection.total_changes();
        let (ran, last_failure) = self.writer.limited(|connection| {
            let mut transaction = Transaction::new(Engine::Sqlite(connection), rows_max);
            (job.run(&mut transaction), transaction.last_failure())
        });
        *last = Some(ran);
        add_time(&self.shared.counters.run_nanos, start.elapsed());
        if self.writer.connection.is_autocommit() {
            // Only told to a closure that ignored the failure; one that refused has its own error.
            let kind = last_failure.unwrap_or(ErrorKind::Other);
            job.note(Error::new(kind, "").detail("a failed statement ended the transaction"));
            return Event::Lost { refused: ran == Ran::Refused };
        }
        match ran {
            Ran::Kept if !saved => Event::Kept,
            Ran::Kept if self.batch("RELEASE closure") == Event::Done => Event::Kept,
            Ran::Kept => self.undone(false),
            Ran::Refused if way == Way::Alone => Event::Undone,
            Ran::Refused if saved => self.undone(true),
            // A closure changes nothing but rows, and each is counted.
            Ran::Refused if self.writer.connection.total_changes() == changes => Event::Undone,
            Ran::Refused if closure == 0 => self.anew(),
            Ran::Refused => {
                self.mixed = true;
                Event::Mixed
            }
        }
    }

    /// Takes back what the first closure did, by beginning the transaction anew.
    fn anew(&mut self) -> Event {
        let begun =
            self.batch("ROLLBACK") == Event::Done && self.batch("BEGIN IMMEDIATE") == Event::Done;
        if begun { Event::Undone } else { Event::Lost { refused: true } }
    }

    /// Takes back what the closure did; what is left if that fails is the transaction's loss.
    fn undone(&mut self, refused: bool) -> Event {
        let undone = self.batch("ROLLBACK TO closure") == Event::Done
            && self.batch("RELEASE closure") == Event::Done
            && refused;
        if undone { Event::Undone } else { Event::Lost { refused } }
    }

    fn commit(&mut self, taken: usize) -> Event {
        let start = Instant::now();
        match self.sql("COMMIT") {
            Ok(()) => {
                self.shared.counters.committed(taken, start.elapsed());
                Event::Done
            }
            Err(error) => {
                let event = failed_commit(&error, self.connection().is_autocommit());
                self.failure = Some(classify(error, "COMMIT"));
                event
            }
        }
    }

    fn roll_back(&mut self) -> Event {
        if self.connection().is_autocommit() {
            return Event::Done;
        }
        match self.batch("ROLLBACK") {
            Event::Done => Event::Done,
            _ if self.connection().is_autocommit() => Event::Done,
            event => event,
        }
    }

    fn answer(&mut self, closure: usize, fate: Fate) -> Event {
        let Some((job, ran)) = self.jobs.get_mut(closure).and_then(Option::take) else {
            return Event::Done;
        };
        if fate == Fate::Own {
            add(&self.shared.counters.closures, 1);
            add(&self.shared.counters.refused, u64::from(ran == Some(Ran::Refused)));
        }
        job.answer(match fate {
            Fate::Own => job::Fate::Own,
            Fate::Failed => job::Fate::Failed(self.reason()),
            Fate::Unknown => job::Fate::Unknown(self.reason()),
            Fate::Closed => job::Fate::Closed,
        });
        Event::Done
    }

    /// The last failure, for each of those who have to hear of it.
    fn reason(&self) -> Error {
        self.failure.clone().unwrap_or_else(|| Error::new(ErrorKind::Other, ""))
    }
}

/// Whether a COMMIT that failed surely had no effect.
///
/// - The transaction is still open (SQLITE_BUSY, a deferred constraint): nothing was written.
/// - SQLITE_FULL: a page could not be written to the log. The frame that makes the commit valid
///   is written last, so it is not there, and the log is synced only after it.
/// - Anything else, above all a failed fsync: the commit frame may have reached the disk, and
///   recovery would honour it. Only recovery can tell.
fn failed_commit(error: &rusqlite::Error, ended: bool) -> Event {
    let full = error.sqlite_error_code() == Some(ErrorCode::DiskFull);
    if !ended || full { Event::Failed } else { Event::Unknown }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn only_a_commit_that_surely_failed_is_called_failed() {
        let failure = |code| rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        for (code, ended, event) in [
            (ffi::SQLITE_BUSY, false, Event::Failed),
            (ffi::SQLITE_CONSTRAINT_FOREIGNKEY, false, Event::Failed),
            (ffi::SQLITE_FULL, true, Event::Failed),
            (ffi::SQLITE_IOERR_FSYNC, true, Event::Unknown),
            (ffi::SQLITE_IOERR_WRITE, true, Event::Unknown),
            (ffi::SQLITE_NOMEM, true, Event::Unknown),
        ] {
            assert_eq!(failed_commit(&failure(code), ended), event, "{code}");
        }
    }
}
