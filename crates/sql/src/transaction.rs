//! What a closure does its work with.

use crate::error::{Error, ErrorKind};
use crate::value::{Row, Value};

/// Which SQL the database speaks, where the two differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// SQLite.
    Sqlite,
    /// MySQL, MariaDB and what speaks their protocol.
    MySql,
}

/// An open transaction, or the snapshot of a read.
#[derive(Debug)]
pub struct Transaction<'a> {
    engine: Engine<'a>,
    rows_max: usize,
    worst: Option<ErrorKind>,
    last: Option<ErrorKind>,
}

#[derive(Debug)]
pub(crate) enum Engine<'a> {
    Sqlite(&'a rusqlite::Connection),
    MySql(&'a mut mysql::Conn),
}

impl<'a> Transaction<'a> {
    pub(crate) const fn new(engine: Engine<'a>, rows_max: usize) -> Self {
        Self { engine, rows_max, worst: None, last: None }
    }

    /// A failure after which the transaction cannot be committed, also when the closure ignored it.
    pub(crate) const fn worst(&self) -> Option<ErrorKind> {
        self.worst
    }

    /// The kind of the last failed statement.
    pub(crate) const fn last_failure(&self) -> Option<ErrorKind> {
        self.last
    }

    /// Which SQL the database speaks.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        match self.engine {
            Engine::Sqlite(_) => Dialect::Sqlite,
            Engine::MySql(_) => Dialect::MySql,
        }
    }

    /// Runs a statement that answers with no rows and tells how many rows it touched.
    ///
    /// An UPDATE counts the rows its predicate matched, on both engines, also those whose values
    /// did not change. (`ON DUPLICATE KEY UPDATE` and `REPLACE` count differently on MySQL.)
    ///
    /// # Errors
    /// When the engine refuses. The statement then had no effect, but what was done before it
    /// stands: return the error, or go on knowingly.
    pub fn execute(&mut self, sql: &'static str, params: &[Value]) -> Result<u64, Error> {
        let result = allowed(sql).and_then(|()| match &mut self.engine {
            Engine::Sqlite(connection) => crate::sqlite::execute(connection, sql, params),
            Engine::MySql(connection) => crate::mysql::execute(connection, sql, params),
        });
        self.noticed(result)
    }

    /// Runs a query and maps each row.
    ///
    /// # Errors
    /// When the engine refuses, when `map` does, or when there are more rows than
    /// [`crate::Options::rows_max`].
    pub fn query<T>(
        &mut self,
        sql: &'static str,
        params: &[Value],
        mut map: impl FnMut(&Row) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let mut rows = Vec::new();
        let rows_max = self.rows_max;
        let mut each = |row: &Row| {
            if rows_max <= rows.len() {
                return Err(Error::new(ErrorKind::TooManyRows, sql));
            }
            rows.push(map(row)?);
            Ok(())
        };
        let result = allowed(sql).and_then(|()| match &mut self.engine {
            Engine::Sqlite(connection) => crate::sqlite::query(connection, sql, params, &mut each),
            Engine::MySql(connection) => crate::mysql::query(connection, sql, params, &mut each),
        });
        self.noticed(result)?;
        Ok(rows)
    }

    /// Runs a query that answers with at most one row.
    ///
    /// # Errors
    /// As [`Transaction::query`], and when there is a second row.
    pub fn query_one<T>(
        &mut self,
        sql: &'static str,
        params: &[Value],
        map: impl FnMut(&Row) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let mut rows = self.query(sql, params, map)?;
        let first = rows.pop();
        if rows.is_empty() {
            Ok(first)
        } else {
            let detail = format!("{} rows where one was expected", rows.len() + 1);
            Err(Error::new(ErrorKind::TooManyRows, sql).detail(detail))
        }
    }

    fn noticed<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &result {
            self.last = Some(error.kind());
            let fatal = matches!(
                error.kind(),
                ErrorKind::Deadlock | ErrorKind::Busy | ErrorKind::Connection
            );
            if fatal {
                self.worst = Some(error.kind());
            }
        }
        result
    }
}

/// Only statements on rows: anything that begins, ends or silently commits a transaction would
/// break the promise that a closure's writes stand or fall together, with its neighbours' on
/// SQLite. Schema changes belong into migrations.
fn allowed(sql: &'static str) -> Result<(), Error> {
    let start = sql.trim_start_matches(|it: char| it.is_ascii_whitespace() || it == '(');
    let end = start.find(|it: char| !it.is_ascii_alphabetic()).unwrap_or(start.len());
    let word = start.get(..end).unwrap_or_default();
    let known = ["SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH", "VALUES"];
    if known.iter().any(|it| it.eq_ignore_ascii_case(word)) {
        return Ok(());
    }
    let detail = "a transaction runs SELECT, INSERT, UPDATE, DELETE, REPLACE, WITH and VALUES only";
    Err(Error::new(ErrorKind::Statement, sql).detail(detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_statements_on_rows_are_allowed() {
        for sql in [
            "SELECT 1",
            "\n  insert into t values (1)",
            "(SELECT 1)",
            "WITH a AS (SELECT 1) SELECT * FROM a",
        ] {
            assert!(allowed(sql).is_ok(), "{sql}");
        }
        for sql in [
            "COMMIT",
            "rollback",
            "SAVEPOINT x",
            "BEGIN",
            "DROP TABLE t",
            "PRAGMA foreign_keys=0",
            "SET autocommit=1",
            "",
            "-- SELECT\nCOMMIT",
        ] {
            assert_eq!(allowed(sql).unwrap_err().kind(), ErrorKind::Statement, "{sql}");
        }
    }
}
