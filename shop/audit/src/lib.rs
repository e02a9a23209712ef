//! The shop's invariants over all its databases.
//!
//! [`audit`] opens the databases of the order, inventory, points and warehouse services and of the
//! broker to read them, and of the coordinator, where there is one: it may be missing only as long
//! as nobody has anything of its transactions. It answers with a [`Report`]: for each invariant how
//! many things were looked at, and the rows that break it. It works while the shop runs and when it
//! does not, on SQLite and on MySQL.
//!
//! # How
//! - What one database can tell is asked by the checks that its service states and runs itself
//!   (`tradewind_order::orders::audit` and so on).
//! - What takes several is asked by walks in windows of a few thousand rows: over orders, over
//!   transactions, over messages, over keys. Each gathers [`facts`] with a few short reads and
//!   hands them to the pure functions of [`machine`], where it is written down why nothing is
//!   reported of a shop that is right, in whatever state of whatever transaction it is read.
//!
//! # Limits
//! Memory is bounded by the window and, for ORDER-1, by a million ids. The registry's invariants are
//! in no database: see [`invariants::NOT_COVERED`]. LOCK-1 is told of writes since the flow of stock
//! keeps their tokens. A row that is older than a day may have lost what explains it (finished
//! messages, logs and fences are cleaned); what would be broken by that is not reported.

mod databases;
mod decided;
pub mod facts;
pub mod invariants;
mod keys;
pub mod machine;
mod messages;
mod orders;
mod report;
mod transactions;

use std::time::Duration;

use tradewind::audit::{Check, Findings, run};
use tradewind::base::Clock;

pub use databases::{ReadError, Urls};
pub use report::{DatabaseName, NotCovered, Report};
pub use transactions::OpenTransactions;

use databases::Databases;

/// Reads everything once.
///
/// `expected` are ids of orders that callers were told are placed, for JOIN-4; without the list it
/// is not covered.
///
/// # Errors
/// Every database that cannot be opened, or the first that cannot be read.
pub async fn audit(
    urls: &Urls,
    expected: Option<&[String]>,
    clock: &dyn Clock,
) -> Result<Report, Vec<ReadError>> {
    match once(urls, expected, clock).await {
        // It may have come while the others were read: a shop that starts.
        Err(errors) if errors.iter().any(|it| matches!(it, ReadError::Missing { .. })) => {
            Ok(once(urls, expected, clock).await?.0)
        }
        // Who holds it may be about to ask what became of it: the same.
        Ok((_, Held::TooLong)) => {
            tokio::time::sleep(PATIENCE).await;
            Ok(once(urls, expected, clock).await?.0)
        }
        done => Ok(done?.0),
    }
}

/// How long a shop that starts is given to look after what seems to be left alone.
const PATIENCE: Duration = Duration::from_secs(4);

/// Whether anything is held for an order or a transaction that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    No,
    TooLong,
}

impl Held {
    fn too_long(it: bool) -> Self {
        if it { Self::TooLong } else { Self::No }
    }

    fn or(self, other: Self) -> Self {
        if self == Self::No { other } else { self }
    }
}

async fn once(
    urls: &Urls,
    expected: Option<&[String]>,
    clock: &dyn Clock,
) -> Result<(Report, Held), Vec<ReadError>> {
    let databases = Databases::open(urls).await?;
    let report = look(&databases, expected, clock).await;
    databases.close().await;
    report.map_err(|error| vec![error])
}

async fn look(
    databases: &Databases,
    expected: Option<&[String]>,
    clock: &dyn Clock,
) -> Result<(Report, Held), ReadError> {
    let began = clock.monotonic();
    let now = clock.now();
    let mut findings = Findings::new();
    for it in invariants::ALL {
        findings.checked(it, 0);
    }
    for (place, checks) in [
        (&databases.warehouse, tradewind_warehouse::audit::CHECKS),
        (&databases.broker, tradewind_broker::audit::CHECKS),
        (&databases.points, tradewind_points::audit::CHECKS),
        (&databases.inventory, tradewind_inventory::audit::CHECKS),
        (&databases.order, tradewind_order::orders::audit::CHECKS),
    ] {
        let checks: &'static [Check] = checks;
        let service = place.service;
        let found = run(&place.database, checks, now).await;
        findings.merge(found.map_err(|source| ReadError::Read { service, source })?);
    }
    let orphans = orders::walk(databases, clock.now().millis(), &mut findings).await?;
    keys::walk(databases, clock.now().millis(), &mut findings).await?;
    messages::walk(databases, clock.now().millis(), &mut findings).await?;
    let walked = transactions::walk(databases, clock.now().millis(), &mut findings).await?;
    let (open, unheard) = walked;
    if let Some(ids) = expected {
        orders::expected(databases, ids, &mut findings).await?;
    }
    let waiting = report::waiting(databases).await?;
    let took = clock.monotonic().since(began);
    let report = Report::new(databases, findings, open, waiting, expected.is_some(), took);
    Ok((report, orphans.or(unheard)))
}
