//! Where routes are kept: two tables in the gateway's own database.
//!
//! `gateway_api_route` is the table of the existing gateways, column for column; it is created
//! only if it is not there, so the gateway can be pointed at a database that has one.
//! `gateway_route_policy` beside it holds what that table has no column for.
//!
//! Others may edit the tables with plain SQL: a watcher reads them at an interval and compares a
//! fingerprint. Edits through the admin API are in force before they are answered. The rows in
//! force are also kept in a file, so that a gateway that starts without its database serves what
//! it served last.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Mutex, Notify};
use tradewind_base::Tasks;
use tradewind_service::answer::chain;
use tradewind_service::health::Component;
use tradewind_sql::{
    Database, DatabaseUrl, Error, Migration, Options, Row, Transaction, TransactionError, params,
};

use crate::machine::route::{Rejected, RouteRow};
use crate::routing::Routing;

/// Bytes of the file with the last routes that are read.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// How often a database that is not there is looked for.
const REOPEN: Duration = Duration::from_secs(1);

/// The tables. The columns of the first are those of the gateways it is shared with.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "create gateway_api_route",
        sqlite: "CREATE TABLE IF NOT EXISTS gateway_api_route (
            id varchar(50) NOT NULL,
            path varchar(255) NOT NULL,
            service_id varchar(50) DEFAULT NULL,
            url varchar(255) DEFAULT NULL,
            retryable tinyint(1) DEFAULT NULL,
            enabled tinyint(1) NOT NULL,
            strip_prefix int(11) DEFAULT NULL,
            api_name varchar(255) DEFAULT NULL,
            PRIMARY KEY (id))",
        mysql: "CREATE TABLE IF NOT EXISTS gateway_api_route (
            id varchar(50) NOT NULL,
            path varchar(255) NOT NULL,
            service_id varchar(50) DEFAULT NULL,
            url varchar(255) DEFAULT NULL,
            retryable tinyint(1) DEFAULT NULL,
            enabled tinyint(1) NOT NULL,
            strip_prefix int(11) DEFAULT NULL,
            api_name varchar(255) DEFAULT NULL,
            PRIMARY KEY (id)) ENGINE=InnoDB DEFAULT CHARSET=utf8",
    },
    Migration {
        version: 2,
        name: "create gateway_route_policy",
        sqlite: "CREATE TABLE IF NOT EXISTS gateway_route_policy (
            route_id varchar(50) NOT NULL PRIMARY KEY,
            auth varchar(20) NOT NULL)",
        mysql: "CREATE TABLE IF NOT EXISTS gateway_route_policy (
            route_id varchar(50) NOT NULL PRIMARY KEY,
            auth varchar(20) NOT NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8",
    },
    Migration {
        version: 3,
        name: "create gateway_state",
        sqlite: "CREATE TABLE IF NOT EXISTS gateway_state (
            name varchar(50) NOT NULL PRIMARY KEY,
            content varchar(255) NOT NULL)",
        mysql: "CREATE TABLE IF NOT EXISTS gateway_state (
            name varchar(50) NOT NULL PRIMARY KEY,
            content varchar(255) NOT NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8",
    },
];

const SELECT: &str = "SELECT r.id, r.path, r.service_id, r.url, r.retryable, r.enabled, \
    r.strip_prefix, r.api_name, p.auth FROM gateway_api_route r \
    LEFT JOIN gateway_route_policy p ON p.route_id = r.id ORDER BY r.id";

/// Why an edit was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EditError {
    #[error("route {0} exists already")]
    Exists(String),
    #[error("there is no route {0}")]
    Unknown(String),
    #[error("route {other} serves the path {path} already")]
    PathTaken { path: String, other: String },
    #[error("failed to write the routes")]
    Database(#[source] Error),
    #[error("the database of the routes is not there")]
    Absent,
    #[error("the database does not take the edit now: {0}")]
    Unavailable(String),
}

