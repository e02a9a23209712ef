//! Schema changes: numbered, forward only, each applied once and never edited.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::transaction::Dialect;

/// One schema change: one statement for each engine.
///
/// A released migration is never edited. On MySQL a schema change commits by itself; a process
/// that dies between the change and its record runs the statement again, and then takes "exists
/// already" (or "is gone already") for done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// 1, 2, 3 and so on within its set.
    pub version: u32,
    /// A few words for people: `create stock`.
    pub name: &'static str,
    /// The statement on SQLite.
    pub sqlite: &'static str,
    /// The statement on MySQL. Give text keys `COLLATE utf8mb4_bin`, or they ignore case.
    pub mysql: &'static str,
}

/// How the migrations of the program and those in the database do not fit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrationError {
    /// The program's list is not 1, 2, 3 and so on.
    #[error(
        "the program's migrations must be numbered 1, 2, 3…: found {found} where {expected} was due"
    )]
    Numbering {
        /// The number due.
        expected: u32,
        /// The number found.
        found: u32,
    },
    /// A migration was edited after it was applied.
    #[error(
        "migration {version} `{name}` was applied with another text; never edit one, add another"
    )]
    Changed {
        /// Which.
        version: u32,
        /// Its name in the program.
        name: &'static str,
    },
    /// The database holds fewer low numbers than high ones.
    #[error("the database has migration {found} but not {missing}: it was changed by hand")]
    Gap {
        /// The lowest number that is missing.
        missing: u32,
        /// The lowest number above it that is there.
        found: u32,
    },
    /// A newer program was here.
    #[error(
        "the database is at migration {database}, this program knows up to {program}: \
         start a version at least as new"
    )]
    Newer {
        /// The highest number in the database.
        database: u32,
        /// The highest number in the program.
        program: u32,
    },
    /// A statement failed.
    #[error("migration {version} `{name}` failed")]
    Failed {
        /// Which.
        version: u32,
        /// Its name.
        name: &'static str,
        /// What the engine said.
        #[source]
        source: Error,
    },
    /// The table of applied migrations cannot be used.
    #[error("cannot use the table tradewind_migrations")]
    Table(#[source] Error),
    /// Another process migrates this database and did not finish in time.
    #[error("another process has been migrating this database for {seconds} s")]
    Locked {
        /// How long this one waited.
        seconds: u64,
    },
}

impl Migration {
    pub(crate) const fn statement(&self, dialect: Dialect) -> &'static str {
        match dialect {
            Dialect::Sqlite => self.sqlite,
            Dialect::MySql => self.mysql,
        }
    }
}

/// FNV-1a over 64 bits, as 16 hexadecimal digits. It finds edits, not attackers: who can write
/// the table needs no collision.
pub(crate) fn checksum(statement: &str) -> String {
    let hash = statement.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// Which of `migrations` are still to be applied, given the versions and checksums that are.
pub(crate) fn pending<'a>(
    migrations: &'a [Migration],
    applied: &BTreeMap<u32, String>,
    dialect: Dialect,
) -> Result<&'a [Migration], MigrationError> {
    for (expected, migration) in (1..).zip(migrations) {
        if migration.version != expected {
            return Err(MigrationError::Numbering { expected, found: migration.version });
        }
    }
    let program = migrations.last().map_or(0, |it| it.version);
    if let Some((&database, _)) = applied.last_key_value()
        && program < database
    {
        return Err(MigrationError::Newer { database, program });
    }
    for (missing, &found) in (1..).zip(applied.keys()) {
        if missing != found {
            return Err(MigrationError::Gap { missing, found });
        }
    }
    for migration in migrations {
        let Some(sum) = applied.get(&migration.version) else { break };
        if *sum != checksum(migration.statement(dialect)) {
            let Migration { version, name, .. } = *migration;
            return Err(MigrationError::Changed { version, name });
        }
    }
    Ok(migrations.get(applied.len()..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn migration(version: u32, sqlite: &'static str) -> Migration {
        Migration { version, name: "it", sqlite, mysql: "M" }
    }

    fn check(program: &[(u32, &'static str)], database: &[(u32, &str)]) -> String {
        let migrations: Vec<_> = program.iter().map(|it| migration(it.0, it.1)).collect();
        let applied = database.iter().map(|it| (it.0, checksum(it.1))).collect();
        match pending(&migrations, &applied, Dialect::Sqlite) {
            Ok(rest) => format!("{:?}", rest.iter().map(|it| it.version).collect::<Vec<_>>()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_is_pending_is_what_follows_what_is_applied() {
        assert_eq!(check(&[], &[]), "[]");
        assert_eq!(check(&[(1, "a"), (2, "b")], &[]), "[1, 2]");
        assert_eq!(check(&[(1, "a"), (2, "b")], &[(1, "a")]), "[2]");
        assert_eq!(check(&[(1, "a"), (2, "b")], &[(1, "a"), (2, "b")]), "[]");
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_reason() {
        for (program, database, reason) in [
            (&[(1, "a"), (3, "b")][..], &[][..], "found 3 where 2 was due"),
            (&[(0, "a")], &[], "found 0 where 1 was due"),
            (&[(1, "a"), (1, "b")], &[], "found 1 where 2 was due"),
            (&[(1, "edited")], &[(1, "a")], "applied with another text"),
            (&[(1, "a")], &[(1, "a"), (2, "b")], "knows up to 1"),
            (&[(1, "a"), (2, "b")], &[(2, "b")], "has migration 2 but not 1"),
        ] {
            let got = check(program, database);
            assert!(got.contains(reason), "{got}");
        }
    }

    #[test]
    fn the_checksum_never_changes() {
        assert_eq!(checksum(""), "cbf29ce484222325");
        // The published test values of the function.
        assert_eq!(checksum("a"), "af63dc4c8601ec8c");
        assert_eq!(checksum("foobar"), "85944171f73967e8");
    }
}
