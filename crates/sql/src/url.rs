//! Where a database is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tradewind_base::{ExposeSecret as _, SecretString};

/// The address of a database, parsed once. It never shows its password.
///
/// - `sqlite:data/order.db`: a file, relative to the working directory, or absolute
///   (`sqlite:/var/lib/it.db`). The name may contain anything but a NUL, so nothing is decoded.
/// - `mysql://user:password@host:3306/name`: MySQL or MariaDB over TCP.
/// - `mysql://user@localhost/name?socket=/run/mysqld/mysqld.sock`: over a Unix socket.
///
/// There is no in-memory database: it would not survive a restart, and readers on other
/// connections would not see it. TLS to the server is not offered: the driver's TLS would link a
/// second crypto provider. Parameters that ask for it are refused instead of ignored; use a Unix
/// socket, a private network or a local TLS proxy.
#[derive(Clone)]
pub struct DatabaseUrl(pub(crate) Place);

#[derive(Clone)]
pub(crate) enum Place {
    Sqlite(PathBuf),
    MySql(Server),
}

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) user: String,
    pub(crate) password: Option<SecretString>,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) socket: Option<String>,
    pub(crate) database: String,
}

/// Why a text is no database address. The text itself is not repeated: it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Neither `sqlite:` nor `mysql://`.
    #[error("a database address starts with `sqlite:` or `mysql://`")]
    Scheme,
    /// `sqlite:` without a path, or with one that is no file.
    #[error("`sqlite:` needs the path of a file, for example sqlite:data/order.db")]
    Path,
    /// In-memory databases are not supported.
    #[error("an in-memory database is not supported: name a file")]
    Memory,
    /// The address after `mysql://` cannot be read.
    #[error("not a valid mysql:// address")]
    Malformed(#[source] url::ParseError),
    /// A part is missing.
    #[error("the mysql:// address needs {0}")]
    Missing(&'static str),
    /// A part holds something that cannot be decoded.
    #[error("the {0} in the mysql:// address is not valid")]
    Part(&'static str),
    /// TLS was asked for.
    #[error("`{0}`: TLS to the database server is not supported; remove the parameter")]
    Tls(String),
    /// A parameter that does not exist.
    #[error("unknown parameter `{0}`; the only one is `socket`")]
    Parameter(String),
}

impl DatabaseUrl {
    /// Reads an address.
    ///
    /// # Errors
    /// When it is not one; the message says what to write instead.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            return parse_sqlite(path).map(|path| Self(Place::Sqlite(path)));
        }
        if text.starts_with("mysql://") {
            return parse_mysql(text).map(|server| Self(Place::MySql(server)));
        }
        Err(UrlError::Scheme)
    }

    /// A SQLite file.
    #[must_use]
    pub fn sqlite(path: &Path) -> Self {
        Self(Place::Sqlite(path.to_owned()))
    }
}

fn parse_sqlite(path: &str) -> Result<PathBuf, UrlError> {
    if path.starts_with(":memory:") || path.starts_with("file:") {
        return Err(UrlError::Memory);
    }
    // `sqlite:///abs` and `sqlite://relative` are habits from elsewhere; both are plain paths.
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path.ends_with('/') || path.contains(['\0', '?']) {
        return Err(UrlError::Path);
    }
    Ok(PathBuf::from(path))
}

fn parse_mysql(text: &str) -> Result<Server, UrlError> {
    let url = url::Url::parse(text).map_err(UrlError::Malformed)?;
    let mut socket = None;
    for (key, value) in url.query_pairs() {
        match &*key {
            "socket" if value.starts_with('/') => socket = Some(value.into_owned()),
            "socket" => return Err(UrlError::Part("socket (an absolute path)")),
            other => {
                let lower = other.to_ascii_lowercase();
                let tls = ["ssl", "tls", "verify", "cert"].iter().any(|it| lower.contains(it));
                let name = other.to_owned();
                return Err(if tls { UrlError::Tls(name) } else { UrlError::Parameter(name) });
            }
        }
    }
    let user = decode(url.username(), "user")?;
    if user.is_empty() {
        return Err(UrlError::Missing("a user"));
    }
    let password = url.password().map(|it| decode(it, "password")).transpose()?;
    let host = match url.host_str() {
        Some(host) => host.trim_start_matches('[').trim_end_matches(']').to_owned(),
        None => return Err(UrlError::Missing("a host")),
    };
    let database = decode(url.path().trim_start_matches('/'), "database name")?;
    if database.is_empty() || database.contains('/') {
        return Err(UrlError::Missing("the name of a database after the host"));
    }
    let port = url.port().unwrap_or(3306);
    Ok(Server { user, password: password.map(SecretString::from), host, port, socket, database })
}

