//! POINTS-1 of accounts whose ledgers may be long: the sum of a ledger is taken over several
//! windows, so that none of them reads more than so many rows.
//!
//! | the window begins behind | it reads | and ends behind |
//! |---|---|---|
//! | an account | the next accounts, and the first [`ROWS_MAX`] ledger rows of them all | the last account all of whose rows it read |
//! | an account, and the next one alone has more rows than that | nothing more | the same, with a sum of nothing of that one |
//! | a sum of a part of one ledger | the next [`ROWS_MAX`] rows of that ledger | the sum with them, or the account at the ledger's end |
//!
//! A ledger only grows, so what was summed stays so; the balance is read in the snapshot that has
//! the ledger's end. On MySQL a row may become visible after one with a higher id: a part ends only
//! behind rows that have been there for [`SETTLED`], which no local transaction is open for.

use std::time::Duration;

use tradewind::audit::{Page, Window};
use tradewind::sql::{Error, Row, Transaction, Value, params};

/// The most rows of ledgers that one window reads.
pub(super) const ROWS_MAX: u32 = 10_000;
/// How old the last row of a part is at least.
const SETTLED: Duration = Duration::from_secs(60);
/// Between the parts of a key; users are visible ASCII.
const BETWEEN: char = '\u{1}';

const ACCOUNTS: &str = "SELECT user_id, balance FROM account WHERE ? < user_id \
     ORDER BY user_id LIMIT ?";
const SUMS: &str = "SELECT user_id, CAST(SUM(amount) AS SIGNED), COUNT(*) FROM (SELECT user_id, \
     amount FROM ledger WHERE ? < user_id AND user_id <= ? ORDER BY user_id, id LIMIT ?) w \
     GROUP BY user_id ORDER BY user_id";
const BALANCE: &str = "SELECT balance FROM account WHERE user_id = ?";
const PART: &str = "SELECT CAST(COALESCE(SUM(amount), 0) AS SIGNED), COUNT(*), \
     COALESCE(MAX(id), 0), COALESCE(MAX(at_ms), 0) FROM (SELECT amount, id, at_ms FROM ledger \
     WHERE user_id = ? AND ? < id ORDER BY id LIMIT ?) w";
const REST: &str = "SELECT CAST(COALESCE(SUM(amount), 0) AS SIGNED) FROM ledger \
     WHERE user_id = ? AND ? < id";

/// What has been summed of one ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    user: String,
    /// The id of the last row.
    upto: i64,
    sum: i64,
}

/// Looks at one window of accounts.
pub(super) fn look(tx: &mut Transaction<'_>, window: &Window) -> Result<Page, Error> {
    within(tx, window, ROWS_MAX)
}

fn within(tx: &mut Transaction<'_>, window: &Window, rows_max: u32) -> Result<Page, Error> {
    let Value::Text(after) = &window.after else { return Ok(Page::default()) };
    match Part::parse(after) {
        Some(part) => long(tx, &part, window, rows_max),
        None => short(tx, after, window, rows_max),
    }
}

/// Accounts that fit into the window with their whole ledgers.
fn short(
    tx: &mut Transaction<'_>,
    after: &str,
    window: &Window,
    rows_max: u32,
) -> Result<Page, Error> {
    let account = |row: &Row| Ok((row.get::<String>(0)?, row.get::<i64>(1)?));
    let mut accounts = tx.query(ACCOUNTS, params![after, window.rows], account)?;
    let Some((upto, _)) = accounts.last().cloned() else { return Ok(Page::default()) };
    let sum = |row: &Row| Ok((row.get::<String>(0)?, (row.get::<i64>(1)?, row.get::<u64>(2)?)));
    let mut sums = tx.query(SUMS, params![after, upto, rows_max], sum)?;
    if u64::from(rows_max) <= sums.iter().map(|it| it.1.1).sum() {
        // Of the last one there may be more.
        let cut = sums.pop().map_or_else(String::new, |it| it.0);
        let whole = accounts.iter().take_while(|it| it.0 < cut).count();
        accounts.truncate(whole);
        if accounts.is_empty() {
            let part = Part { user: cut, upto: i64::MIN, sum: 0 };
            return Ok(Page { last: Some(part.show().into()), ..Page::default() });
        }
    }
    let sums: std::collections::BTreeMap<_, _> = sums.into_iter().collect();
    let mut page = Page::default();
    for (user, balance) in accounts {
        compare(&mut page, &user, balance, sums.get(&user).map_or(0, |it| it.0));
        page.last = Some(user.into());
    }
    Ok(page)
}

/// The next part of a ledger that fits into no window.
fn long(
    tx: &mut Transaction<'_>,
    part: &Part,
    window: &Window,
    rows_max: u32,
) -> Result<Page, Error> {
    let user = part.user.as_str();
    let columns = |row: &Row| Ok((row.get(0)?, row.get::<u32>(1)?, row.get(2)?, row.get(3)?));
    let read = tx.query_one(PART, params![user, part.upto, rows_max], columns)?;
    let (mut more, count, upto, at_ms): (i64, u32, i64, i64) = read.unwrap_or_default();
    if rows_max <= count {
        let settled = i64::try_from(SETTLED.as_millis()).unwrap_or(i64::MAX);
        if at_ms < window.now.millis().saturating_sub(settled) {
            let part = Part { user: user.into(), upto, sum: part.sum.saturating_add(more) };
            return Ok(Page { last: Some(part.show().into()), ..Page::default() });
        }
        // What came within a minute is read at once.
        more = tx.query_one(REST, params![user, part.upto], |row| row.get(0))?.unwrap_or(0);
    }
    let mut page = Page { last: Some(user.into()), ..Page::default() };
    if let Some(balance) = tx.query_one(BALANCE, params![user], |row| row.get::<i64>(0))? {
        compare(&mut page, user, balance, part.sum.saturating_add(more));
    }
    Ok(page)
}

