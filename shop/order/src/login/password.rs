//! Passwords as argon2id hashes (RFC 9106), computed off the async threads, a few at a time.
//!
//! One hash takes 19 MiB and some tens of milliseconds, on purpose. Unbounded, sign-ins would be
//! the cheapest way to stop the service, so a fixed number runs at once, a fixed number waits, and
//! the next one is told to come back.

use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use tokio::sync::Semaphore;

/// How many passwords wait to be hashed at most, for each that is being hashed.
const WAITING_PER_RUNNING: usize = 64;

/// A password hash in PHC text form. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Hash(Arc<str>);

/// A text is not a password hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a password hash in PHC form")]
pub(crate) struct NoHash;

/// A password could not be hashed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HashError {
    #[error("the queue of passwords to hash is full")]
    Full,
    #[error("failed to hash a password: {0}")]
    Failed(String),
}

/// The queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// Hashes passwords and compares them with hashes.
#[derive(Clone, Debug)]
pub(crate) struct Hasher {
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
}

impl Hash {
    pub(crate) fn parse(text: &str) -> Result<Self, NoHash> {
        PasswordHash::new(text).map_err(|_| NoHash)?;
        Ok(Self(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hash(…)")
    }
}

impl Hasher {
    /// A hasher that works on `parallel` passwords at once; at least one.
    pub(crate) fn new(parallel: usize) -> Self {
        let parallel = parallel.max(1);
        Self {
            running: Arc::new(Semaphore::new(parallel)),
            admitted: Arc::new(Semaphore::new(parallel * (1 + WAITING_PER_RUNNING))),
        }
    }

    /// Takes no more work, as if the queue were full for ever.
    #[cfg(test)]
    pub(crate) fn close(&self) {
        self.admitted.close();
    }

    /// Hashes a password with a salt of its own.
    pub(crate) async fn hash(&self, password: String) -> Result<Hash, HashError> {
        let work = move || Argon2::default().hash_password(password.as_bytes());
        let hash = self.run(work).await.map_err(|Full| HashError::Full)?;
        let hash = hash.ok_or_else(|| HashError::Failed("the work did not end".into()))?;
        let hash = hash.map_err(|it| HashError::Failed(it.to_string()))?;
        Ok(Hash(hash.to_string().into()))
    }

    /// Whether the password fits the hash. Takes the same time for every password.
    pub(crate) async fn verify(&self, password: String, hash: Hash) -> Result<bool, Full> {
        let work = move || {
            let hash = PasswordHash::new(hash.as_str()).ok()?;
            Argon2::default().verify_password(password.as_bytes(), &hash).ok()
        };
        Ok(self.run(work).await?.flatten().is_some())
    }

    /// Runs `work` when its turn comes; `None` when it panicked.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Option<T>, Full> {
        let admitted = Arc::clone(&self.admitted).try_acquire_owned().map_err(|_| Full)?;
        let running = Arc::clone(&self.running).acquire_owned().await.map_err(|_| Full)?;
        // The permits go with the work: a caller that leaves does not make room before its time.
        let work = move || {
            let done = work();
            drop((running, admitted));
            done
        };
        Ok(tokio::task::spawn_blocking(work).await.ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_fits_its_own_hash_only_and_salts_differ() {
        let hasher = Hasher::new(1);
        let hash = hasher.hash("correct horse".into()).await.unwrap();
        let again = hasher.hash("correct horse".into()).await.unwrap();
        assert_ne!(hash.as_str(), again.as_str());
        assert!(hash.as_str().starts_with("$argon2id$"));
        assert_eq!(Hash::parse(hash.as_str()), Ok(hash.clone()));
        assert_eq!(hasher.verify("correct horse".into(), hash.clone()).await, Ok(true));
        assert_eq!(hasher.verify("wrong horse".into(), hash.clone()).await, Ok(false));
        assert_eq!(format!("{hash:?}"), "Hash(…)");
    }

    #[tokio::test]
    async fn the_queue_is_bounded() {
        let hasher = Hasher::new(1);
        let held = hasher.running.clone().acquire_owned().await.unwrap();
        let hash = Hash("x".into());
        let mut waiting: Vec<_> = (0..=WAITING_PER_RUNNING)
            .map(|_| Box::pin(hasher.verify("p".into(), hash.clone())))
            .collect();
        for it in &mut waiting {
            assert!(
                std::future::poll_fn(|cx| std::task::Poll::Ready(
                    it.as_mut().poll(cx).is_pending()
                ))
                .await
            );
        }
        assert_eq!(hasher.verify("p".into(), hash.clone()).await, Err(Full));
        drop(held);
        for it in waiting {
            assert_eq!(it.await, Ok(false), "what waited gets its turn");
        }
    }

    #[test]
    fn nonsense_is_no_hash() {
        assert_eq!(Hash::parse("secret"), Err(NoHash));
        assert_eq!(Hash::parse(""), Err(NoHash));
    }
}