/// Percent-decodes one part. A `+` is itself: these are no form fields.
fn decode(raw: &str, part: &'static str) -> Result<String, UrlError> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|it| char::from(it).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(UrlError::Part(part));
        };
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| UrlError::Part(part))?);
    }
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        Ok(_) | Err(_) => Err(UrlError::Part(part)),
    }
}

/// Percent-encodes one part, so that the shown address is read as what it shows.
fn encode(part: &str) -> String {
    part.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
        text
    })
}

impl FromStr for DatabaseUrl {
    type Err = UrlError;
    fn from_str(text: &str) -> Result<Self, UrlError> {
        Self::parse(text)
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Place::MySql(server) => {
                let password = if server.password.is_some() { ":***" } else { "" };
                let (user, database) = (encode(&server.user), encode(&server.database));
                let Server { host, port, .. } = server;
                // An address of IPv6 has colons of its own.
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                write!(f, "mysql://{user}{password}@{host}:{port}/{database}")?;
                let socket = server.socket.as_deref().map(encode);
                socket.map_or(Ok(()), |it| write!(f, "?socket={it}"))
            }
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

impl Server {
    pub(crate) fn password(&self) -> Option<&str> {
        self.password.as_ref().map(|it| it.expose_secret())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match DatabaseUrl::parse(text) {
            Ok(it) => it.to_string(),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn addresses_are_read_and_shown_without_their_password() {
        for (text, expected) in [
            ("sqlite:data/a b.db", "sqlite:data/a b.db"),
            ("sqlite:/var/it.db", "sqlite:/var/it.db"),
            ("sqlite:///var/it.db", "sqlite:/var/it.db"),
            ("mysql://me:s3cret@db/shop", "mysql://me:***@db:3306/shop"),
            ("mysql://me@[::1]:33/shop", "mysql://me@[::1]:33/shop"),
            ("mysql://a%40b:x@h/d%20e", "mysql://a%40b:***@h:3306/d%20e"),
            (
                "mysql://me@localhost/x?socket=/run/my.sock",
                "mysql://me@localhost:3306/x?socket=/run/my.sock",
            ),
        ] {
            assert_eq!(shown(text), expected);
            assert_eq!(shown(expected), expected, "what is shown is read back");
        }
        let url = DatabaseUrl::parse("mysql://me:s3cret@db/shop").unwrap();
        assert!(!format!("{url:?}").contains("s3cret"));
    }

    #[test]
    fn a_password_may_hold_any_character() {
        let Place::MySql(server) =
            DatabaseUrl::parse("mysql://u:a%40%2F%3A%25+%C3%A9@h/d").unwrap().0
        else {
            panic!("not mysql")
        };
        assert_eq!(server.password(), Some("a@/:%+é"));
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        for (text, part) in [
            ("postgres://h/d", "starts with"),
            ("sqlite:", "needs the path"),
            ("sqlite:x?mode=ro", "needs the path"),
            ("sqlite::memory:", "in-memory"),
            ("mysql://u@h/d?ssl-mode=REQUIRED", "TLS to the database server is not supported"),
            ("mysql://u@h/d?require_ssl=true", "TLS"),
            ("mysql://u@h/d?useTLS=1", "TLS"),
            ("mysql://u@h/d?verify_ca=true", "TLS"),
            ("mysql://u@h/d?pool_max=3", "unknown parameter `pool_max`"),
            ("mysql://u@h/d?socket=rel", "socket"),
            ("mysql://h/d", "needs a user"),
            ("mysql://u@h/", "needs the name of a database"),
            ("mysql://u:%zz@h/d", "password"),
            ("mysql://u@h:99999/d", "not a valid"),
        ] {
            let got = shown(text);
            assert!(got.starts_with("error:") && got.contains(part), "{text}: {got}");
        }
    }
}
