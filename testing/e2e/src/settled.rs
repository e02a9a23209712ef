//! Waiting until an estate on SQLite has nothing left to do.

use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::{Estate, eventually};

/// Leases of dead processes, deadlines and redeliveries run out within this time.
const LIMIT: Duration = Duration::from_secs(60);

/// What may not be left: of which server, what, and how many.
const OPEN: &[(&str, &str, &str)] = &[
    ("order", "open transactions", "SELECT COUNT(*) FROM tradewind_tcc WHERE phase NOT IN (4, 5)"),
    (
        "order",
        "undecided orders",
        "SELECT COUNT(*) FROM order_header WHERE state IN ('placing', 'cancelling')",
    ),
    ("order", "reservations", "SELECT COUNT(*) FROM tradewind_fence WHERE status = 1"),
    (
        "coordinator",
        "open transactions",
        "SELECT COUNT(*) FROM tradewind_tcc WHERE phase NOT IN (4, 5)",
    ),
    ("inventory", "reservations", "SELECT COUNT(*) FROM tradewind_fence WHERE status = 1"),
    ("points", "reservations", "SELECT COUNT(*) FROM tradewind_fence WHERE status = 1"),
    ("warehouse", "reservations", "SELECT COUNT(*) FROM tradewind_fence WHERE status = 1"),
    ("warehouse", "unsent messages", "SELECT COUNT(*) FROM message_outbox"),
    ("broker", "reservations", "SELECT COUNT(*) FROM branch_fence WHERE state = 1"),
    ("broker", "undecided messages", "SELECT COUNT(*) FROM message WHERE state IN (1, 4)"),
    ("broker", "deliveries", "SELECT COUNT(*) FROM delivery"),
];

impl Estate {
    /// A number that a query finds in the database of a server, which is only read.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn count(&self, server: &str, sql: &str) -> anyhow::Result<i64> {
        Ok(self.open(server)?.query_row(sql, [], |row| row.get(0))?)
    }

    /// The same for a text.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn text(&self, server: &str, sql: &str) -> anyhow::Result<String> {
        Ok(self.open(server)?.query_row(sql, [], |row| row.get(0))?)
    }

    fn file(&self, server: &str) -> PathBuf {
        self.data().join(format!("{server}.db"))
    }

    fn open(&self, server: &str) -> anyhow::Result<Connection> {
        let file = self.file(server);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(file, flags)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        Ok(connection)
    }

    /// Waits until no transaction is open, nothing is reserved and no message is on its way.
    ///
    /// # Panics
    /// When something stays.
    pub async fn settled(&self) {
        eventually("everything is settled", LIMIT, async || {
            let mut left = Vec::new();
            // The coordinator runs where it decides the orders.
            let coordinated = self.file("coordinator").exists();
            let servers = OPEN.iter().filter(|it| coordinated || it.0 != "coordinator");
            for (server, what, sql) in servers {
                match self.count(server, sql) {
                    Ok(0) => {}
                    Ok(count) => left.push(format!("{server}: {count} {what}")),
                    Err(error) => left.push(format!("{server}: {error:#}")),
                }
            }
            if left.is_empty() { Ok(()) } else { Err(left.join("; ")) }
        })
        .await;
    }
}
