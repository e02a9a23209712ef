//! The databases of the shop, opened to look.

use std::fs::metadata;
use std::io::ErrorKind;
use std::time::Duration;

use tradewind::sql::{
    self, Database, DatabaseUrl, Dialect, OpenError, Options, Transaction, TransactionError, params,
};
use tradewind::transaction::wire::coordinator::SERVICE as COORDINATOR;

/// Where the databases are.
#[derive(Clone, Debug)]
pub struct Urls {
    /// The order service's: orders, keys, the log of its transactions.
    pub order: DatabaseUrl,
    /// The inventory service's.
    pub inventory: DatabaseUrl,
    /// The points service's.
    pub points: DatabaseUrl,
    /// The warehouse service's.
    pub warehouse: DatabaseUrl,
    /// The broker's.
    pub broker: DatabaseUrl,
    /// The coordinator's: the log of orders' transactions, when they are run by it. It need not be
    /// there as long as no transaction says that it was.
    pub coordinator: DatabaseUrl,
}

/// Why a database could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It cannot be opened.
    #[error("cannot open the database of {service}")]
    Open {
        /// Whose.
        service: &'static str,
        /// Why not.
        #[source]
        source: OpenError,
    },
    /// It is not this service's.
    #[error("the database of {service} has no table {table}")]
    Table {
        /// Whose.
        service: &'static str,
        /// What is missing.
        table: &'static str,
    },
    /// Where its file should be is a folder, a pipe, a device. To open a pipe is to wait for
    /// somebody at its other end.
    #[error("the database of {service} cannot be read: {path} is not a regular file")]
    NoFile {
        /// Whose.
        service: &'static str,
        /// What is not one.
        path: String,
    },
    /// It is not there, and it was.
    #[error("the database of {service} is missing, and there are transactions in it: {row}")]
    Missing {
        /// Whose.
        service: &'static str,
        /// What says so.
        row: String,
    },
    /// A read failed.
    #[error("cannot read the database of {service}")]
    Read {
        /// Whose.
        service: &'static str,
        /// Why not.
        #[source]
        source: TransactionError<sql::Error>,
    },
}

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) service: &'static str,
    pub(crate) url: DatabaseUrl,
    pub(crate) database: Database,
    /// Whether it has fences of branches.
    pub(crate) fences: bool,
    /// Whether it has a log of transactions.
    pub(crate) log: bool,
}

/// All of them.
#[derive(Clone, Debug)]
pub(crate) struct Databases {
    pub(crate) order: Place,
    pub(crate) inventory: Place,
    pub(crate) points: Place,
    pub(crate) warehouse: Place,
    pub(crate) broker: Place,
    /// None that never ran, as far as its database tells: [`ReadError::Missing`] if anybody else
    /// tells otherwise.
    pub(crate) coordinator: Option<Place>,
    /// Whether every log is there that orders' transactions are in.
    pub(crate) log_known: bool,
}

/// The longest that one statement may take.
const RUN_TIME_MAX: Duration = Duration::from_secs(60);
/// The most rows of one answer.
const ROWS_MAX: usize = 1_000_000;

impl Place {
    pub(crate) async fn open(
        service: &'static str,
        url: &DatabaseUrl,
        table: &'static str,
    ) -> Result<Self, ReadError> {
        let options = Options {
            readers: 1,
            rows_max: ROWS_MAX,
            run_time_max: RUN_TIME_MAX,
            answer_time_max: RUN_TIME_MAX,
            ..Options::default()
        };
        let at = url.clone();
        if let Some(path) = no_file(url) {
            return Err(ReadError::NoFile { service, path });
        }
        let open = move || Database::open_read_only(&at, options, service);
        let opened = tokio::task::spawn_blocking(open).await;
        let opened = opened.unwrap_or_else(|error| Err(OpenError::Thread(error.into())));
        let database = opened.map_err(|source| ReadError::Open { service, source })?;
        let url = url.clone();
        let mut it = Self { service, url, database, fences: false, log: false };
        if !it.has(table).await? {
            return Err(ReadError::Table { service, table });
        }
        it.fences = it.has("tradewind_fence").await?;
        it.log = it.has("tradewind_tcc").await?;
        Ok(it)
    }

    async fn has(&self, table: &'static str) -> Result<bool, ReadError> {
        self.read("tables", move |tx| {
            let sql = match tx.dialect() {
                Dialect::Sqlite => {
                    "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = ?"
                }
                Dialect::MySql => {
                    "SELECT COUNT(*) FROM information_schema.tables \
                     WHERE table_schema = DATABASE() AND table_name = ?"
                }
            };
            Ok(tx.query_one(sql, params![table], |row| row.get::<i64>(0))? != Some(0))
        })
        .await
    }

