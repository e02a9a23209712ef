//! The demo users: known to everybody who reads this, so only for machines nobody else reaches.

use tradewind::base::{Clock, Rng};

use crate::login::password::{HashError, Hasher};
use crate::store::{Account, Store, StoreError, UserId};

/// A user for trying things out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DemoUser {
    /// What to log in with.
    pub username: &'static str,
    /// The password, public.
    pub password: &'static str,
    /// What to show.
    pub name: &'static str,
    /// What the user may do.
    pub roles: &'static [&'static str],
}

/// All demo users.
pub const DEMO_USERS: &[DemoUser] = &[
    DemoUser { username: "alice", password: "alice-demo", name: "Alice", roles: &["buyer"] },
    DemoUser { username: "bob", password: "bob-demo", name: "Bob", roles: &["buyer"] },
    DemoUser { username: "carol", password: "carol-demo", name: "Carol", roles: &["buyer"] },
];

/// The demo users could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    #[error("the database failed at user {username}")]
    Store {
        username: &'static str,
        #[source]
        source: StoreError,
    },
    #[error("no password can be hashed")]
    Hash(#[from] HashError),
}

/// Makes those demo users that are not there. A user of such a name who is there stays as it is,
/// also when its password was changed. Several processes may do so at once.
pub(crate) async fn create(
    store: &Store,
    hasher: &Hasher,
    clock: &dyn Clock,
) -> Result<(), DemoError> {
    let mut rng = Rng::from_entropy();
    for it in DEMO_USERS {
        let username = it.username;
        let failed = |source| DemoError::Store { username, source };
        if store.account(username.to_owned()).await.map_err(failed)?.is_some() {
            continue;
        }
        let now = clock.now();
        let account = Account {
            id: UserId::generate(now, &mut rng),
            name: it.name.to_owned(),
            password_hash: hasher.hash(it.password.to_owned()).await?,
            roles: it.roles.iter().map(|it| (*it).to_owned()).collect(),
        };
        if store.add(username.to_owned(), account, now).await.map_err(failed)? {
            tracing::info!(username, "demo user made");
        }
    }
    Ok(())
}
