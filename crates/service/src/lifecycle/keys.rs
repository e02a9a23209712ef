//! The secret of the estate and the tokens of its admin surfaces, as files only their owner reads.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::http::{HeaderMap, StatusCode, header::AUTHORIZATION};
use tradewind_base::{Problem, seal};

use crate::Failure;

/// How many random bytes a secret has.
const SECRET_BYTES: usize = 32;

/// The longest file that is read as a secret.
const FILE_BYTES_MAX: u64 = 4096;

/// The secret of the estate: servers vouch for users and for themselves with it.
#[derive(Clone, Debug)]
pub struct Keys {
    seal: seal::Key,
}

/// What an admin surface asks for. Its `Debug` shows only where it is kept.
#[derive(Clone)]
pub struct AdminToken {
    text: String,
    path: PathBuf,
}

/// Why a secret cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The folder cannot be made.
    #[error("failed to make the data folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file cannot be made or read.
    #[error("failed to make or read the secret {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Others can read or change the file, so it is no secret.
    #[error(
        "the secret {} has mode {mode:03o}: others may have read it; run `chmod 600` on it, or delete it to get a new one",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else.
    #[error("the secret {} is damaged: expected 64 hexadecimal digits", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

impl Keys {
    /// Loads `data/secret` and makes it when it is not there. Of several processes that do so at
    /// the same time one makes it and all get the same.
    ///
    /// # Errors
    /// When the folder or the file cannot be made or read, others can read it, or it is damaged.
    pub fn load_or_create(data: &Path) -> Result<Self, KeysError> {
        let path = data.join("secret");
        let text = load_or_create(data, &path)?;
        let secret = decode(&text).ok_or_else(|| KeysError::Damaged { path: path.clone() })?;
        let seal = seal::Key::from_secret(&secret).map_err(|_| KeysError::Damaged { path })?;
        Ok(Self { seal })
    }

    /// From the bytes of a secret, for tests.
    ///
    /// # Errors
    /// When there are fewer than 32 bytes.
    pub fn from_secret(secret: &[u8]) -> Result<Self, seal::ShortSecret> {
        Ok(Self { seal: seal::Key::from_secret(secret)? })
    }

    /// The key that seals and opens header values.
    #[must_use]
    pub const fn seal(&self) -> &seal::Key {
        &self.seal
    }
}

impl AdminToken {
    /// Loads `data/<name>.token` and makes it when it is not there.
    ///
    /// # Errors
    /// As [`Keys::load_or_create`].
    pub fn load_or_create(data: &Path, name: &str) -> Result<Self, KeysError> {
        let path = data.join(format!("{name}.token"));
        let text = load_or_create(data, &path)?;
        if decode(&text).is_none() {
            return Err(KeysError::Damaged { path });
        }
        Ok(Self { text, path })
    }

    /// Where the token is kept: to be shown to the operator, unlike the token.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether `presented` is the token; takes the same time for every wrong one.
    #[must_use]
    pub fn check(&self, presented: &str) -> bool {
        verify_slices_are_equal(self.text.as_bytes(), presented.trim().as_bytes()).is_ok()
    }

    /// Lets a request pass that has `Authorization: Bearer <token>`.
    ///
    /// # Errors
    /// A 401 problem that says where the token is to be presented.
    pub fn authorize(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let presented = headers.get(AUTHORIZATION).and_then(|it| it.to_str().ok());
        let token = presented.and_then(|it| it.split_once(' '));
        match token {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && self.check(token) => {
                Ok(())
            }
            _ => Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "admin.token",
                "this surface needs `Authorization: Bearer` with the admin token",
            )
            .field("header:authorization", "missing or not the admin token")
            .into()),
        }
    }
}

impl std::fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminToken").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Makes a folder that only its owner can look into, with those above it. One that is there stays
/// as it is: whom to let in is then its owner's decision.
///
/// # Errors
/// When it cannot be made.
pub fn private_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn load_or_create(folder: &Path, path: &Path) -> Result<String, KeysError> {
    let failed = |source| KeysError::File { path: path.to_owned(), source };
    private_folder(folder)
        .map_err(|source| KeysError::Folder { path: folder.to_owned(), source })?;
    match load(path) {
        Err(KeysError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            create(folder, path).map_err(failed)?;
            load(path)
        }
        other => other,
    }
}

