//! Statements, rows and errors of SQLite.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, ErrorCode, ToSql, ffi};

use crate::error::{Error, ErrorKind};
use crate::value::{Row, Value};

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(it) => ValueRef::Integer(*it),
            Self::Text(it) => ValueRef::Text(it.as_bytes()),
            Self::Blob(it) => ValueRef::Blob(it),
        }))
    }
}

fn prepare<'a>(
    connection: &'a Connection,
    sql: &'static str,
) -> Result<CachedStatement<'a>, Error> {
    connection.prepare_cached(sql).map_err(|source| classify(source, sql))
}

pub(crate) fn execute(
    connection: &Connection,
    sql: &'static str,
    params: &[Value],
) -> Result<u64, Error> {
    let touched = prepare(connection, sql)?
        .execute(rusqlite::params_from_iter(params))
        .map_err(|source| classify(source, sql))?;
    Ok(u64::try_from(touched).unwrap_or(u64::MAX))
}

pub(crate) fn query(
    connection: &Connection,
    sql: &'static str,
    params: &[Value],
    each: &mut dyn FnMut(&Row) -> Result<(), Error>,
) -> Result<(), Error> {
    let failed = |source| classify(source, sql);
    let mut statement = prepare(connection, sql)?;
    let columns = statement.column_count();
    let mut rows = statement.query(rusqlite::params_from_iter(params)).map_err(failed)?;
    let mut row = Row { values: Vec::with_capacity(columns), statement: sql };
    while let Some(found) = rows.next().map_err(failed)? {
        row.values.clear();
        for index in 0..columns {
            row.values.push(value(found.get_ref(index).map_err(failed)?, index, sql)?);
        }
        each(&row)?;
    }
    Ok(())
}

fn value(found: ValueRef<'_>, index: usize, sql: &'static str) -> Result<Value, Error> {
    match found {
        ValueRef::Null => Ok(Value::Null),
        ValueRef::Integer(it) => Ok(Value::Integer(it)),
        ValueRef::Blob(it) => Ok(Value::Blob(it.to_vec())),
        ValueRef::Text(it) => match std::str::from_utf8(it) {
            Ok(text) => Ok(Value::Text(text.to_owned())),
            Err(source) => Err(Error::new(ErrorKind::Type, sql)
                .detail(format!("column {index} holds text that is not UTF-8"))
                .caused_by(source)),
        },
        ValueRef::Real(_) => Err(Error::new(ErrorKind::Type, sql)
            .detail(format!("column {index} holds a floating point number"))),
    }
}

/// Gives an error of SQLite its kind.
pub(crate) fn classify(source: rusqlite::Error, sql: &'static str) -> Error {
    let kind = match source.sqlite_error() {
        None => ErrorKind::Statement,
        Some(failure) => match failure.code {
            ErrorCode::ConstraintViolation => constraint(failure.extended_code),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => ErrorKind::Busy,
            ErrorCode::DiskFull => ErrorKind::Full,
            ErrorCode::OperationInterrupted => ErrorKind::Interrupted,
            ErrorCode::ReadOnly => ErrorKind::ReadOnly,
            ErrorCode::TooBig | ErrorCode::TypeMismatch => ErrorKind::Data,
            ErrorCode::SystemIoFailure
            | ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase
            | ErrorCode::CannotOpen => ErrorKind::Storage,
            ErrorCode::Unknown | ErrorCode::ApiMisuse | ErrorCode::ParameterOutOfRange => {
                ErrorKind::Statement
            }
            _ => ErrorKind::Other,
        },
    };
    Error::new(kind, sql).caused_by(source)
}

const fn constraint(extended: i32) -> ErrorKind {
    match extended {
        ffi::SQLITE_CONSTRAINT_UNIQUE
        | ffi::SQLITE_CONSTRAINT_PRIMARYKEY
        | ffi::SQLITE_CONSTRAINT_ROWID => ErrorKind::Unique,
        ffi::SQLITE_CONSTRAINT_CHECK => ErrorKind::Check,
        ffi::SQLITE_CONSTRAINT_NOTNULL => ErrorKind::NotNull,
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => ErrorKind::ForeignKey,
        ffi::SQLITE_CONSTRAINT_DATATYPE => ErrorKind::Data,
        _ => ErrorKind::Other,
    }
}
