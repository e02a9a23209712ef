//! The route table: rows as a database holds them, compiled into an immutable, ordered table.
//!
//! What the columns of `gateway_api_route` mean is what Zuul means by them:
//!
//! | column | meaning | when `NULL` |
//! |---|---|---|
//! | `path` | Ant pattern ([`super::pattern`]) | never |
//! | `service_id` | the service whose instances serve the route | then `url` must be set |
//! | `url` | a fixed upstream, `http` or `https`; wins over `service_id`, as with Zuul | `service_id` |
//! | `retryable` | idempotent requests may be sent to the next instance ([`super::retry`]) | no |
//! | `enabled` | rows with 0 do not exist for requests | never |
//! | `strip_prefix` | take the pattern's literal prefix off before forwarding | yes |
//! | `api_name` | a name for people | none |
//!
//! An empty text counts as `NULL`: edit forms of existing admin pages write it so. Rows that make
//! no sense are left out and reported one by one; the others work. Of two enabled rows with one
//! pattern the one with the lower id serves.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::pattern::Pattern;

/// One row of `gateway_api_route`, with the auth column of `gateway_route_policy` beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteRow {
    /// Primary key, at most 50 characters.
    #[serde(default)]
    pub id: String,
    /// Ant pattern, at most 255 characters.
    pub path: String,
    /// The service, at most 50 characters.
    #[serde(default)]
    pub service_id: Option<String>,
    /// The fixed upstream, at most 255 characters.
    #[serde(default)]
    pub url: Option<String>,
    /// Whether idempotent requests may be repeated on another instance.
    #[serde(default)]
    pub retryable: Option<bool>,
    /// Whether the row is in force.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Whether the pattern's literal prefix is taken off; `None` means yes.
    #[serde(default)]
    pub strip_prefix: Option<bool>,
    /// A name for people, at most 255 characters.
    #[serde(default)]
    pub api_name: Option<String>,
    /// `optional` (also `None`), `required` or `passthrough`.
    #[serde(default)]
    pub auth: Option<String>,
}

const fn yes() -> bool {
    true
}

impl RouteRow {
    /// A route to a service, with everything else as Zuul defaults it.
    #[must_use]
    pub fn service(id: &str, path: &str, service: &str) -> Self {
        Self {
            id: id.to_owned(),
            path: path.to_owned(),
            service_id: Some(service.to_owned()),
            url: None,
            retryable: None,
            enabled: true,
            strip_prefix: None,
            api_name: None,
            auth: None,
        }
    }
}

/// What a route asks of the caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthPolicy {
    /// No token is an anonymous caller; a token must be good.
    #[default]
    Optional,
    /// A good token is needed.
    Required,
    /// The gateway does not look: the service reads `Authorization` itself.
    Passthrough,
}

impl AuthPolicy {
    fn parse(text: Option<&str>) -> Option<Self> {
        match text.map(str::trim) {
            None | Some("" | "optional") => Some(Self::Optional),
            Some("required") => Some(Self::Required),
            Some("passthrough") => Some(Self::Passthrough),
            Some(_) => None,
        }
    }
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// The instances of a service, by its name as the row has it.
    Service(Box<str>),
    /// One fixed address.
    Url(BaseUrl),
}

/// A fixed upstream: scheme, host, port and a path that goes before the request's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    /// Whether it is `https`.
    pub secure: bool,
    /// Host name or address; IPv6 without brackets.
    pub host: Box<str>,
    /// The port, also when it is the scheme's default.
    pub port: u16,
    /// The path without a slash at its end; empty for none.
    pub base: Box<str>,
}