fn compare(page: &mut Page, user: &str, balance: i64, ledger: i64) {
    page.checked += 1;
    if balance != ledger {
        page.broken.push(format!("user={user} balance={balance} ledger={ledger}"));
    }
}

impl Part {
    fn show(&self) -> String {
        format!("{}{BETWEEN}{}{BETWEEN}{}", self.user, self.upto, self.sum)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(BETWEEN);
        let (user, upto, sum) = (parts.next()?, parts.next()?, parts.next()?);
        let (upto, sum) = (upto.parse().ok()?, sum.parse().ok()?);
        Some(Self { user: user.to_owned(), upto, sum })
    }
}

#[cfg(test)]
mod tests {
    use tradewind::base::{Rng, Timestamp};
    use tradewind::sql::{Database, DatabaseUrl, Options, TransactionError};

    use super::*;
    use crate::schema::{MIGRATIONS, SET};

    const NOW: i64 = 1_000_000_000;

    /// Accounts with ledgers of these lengths, of which `wrong` has a point too many; every row is
    /// as old as `age_ms`.
    async fn shop(lengths: Vec<u64>, wrong: Option<usize>, age_ms: i64) -> Database {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::sqlite(&folder.keep().join("points.db"));
        let database = Database::open(&url, Options::default(), SET, MIGRATIONS).unwrap();
        let fill = move |tx: &mut Transaction<'_>| {
            let mut rng = Rng::seeded(7);
            let mut rows = Vec::new();
            for (user, length) in lengths.iter().enumerate() {
                let mut balance = i64::from(wrong == Some(user));
                for row in 0..*length {
                    let amount = i64::try_from(rng.below(1000)).unwrap();
                    balance += amount;
                    rows.push((format!("usr_{user:03}"), format!("{user}-{row}"), amount));
                }
                let sql = "INSERT INTO account VALUES (?, ?, 1)";
                tx.execute(sql, params![format!("usr_{user:03}"), balance])?;
            }
            // As they come: one after the other, not account by account.
            while !rows.is_empty() {
                let at = rng.below(rows.len());
                let (user, order, amount) = rows.swap_remove(at);
                let sql = "INSERT INTO ledger (user_id, order_id, kind, amount, xid, at_ms) \
                     VALUES (?, ?, 'credit', ?, 'txn', ?)";
                tx.execute(sql, params![user, order, amount, NOW - age_ms])?;
            }
            Ok(())
        };
        let filled: Result<(), TransactionError<Error>> = database.transaction("fill", fill).await;
        filled.unwrap();
        database
    }

    /// Looks at everything: how many accounts, which are wrong, and how many windows it took.
    async fn all(database: &Database, accounts: u32, rows_max: u32) -> (u64, Vec<String>, u32) {
        let work = move |tx: &mut Transaction<'_>| {
            let now = Timestamp::from_millis(NOW);
            let mut window = Window { after: Value::Text(String::new()), rows: accounts, now };
            let (mut checked, mut broken, mut windows) = (0, Vec::new(), 0);
            loop {
                let page = within(tx, &window, rows_max)?;
                windows += 1;
                checked += page.checked;
                broken.extend(page.broken);
                let Some(last) = page.last else { return Ok((checked, broken, windows)) };
                assert_ne!(last, window.after, "it goes on");
                window.after = last;
            }
        };
        let done: Result<_, TransactionError<Error>> = database.read("all", work).await;
        done.unwrap()
    }

    /// POINTS-1: each account is compared once, with all of its ledger, whatever a window takes.
    #[tokio::test]
    async fn every_account_is_compared_with_all_of_its_ledger() {
        let lengths = vec![0, 3, 1, 40, 0, 0, 7, 8, 9, 1, 100, 2];
        for wrong in [None, Some(0), Some(3), Some(6), Some(10), Some(11)] {
            let database = shop(lengths.clone(), wrong, 120_000).await;
            for (accounts, rows_max) in [(500, 10_000), (3, 10_000), (500, 8), (2, 1), (1, 7)] {
                let (checked, broken, _) = all(&database, accounts, rows_max).await;
                assert_eq!(checked, 12, "{accounts} {rows_max}");
                let expected = wrong.map(|it| format!("usr_{it:03}"));
                let user = |it: &String| it.get(5..12).unwrap_or(it).to_owned();
                let found = broken.iter().map(user).collect::<Vec<_>>();
                assert_eq!(found, Vec::from_iter(expected), "{accounts} {rows_max} {broken:?}");
            }
        }
    }

    /// No window reads a long ledger at once, unless its rows have just come.
    #[tokio::test]
    async fn a_long_ledger_takes_several_windows() {
        let settled = shop(vec![100], None, 120_000).await;
        assert_eq!(all(&settled, 10, 10).await, (1, vec![], 13), "nothing, ten parts, the end");
        let fresh = shop(vec![100], None, 1000).await;
        assert_eq!(all(&fresh, 10, 10).await, (1, vec![], 3));
    }

    #[test]
    fn a_part_is_read_back() {
        let part = Part { user: "usr_1".into(), upto: i64::MIN, sum: -7 };
        assert_eq!(Part::parse(&part.show()), Some(part));
        assert_eq!(Part::parse("usr_1"), None);
    }
}
