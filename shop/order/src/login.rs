//! Signing in: who may try, whether the password fits, which token comes out.
//!
//! A guess costs the guesser: every attempt is charged to the user name and to the peer it comes
//! from *before* the password is looked at, so that a hundred guesses sent at once do not all slip
//! through, and given back when the password was right. Attempts beyond what is left wait for those
//! under way: many honest ones at once all get in. An unknown user costs as much time as a wrong
//! password. Hashing runs off the async threads, a few at a time, with a bounded queue.

pub(crate) mod attempts;
pub(crate) mod password;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tradewind::base::Clock;

use self::attempts::{Attempts, Limit, Verdict};
use self::password::{Hash, Hasher};
use crate::store::{Account, Store, StoreError};
use crate::token::{Claims, Issuer, SignError};

/// How long an attempt waits for others of the same user or address to end.
const TURN_LIMIT: Duration = Duration::from_secs(5);

/// What is checked at the door.
#[derive(Debug)]
pub(crate) struct Login {
    store: Store,
    hasher: Hasher,
    /// What a password for an unknown user is compared with.
    nobody: Hash,
    issuer: Arc<Issuer>,
    attempts: Mutex<Budgets>,
    /// Some attempt has ended.
    ended: Notify,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct Budgets {
    users: Attempts<String>,
    peers: Attempts<String>,
}

/// An attempt that is under way. It ends when dropped, as a failure unless it succeeded: a guesser
/// who hangs up early has guessed all the same.
#[derive(Debug)]
struct Attempt<'a> {
    login: &'a Login,
    username: &'a str,
    peer: &'a str,
    forgiven: bool,
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
        let users = Attempts::new(limits.user);
        let attempts = Mutex::new(Budgets { users, peers: Attempts::new(limits.peer) });
        Self { store, hasher, nobody, issuer, attempts, ended: Notify::new(), clock }
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
        let mut attempt = self.begin(&username, peer).await?;
        // Only a look at the password tells a guess from an honest attempt: what fails before it
        // or without it is nobody's guess.
        attempt.forgiven = true;
        let account = self.store.account(username.clone()).await.map_err(LoginError::Store)?;
        let hash = account.as_ref().map_or(&self.nobody, |it| &it.password_hash).clone();
        let verify = self.hasher.verify(password, hash);
        attempt.forgiven = false;
        let fits = verify.await.map_err(|password::Full| {
            attempt.forgiven = true;
            LoginError::Busy
        })?;
        let Some(account) = account.filter(|_| fits) else { return Err(LoginError::Wrong) };
        attempt.forgiven = true;
        drop(attempt);
        self.grant(account)
    }

    fn grant(&self, account: Account) -> Result<Granted, LoginError> {
        let claims = Claims::new(account.id.to_string(), account.name, account.roles);
        let token = self.issuer.sign(&claims, self.clock.now()).map_err(LoginError::Sign)?;
        Ok(Granted { token, lifetime: self.issuer.lifetime() })
    }

    /// Begins an attempt when it is its turn.
    async fn begin<'a>(
        &'a self,
        username: &'a str,
        peer: &'a str,
    ) -> Result<Attempt<'a>, LoginError> {
        let end = Instant::now() + TURN_LIMIT;
        loop {
            // Before the look at the budgets: an end in between is not missed.
            let ended = self.ended.notified();
            match self.try_begin(username, peer) {
                Verdict::Go => return Ok(Attempt { login: self, username, peer, forgiven: false }),
                Verdict::Wait(wait) => return Err(LoginError::TooMany { wait }),
                Verdict::Later => timeout_at(end, ended).await.map_err(|_| LoginError::Busy)?,
            }
        }
    }

    fn try_begin(&self, username: &str, peer: &str) -> Verdict {
        let now = self.clock.monotonic();
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        // Both are looked at before either is charged: a refused attempt costs nothing.
        let verdict = attempts.users.verdict(username, now).max(attempts.peers.verdict(peer, now));
        if verdict == Verdict::Go {
            attempts.users.begin(username.to_owned(), now);
            attempts.peers.begin(peer.to_owned(), now);
        }
        verdict
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut attempts = self.login.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.users.end(self.username, self.forgiven);
        attempts.peers.end(self.peer, self.forgiven);
        drop(attempts);
        self.login.ended.notify_waiters();
    }
}
