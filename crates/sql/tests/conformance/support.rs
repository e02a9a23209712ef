//! Databases of their own for tests, and waiting on conditions.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tradewind_sql::{Database, DatabaseUrl, Error, Migration, Options, TransactionError, params};

/// An empty database that goes away with this value.
pub(crate) struct Place {
    pub(crate) url: DatabaseUrl,
    _guard: Guard,
}

enum Guard {
    Folder {
        _folder: tempfile::TempDir,
    },
    #[cfg(feature = "services")]
    Schema(Schema),
}

pub(crate) const ITEMS: &[Migration] = &[Migration {
    version: 1,
    name: "create items",
    sqlite: "CREATE TABLE items (
        id INTEGER PRIMARY KEY,
        code TEXT UNIQUE,
        amount INTEGER NOT NULL CHECK (amount >= 0),
        parent INTEGER REFERENCES items (id),
        data BLOB
    ) STRICT",
    mysql: "CREATE TABLE items (
        id BIGINT PRIMARY KEY,
        code VARCHAR(200) COLLATE utf8mb4_bin UNIQUE,
        amount BIGINT NOT NULL CHECK (amount >= 0),
        parent BIGINT,
        data LONGBLOB,
        FOREIGN KEY (parent) REFERENCES items (id)
    ) ENGINE=InnoDB CHARACTER SET utf8mb4",
}];

impl Place {
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::sqlite(&folder.path().join("it.db"));
        Self { url, _guard: Guard::Folder { _folder: folder } }
    }

    #[cfg(feature = "services")]
    pub(crate) fn mysql() -> Self {
        let schema = Schema::create();
        Self { url: DatabaseUrl::parse(&schema.url(None)).unwrap(), _guard: Guard::Schema(schema) }
    }

    #[cfg(feature = "services")]
    pub(crate) fn schema(&self) -> &Schema {
        match &self._guard {
            Guard::Schema(schema) => schema,
            Guard::Folder { .. } => panic!("not on a server"),
        }
    }

    pub(crate) fn open(&self, options: Options) -> Database {
        Database::open(&self.url, options, "test", ITEMS).unwrap()
    }
}

/// A database on the test server, dropped with this value.
#[cfg(feature = "services")]
pub(crate) struct Schema {
    server: url::Url,
    pub(crate) name: String,
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
        let name = format!("tradewind_{}_{number}", std::process::id());
        let schema = Self { server: server.parse().unwrap(), name };
        schema.admin(&format!("DROP DATABASE IF EXISTS {}", schema.name));
        schema.admin(&format!("CREATE DATABASE {} CHARACTER SET utf8mb4", schema.name));
        schema
    }

    /// The address of this database, through another socket if one is given.
    pub(crate) fn url(&self, socket: Option<&std::path::Path>) -> String {
        let mut url = self.server.clone();
        url.set_path(&self.name);
        if let Some(socket) = socket {
            url.set_query(Some(&format!("socket={}", socket.display())));
        }
        url.to_string()
    }

    /// Where the server listens, when that is a Unix socket.
    pub(crate) fn socket(&self) -> Option<String> {
        self.server.query_pairs().find(|(key, _)| key == "socket").map(|(_, it)| it.into_owned())
    }

    /// A connection to the server, past the library.
    pub(crate) fn connect(&self) -> mysql::Conn {
        let options = mysql::Opts::from_url(self.server.as_str()).unwrap();
        mysql::Conn::new(mysql::OptsBuilder::from_opts(options).prefer_socket(false)).unwrap()
    }

    pub(crate) fn admin(&self, sql: &str) {
        use mysql::prelude::Queryable as _;
        self.connect().query_drop(sql).unwrap();
    }
}

#[cfg(feature = "services")]
impl Drop for Schema {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The next run with this name begins by dropping it.
            return;
        }
        self.admin(&format!("DROP DATABASE IF EXISTS {}", self.name));
    }
}

/// Inserts an item.
pub(crate) async fn insert(
    database: &Database,
    id: i64,
    amount: i64,
) -> Result<u64, TransactionError<Error>> {
    database
        .transaction("insert", move |tx| {
            tx.execute("INSERT INTO items (id, amount) VALUES (?, ?)", params![id, amount])
        })
        .await
}

/// The ids of all items, in order.
pub(crate) async fn ids(database: &Database) -> Vec<i64> {
    let all = |tx: &mut tradewind_sql::Transaction<'_>| {
        tx.query("SELECT id FROM items ORDER BY id", &[], |row| row.get(0))
    };
    database.read::<_, Error, _>("ids", all).await.unwrap()
}

/// Holds one transaction open until told otherwise.
pub(crate) struct Gate {
    release: SyncSender<()>,
    entered: Receiver<()>,
    ended: tokio::task::JoinHandle<()>,
}

impl Gate {
    /// Starts a transaction that inserts the item `id` and then waits.
    pub(crate) async fn close(database: &Database, id: i64) -> Self {
        let (release, wait) = sync_channel(1);
        let (enter, entered) = sync_channel(1);
        let database = database.clone();
        let work = async move {
            let mut first = true;
            let done = database.transaction("gate", move |tx| {
                tx.execute("INSERT INTO items (id, amount) VALUES (?, 0)", params![id])?;
                if std::mem::take(&mut first) {
                    enter.send(()).unwrap();
                    wait.recv_timeout(Duration::from_secs(30)).expect("the gate was never opened");
                }
                Ok::<_, Error>(())
            });
            done.await.unwrap();
        };
        let ended = spawn(work);
        let gate = Self { release, entered, ended };
        eventually("the gate is entered", || gate.entered.try_recv().is_ok()).await;
        gate
    }

    /// Lets the transaction end.
    pub(crate) async fn open(self) {
        self.release.send(()).unwrap();
        self.ended.await.unwrap();
    }
}

/// A task of a test, which ends with the test's runtime.
#[expect(clippy::disallowed_methods, reason = "the test's runtime owns and ends it")]
pub(crate) fn spawn<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(work)
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let limit = Duration::from_secs(30);
    tokio::time::timeout(limit, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}
