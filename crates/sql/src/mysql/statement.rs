//! Statements, rows and errors of MySQL.

use mysql::Conn;
use mysql::consts::ColumnType;
use mysql::prelude::Queryable as _;

use crate::error::{Error, ErrorKind};
use crate::value::{Row, Value};

fn bind(params: &[Value]) -> mysql::Params {
    if params.is_empty() {
        return mysql::Params::Empty;
    }
    let bound = params.iter().map(|value| match value {
        Value::Null => mysql::Value::NULL,
        Value::Integer(it) => mysql::Value::Int(*it),
        Value::Text(it) => mysql::Value::Bytes(it.clone().into_bytes()),
        Value::Blob(it) => mysql::Value::Bytes(it.clone()),
    });
    mysql::Params::Positional(bound.collect())
}

pub(crate) fn execute(
    connection: &mut Conn,
    sql: &'static str,
    params: &[Value],
) -> Result<u64, Error> {
    let failed = |source| classify(source, sql);
    let statement = connection.prep(sql).map_err(failed)?;
    let answer = connection.exec_iter(statement, bind(params)).map_err(failed)?;
    if !answer.columns().as_ref().is_empty() {
        let detail = "the statement answers with rows: use a query";
        return Err(Error::new(ErrorKind::Statement, sql).detail(detail));
    }
    let touched = answer.affected_rows();
    drop(answer);
    Ok(touched)
}

pub(crate) fn query(
    connection: &mut Conn,
    sql: &'static str,
    params: &[Value],
    each: &mut dyn FnMut(&Row) -> Result<(), Error>,
) -> Result<(), Error> {
    let failed = |source| classify(source, sql);
    let statement = connection.prep(sql).map_err(failed)?;
    let mut answer = connection.exec_iter(statement, bind(params)).map_err(failed)?;
    let mut row = Row { values: Vec::new(), statement: sql };
    // Leaving early drops the answer, which reads the rest of it off the connection.
    for found in answer.by_ref() {
        let found = found.map_err(failed)?;
        row.values.clear();
        let columns = found.columns();
        for (index, (column, value)) in columns.iter().zip(found.unwrap_raw()).enumerate() {
            let value = value.unwrap_or(mysql::Value::NULL);
            row.values.push(read(value, column, index, sql)?);
        }
        each(&row)?;
    }
    Ok(())
}

/// The pseudo character set of columns that hold bytes.
const BINARY: u16 = 63;

fn read(
    value: mysql::Value,
    column: &mysql::Column,
    index: usize,
    sql: &'static str,
) -> Result<Value, Error> {
    let wrong = |what: &str| {
        Error::new(ErrorKind::Type, sql).detail(format!("column {index} holds {what}"))
    };
    match value {
        mysql::Value::NULL => Ok(Value::Null),
        mysql::Value::Int(it) => Ok(Value::Integer(it)),
        mysql::Value::UInt(it) => {
            i64::try_from(it).map(Value::Integer).map_err(|_| wrong("a number above 63 bits"))
        }
        // The sum of integers is a decimal here and an integer on SQLite.
        mysql::Value::Bytes(it) if column.column_type() == ColumnType::MYSQL_TYPE_NEWDECIMAL => {
            let text = std::str::from_utf8(&it).ok();
            let number = text.and_then(|it| it.parse().ok());
            number.map(Value::Integer).ok_or_else(|| wrong("a decimal that is no 64-bit integer"))
        }
        mysql::Value::Bytes(it) if column.character_set() == BINARY => Ok(Value::Blob(it)),
        mysql::Value::Bytes(it) => {
            String::from_utf8(it).map(Value::Text).map_err(|_| wrong("text that is not UTF-8"))
        }
        mysql::Value::Float(_) | mysql::Value::Double(_) => Err(wrong("a floating point number")),
        mysql::Value::Date(..) | mysql::Value::Time(..) => {
            Err(wrong("a date or time; store milliseconds"))
        }
    }
}

/// Gives an error of MySQL its kind.
pub(crate) fn classify(source: mysql::Error, sql: &'static str) -> Error {
    use mysql::DriverError;
    let kind = match &source {
        mysql::Error::MySqlError(error) => server_error(error.code),
        mysql::Error::IoError(_) | mysql::Error::CodecError(_) => ErrorKind::Connection,
        mysql::Error::DriverError(error) => match error {
            DriverError::MismatchedStmtParams(..) | DriverError::MixedParams => {
                ErrorKind::Statement
            }
            DriverError::PacketTooLarge => ErrorKind::Data,
            _ => ErrorKind::Connection,
        },
        _ => ErrorKind::Other,
    };
    Error::new(kind, sql).caused_by(source)
}

const fn server_error(code: u16) -> ErrorKind {
    match code {
        1022 | 1062 | 1169 | 1586 => ErrorKind::Unique,
        // 4025 is MariaDB's, 3819 MySQL's.
        3819 | 4025 => ErrorKind::Check,
        1048 | 1263 | 1364 => ErrorKind::NotNull,
        1216 | 1217 | 1451 | 1452 | 1761 | 1762 => ErrorKind::ForeignKey,
        1264 | 1265 | 1292 | 1366 | 1406 | 1690 => ErrorKind::Data,
        1205 | 3572 => ErrorKind::Busy,
        1213 => ErrorKind::Deadlock,
        1021 | 1041 | 1114 => ErrorKind::Full,
        // 1969 is MariaDB's, 3024 MySQL's.
        1317 | 1969 | 3024 => ErrorKind::Interrupted,
        1290 | 1792 | 1836 => ErrorKind::ReadOnly,
        // Also: too many connections, server shutting down, connection killed, access denied.
        1040
        | 1044
        | 1045
        | 1049
        | 1053
        | 1152..=1161
        | 1184
        | 1203
        | 1226
        | 1927
        | 2006
        | 2013
        | 3159
        | 3169
        | 4031 => ErrorKind::Connection,
        1054 | 1064 | 1136 | 1146 | 1149 | 1210 | 1295 => ErrorKind::Statement,
        1030 | 1034 | 1194 | 1712 => ErrorKind::Storage,
        _ => ErrorKind::Other,
    }
}
