//! Leases in a table of SQLite or MySQL.

use std::time::Duration;

use tradewind_sql::{
    Database, Dialect, Error, Row as Cells, Transaction, TransactionError, params,
};

use crate::error::StoreError;
use crate::leased::Leased;
use crate::machine::lease::{self, Claim, Row};
use crate::name::{LockName, Names, Token};
use crate::store::{LeaseStore, Take};

/// Locks whose leases are rows of a database with [`crate::MIGRATIONS`].
pub type SqlLocks = Leased<SqlStore>;

/// The leases of one database.
#[derive(Clone, Debug)]
pub struct SqlStore {
    database: Database,
}

/// How often a transaction that met another contender looks again before it reports the name as
/// held. The other one has it then.
const RACES_MAX: u32 = 3;

// Whole milliseconds of the database's clock. On MySQL from UTC: the way over local time is
// ambiguous for one hour of the year.
const NOW_SQLITE: &str = "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)";
const NOW_MYSQL: &str =
    "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6)) DIV 1000";
const READ: &str =
    "SELECT owner, token, lease_until_ms, lease_ms FROM tradewind_lock WHERE name = ?";
const INSERT: &str = "INSERT INTO tradewind_lock (name, owner, token, lease_until_ms, lease_ms)
    VALUES (?, ?, ?, ?, ?)";
// A compare-and-set on all that decided: who was faster changed one of them.
const UPDATE: &str = "UPDATE tradewind_lock
    SET owner = ?, token = ?, lease_until_ms = ?, lease_ms = ?
    WHERE name = ? AND owner = ? AND token = ? AND lease_until_ms = ?";

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the statement failed")]
    Sql(#[from] Error),
    #[error("another contender was faster")]
    Raced,
    #[error("the lease belongs to another owner")]
    NotMine,
}

impl SqlStore {
    /// The leases of `database`.
    #[must_use]
    pub const fn new(database: Database) -> Self {
        Self { database }
    }

    async fn run<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnMut(&mut Transaction<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<Result<T, Fault>, StoreError> {
        match self.database.transaction(name, work).await {
            Ok(done) => Ok(Ok(done)),
            Err(TransactionError::Refused(fault @ (Fault::Raced | Fault::NotMine))) => {
                Ok(Err(fault))
            }
            Err(error) => {
                let uncertain = matches!(error, TransactionError::Unknown { .. });
                let transient = match &error {
                    TransactionError::Busy | TransactionError::Unknown { .. } => true,
                    TransactionError::Refused(Fault::Sql(error))
                    | TransactionError::Database(error) => error.is_transient(),
                    _ => false,
                };
                Err(StoreError { transient, uncertain, source: error.into() })
            }
        }
    }
}

impl SqlStore {
    /// Runs `work` on rows of the caller's own; `None` when they are another's. Whoever raced it
    /// was most likely the caller itself, with a renewal it had given up: look again.
    async fn settled<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnMut(&mut Transaction<'_>) -> Result<T, Fault> + Clone + Send + 'static,
    ) -> Result<Option<T>, StoreError> {
        for _ in 0..RACES_MAX {
            match self.run(name, work.clone()).await? {
                Ok(done) => return Ok(Some(done)),
                Err(Fault::Raced) => {}
                Err(Fault::NotMine | Fault::Sql(_)) => return Ok(None),
            }
        }
        Err(StoreError { transient: true, uncertain: false, source: Fault::Raced.into() })
    }
}

impl LeaseStore for SqlStore {
    async fn take(&self, owner: &str, names: &Names, lease: Duration) -> Result<Take, StoreError> {
        let (owner, names, lease_ms) = (owner.to_owned(), names.clone(), millis(lease));
        let first = names.first().cloned();
        for _ in 0..RACES_MAX {
            let (owner, names) = (owner.clone(), names.clone());
            let work = move |tx: &mut Transaction<'_>| take(tx, &owner, &names, lease_ms);
            if let Ok(taken) = self.run("lock.take", work).await? {
                return Ok(taken);
            }
        }
        // Somebody has it, for not longer than a lease; asking again soon will tell.
        let Some(name) = first else { return Ok(Take::Granted(Vec::new())) };
        Ok(Take::Held { name, remaining: lease })
    }