fn load(path: &Path) -> Result<String, KeysError> {
    let failed = |source| KeysError::File { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    // Of the open file, not of the path, which may name another file a moment later.
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeysError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    Ok(text.trim().to_owned())
}

/// Writes a new secret beside its place and links it there whole. The link fails when another
/// process was first, and then its secret is the one that counts.
fn create(folder: &Path, path: &Path) -> io::Result<()> {
    let mut secret = [0_u8; SECRET_BYTES];
    aws_lc_rs::rand::fill(&mut secret).map_err(|_| io::Error::other("no randomness"))?;
    let mut suffix = [0_u8; 8];
    aws_lc_rs::rand::fill(&mut suffix).map_err(|_| io::Error::other("no randomness"))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", encode(&suffix)));
    let draft = folder.join(name);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let written = writeln!(file, "{}", encode(&secret)).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| fs::hard_link(&draft, path));
    let removed = fs::remove_file(&draft);
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => removed?,
    }
    File::open(folder)?.sync_all()
}

fn encode(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string has nothing to fail on.
        write!(text, "{byte:02x}").map_or_else(|_| String::new(), |()| text)
    })
}

fn decode(text: &str) -> Option<Vec<u8>> {
    if text.len() != 2 * SECRET_BYTES {
        return None;
    }
    let digits = text.bytes().map(|it| char::from(it).to_digit(16)).collect::<Option<Vec<_>>>()?;
    let pairs = digits.chunks_exact(2).filter_map(|it| match it {
        [high, low] => u8::try_from(high * 16 + low).ok(),
        _ => None,
    });
    Some(pairs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_secret_is_made_once_for_its_owner_alone() {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join("deep/data");
        let first = Keys::load_or_create(&folder).unwrap();
        let second = Keys::load_or_create(&folder).unwrap();
        assert_eq!(mode(&folder.join("secret")), 0o600);
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no draft is left");
        let end = tradewind_base::Timestamp::from_millis(10);
        let sealed = first.seal().seal("p", &serde_json::json!({"a": 1}), end).unwrap();
        let now = tradewind_base::Timestamp::from_millis(1);
        assert!(second.seal().open::<serde_json::Value>("p", &sealed, now).is_ok());
    }

    #[test]
    fn many_at_once_get_the_same_secret() {
        let data = tempfile::tempdir().unwrap();
        let start = std::sync::Barrier::new(8);
        let texts: Vec<String> = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        load_or_create(data.path(), &data.path().join("secret")).unwrap()
                    })
                })
                .collect();
            handles.into_iter().map(|it| it.join().unwrap()).collect()
        });
        assert!(texts.iter().all(|it| *it == texts[0] && it.len() == 64), "{texts:?}");
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_exposed_or_damaged_secret_is_refused_with_what_to_do() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("secret");
        Keys::load_or_create(data.path()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Keys::load_or_create(data.path()).unwrap_err().to_string();
        assert!(error.contains("644") && error.contains("chmod 600"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for damaged in ["", "abc", &"z".repeat(64)] {
            fs::write(&path, damaged).unwrap();
            let error = Keys::load_or_create(data.path()).unwrap_err();
            assert!(matches!(error, KeysError::Damaged { .. }), "{damaged}: {error}");
        }
    }

    #[test]
    fn an_admin_token_opens_with_itself_alone() {
        let data = tempfile::tempdir().unwrap();
        let token = AdminToken::load_or_create(data.path(), "gateway").unwrap();
        assert_eq!(mode(token.path()), 0o600);
        let text = fs::read_to_string(token.path()).unwrap();
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            token.authorize(&headers)
        };
        assert!(with(&format!("Bearer {}", text.trim())).is_ok());
        assert!(with(&format!("bearer {}", text.trim())).is_ok());
        let short = text.split_at(63).0;
        for bad in [&format!("Bearer {short}"), &format!("Basic {}", text.trim()), "Bearer ", "x"] {
            let failure = with(bad).unwrap_err();
            assert_eq!(failure.problem().status, StatusCode::UNAUTHORIZED);
        }
        assert!(token.authorize(&HeaderMap::new()).is_err());
        assert!(!format!("{token:?}").contains(text.trim()));
    }
}
