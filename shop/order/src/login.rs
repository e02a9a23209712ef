//! Signing in: who may try, whether the password fits, which token comes out.
//!
//! A guess costs the guesser: every attempt is charged to the user name and to the peer it comes
//! from *before* the password is looked at, so that a hundred guesses sent at once do not all slip
//! through, and given back when the password was right. An unknown user costs as much time as a
//! wrong password. Hashing runs off the async threads, a few at a time, with a short queue.

pub(crate) mod attempts;
pub(crate) mod password;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tradewind::base::Clock;

use self::attempts::{Attempts, Limit};
use self::password::{Hash, Hasher};
use crate::store::{Account, Store, StoreError};
use crate::token::{Claims, Issuer, SignError};

/// What is checked at the door.
#[derive(Debug)]
pub(crate) struct Login {
    store: Store,
    hasher: Hasher,
    /// What a password for an unknown user is compared with.
    nobody: Hash,
    issuer: Arc<Issuer>,
    attempts: Mutex<(Attempts<String>, Attempts<String>)>,
    clock: Arc<dyn Clock>,
}

/// How many failed attempts are allowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) user: Limit,
    pub(crate) peer: Limit,
}

/// A token for a user who proved to be one.
#[derive(Clone)]
pub(crate) struct Granted {
    pub(crate) token: String,
    pub(crate) lifetime: Duration,
}

/// Why nobody was signed in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    /// No such user, or not this password: not told apart.
    #[error("the user name or the password is wrong")]
    Wrong,
    #[error("too many failed attempts; the next one is looked at in {wait:?}")]
    TooMany { wait: Duration },
    /// Too many passwords wait to be checked.
    #[error("the queue of passwords to check is full")]
    Busy,
    #[error("failed to read the account")]
    Store(#[source] StoreError),
    #[error("failed to sign the token")]
    Sign(#[source] SignError),
}

impl Login {
    pub(crate) fn new(
        store: Store,
        hasher: Hasher,
        nobody: Hash,
        issuer: Arc<Issuer>,
        limits: Limits,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let attempts = (Attempts::new(limits.user), Attempts::new(limits.peer));
        Self { store, hasher, nobody, issuer, attempts: Mutex::new(attempts), clock }
    }

    /// Who signs the tokens.
    pub(crate) const fn issuer(&self) -> &Arc<Issuer> {
        &self.issuer
    }

    /// Signs a user in. `peer` is where the attempt comes from.
    pub(crate) async fn sign_in(
        &self,
        username: &str,
        password: String,
        peer: &str,
    ) -> Result<Granted, LoginError> {
        // Names are kept in lower case: `Alice` is no other user, and no second budget of guesses.
        let username = username.to_lowercase();
        self.charge(&username, peer)?;
        let account = self.store.account(username.clone()).await.map_err(LoginError::Store)?;
        let hash = account.as_ref().map_or(&self.nobody, |it| &it.password_hash);
        let fits = self.hasher.verify(password, hash.clone()).await.map_err(|password::Full| {
            self.refund(&username, peer);
            LoginError::Busy
        })?;
        let Some(account) = account.filter(|_| fits) else { return Err(LoginError::Wrong) };
        self.refund(&username, peer);
        self.grant(account)
    }

    fn grant(&self, account: Account) -> Result<Granted, LoginError> {
        let claims = Claims::new(account.id.to_string(), account.name, account.roles);
        let token = self.issuer.sign(&claims, self.clock.now()).map_err(LoginError::Sign)?;
        Ok(Granted { token, lifetime: self.issuer.lifetime() })
    }

    fn charge(&self, username: &str, peer: &str) -> Result<(), LoginError> {
        let now = self.clock.monotonic();
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let (users, peers) = &mut *attempts;
        // Both are looked at before either is charged: a refused attempt costs nothing.
        let wait = users.wait(username, now).max(peers.wait(peer, now));
        if !wait.is_zero() {
            return Err(LoginError::TooMany { wait });
        }
        users.charge(username.to_owned(), now);
        peers.charge(peer.to_owned(), now);
        Ok(())
    }

    fn refund(&self, username: &str, peer: &str) {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.0.refund(username);
        attempts.1.refund(peer);
    }
}