impl BaseUrl {
    /// Reads an `http` or `https` URL.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        // The parser drops them silently: what is served would not be what is stored and shown.
        if text.contains(|it: char| it.is_control() || it.is_whitespace()) {
            return Err("must not hold spaces or control characters");
        }
        let url = url::Url::parse(text).map_err(|_| "must be a URL like http://host:port/base")?;
        let secure = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err("must start with http:// or https://"),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not hold a user or password");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("must not hold a query or fragment");
        }
        let host = match url.host() {
            Some(url::Host::Domain(it)) if !it.is_empty() => it.to_owned(),
            Some(url::Host::Ipv4(it)) => it.to_string(),
            Some(url::Host::Ipv6(it)) => it.to_string(),
            Some(url::Host::Domain(_)) | None => return Err("must name a host"),
        };
        let port = url.port_or_known_default().filter(|it| *it != 0).ok_or("needs a port")?;
        let path = super::path::normalise(url.path())
            .map_err(|_| "has a path that is refused in requests, too")?;
        let base = path.trim_end_matches('/').into();
        Ok(Self { secure, host: host.into(), port, base })
    }
}

/// One route, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The row's id.
    pub id: Arc<str>,
    /// The pattern.
    pub pattern: Pattern,
    /// Where it leads.
    pub upstream: Upstream,
    /// Whether idempotent requests may be repeated.
    pub retryable: bool,
    /// What is taken off the path; empty for nothing.
    pub strip: Box<str>,
    /// What is asked of the caller.
    pub auth: AuthPolicy,
    /// The name for people.
    pub api_name: Option<Box<str>>,
}

impl Route {
    /// The path the upstream sees for a normalised path that matched.
    #[must_use]
    pub fn target<'p>(&self, path: &'p str) -> Cow<'p, str> {
        let rest = path.strip_prefix(&*self.strip).unwrap_or(path);
        let base = match &self.upstream {
            Upstream::Url(it) => &*it.base,
            Upstream::Service(_) => "",
        };
        match (base, rest) {
            ("", "") => Cow::Borrowed("/"),
            ("", it) => Cow::Borrowed(it),
            (base, it) => Cow::Owned(format!("{base}{it}")),
        }
    }

    /// The service name, or the host of the fixed upstream: a bounded label for metrics.
    #[must_use]
    pub fn service_label(&self) -> &str {
        match &self.upstream {
            Upstream::Service(it) => it,
            Upstream::Url(it) => &it.host,
        }
    }
}

/// A row that cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("route {id}: {field} {reason}")]
pub struct Rejected {
    /// The row's id.
    pub id: String,
    /// The column at fault.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

/// Checks one row as the admin API and the watcher both see it.
///
/// # Errors
/// The first column at fault.
pub fn check(row: &RouteRow) -> Result<Route, Rejected> {
    let bad = |field, reason: String| Rejected { id: row.id.clone(), field, reason };
    if !fits(&row.id, 50) || row.id.trim() != row.id || row.id.contains('/') {
        let reason = "must have 1 to 50 printable characters, no slash, no space at its ends";
        return Err(bad("id", reason.to_owned()));
    }
    let pattern = Pattern::parse(&row.path).map_err(|error| bad("path", error.to_string()))?;
    let api_name = given(row.api_name.as_deref());
    if api_name.is_some_and(|it| !fits(it, 255)) {
        return Err(bad("api_name", "must have at most 255 printable characters".to_owned()));
    }
    let (service, url) = (given(row.service_id.as_deref()), given(row.url.as_deref()));
    if service.is_some_and(|it| !is_service_name(it)) {
        let reason = "must have 1 to 50 letters, digits, dots, dashes and underscores";
        return Err(bad("service_id", reason.to_owned()));
    }
    let upstream = match (service, url) {
        (_, Some(url)) if 255 < url.chars().count() => {
            return Err(bad("url", "must have at most 255 characters".to_owned()));
        }
        (_, Some(url)) => {
            Upstream::Url(BaseUrl::parse(url).map_err(|error| bad("url", error.to_owned()))?)
        }
        (Some(service), None) => Upstream::Service(service.into()),
        (None, None) => {
            return Err(bad("service_id", "is missing, and so is url: one is needed".to_owned()));
        }
    };
    let auth = AuthPolicy::parse(row.auth.as_deref())
        .ok_or_else(|| bad("auth", "must be optional, required or passthrough".to_owned()))?;
    let strip = if row.strip_prefix.unwrap_or(true) { pattern.literal_prefix() } else { None };
    Ok(Route {
        id: row.id.as_str().into(),
        upstream,
        retryable: row.retryable.unwrap_or(false),
        strip: strip.unwrap_or_default().into(),
        auth,
        api_name: api_name.map(Into::into),
        pattern,
    })
}

fn given(text: Option<&str>) -> Option<&str> {
    text.map(str::trim).filter(|it| !it.is_empty())
}

fn fits(text: &str, max: usize) -> bool {
    !text.is_empty() && text.chars().count() <= max && !text.chars().any(char::is_control)
}

fn is_service_name(text: &str) -> bool {
    text.len() <= 50
        && text.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'-' | b'_'))
}

