//! Where a request goes: scheme, host and port, nothing else.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use http::HeaderValue;

/// Whether a connection is plain or TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// Plain TCP.
    Http,
    /// TLS over TCP.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that is meant when none is written.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// One server: scheme, host and port. It is the key of the connection pool, so two requests share
/// connections only if all three are equal. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    scheme: Scheme,
    host: Arc<str>,
    port: u16,
}

/// Why a text is not a [`Target`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// It does not begin with `http://` or `https://`.
    #[error("expected `http://` or `https://`")]
    Scheme,
    /// It carries user name or password: credentials do not belong into an address.
    #[error("an address must not carry user name or password")]
    UserInfo,
    /// It carries a path, a query or a fragment.
    #[error("expected scheme, host and port alone, without a path")]
    Path,
    /// The host is empty, too long, or has characters that no host has.
    #[error("the host is not a host name, an IPv4 address or an IPv6 address in brackets")]
    Host,
    /// The port is not a number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
}

impl Target {
    /// The longest host, in bytes (RFC 1035 §2.3.4).
    pub const HOST_LEN_MAX: usize = 253;

    /// A target from its parts. An IPv6 host is given with or without brackets.
    ///
    /// # Errors
    /// When the host is no host, or the port is zero.
    pub fn new(scheme: Scheme, host: &str, port: u16) -> Result<Self, TargetError> {
        if port == 0 {
            return Err(TargetError::Port);
        }
        Ok(Self { scheme, host: canonical_host(host)?, port })
    }

    /// Reads `http://host`, `http://host:port` or the same with `https`; one slash may follow.
    ///
    /// # Errors
    /// When the text is anything else, above all when it has user-info or a path.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let (scheme, rest) = match text.split_once("://") {
            Some((it, rest)) if it.eq_ignore_ascii_case("http") => (Scheme::Http, rest),
            Some((it, rest)) if it.eq_ignore_ascii_case("https") => (Scheme::Https, rest),
            _ => return Err(TargetError::Scheme),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('@') {
            return Err(TargetError::UserInfo);
        }
        if rest.contains(['/', '?', '#', '\\']) {
            return Err(TargetError::Path);
        }
        let (host, port) = match rest.rsplit_once(':') {
            // The colon of an IPv6 address without a port is inside the brackets.
            Some((host, port)) if !port.ends_with(']') => (host, parse_port(port)?),
            _ => (rest, scheme.default_port()),
        };
        if host.contains(':') && !host.starts_with('[') {
            return Err(TargetError::Host);
        }
        Self::new(scheme, host, port)
    }

    /// Plain or TLS.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host in lower case; an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, with brackets around an IPv6 address.
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{}:{}", Host(&self.host), self.port)
    }

    /// What the `Host` header says: the authority, without the port where it is the default one.
    #[must_use]
    pub(crate) fn host_header(&self) -> Option<HeaderValue> {
        let text = if self.port == self.scheme.default_port() {
            Host(&self.host).to_string()
        } else {
            self.authority()
        };
        HeaderValue::try_from(text).ok()
    }
}

fn parse_port(text: &str) -> Result<u16, TargetError> {
    // `u16::from_str` takes a plus sign, an address does not.
    if text.is_empty() || !text.bytes().all(|it| it.is_ascii_digit()) {
        return Err(TargetError::Port);
    }
    text.parse().map_err(|_| TargetError::Port)
}

fn canonical_host(host: &str) -> Result<Arc<str>, TargetError> {
    let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    if let Some(address) = bare.or_else(|| host.contains(':').then_some(host)) {
        let address: Ipv6Addr = address.parse().map_err(|_| TargetError::Host)?;
        return Ok(address.to_string().into());
    }
    let usable = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'.' | b'_');
    if host.is_empty() || Target::HOST_LEN_MAX < host.len() || !host.bytes().all(usable) {
        return Err(TargetError::Host);
    }
    Ok(host.to_ascii_lowercase().into())
}

/// A host as it stands in an address.
struct Host<'a>(&'a str);

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') { write!(f, "[{}]", self.0) } else { f.write_str(self.0) }
    }
}

impl From<SocketAddr> for Target {
    /// The plain target of an address.
    fn from(address: SocketAddr) -> Self {
        let host = match address.ip() {
            IpAddr::V4(it) => it.to_string(),
            IpAddr::V6(it) => it.to_string(),
        };
        Self { scheme: Scheme::Http, host: host.into(), port: address.port() }
    }
}

impl FromStr for Target {
    type Err = TargetError;
    fn from_str(text: &str) -> Result<Self, TargetError> {
        Self::parse(text)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme.as_str(), Host(&self.host), self.port)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_and_written_in_one_form() {
        for (text, expected) in [
            ("http://example.org", "http://example.org:80"),
            ("https://Example.ORG/", "https://example.org:443"),
            ("HTTP://127.0.0.1:8761", "http://127.0.0.1:8761"),
            ("http://[::1]:9000", "http://[::1]:9000"),
            ("http://[0:0::1]", "http://[::1]:80"),
            ("http://my_host-1.local:1", "http://my_host-1.local:1"),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!(target.to_string(), expected, "{text}");
            assert_eq!(Target::parse(expected), Ok(target));
        }
    }

    #[test]
    fn what_is_more_or_less_than_a_server_is_refused() {
        for (text, expected) in [
            ("example.org:80", TargetError::Scheme),
            ("ftp://example.org", TargetError::Scheme),
            ("http://user:secret@example.org", TargetError::UserInfo),
            ("http://example.org/eureka", TargetError::Path),
            ("http://example.org?x=1", TargetError::Path),
            ("http://example.org//", TargetError::Path),
            ("http://", TargetError::Host),
            ("http://:80", TargetError::Host),
            ("http://a b", TargetError::Host),
            ("http://a\r\nx: y", TargetError::Port),
            ("http://a\r\nx", TargetError::Host),
            ("http://::1:80", TargetError::Host),
            ("http://[::1", TargetError::Host),
            ("http://[zz]:80", TargetError::Host),
            ("http://a:0", TargetError::Port),
            ("http://a:", TargetError::Port),
            ("http://a:+80", TargetError::Port),
            ("http://a:65536", TargetError::Port),
        ] {
            assert_eq!(Target::parse(text), Err(expected), "{text}");
        }
        let long = format!("http://{}", "a".repeat(254));
        assert_eq!(Target::parse(&long), Err(TargetError::Host));
    }

    #[test]
    fn a_socket_address_is_a_plain_target() {
        let target = Target::from("[::1]:80".parse::<SocketAddr>().unwrap());
        assert_eq!(target.to_string(), "http://[::1]:80");
        assert_eq!(target.host_header().unwrap(), "[::1]");
        assert_eq!(target.authority(), "[::1]:80");
    }
}
