//! Processes on a back end, that can be frozen and killed, and waiting on conditions.

use std::future::Future;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tradewind_base::{SystemClock, Tasks};
use tradewind_lock::{Guard, LockConfig, Locks, Names, SqlLocks};
use tradewind_sql::{Database, DatabaseUrl, Migration, Options};

/// Long enough for a slow machine, short enough for a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The table of locks, and one that checks tokens.
const MIGRATIONS: &[Migration] = &[
    tradewind_lock::migrations(1)[0],
    Migration {
        version: 2,
        name: "create stock",
        sqlite: "CREATE TABLE stock (id INTEGER PRIMARY KEY, available INTEGER NOT NULL,
            fence INTEGER NOT NULL) STRICT",
        mysql: "CREATE TABLE stock (id BIGINT PRIMARY KEY, available BIGINT NOT NULL,
            fence BIGINT NOT NULL)",
    },
];

/// An empty store that goes away with this value.
pub(crate) struct Place {
    url: DatabaseUrl,
    _guard: Option<tempfile::TempDir>,
    #[cfg(feature = "services")]
    schema: Option<Schema>,
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::sqlite(&folder.path().join("it.db"));
        Self {
            url,
            _guard: Some(folder),
            #[cfg(feature = "services")]
            schema: None,
        }
    }

    #[cfg(feature = "services")]
    pub(crate) fn mysql() -> Self {
        let schema = Schema::create();
        let url = DatabaseUrl::parse(&schema.url()).unwrap();
        Self { url, _guard: None, schema: Some(schema) }
    }

    /// A process with its own runtime, connections and line of waiters.
    pub(crate) fn process(&self, config: &LockConfig) -> Process {
        #[cfg(feature = "services")]
        let _server = self.schema.is_some();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let options = Options { connections: 4, readers: 1, ..Options::default() };
        let database = Database::open(&self.url, options, "test", MIGRATIONS).unwrap();
        let tasks = Tasks::new();
        let entered = runtime.enter();
        let clock = Arc::new(SystemClock::new());
        let locks = SqlLocks::new(database.clone(), config.clone(), clock, &tasks).unwrap();
        drop(entered);
        Process { locks, database, tasks, runtime: Some(runtime) }
    }
}

/// Settings with a lease that a test can wait for.
pub(crate) fn quick(lease_ms: u64) -> LockConfig {
    LockConfig { lease: Duration::from_millis(lease_ms), ..LockConfig::default() }
}

/// One process that uses locks.
pub(crate) struct Process {
    pub(crate) locks: SqlLocks,
    pub(crate) database: Database,
    pub(crate) tasks: Tasks,
    runtime: Option<Runtime>,
}

impl Process {
    /// Runs `work` in the process.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        self.start(work).await.expect("the process lives")
    }

    /// Starts `work` in the process.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.as_ref().unwrap().spawn(work)
    }

    pub(crate) async fn take(&self, names: &Names, limit: Duration) -> Guard {
        let (locks, names) = (self.locks.clone(), names.clone());
        self.run(async move { locks.acquire(names, limit).await }).await.unwrap()
    }

    /// Stops its only thread, and with it all its tasks and timers, until the answer is dropped.
    pub(crate) async fn freeze(&self) -> Frozen {
        let (release, stand): (SyncSender<()>, Receiver<()>) = sync_channel(1);
        let (inside, entered) = oneshot::channel();
        drop(self.start(async move {
            inside.send(()).unwrap();
            // An end of the sender is the sign to go on.
            assert!(stand.recv().is_err());
        }));
        entered.await.unwrap();
        Frozen { _release: release }
    }

    /// Ends it as a kill does: nothing is released, nothing is said.
    pub(crate) fn kill(mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Dropping it lets the process go on.
pub(crate) struct Frozen {
    _release: SyncSender<()>,
}

pub(crate) fn one(name: &str) -> Names {
    Names::one(name).unwrap()
}

pub(crate) fn several(names: &[&str]) -> Names {
    Names::several(names).unwrap()
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A database on the test server, dropped with this value.
#[cfg(feature = "services")]
struct Schema {
    server: url::Url,
    name: String,
}

#[cfg(feature = "services")]
impl Schema {
    fn create() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let variable = "TRADEWIND_TEST_MYSQL_URL";
        let Ok(server) = std::env::var(variable) else {
            panic!("{variable} names no server: run these tests with `cargo xtask test`")
        };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tradewind_lock_{}_{number}", std::process::id());
        let schema = Self { server: server.parse().unwrap(), name };
        schema.admin(&format!("DROP DATABASE IF EXISTS {}", schema.name));
        schema.admin(&format!("CREATE DATABASE {} CHARACTER SET utf8mb4", schema.name));
        schema
    }

    fn url(&self) -> String {
        let mut url = self.server.clone();
        url.set_path(&self.name);
        url.to_string()
    }

    fn admin(&self, sql: &str) {
        use mysql::prelude::Queryable as _;
        let options = mysql::Opts::from_url(self.server.as_str()).unwrap();
        let options = mysql::OptsBuilder::from_opts(options).prefer_socket(false);
        mysql::Conn::new(options).unwrap().query_drop(sql).unwrap();
    }
}

#[cfg(feature = "services")]
impl Drop for Schema {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.admin(&format!("DROP DATABASE IF EXISTS {}", self.name));
        }
    }
}
