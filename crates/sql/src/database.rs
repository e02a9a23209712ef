//! The handle that services hold.

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::watch;

use crate::error::{CloseError, Error, ErrorKind, OpenError, TransactionError};
use crate::job::{self, Answer, Fate};
use crate::migration::Migration;
use crate::options::Options;
use crate::queue::{Full, Queue};
use crate::stats::{Counters, Stats, add};
use crate::transaction::{Dialect, Transaction};
use crate::url::{DatabaseUrl, Place};

/// An open database. Clones are handles to the same one; it closes in the background when the
/// last is dropped, and in order with [`Database::close`].
#[derive(Clone)]
pub struct Database {
    owner: Arc<Owner>,
}

/// Its drop tells the threads, which do not hold it, that no more work will come.
struct Owner {
    shared: Arc<Shared>,
}

/// What handles and threads have in common.
pub(crate) struct Shared {
    pub(crate) url: DatabaseUrl,
    pub(crate) set: &'static str,
    pub(crate) options: Options,
    pub(crate) writes: Queue,
    pub(crate) reads: Queue,
    pub(crate) counters: Counters,
    threads: watch::Sender<usize>,
    dialect: Dialect,
}

impl Database {
    /// Opens a database and brings its schema up to date.
    ///
    /// `set` names the component whose tables these are: several components may share a database,
    /// each with its own numbering. A SQLite file and its folder are created when missing; a MySQL
    /// database must exist. It blocks: call it before the servers start, or from a blocking task.
    ///
    /// # Errors
    /// When the database cannot be reached, lacks what is needed, or holds other migrations.
    pub fn open(
        url: &DatabaseUrl,
        options: Options,
        set: &'static str,
        migrations: &[Migration],
    ) -> Result<Self, OpenError> {
        let shared = Shared::new(url, options, set);
        // From here on an early return ends the threads that were started.
        let database = Self { owner: Arc::new(Owner { shared: Arc::clone(&shared) }) };
        match &url.0 {
            Place::Sqlite(path) => crate::sqlite::start(&shared, path, migrations)?,
            Place::MySql(server) => crate::mysql::start(&shared, server, migrations)?,
        }
        Ok(database)
    }

    /// Opens a database that is there, to look at it: nothing is created, migrated or written, and
    /// every transaction is answered [`TransactionError::Closed`]. A SQLite file is opened
    /// read-only; whoever writes it meanwhile is not disturbed beyond what a read does.
    ///
    /// # Errors
    /// When it is not there or cannot be reached.
    pub fn open_read_only(
        url: &DatabaseUrl,
        options: Options,
        set: &'static str,
    ) -> Result<Self, OpenError> {
        let shared = Shared::new(url, options, set);
        shared.writes.close();
        let database = Self { owner: Arc::new(Owner { shared: Arc::clone(&shared) }) };
        match &url.0 {
            Place::Sqlite(path) => crate::sqlite::start_reading(&shared, path)?,
            Place::MySql(server) => crate::mysql::start_reading(&shared, server)?,
        }
        Ok(database)
    }

    /// Runs `work` in a transaction and answers once it is durable.
    ///
    /// `work` is synchronous, so no network call can hide inside a transaction. It may run more
    /// than once (each time from the beginning, what it did before is undone), so it must have no
    /// effect outside the database. Reading and then writing what was read is right on SQLite's
    /// one writer and oversells on MySQL: let the write carry its condition
    /// (`UPDATE … WHERE available >= ?`) and look at the count.
    ///
    /// # Errors
    /// See [`TransactionError`]. [`TransactionError::Refused`] is the closure's own.
    ///
    /// # Cancel safety
    /// The work is queued by the first poll. Dropping the future after that does not stop it: only
    /// the answer is lost.
    pub async fn transaction<T, E, F>(
        &self,
        name: &'static str,
        work: F,
    ) -> Result<T, TransactionError<E>>
    where
        F: FnMut(&mut Transaction<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (job, answer) = job::closure(name, work);
        self.taken(self.owner.shared.writes.push(job))?;
        wait(answer).await
    }

    /// The same for work whose answer nobody waits for: it goes into the next commit that is made
    /// for somebody, or into one of its own after [`Options::leisure`]. On SQLite that saves a
    /// commit for each such transaction of a service that has others; on MySQL, where commits are
    /// not shared, it is [`Database::transaction`].
    ///
    /// # Errors
    /// See [`TransactionError`].
    ///
    /// # Cancel safety
    /// As [`Database::transaction`].
    pub async fn transaction_at_leisure<T, E, F>(
        &self,
        name: &'static str,
        work: F,
    ) -> Result<T, TransactionError<E>>
    where
        F: FnMut(&mut Transaction<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let shared = &self.owner.shared;
        let (job, answer) = job::closure(name, work);
        self.taken(match shared.dialect {
            Dialect::Sqlite => shared.writes.push_leisurely(job, shared.options.leisure),
            Dialect::MySql => shared.writes.push(job),
        })?;
        wait(answer).await
    }