impl From<Error> for EditError {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl From<TransactionError<Self>> for EditError {
    fn from(error: TransactionError<Self>) -> Self {
        match error {
            TransactionError::Refused(inner) => inner,
            TransactionError::Database(error) => Self::Database(error),
            other => Self::Unavailable(chain(&other)),
        }
    }
}

/// An edit.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    Create(RouteRow),
    /// Also creates.
    Replace(RouteRow),
    Delete(String),
}

#[derive(Clone, Debug, Default)]
struct Loaded {
    rows: Vec<RouteRow>,
    unreadable: Vec<Rejected>,
}

/// The routes' keeper.
#[derive(Debug)]
pub(crate) struct Store {
    url: DatabaseUrl,
    file: PathBuf,
    seeds: Vec<RouteRow>,
    database: ArcSwapOption<Database>,
    routing: Arc<Routing>,
    /// Fingerprint of what is in force; held while routes are read and put in force.
    state: Mutex<Option<u64>>,
    edited: Notify,
    trouble: std::sync::Mutex<Option<String>>,
}

impl Store {
    pub(crate) fn new(
        url: DatabaseUrl,
        data: &Path,
        seeds: Vec<RouteRow>,
        routing: Arc<Routing>,
    ) -> Self {
        Self {
            url,
            file: data.join("gateway-routes.json"),
            seeds,
            database: ArcSwapOption::empty(),
            routing,
            state: Mutex::new(None),
            edited: Notify::new(),
            trouble: std::sync::Mutex::default(),
        }
    }

