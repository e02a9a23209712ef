//! The components of a service's health, kept current in the background.

use std::time::Duration;

use tradewind_base::Tasks;
use tradewind_discovery::{Registration, View};
use tradewind_service::{Component, Stop};
use tradewind_sql::{Database, Error, TransactionError};

/// How often the database is asked whether it answers.
const DATABASE_EVERY: Duration = Duration::from_secs(3);
/// How long it may take to answer.
const DATABASE_LIMIT: Duration = Duration::from_secs(2);
/// How often the registration and the lists are looked at; both live in memory.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Reports whether the database answers.
pub(crate) fn watch_database(database: Database, component: Component, tasks: &Tasks) {
    every("database health", DATABASE_EVERY, tasks, move || {
        let (database, component) = (database.clone(), component.clone());
        async move {
            let ask = database.read("health", |tx| tx.query_one("SELECT 1", &[], |it| it.get(0)));
            match tokio::time::timeout(DATABASE_LIMIT, ask).await {
                Ok(Ok(Some(1_i64))) => component.up(),
                Ok(Ok(_)) => component.down("it answers wrongly"),
                Ok(Err(error)) => {
                    let error: TransactionError<Error> = error;
                    component.down(error.to_string());
                }
                Err(_) => component.down("it does not answer in time"),
            }
        }
    });
}

/// Reports whether there is anybody to call.
pub(crate) fn watch_service(view: View, component: Component, tasks: &Tasks) {
    every("callee health", LOOK_EVERY, tasks, move || {
        if view.load().up().next().is_some() {
            component.up();
        } else {
            component.down("no instance of it is up");
        }
        std::future::ready(())
    });
}

/// Reports whether the registry knows this service, until it is time to stop.
pub(crate) async fn watch_registration(
    registration: &Registration,
    component: &Component,
    stop: &Stop,
) {
    loop {
        if registration.registered() {
            component.up();
        } else {
            component.down("no registry holds the registration");
        }
        tokio::select! {
            () = stop.wait() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

fn every<F>(
    name: &'static str,
    period: Duration,
    tasks: &Tasks,
    mut work: impl FnMut() -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    tasks.spawn(name, |cancel| async move {
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = async { work().await; tokio::time::sleep(period).await } => {}
            }
        }
    });
}
