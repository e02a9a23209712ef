//! The queries of the order service. SQL lives in this module only.

use tradewind::base::{Timestamp, id_type};
use tradewind::sql::{self, Database, Row, TransactionError, params};

use crate::login::password::Hash;

id_type! {
    /// A user account: the `sub` of its tokens.
    UserId, "usr"
}

/// The accounts, in a database.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    database: Database,
}

/// A user account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) id: UserId,
    /// What to show for the user.
    pub(crate) name: String,
    pub(crate) password_hash: Hash,
    pub(crate) roles: Vec<String>,
}

/// Why the database gave no answer.
pub(crate) type StoreError = TransactionError<AccountError>;

/// An account could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountError {
    #[error("the database failed")]
    Sql(#[from] sql::Error),
    /// A row that this program did not write.
    #[error("the account {username} has a column that cannot be read: {column}")]
    Row { username: String, column: &'static str },
}

const BY_NAME: &str = "SELECT id, name, password_hash, roles FROM user_account WHERE username = ?";
const INSERT: &str = "INSERT INTO user_account \
     (id, username, name, password_hash, roles, created_at_ms, version) \
     VALUES (?, ?, ?, ?, ?, ?, 1)";

impl Store {
    pub(crate) const fn new(database: Database) -> Self {
        Self { database }
    }

    /// The account with this user name, which is in lower case.
    pub(crate) async fn account(&self, username: String) -> Result<Option<Account>, StoreError> {
        self.database
            .read("account", move |tx| {
                let columns = |row: &Row| {
                    let columns: [String; 4] = [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?];
                    Ok(columns)
                };
                let found = tx.query_one(BY_NAME, params![username.as_str()], columns)?;
                found.map(|it| account(&username, it)).transpose()
            })
            .await
    }

    /// Adds an account unless the user name is taken; says whether it did.
    pub(crate) async fn add(
        &self,
        username: String,
        account: Account,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.database
            .transaction("add account", move |tx| {
                // A list of texts: serialisation has nothing to fail on.
                let roles = serde_json::to_string(&account.roles).unwrap_or_default();
                let params = params![
                    account.id.to_string(),
                    username.as_str(),
                    account.name.as_str(),
                    account.password_hash.as_str(),
                    roles,
                    now.millis()
                ];
                match tx.execute(INSERT, params) {
                    Ok(_) => Ok(true),
                    Err(error) if error.is_unique_violation() => Ok(false),
                    Err(error) => Err(error.into()),
                }
            })
            .await
    }
}

fn account(username: &str, columns: [String; 4]) -> Result<Account, AccountError> {
    let [id, name, password_hash, roles] = columns;
    let wrong = |column| AccountError::Row { username: username.to_owned(), column };
    Ok(Account {
        id: id.parse().map_err(|_| wrong("id"))?,
        name,
        password_hash: Hash::parse(&password_hash).map_err(|_| wrong("password_hash"))?,
        roles: serde_json::from_str(&roles).map_err(|_| wrong("roles"))?,
    })
}

#[cfg(test)]
mod tests;
