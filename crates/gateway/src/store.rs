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
use tradewind_sql::{Database, DatabaseUrl, Error, Options, TransactionError};

use crate::machine::route::RouteRow;
use crate::routing::Routing;

mod tables;

pub use tables::MIGRATIONS;
use tables::{Loaded, apply, load, seed};

/// Bytes of the file with the last routes that are read.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// How often a database that is not there is looked for.
const REOPEN: Duration = Duration::from_secs(1);

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