/// The routes in force, ready for look-ups.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Most specific first.
    routes: Vec<Arc<Route>>,
    /// Places in `routes` by the literal first segment of the pattern.
    by_first: HashMap<Box<str>, Vec<usize>>,
    /// Places in `routes` of patterns that start with a wildcard.
    wild: Vec<usize>,
}

/// What became of a set of rows.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    /// The routes in force.
    pub table: Table,
    /// The rows left out, by id.
    pub rejected: Vec<Rejected>,
}

/// Compiles rows into a table.
#[must_use]
pub fn compile(rows: &[RouteRow]) -> Compiled {
    let mut rejected = Vec::new();
    let mut by_pattern: BTreeMap<String, Arc<Route>> = BTreeMap::new();
    let mut ordered: Vec<&RouteRow> = rows.iter().filter(|it| it.enabled).collect();
    ordered.sort_by(|a, b| a.id.cmp(&b.id));
    for row in ordered {
        match check(row) {
            Err(error) => rejected.push(error),
            Ok(route) => match by_pattern.get(route.pattern.as_str()) {
                Some(other) => rejected.push(Rejected {
                    id: row.id.clone(),
                    field: "path",
                    reason: format!("is served by route {} already", other.id),
                }),
                None => {
                    by_pattern.insert(route.pattern.as_str().to_owned(), Arc::new(route));
                }
            },
        }
    }
    Compiled { table: Table::new(by_pattern.into_values().collect()), rejected }
}

impl Table {
    fn new(mut routes: Vec<Arc<Route>>) -> Self {
        routes.sort_by(|a, b| a.pattern.specificity(&b.pattern));
        let mut by_first: HashMap<Box<str>, Vec<usize>> = HashMap::new();
        let mut wild = Vec::new();
        for (at, route) in routes.iter().enumerate() {
            match route.pattern.first_literal() {
                Some(it) => by_first.entry(it.into()).or_default().push(at),
                None => wild.push(at),
            }
        }
        Self { routes, by_first, wild }
    }

    /// The most specific route for a normalised path, and its place in [`Table::routes`].
    #[must_use]
    pub fn find(&self, path: &str) -> Option<(usize, &Arc<Route>)> {
        let inner = path.strip_prefix('/').unwrap_or(path);
        let first = inner.split('/').next().unwrap_or_default();
        let named = self.by_first.get(first).map_or(&[][..], Vec::as_slice);
        let hit = |places: &[usize]| {
            places
                .iter()
                .filter_map(|at| self.routes.get(*at).map(|route| (*at, route)))
                .find(|(_, route)| route.pattern.matches(path))
        };
        match (hit(named), hit(&self.wild)) {
            (Some(a), Some(b)) => Some(if a.0 <= b.0 { a } else { b }),
            (a, b) => a.or(b),
        }
    }

    /// All routes in force, the most specific first.
    #[must_use]
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }
}

#[cfg(test)]
mod tests;