    /// Runs one read.
    pub(crate) async fn read<T, F>(&self, name: &'static str, work: F) -> Result<T, ReadError>
    where
        F: FnMut(&mut Transaction<'_>) -> Result<T, sql::Error> + Send + 'static,
        T: Send + 'static,
    {
        let service = self.service;
        let done = self.database.read(name, work).await;
        done.map_err(|source| ReadError::Read { service, source })
    }

    /// Whether somebody else decides over own branches of this service.
    async fn is_coordinated(&self) -> Result<bool, ReadError> {
        if !self.fences {
            return Ok(false);
        }
        let own = self.service;
        self.read("audit: coordinated", move |tx| {
            let sql = "SELECT 1 FROM tradewind_fence WHERE initiator <> ? LIMIT 1";
            Ok(tx.query_one(sql, params![own], |_| Ok(()))?.is_some())
        })
        .await
    }

    async fn close(&self) {
        // It closes in the background if it takes long.
        drop(self.database.close().await);
    }
}

/// What of a SQLite database is there and no regular file: the file itself, or what SQLite would
/// open beside it.
fn no_file(url: &DatabaseUrl) -> Option<String> {
    let shown = url.to_string();
    let path = shown.strip_prefix("sqlite:")?;
    let all = ["", "-wal", "-shm", "-journal"].into_iter().map(|it| format!("{path}{it}"));
    all.into_iter().find(|it| metadata(it).is_ok_and(|it| !it.is_file()))
}

impl Databases {
    /// Opens all of them.
    ///
    /// # Errors
    /// Everything that cannot be opened.
    pub(crate) async fn open(urls: &Urls) -> Result<Self, Vec<ReadError>> {
        let (order, inventory, points, warehouse, broker) = tokio::join!(
            Place::open("order", &urls.order, "order_header"),
            Place::open("inventory", &urls.inventory, "reservation"),
            Place::open("points", &urls.points, "ledger"),
            Place::open("warehouse", &urls.warehouse, "outbound"),
            Place::open("broker", &urls.broker, "message"),
        );
        let coordinator = match Place::open(COORDINATOR, &urls.coordinator, "tradewind_tcc").await {
            // It never ran and knows of no transaction; or it is lost, and others will tell.
            Err(ReadError::Table { .. }) => None,
            Err(ReadError::Open { source: OpenError::File { source, .. }, .. })
                if source.kind() == ErrorKind::NotFound =>
            {
                None
            }
            opened => Some(opened),
        };
        let mut errors = Vec::new();
        let mut keep = |it: Result<Place, ReadError>| it.map_err(|it| errors.push(it)).ok();
        let wanted = coordinator.is_some();
        let coordinator = coordinator.and_then(&mut keep);
        let all = (keep(order), keep(inventory), keep(points), keep(warehouse), keep(broker));
        match all {
            (Some(order), Some(inventory), Some(points), Some(warehouse), Some(broker))
                if wanted == coordinator.is_some() =>
            {
                let coordinated = order.is_coordinated().await.map_err(|it| vec![it])?;
                let log_known = !coordinated || coordinator.is_some();
                Ok(Self { order, inventory, points, warehouse, broker, coordinator, log_known })
            }
            _ => Err(errors),
        }
    }

    /// Those that take part in transactions with the usual fence.
    pub(crate) fn fenced(&self) -> impl Iterator<Item = &Place> {
        let all = [&self.inventory, &self.points, &self.warehouse, &self.order];
        all.into_iter().filter(|it| it.fences)
    }

    /// Those with a log of transactions.
    pub(crate) fn logs(&self) -> impl Iterator<Item = &Place> {
        std::iter::once(&self.order).chain(&self.coordinator).filter(|it| it.log)
    }

    /// Who decides over the transactions that are looked at: also a coordinator whose log is not
    /// there.
    pub(crate) fn deciders(&self) -> [&'static str; 2] {
        [self.order.service, COORDINATOR]
    }

    /// Whether the log of this decider is missing.
    pub(crate) fn lacks(&self, decider: &str) -> bool {
        self.coordinator.is_none() && decider == COORDINATOR
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Place> {
        let all = [&self.warehouse, &self.broker, &self.points, &self.inventory, &self.order];
        all.into_iter().chain(&self.coordinator)
    }

    /// Closes all of them.
    pub(crate) async fn close(&self) {
        for it in self.all() {
            it.close().await;
        }
    }
}
