//! What can go wrong, sorted by what the caller can do about it.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// What kind of failure an [`Error`] is. The same failure has the same kind on both engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A primary key or unique index holds that key already.
    Unique,
    /// A CHECK constraint said no.
    Check,
    /// A column that must have a value got none.
    NotNull,
    /// A row that is referred to is missing, or a row that is to go is referred to.
    ForeignKey,
    /// A value does not fit its column (length, range, type).
    Data,
    /// A lock was not free within its time.
    Busy,
    /// The engine chose this transaction as the victim of a deadlock.
    Deadlock,
    /// The disk, the table or the database's size limit is full.
    Full,
    /// The statement ran longer than allowed and was stopped.
    Interrupted,
    /// A write where only reads are allowed.
    ReadOnly,
    /// The connection could not be made or was lost.
    Connection,
    /// A column holds another type than was asked for, or one that is not supported.
    Type,
    /// The statement is wrong, or of a kind that is not allowed in a transaction.
    Statement,
    /// More rows than [`crate::Options::rows_max`].
    TooManyRows,
    /// The closure panicked. What it did was rolled back.
    Panic,
    /// The file or its storage is damaged or fails.
    Storage,
    /// Anything else; see the source.
    Other,
}

impl ErrorKind {
    const fn text(self) -> &'static str {
        match self {
            Self::Unique => "a unique key is already taken",
            Self::Check => "a check constraint refused the row",
            Self::NotNull => "a required column has no value",
            Self::ForeignKey => "a foreign key refused the row",
            Self::Data => "a value does not fit its column",
            Self::Busy => "a lock was not free in time",
            Self::Deadlock => "the transaction was the victim of a deadlock",
            Self::Full => "the disk or database is full",
            Self::Interrupted => "the statement took too long and was stopped",
            Self::ReadOnly => "a write is not allowed here",
            Self::Connection => "the connection to the database failed",
            Self::Type => "a column has an unexpected type",
            Self::Statement => "the statement cannot be run",
            Self::TooManyRows => "the answer has too many rows",
            Self::Panic => "the closure panicked",
            Self::Storage => "the database's storage fails",
            Self::Other => "the database failed",
        }
    }
}

/// A failed statement, connection or commit.
///
/// The message names the statement (its text is part of the program, never of the data); the
/// engine's own words are in the source and may quote data, so they belong into a log and not
/// into an answer.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    statement: &'static str,
    detail: Option<String>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    pub(crate) const fn new(kind: ErrorKind, statement: &'static str) -> Self {
        Self { kind, statement, detail: None, source: None }
    }

    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub(crate) fn caused_by(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// What kind of failure this is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The statement that failed.
    #[must_use]
    pub const fn statement(&self) -> &'static str {
        self.statement
    }

    /// Whether a unique key is taken.
    #[must_use]
    pub const fn is_unique_violation(&self) -> bool {
        matches!(self.kind, ErrorKind::Unique)
    }

    /// Whether a CHECK constraint refused the row.
    #[must_use]
    pub const fn is_check_violation(&self) -> bool {
        matches!(self.kind, ErrorKind::Check)
    }

    /// Whether a required column got no value.
    #[must_use]
    pub const fn is_not_null_violation(&self) -> bool {
        matches!(self.kind, ErrorKind::NotNull)
    }

    /// Whether a foreign key refused the row.
    #[must_use]
    pub const fn is_foreign_key_violation(&self) -> bool {
        matches!(self.kind, ErrorKind::ForeignKey)
    }

    /// Whether the same work may succeed later without anybody changing it. So may a statement that
    /// was stopped: a process that stood still in the middle of it finds its time over.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Busy
                | ErrorKind::Deadlock
                | ErrorKind::Full
                | ErrorKind::Interrupted
                | ErrorKind::Connection
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.text())?;
        if let Some(detail) = &self.detail {
            write!(f, " ({detail})")?;
        }
        if !self.statement.is_empty() {
            write!(f, " in `{}`", self.statement)?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|it| it as &(dyn StdError + 'static))
    }
}

/// Whether and how a failed transaction may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It would fail again.
    Never,
    /// Nothing happened; later it may succeed.
    Later,
    /// It may have happened: look before trying again.
    AfterLooking,
}

/// Why [`crate::Database::transaction`] or [`crate::Database::read`] has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransactionError<E> {
    /// The closure returned this; everything it did was rolled back.
    #[error("the transaction was refused")]
    Refused(#[source] E),
    /// Too many transactions are waiting. Nothing happened.
    #[error("too many transactions are waiting")]
    Busy,
    /// The commit was sent but its answer is unknown: it may have happened or not.
    #[error("the outcome of the commit is unknown")]
    Unknown {
        /// What went wrong with the commit.
        #[source]
        source: Error,
    },
    /// The database failed; nothing happened.
    #[error("the transaction failed")]
    Database(#[source] Error),
    /// The database is closed, or stopped working after a commit with an unknown outcome.
    /// Nothing happened.
    #[error("the database is closed")]
    Closed,
}

impl<E> TransactionError<E> {
    /// Whether trying again is safe. What the closure itself refused is the caller's to judge.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Busy => Retry::Later,
            Self::Unknown { .. } => Retry::AfterLooking,
            Self::Database(error) if error.is_transient() => Retry::Later,
            Self::Refused(_) | Self::Database(_) | Self::Closed => Retry::Never,
        }
    }

    /// The closure's own error, or this error again when the closure is not its cause.
    ///
    /// # Errors
    /// When the failure is not the closure's: the same failure with another error type.
    pub fn refused<F>(self) -> Result<E, TransactionError<F>> {
        match self {
            Self::Refused(error) => Ok(error),
            Self::Busy => Err(TransactionError::Busy),
            Self::Unknown { source } => Err(TransactionError::Unknown { source }),
            Self::Database(error) => Err(TransactionError::Database(error)),
            Self::Closed => Err(TransactionError::Closed),
        }
    }
}

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file or folder cannot be used.
    #[error("cannot use the database file {path}")]
    File {
        /// The file or folder.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The engine refused the connection or one of its settings.
    #[error("cannot open the database {url}")]
    Connect {
        /// The address, without its password.
        url: String,
        /// What the engine said.
        #[source]
        source: Error,
    },
    /// The engine does not offer what this library stands on.
    #[error("the database {url} is not usable: {what}")]
    Unsuitable {
        /// The address, without its password.
        url: String,
        /// What is missing.
        what: String,
    },
    /// The migrations of the program and those in the database do not fit.
    #[error("the migrations of `{set}` do not fit the database")]
    Migrations {
        /// The component whose migrations these are.
        set: &'static str,
        /// What does not fit.
        #[source]
        source: crate::migration::MigrationError,
    },
    /// A thread could not be started.
    #[error("cannot start a database thread")]
    Thread(#[source] std::io::Error),
}

/// Why [`crate::Database::close`] did not end in order.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// The threads had not ended within [`crate::Options::close_limit`]; they go on until their
    /// work is done.
    #[error("{threads} database threads are still at work")]
    StillRunning {
        /// How many.
        threads: usize,
    },
}
