//! Connections and the settings of their sessions.

use mysql::prelude::Queryable as _;
use mysql::{Conn, OptsBuilder, consts::CapabilityFlags};

use crate::options::Options;
use crate::url::Server;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Schema changes, which may take as long as they take.
    Migrate,
    /// Transactions, at READ COMMITTED.
    Write,
    /// Snapshots, at REPEATABLE READ.
    Read,
}

/// The same meaning of literals, quoted names, `||` and overlong values as on SQLite, and no
/// silent repair of bad data.
const MODE: &str = "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,\
    ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,ONLY_FULL_GROUP_BY,ANSI_QUOTES,\
    PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES'";

pub(super) fn open(server: &Server, options: &Options, purpose: Use) -> mysql::Result<Conn> {
    let builder = OptsBuilder::new()
        .ip_or_hostname(Some(&server.host))
        .tcp_port(server.port)
        .socket(server.socket.clone())
        // Never ask a TCP server for its socket and move there: it may be another machine's.
        .prefer_socket(false)
        .user(Some(&server.user))
        .pass(server.password())
        .db_name(Some(&server.database))
        // Without it, Nagle and delayed acknowledgements turn each step into 40 ms.
        .tcp_nodelay(true)
        .tcp_connect_timeout(Some(options.connect_time_max))
        .stmt_cache_size(Some(256))
        // UPDATE counts the rows it matched, as SQLite does, not the rows it changed.
        .additional_capabilities(CapabilityFlags::CLIENT_FOUND_ROWS);
    let patience = (purpose != Use::Migrate).then_some(options.answer_time_max);
    let builder = builder.read_timeout(patience).write_timeout(patience);
    let mut connection = Conn::new(builder)?;
    connection.query_drop("SET NAMES utf8mb4")?;
    connection.query_drop(MODE)?;
    connection.query_drop(match purpose {
        Use::Migrate | Use::Write => "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        Use::Read => "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    })?;
    let wait = options.lock_wait.as_secs().max(1);
    connection.query_drop(format!("SET SESSION innodb_lock_wait_timeout = {wait}"))?;
    if purpose == Use::Migrate {
        return Ok(connection);
    }
    let run = options.run_time_max;
    let version: Option<String> = connection.query_first("SELECT VERSION()")?;
    if version.is_some_and(|it| it.contains("MariaDB")) {
        // Seconds with a fraction, for every statement.
        let seconds = run.as_secs_f64();
        connection.query_drop(format!("SET SESSION max_statement_time = {seconds}"))?;
    } else {
        // Milliseconds, for SELECT alone.
        let millis = run.as_millis();
        connection.query_drop(format!("SET SESSION max_execution_time = {millis}"))?;
    }
    Ok(connection)
}

/// Whether new tables have transactions.
pub(super) fn has_innodb(connection: &mut Conn) -> mysql::Result<bool> {
    let engine: Option<String> = connection.query_first("SELECT @@default_storage_engine")?;
    Ok(engine.is_some_and(|it| it.eq_ignore_ascii_case("InnoDB")))
}