    /// Loads the routes, from the file when the database is not there, then watches for edits.
    pub(crate) async fn start(
        self: &Arc<Self>,
        interval: Duration,
        component: Component,
        tasks: &Tasks,
    ) {
        if !self.step(&component).await {
            self.load_file().await;
            if 0 < self.routing.load().revision {
                component.up();
            }
        }
        let this = Arc::clone(self);
        tasks.spawn("routes", move |cancel| async move {
            loop {
                let pause = match this.database.load().is_some() {
                    true => interval,
                    false => interval.max(REOPEN),
                };
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = this.edited.notified() => {}
                    () = cancel.cancelled() => return,
                }
                this.step(&component).await;
            }
        });
    }

    /// Opens the database if need be and takes over what changed. Whether that worked.
    async fn step(&self, component: &Component) -> bool {
        let opened = match self.database.load().is_some() {
            true => Ok(()),
            false => self.open().await,
        };
        let outcome = match opened {
            Ok(()) => self.refresh().await.map_err(|it| chain(&it)),
            Err(reason) => Err(reason),
        };
        self.note(outcome.as_ref().err());
        // A gateway with routes serves, even one that cannot see edits for now.
        if 0 < self.routing.load().revision {
            component.up();
        } else if let Err(reason) = &outcome {
            component.down(reason.clone());
        }
        outcome.is_ok()
    }

    /// Logs trouble with the database when it begins, changes and ends.
    fn note(&self, trouble: Option<&String>) {
        let mut last = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref() == trouble {
            return;
        }
        match trouble {
            Some(reason) => tracing::warn!(reason, "failed to look at the route table"),
            None => tracing::info!("the route table can be read again"),
        }
        *last = trouble.cloned();
    }

    async fn open(&self) -> Result<(), String> {
        let url = self.url.clone();
        let open = move || Database::open(&url, Options::default(), "gateway", MIGRATIONS);
        let database = tokio::task::spawn_blocking(open)
            .await
            .map_err(|it| it.to_string())?
            .map_err(|it| chain(&it))?;
        let seeds = self.seeds.clone();
        let seeded = database.transaction("seed", move |tx| seed(tx, &seeds)).await;
        seeded.map_err(|it| chain(&it))?;
        self.database.store(Some(Arc::new(database)));
        Ok(())
    }

    /// Reads the tables and puts them in force if they differ from what is.
    pub(crate) async fn refresh(&self) -> Result<(), EditError> {
        let database = self.database.load_full().ok_or(EditError::Absent)?;
        let mut state = self.state.lock().await;
        let loaded = database.read("routes", |tx| load(tx).map_err(EditError::from)).await?;
        let print = fingerprint(&loaded);
        if *state == Some(print) {
            return Ok(());
        }
        let effective = self.routing.apply(&loaded.rows, &loaded.unreadable);
        *state = Some(print);
        self.save_file(effective).await;
        Ok(())
    }

    /// Makes an edit and puts it in force.
    pub(crate) async fn edit(&self, edit: Edit) -> Result<(), EditError> {
        let database = self.database.load_full().ok_or(EditError::Absent)?;
        database.transaction("edit", move |tx| apply(tx, &edit)).await?;
        if let Err(error) = self.refresh().await {
            // The edit is made; the watcher will see it.
            tracing::warn!(error = chain(&error), "failed to reload the routes after an edit");
            self.edited.notify_one();
        }
        Ok(())
    }

    /// All rows as the table has them.
    pub(crate) async fn rows(&self) -> Result<Vec<RouteRow>, EditError> {
        let database = self.database.load_full().ok_or(EditError::Absent)?;
        let loaded = database.read("routes", |tx| load(tx).map_err(EditError::from)).await?;
        Ok(loaded.rows)
    }

    /// Closes the database.
    pub(crate) async fn close(&self) {
        if let Some(database) = self.database.swap(None)
            && let Err(error) = database.close().await
        {
            tracing::warn!(error = chain(&error), "failed to close the database of the routes");
        }
    }

    async fn save_file(&self, rows: Vec<RouteRow>) {
        let file = self.file.clone();
        let save = move || {
            let draft = file.with_extension("json.new");
            std::fs::write(&draft, serde_json::to_vec_pretty(&rows)?)?;
            std::fs::rename(&draft, &file)
        };
        match tokio::task::spawn_blocking(save).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = %error, "failed to keep the routes in a file"),
            Err(error) => tracing::warn!(error = %error, "failed to keep the routes in a file"),
        }
    }

    async fn load_file(&self) {
        let file = self.file.clone();
        let load = move || -> std::io::Result<Vec<RouteRow>> {
            use std::io::Read as _;
            let mut text = String::new();
            std::fs::File::open(&file)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
            Ok(serde_json::from_str(&text)?)
        };
        match tokio::task::spawn_blocking(load).await {
            Ok(Ok(rows)) => {
                let _state = self.state.lock().await;
                tracing::warn!(
                    count = rows.len(),
                    "no database: serving the routes of the last run"
                );
                self.routing.apply(&rows, &[]);
            }
            Ok(Err(error)) => tracing::warn!(error = %error, "no routes of a last run to serve"),
            Err(error) => tracing::warn!(error = %error, "no routes of a last run to serve"),
        }
    }
}

fn fingerprint(loaded: &Loaded) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(format!("{loaded:?}"))
}

/// Puts the first routes into a table that never had any.
fn seed(tx: &mut Transaction<'_>, seeds: &[RouteRow]) -> Result<(), EditError> {
    let sql = "SELECT content FROM gateway_state WHERE name = 'seeded'";
    if tx.query_one(sql, params![], |row| row.get::<String>(0))?.is_some() {
        return Ok(());
    }
    let count =
        tx.query_one("SELECT count(*) FROM gateway_api_route", params![], |row| row.get::<i64>(0))?;
    if count == Some(0) {
        for row in seeds {
            insert(tx, row)?;
        }
    }
    tx.execute("INSERT INTO gateway_state (name, content) VALUES ('seeded', '1')", params![])?;
    Ok(())
}

