//! The tables and every statement on them, the same on SQLite and MySQL.

use tradewind_sql::{Error, Migration, Row, Transaction, params};

use super::{Edit, EditError};
use crate::machine::route::{Rejected, RouteRow};

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

/// What the tables hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Loaded {
    pub(super) rows: Vec<RouteRow>,
    pub(super) unreadable: Vec<Rejected>,
}

/// Puts the first routes into a table that never had any.
pub(super) fn seed(tx: &mut Transaction<'_>, seeds: &[RouteRow]) -> Result<(), EditError> {
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

pub(super) fn load(tx: &mut Transaction<'_>) -> Result<Loaded, Error> {
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

pub(super) fn apply(tx: &mut Transaction<'_>, edit: &Edit) -> Result<(), EditError> {
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
