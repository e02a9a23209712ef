//! Passwords as argon2id hashes (RFC 9106), computed off the async threads, a few at a time.
//!
//! One hash takes 19 MiB and some tens of milliseconds, on purpose. Unbounded, sign-ins would be
//! the cheapest way to stop the service, so a fixed number runs at once, a fixed number waits, and
//! the next one is told to come back.
//!
//! The memory of a hash goes on to the next one. Freed, it would stay with the allocator once for
//! every thread that ever computed a hash, and the pool of blocking threads has hundreds.

use std::sync::{Arc, Mutex, PoisonError};

use argon2::password_hash::Error;
use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
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
    spare: Spare,
}

/// Memory for hashes that is not in use: at most one piece for each hash that runs at once.
#[derive(Clone, Default)]
struct Spare(Arc<Mutex<Vec<Vec<Block>>>>);

impl Spare {
    /// Lends memory to `work` and keeps it afterwards.
    fn lend<T>(&self, work: impl FnOnce(&mut Vec<Block>) -> T) -> T {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut memory = kept.unwrap_or_default();
        let done = work(&mut memory);
        // Hashes made elsewhere may ask for more; that much is not kept.
        if memory.len() <= Params::DEFAULT.block_count() {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
        }
        done
    }
}

impl std::fmt::Debug for Spare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Spare(…)")
    }
}

/// Computes the hash of a password.
fn compute(
    (algorithm, version, params): (Algorithm, Version, &Params),
    salt: &Salt,
    password: &[u8],
    memory: &mut Vec<Block>,
) -> Result<Output, Error> {
    memory.resize(params.block_count(), Block::new());
    let bytes = params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
    let mut out = [0; Output::MAX_LENGTH];
    let out = out.get_mut(..bytes).ok_or(Error::OutputSize)?;
    let argon2 = Argon2::new(algorithm, version, params.clone());
    argon2.hash_password_into_with_memory(password, salt, out, memory)?;
    Ok(Output::new(out)?)
}

/// Hashes a password with a new salt.
fn hash(password: &[u8], memory: &mut Vec<Block>) -> Result<PasswordHash, Error> {
    let (algorithm, version, params) = <(Algorithm, Version, Params)>::default();
    let salt = Salt::generate();
    let output = compute((algorithm, version, &params), &salt, password, memory)?;
    Ok(PasswordHash {
        algorithm: algorithm.ident(),
        version: Some(version.into()),
        params: ParamsString::try_from(&params)?,
        salt: Some(salt),
        hash: Some(output),
    })
}

/// Whether the password fits the hash.
fn fits(password: &[u8], hash: &PasswordHash, memory: &mut Vec<Block>) -> Result<bool, Error> {
    let (Some(salt), Some(expected)) = (&hash.salt, &hash.hash) else { return Ok(false) };
    let algorithm = Algorithm::try_from(hash.algorithm.as_str())?;
    let version = hash.version.map(Version::try_from).transpose()?.unwrap_or_default();
    let params = Params::try_from(hash)?;
    let computed = compute((algorithm, version, &params), salt, password, memory)?;
    // The comparison of outputs takes the same time wherever they differ.
    Ok(computed == *expected)
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
            spare: Spare::default(),
        }
    }

    /// Takes no more work, as if the queue were full for ever.
    #[cfg(test)]
    pub(crate) fn close(&self) {
        self.admitted.close();
    }

    /// Hashes a password with a salt of its own.
    pub(crate) async fn hash(&self, password: String) -> Result<Hash, HashError> {
        let work = move |memory: &mut Vec<Block>| hash(password.as_bytes(), memory);
        let hash = self.run(work).await.map_err(|Full| HashError::Full)?;
        let hash = hash.ok_or_else(|| HashError::Failed("the work did not end".into()))?;
        let hash = hash.map_err(|it| HashError::Failed(it.to_string()))?;
        Ok(Hash(hash.to_string().into()))
    }

    /// Whether the password fits the hash. Takes the same time for every password.
    pub(crate) async fn verify(&self, password: String, hash: Hash) -> Result<bool, Full> {
        let work = move |memory: &mut Vec<Block>| {
            let hash = PasswordHash::new(hash.as_str()).ok()?;
            fits(password.as_bytes(), &hash, memory).ok()
        };
        Ok(self.run(work).await?.flatten().unwrap_or(false))
    }

    /// Runs `work` when its turn comes; `None` when it panicked.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Vec<Block>) -> T + Send + 'static,
    ) -> Result<Option<T>, Full> {
        let admitted = Arc::clone(&self.admitted).try_acquire_owned().map_err(|_| Full)?;
        let running = Arc::clone(&self.running).acquire_owned().await.map_err(|_| Full)?;
        let spare = self.spare.clone();
        // The permits go with the work: a caller that leaves does not make room before its time.
        let work = move || {
            let done = spare.lend(work);
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
    async fn memory_is_used_again_and_no_more_of_it_is_kept_than_runs_at_once() {
        let hasher = Hasher::new(2);
        let hash = hasher.hash("p".into()).await.unwrap();
        let place = || hasher.spare.0.lock().unwrap().first().unwrap().as_ptr();
        let first = place();
        assert_eq!(hasher.verify("p".into(), hash.clone()).await, Ok(true));
        assert_eq!(place(), first);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..12 {
            let (hasher, hash) = (hasher.clone(), hash.clone());
            tasks.spawn(async move { hasher.verify("p".into(), hash).await });
        }
        assert_eq!(tasks.join_all().await, [Ok(true); 12]);
        assert!(hasher.spare.0.lock().unwrap().len() <= 2);
    }

    #[tokio::test]
    async fn hashes_made_elsewhere_with_other_parameters_are_verified() {
        // Argon2i and argon2id of the reference implementation's command, `echo -n password`.
        for made in [
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA",
        ] {
            let hasher = Hasher::new(1);
            let hash = Hash::parse(made).unwrap();
            assert_eq!(hasher.verify("password".into(), hash.clone()).await, Ok(true));
            assert_eq!(hasher.verify("passwore".into(), hash).await, Ok(false));
            assert!(hasher.spare.0.lock().unwrap().is_empty(), "64 MiB are not kept");
        }
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