    async fn renew(
        &self,
        owner: &str,
        names: &Names,
        tokens: &[Token],
        lease: Duration,
    ) -> Result<bool, StoreError> {
        let owner = owner.to_owned();
        let held: Vec<_> = names.iter().cloned().zip(tokens.iter().copied()).collect();
        let work = move |tx: &mut Transaction<'_>| renew(tx, &owner, &held, millis(lease));
        Ok(self.settled("lock.renew", work).await?.is_some())
    }

    async fn release(&self, owner: &str, names: &Names) -> Result<bool, StoreError> {
        let (owner, names) = (owner.to_owned(), names.clone());
        let work = move |tx: &mut Transaction<'_>| release(tx, &owner, &names);
        Ok(self.settled("lock.release", work).await?.unwrap_or(false))
    }
}

fn take(
    tx: &mut Transaction<'_>,
    owner: &str,
    names: &Names,
    lease_ms: i64,
) -> Result<Take, Fault> {
    let now_ms = now(tx)?;
    let mut writes = Vec::with_capacity(names.count());
    for name in names.iter() {
        let row = read(tx, name)?;
        match lease::claim(row.as_ref(), owner, now_ms, lease_ms) {
            Claim::Granted(granted) => writes.push((name, row, granted)),
            Claim::Held { remaining, corrected } => {
                if let Some(corrected) = corrected {
                    write(tx, name, row.as_ref(), &corrected)?;
                }
                return Ok(Take::Held { name: name.clone(), remaining });
            }
        }
    }
    // All are free. Sorted, as the names are: two that write the same rows cannot deadlock.
    let mut tokens = Vec::with_capacity(writes.len());
    for (name, row, granted) in writes {
        write(tx, name, row.as_ref(), &granted)?;
        tokens.push(granted.token);
    }
    Ok(Take::Granted(tokens))
}

fn renew(
    tx: &mut Transaction<'_>,
    owner: &str,
    held: &[(LockName, Token)],
    lease_ms: i64,
) -> Result<(), Fault> {
    let now_ms = now(tx)?;
    for (name, token) in held {
        let row = read(tx, name)?;
        let renewed = lease::renew(row.as_ref(), owner, *token, now_ms, lease_ms);
        write(tx, name, row.as_ref(), &renewed.ok_or(Fault::NotMine)?)?;
    }
    Ok(())
}

fn release(tx: &mut Transaction<'_>, owner: &str, names: &Names) -> Result<bool, Fault> {
    let mut all = true;
    for name in names.iter() {
        let row = read(tx, name)?;
        match lease::release(row.as_ref(), owner) {
            Some(free) => write(tx, name, row.as_ref(), &free)?,
            None => all = false,
        }
    }
    Ok(all)
}

fn now(tx: &mut Transaction<'_>) -> Result<i64, Error> {
    let sql = match tx.dialect() {
        Dialect::Sqlite => NOW_SQLITE,
        Dialect::MySql => NOW_MYSQL,
    };
    Ok(tx.query_one(sql, &[], |row| row.get(0))?.unwrap_or_default())
}

fn read(tx: &mut Transaction<'_>, name: &LockName) -> Result<Option<Row>, Error> {
    tx.query_one(READ, params![name.as_str()], |cells: &Cells| {
        Ok(Row {
            owner: cells.get(0)?,
            token: Token::from_number(cells.get(1)?),
            lease_until_ms: cells.get(2)?,
            lease_ms: cells.get(3)?,
        })
    })
}

fn write(
    tx: &mut Transaction<'_>,
    name: &LockName,
    old: Option<&Row>,
    new: &Row,
) -> Result<(), Fault> {
    let Row { owner, token, lease_until_ms, lease_ms } = new;
    let written = match old {
        Some(old) => tx.execute(
            UPDATE,
            params![
                owner,
                *token,
                *lease_until_ms,
                *lease_ms,
                name.as_str(),
                &old.owner,
                old.token,
                old.lease_until_ms
            ],
        ),
        None => {
            tx.execute(INSERT, params![name.as_str(), owner, *token, *lease_until_ms, *lease_ms])
        }
    };
    match written {
        Ok(1) => Ok(()),
        Ok(_) => Err(Fault::Raced),
        Err(error) if error.is_unique_violation() => Err(Fault::Raced),
        Err(error) => Err(error.into()),
    }
}

fn millis(lease: Duration) -> i64 {
    i64::try_from(lease.as_millis()).unwrap_or(i64::MAX)
}