    /// Runs `work` on a snapshot of what is committed, beside the transactions.
    ///
    /// It sees everything whose transaction was answered before, and nothing that is not durable.
    /// Writes are refused. Keep it short: on SQLite a snapshot holds back the emptying of the
    /// write-ahead log.
    ///
    /// # Errors
    /// See [`TransactionError`]; the outcome is never unknown.
    ///
    /// # Cancel safety
    /// Dropping the future gives the read up, if it has not started.
    pub async fn read<T, E, F>(&self, name: &'static str, work: F) -> Result<T, TransactionError<E>>
    where
        F: FnMut(&mut Transaction<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (job, answer) = job::closure(name, work);
        self.taken(self.owner.shared.reads.push(job))?;
        wait(answer).await
    }

    fn taken<E>(&self, put: Result<(), Full>) -> Result<(), TransactionError<E>> {
        put.map_err(|full| match full {
            Full::Busy => {
                add(&self.owner.shared.counters.busy, 1);
                TransactionError::Busy
            }
            Full::Closed => TransactionError::Closed,
        })
    }

    /// Which SQL the database speaks.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.owner.shared.dialect
    }

    /// The counters now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &self.owner.shared;
        shared.counters.read(shared.writes.len(), shared.reads.len())
    }

    /// Takes no more work, does what is queued, empties the write-ahead log and ends the threads.
    ///
    /// # Errors
    /// When that takes longer than [`Options::close_limit`]; it goes on in the background.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the database closing.
    pub async fn close(&self) -> Result<(), CloseError> {
        let shared = &self.owner.shared;
        shared.stop();
        let mut threads = shared.threads.subscribe();
        let ended = threads.wait_for(|running| *running == 0);
        match tokio::time::timeout(shared.options.close_limit, ended).await {
            Ok(_) => Ok(()),
            Err(_) => Err(CloseError::StillRunning { threads: *shared.threads.borrow() }),
        }
    }
}

async fn wait<T, E>(answer: Answer<T, E>) -> Result<T, TransactionError<E>> {
    answer.await.unwrap_or_else(|_| {
        // Only a thread that died drops the sender: nobody knows how far it came.
        let source = Error::new(ErrorKind::Other, "").detail("the database thread ended early");
        Err(TransactionError::Unknown { source })
    })
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl Shared {
    fn new(url: &DatabaseUrl, options: Options, set: &'static str) -> Arc<Self> {
        Arc::new(Self {
            url: url.clone(),
            set,
            writes: Queue::new(options.queue),
            reads: Queue::new(options.read_queue),
            options,
            counters: Counters::default(),
            threads: watch::Sender::new(0),
            dialect: match url.0 {
                Place::Sqlite(_) => Dialect::Sqlite,
                Place::MySql(_) => Dialect::MySql,
            },
        })
    }

    pub(crate) fn stop(&self) {
        self.writes.close();
        self.reads.close();
    }

    /// Takes no more work and answers what waits that it was not done.
    pub(crate) fn give_up(&self) {
        for queue in [&self.writes, &self.reads] {
            for job in queue.close_and_drain() {
                job.answer(Fate::Closed);
            }
        }
    }

    /// Starts a thread that is counted until it ends, however it ends.
    pub(crate) fn thread(
        self: &Arc<Self>,
        role: &str,
        work: impl FnOnce(&Arc<Self>) + Send + 'static,
    ) -> Result<JoinHandle<()>, OpenError> {
        let counted = Counted::enter(Arc::clone(self));
        // The component first: the system shows 15 characters.
        let name = format!("{}-sql-{role}", self.set);
        std::thread::Builder::new()
            .name(name)
            .spawn(move || {
                let counted = counted;
                work(&counted.0);
            })
            .map_err(OpenError::Thread)
    }
}

struct Counted(Arc<Shared>);

impl Counted {
    fn enter(shared: Arc<Shared>) -> Self {
        shared.threads.send_modify(|running| *running += 1);
        Self(shared)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A bug of ours. Nobody may be left waiting for a thread that is gone.
            self.0.give_up();
        }
        self.0.threads.send_modify(|running| *running -= 1);
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = &self.owner.shared;
        f.debug_struct("Database").field("url", &shared.url).field("set", &shared.set).finish()
    }
}