fn load(tx: &mut Transaction<'_>) -> Result<Loaded, Error> {
    let mut loaded = Loaded::default();
    for row in tx.query(SELECT, params![], |row| Ok(read_row(row)))? {
        match row {
            Ok(row) => loaded.rows.push(row),
            Err(rejected) => loaded.unreadable.push(rejected),
        }
    }
    Ok(loaded)
}

/// Reads a row that anybody may have written.
fn read_row(row: &Row) -> Result<RouteRow, Rejected> {
    let id: String = row.get(0).unwrap_or_else(|_| "?".to_owned());
    let bad = |field: &'static str, error: &Error| Rejected {
        id: id.clone(),
        field,
        reason: format!("cannot be read: {error}"),
    };
    let text = |at: usize, field| row.get::<Option<String>>(at).map_err(|it| bad(field, &it));
    let flag = |at: usize, field| {
        let number = row.get::<Option<i64>>(at).map_err(|it| bad(field, &it))?;
        Ok(number.map(|it| it != 0))
    };
    Ok(RouteRow {
        path: text(1, "path")?.unwrap_or_default(),
        service_id: text(2, "service_id")?,
        url: text(3, "url")?,
        retryable: flag(4, "retryable")?,
        enabled: flag(5, "enabled")?.unwrap_or(false),
        strip_prefix: flag(6, "strip_prefix")?,
        api_name: text(7, "api_name")?,
        auth: text(8, "auth")?,
        id: id.clone(),
    })
}

fn apply(tx: &mut Transaction<'_>, edit: &Edit) -> Result<(), EditError> {
    match edit {
        Edit::Create(row) => {
            if exists(tx, &row.id)? {
                return Err(EditError::Exists(row.id.clone()));
            }
            check_path(tx, row)?;
            insert(tx, row)
        }
        Edit::Replace(row) => {
            check_path(tx, row)?;
            delete(tx, &row.id)?;
            insert(tx, row)
        }
        Edit::Delete(id) => match delete(tx, id)? {
            0 => Err(EditError::Unknown(id.clone())),
            _ => Ok(()),
        },
    }
}

fn exists(tx: &mut Transaction<'_>, id: &str) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM gateway_api_route WHERE id = ?";
    Ok(tx.query_one(sql, params![id], |row| row.get::<i64>(0))?.is_some())
}

fn check_path(tx: &mut Transaction<'_>, row: &RouteRow) -> Result<(), EditError> {
    if !row.enabled {
        return Ok(());
    }
    let sql = "SELECT id, path FROM gateway_api_route WHERE path = ? AND enabled <> 0 AND id <> ?";
    let same = tx.query(sql, params![row.path.as_str(), row.id.as_str()], |it| {
        Ok((it.get::<String>(0)?, it.get::<String>(1)?))
    })?;
    // MySQL compares without case; paths have one.
    match same.into_iter().find(|(_, path)| *path == row.path) {
        Some((other, path)) => Err(EditError::PathTaken { path, other }),
        None => Ok(()),
    }
}

fn delete(tx: &mut Transaction<'_>, id: &str) -> Result<u64, Error> {
    tx.execute("DELETE FROM gateway_route_policy WHERE route_id = ?", params![id])?;
    tx.execute("DELETE FROM gateway_api_route WHERE id = ?", params![id])
}

fn insert(tx: &mut Transaction<'_>, row: &RouteRow) -> Result<(), EditError> {
    let sql = "INSERT INTO gateway_api_route \
        (id, path, service_id, url, retryable, enabled, strip_prefix, api_name) \
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    tx.execute(
        sql,
        params![
            row.id.as_str(),
            row.path.as_str(),
            row.service_id.clone(),
            row.url.clone(),
            row.retryable,
            row.enabled,
            row.strip_prefix,
            row.api_name.clone()
        ],
    )?;
    if let Some(auth) = &row.auth {
        let sql = "INSERT INTO gateway_route_policy (route_id, auth) VALUES (?, ?)";
        tx.execute(sql, params![row.id.as_str(), auth.as_str()])?;
    }
    Ok(())
}
