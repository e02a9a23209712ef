//! Databases of their own for tests, and the small things that all scenarios need.

use std::time::Duration;

use serde_json::{Value, json};
use tradewind_base::Timestamp;
use tradewind_idempotency::{
    Attempt, Claim, Fence, Fingerprint, Key, Scope, StoreError, StoredAnswer, Terms, store,
};
use tradewind_sql::{Database, DatabaseUrl, Error, Migration, Options, TransactionError, params};

/// The table of keys, and one for effects.
const MIGRATIONS: &[Migration] = &[
    tradewind_idempotency::migrations(1)[0],
    tradewind_idempotency::migrations(1)[1],
    Migration {
        version: 3,
        name: "create effect",
        sqlite: "CREATE TABLE effect (id INTEGER PRIMARY KEY, what TEXT NOT NULL) STRICT",
        mysql: "CREATE TABLE effect (id BIGINT PRIMARY KEY AUTO_INCREMENT,
            what VARCHAR(100) NOT NULL)",
    },
];

/// An empty database that goes away with this value.
pub(crate) struct Place {
    pub(crate) database: Database,
    _guard: Guard,
}

enum Guard {
    Folder {
        _folder: tempfile::TempDir,
    },
    #[cfg(feature = "services")]
    Schema {
        _schema: Schema,
    },
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::sqlite(&folder.path().join("it.db"));
        Self { database: open(&url), _guard: Guard::Folder { _folder: folder } }
    }

    #[cfg(feature = "services")]
    pub(crate) fn mysql() -> Self {
        let schema = Schema::create();
        let mut url = schema.server.clone();
        url.set_path(&schema.name);
        let database = open(&DatabaseUrl::parse(url.as_str()).unwrap());
        Self { database, _guard: Guard::Schema { _schema: schema } }
    }

    /// Claims at `now`.
    pub(crate) async fn claim(&self, attempt: &Attempt, fixed: &Value, now: i64) -> Claim {
        let (attempt, fixed) = (attempt.clone(), fixed.clone());
        let claim = self.database.transaction("claim", move |tx| {
            store::claim(tx, &attempt, &fixed, Timestamp::from_millis(now), &terms())
        });
        claim.await.unwrap()
    }

    /// Claims at `now`, and must get the work.
    pub(crate) async fn work(&self, attempt: &Attempt, now: i64) -> Fence {
        match self.claim(attempt, &json!({"id": "first"}), now).await {
            Claim::Mine { fence } | Claim::Resume { fence, .. } => fence,
            other => panic!("{other:?}"),
        }
    }

    /// An effect and its answer in one transaction.
    pub(crate) async fn act(
        &self,
        attempt: &Attempt,
        fence: Fence,
        answer: &StoredAnswer,
    ) -> Result<(), TransactionError<StoreError>> {
        let (attempt, answer) = (attempt.clone(), answer.clone());
        let act = self.database.transaction("act", move |tx| {
            tx.execute("INSERT INTO effect (what) VALUES (?)", params![attempt.key.as_str()])?;
            store::finish(tx, &attempt, fence, &answer, Timestamp::from_millis(0), &terms())
        });
        act.await
    }

    /// How many effects there are.
    pub(crate) async fn effects(&self) -> i64 {
        let sql = "SELECT COUNT(*) FROM effect";
        let count = self.database.read("effects", move |tx| {
            tx.query_one::<i64>(sql, &[], |row| row.get(0)).map(Option::unwrap_or_default)
        });
        count.await.map_err(|error: TransactionError<Error>| error).unwrap()
    }
}

fn open(url: &DatabaseUrl) -> Database {
    Database::open(url, Options::default(), "test", MIGRATIONS).unwrap()
}

/// A lease of a second, a life of a hundred.
pub(crate) const fn terms() -> Terms {
    Terms { lease: Duration::from_secs(1), life: Duration::from_secs(100) }
}

pub(crate) fn attempt(user: &str, key: &str, content: i64) -> Attempt {
    Attempt {
        scope: Scope::new(user, "demo.act").unwrap(),
        key: Key::parse(key).unwrap(),
        fingerprint: Fingerprint::of_json(&json!({ "content": content })),
    }
}

pub(crate) fn answer(text: &str) -> StoredAnswer {
    StoredAnswer::json(201, &json!({ "text": text }))
}

/// Whether the closure refused with this error.
pub(crate) fn refused(
    result: &Result<(), TransactionError<StoreError>>,
    wanted: impl Fn(&StoreError) -> bool,
) -> bool {
    matches!(result, Err(TransactionError::Refused(error)) if wanted(error))
}

/// A task of a test, which ends with the test's runtime.
#[expect(clippy::disallowed_methods, reason = "the test's runtime owns and ends it")]
pub(crate) fn spawn<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(work)
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
        let name = format!("tradewind_idempotency_{}_{number}", std::process::id());
        let schema = Self { server: server.parse().unwrap(), name };
        schema.admin(&format!("DROP DATABASE IF EXISTS {}", schema.name));
        schema.admin(&format!("CREATE DATABASE {} CHARACTER SET utf8mb4", schema.name));
        schema
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
