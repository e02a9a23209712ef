//! The file with the private key: made once, atomically, readable by its owner only.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use tradewind::service::lifecycle::private_folder;

/// The longest key file that is read, in bytes; an Ed25519 key in PKCS#8 has under 100.
const LEN_MAX: u64 = 4096;

/// Why there is no signing key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The file cannot be made or read.
    #[error("failed to {what} {}", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Others could read the file, and so sign tokens.
    #[error("{} may be read by others (mode {mode:o}); run: chmod 600 {}", .path.display(), .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else.
    #[error("{} is not an Ed25519 key in PKCS#8; move it away to have a new one made", .path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The system gave no randomness.
    #[error("failed to generate a key")]
    Generate,
}

/// The PKCS#8 bytes of the key in `path`. If there is no such file, a key is made; of several
/// processes that start at once, all end up with the key of one of them.
pub(super) fn read_or_create(path: &Path) -> Result<Vec<u8>, KeyFileError> {
    match read(path)? {
        Some(key) => Ok(key),
        None => {
            create(path)?;
            let gone = || io::Error::from(io::ErrorKind::NotFound);
            read(path)?.ok_or_else(|| failed("read", path)(gone()))
        }
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyFileError {
    move |source| KeyFileError::Io { what, path: path.to_owned(), source }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, KeyFileError> {
    let file = match OpenOptions::new().read(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", path)(error)),
    };
    let mode = file.metadata().map_err(failed("stat", path))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Open { path: path.to_owned(), mode });
    }
    let mut key = Vec::new();
    file.take(LEN_MAX).read_to_end(&mut key).map_err(failed("read", path))?;
    Ok(Some(key))
}

/// Writes a new key beside `path`, durably, and links it to its name, which fails if the name is
/// taken by then: no reader ever sees half a key, and no key is ever replaced.
fn create(path: &Path) -> Result<(), KeyFileError> {
    let key =
        Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyFileError::Generate)?;
    if let Some(folder) = path.parent() {
        private_folder(folder).map_err(failed("create the folder of", path))?;
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let beside = path.with_extension(format!("{}-{number}.new", std::process::id()));
    // A file that a killed process of the same id left; nobody links it any more.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", &beside)(error));
        }
        Ok(()) | Err(_) => {}
    }
    let done = write(&beside, key.as_ref(), path);
    let removed = fs::remove_file(&beside).map_err(failed("remove", &beside));
    done.and(removed)
}

/// Tells apart the files that threads of this process write beside each other.
static NEXT: AtomicU64 = AtomicU64::new(0);

fn write(beside: &Path, key: &[u8], path: &Path) -> Result<(), KeyFileError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(beside)
        .map_err(failed("create", beside))?;
    file.write_all(key).and_then(|()| file.sync_all()).map_err(failed("write", beside))?;
    match fs::hard_link(beside, path) {
        Ok(()) => sync_folder(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed("link", path)(error)),
    }
}

fn sync_folder(path: &Path) -> Result<(), KeyFileError> {
    let Some(folder) = path.parent().filter(|it| !it.as_os_str().is_empty()) else {
        return Ok(());
    };
    let folder_file = fs::File::open(folder).map_err(failed("open the folder of", path))?;
    folder_file.sync_all().map_err(failed("sync the folder of", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/order-jwt.pk8");
        let key = read_or_create(&path).unwrap();
        assert_eq!(read_or_create(&path).unwrap(), key);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let names = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(names, 1, "nothing is left beside it");
    }

    #[test]
    fn of_many_that_start_at_once_all_get_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("order-jwt.pk8");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(|| read_or_create(&path))).collect();
            all.into_iter().map(|it| it.join().unwrap().unwrap()).collect()
        });
        assert!(keys.iter().all(|it| *it == keys[0]));
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("order-jwt.pk8");
        read_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = read_or_create(&path).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}
