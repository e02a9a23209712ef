//! Checks over one database, window by window.

use std::time::Duration;

use tradewind_base::Timestamp;
use tradewind_sql::{Database, Error, Row, Transaction, TransactionError, Value};

use crate::finding::{Findings, Invariant, Violation};

/// A way to find rows that break an invariant.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// What they break.
    pub invariant: &'static Invariant,
    /// What is wrong with a row that it finds.
    pub what: &'static str,
    /// How many rows one read looks at, about.
    pub window: u32,
    /// How it looks.
    pub look: Look,
}

/// How a check looks at a window of rows.
#[derive(Clone, Copy, Debug)]
pub enum Look {
    /// With two statements.
    Rows(Columns),
    /// With a function, for what SQL cannot say on every engine.
    Code {
        /// Where to begin.
        first: First,
        /// Looks at one window.
        look: fn(&mut Transaction<'_>, &Window) -> Result<Page, Error>,
    },
}

/// A check in SQL. Both statements run in one snapshot.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    /// Where the keys of the table begin.
    pub first: First,
    /// The names of what `broken` selects.
    pub columns: &'static [&'static str],
    /// Selects the last key of the window and how many rows it has, given the key before the
    /// window and how many rows are wanted.
    pub bound: &'static str,
    /// Selects the rows of the window that break the invariant, given the key before it and its
    /// last key.
    pub broken: &'static str,
    /// With it, `broken` is also given the time (in milliseconds since the epoch) that lies this
    /// far back: what is older may have been cleaned away.
    pub recent: Option<Duration>,
}

/// What lies before every key of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// Keys are integers.
    Number,
    /// Keys are texts.
    Text,
    /// Keys are bytes.
    Bytes,
}

/// What a function is to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The key before the window.
    pub after: Value,
    /// How many rows are wanted.
    pub rows: u32,
    /// The time.
    pub now: Timestamp,
}

/// What one window came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Its last key; `None` when there was nothing after the last window.
    pub last: Option<Value>,
    /// How many rows were looked at.
    pub checked: u64,
    /// The rows that break the invariant.
    pub broken: Vec<String>,
}

impl First {
    /// The key before the first one.
    #[must_use]
    pub fn value(self) -> Value {
        match self {
            Self::Number => Value::Integer(i64::MIN),
            Self::Text => Value::Text(String::new()),
            Self::Bytes => Value::Blob(Vec::new()),
        }
    }
}

impl Check {
    /// The key before the first window.
    #[must_use]
    pub fn start(&self) -> Value {
        match self.look {
            Look::Rows(it) => it.first.value(),
            Look::Code { first, .. } => first.value(),
        }
    }

    /// Looks at the window after `after`.
    ///
    /// # Errors
    /// When the database fails.
    pub fn page(
        &self,
        tx: &mut Transaction<'_>,
        after: &Value,
        now: Timestamp,
    ) -> Result<Page, Error> {
        let columns = match self.look {
            Look::Rows(it) => it,
            Look::Code { look, .. } => {
                let window = Window { after: after.clone(), rows: self.window, now };
                let mut page = look(tx, &window)?;
                for row in &mut page.broken {
                    row.push_str(": ");
                    row.push_str(self.what);
                }
                return Ok(page);
            }
        };
        let bound = |row: &Row| Ok((row.get::<Value>(0)?, row.get::<u64>(1)?));
        let wanted = [after.clone(), self.window.into()];
        let found = tx.query_one(columns.bound, &wanted, bound)?;
        let Some((last, checked)) = found.filter(|(last, _)| *last != Value::Null) else {
            return Ok(Page::default());
        };
        let mut given = vec![after.clone(), last.clone()];
        if let Some(recent) = columns.recent {
            let recent = i64::try_from(recent.as_millis()).unwrap_or(i64::MAX);
            given.push(now.millis().saturating_sub(recent).into());
        }
        let show = |row: &Row| self.show(columns.columns, row);
        let broken = tx.query(columns.broken, &given, show)?;
        Ok(Page { last: Some(last), checked, broken })
    }

    fn show(&self, columns: &[&str], row: &Row) -> Result<String, Error> {
        let mut text = String::new();
        for (index, name) in columns.iter().enumerate() {
            let gap = if index == 0 { "" } else { " " };
            let value = show(&row.get::<Value>(index)?);
            text.push_str(&format!("{gap}{name}={value}"));
        }
        text.push_str(": ");
        text.push_str(self.what);
        Ok(text)
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::Integer(it) => it.to_string(),
        Value::Text(it) => it.clone(),
        Value::Blob(it) => it.iter().fold(String::new(), |mut text, byte| {
            text.push_str(&format!("{byte:02x}"));
            text
        }),
        _ => "nothing".to_owned(),
    }
}

/// Runs all checks over everything, in the snapshot of the caller.
///
/// # Errors
/// When the database fails.
pub fn all(
    tx: &mut Transaction<'_>,
    checks: &[Check],
    now: Timestamp,
) -> Result<Vec<Violation>, Error> {
    let mut found = Vec::new();
    for check in checks {
        let mut after = check.start();
        loop {
            let page = check.page(tx, &after, now)?;
            let invariant = check.invariant.number;
            found.extend(page.broken.into_iter().map(|row| Violation { invariant, row }));
            let Some(last) = page.last else { break };
            after = last;
        }
    }
    Ok(found)
}

/// Runs all checks over everything, one read for each window.
///
/// # Errors
/// When the database fails.
pub async fn run(
    database: &Database,
    checks: &'static [Check],
    now: Timestamp,
) -> Result<Findings, TransactionError<Error>> {
    let mut findings = Findings::new();
    for check in checks {
        findings.checked(check.invariant, 0);
        let mut after = check.start();
        while let Some(last) = window(database, check, after, now, &mut findings).await? {
            after = last;
        }
    }
    Ok(findings)
}

/// Looks at one window; the key after which the next one begins.
pub(crate) async fn window(
    database: &Database,
    check: &'static Check,
    after: Value,
    now: Timestamp,
    findings: &mut Findings,
) -> Result<Option<Value>, TransactionError<Error>> {
    let page = database.read("audit", move |tx| check.page(tx, &after, now)).await?;
    findings.checked(check.invariant, page.checked);
    for row in page.broken {
        findings.broken(check.invariant, row);
    }
    Ok(page.last)
}
