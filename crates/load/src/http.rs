//! Load over HTTP: one template of a request, sent over kept connections.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tradewind_base::Tasks;
use tradewind_http::{
    Client, ErrorKind, Limits, PoolConfig, SendError, Target as Server, TargetError as ServerError,
    TcpConnect,
};

use crate::{Outcome, Work};

mod template;

pub use template::{Template, TemplateError};

/// What to send, as a user writes it. Path, header values and body may have placeholders: see
/// [`Template`].
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The whole address: `http://host:port/path?query`.
    pub url: String,
    /// Headers, in order.
    pub headers: Vec<(String, String)>,
    /// The body. Bytes that are no UTF-8 are sent as they are, without placeholders.
    pub body: Vec<u8>,
    /// Whether each request gets an `Idempotency-Key` of its own.
    pub idempotency_key: bool,
    /// From sending to the end of the answer's body.
    pub timeout: Duration,
}

impl Request {
    /// Whether requests can be made of it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), RequestError> {
        Prepared::new(self, "check").map(drop)
    }

    /// A GET without headers, with ten seconds of patience.
    #[must_use]
    pub fn get(url: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
            idempotency_key: false,
            timeout: Duration::from_secs(10),
        }
    }
}

/// Why a request cannot be made of a [`Request`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// TLS would measure this machine's own arithmetic as well.
    #[error("https is not supported: aim at the plain port behind it")]
    Https,
    /// The server part of the address.
    #[error("`{url}` is no address such as http://127.0.0.1:9000/path")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        #[source]
        source: ServerError,
    },
    /// The path has characters that no path has.
    #[error("`{0}` is no path of an address")]
    Path(String),
    /// The method cannot be used.
    #[error("the method {0} cannot be used")]
    Method(Method),
    /// A header that cannot be sent.
    #[error("`{0}` is no header that can be sent")]
    Header(String),
    /// A placeholder is wrong.
    #[error("cannot read the placeholders of the {place}")]
    Template {
        /// Where it is.
        place: &'static str,
        /// What is wrong.
        #[source]
        source: TemplateError,
    },
}

/// One template of a request and the connections it is sent over.
#[derive(Debug)]
pub struct Target {
    client: Client,
    prepared: Prepared,
    timeout: Duration,
}

impl Target {
    /// Prepares requests over at most `connections` connections. `run` is the first part of each
    /// idempotency key, and differs between runs; `tasks` own the connections. Must be called
    /// within a tokio runtime.
    ///
    /// # Errors
    /// When no request can be made of it.
    pub fn new(
        request: &Request,
        connections: usize,
        run: &str,
        tasks: &Tasks,
    ) -> Result<Self, RequestError> {
        let prepared = Prepared::new(request, run)?;
        let pool = PoolConfig {
            idle_per_target: connections,
            connections_per_target: connections.max(1),
            ..PoolConfig::default()
        };
        let client = Client::new(pool, Arc::new(TcpConnect::new()), tasks);
        Ok(Self { client, prepared, timeout: request.timeout })
    }

    /// Makes one connection, to learn at once whether anybody listens.
    ///
    /// # Errors
    /// When none could be made within the time limit of a request, or five seconds.
    pub async fn probe(&self) -> Result<(), SendError> {
        let mut limits = self.limits();
        limits.connect = limits.connect.min(Duration::from_secs(5));
        self.client.warm(&self.prepared.server, &limits).await
    }

    /// Where the requests go.
    #[must_use]
    pub const fn server(&self) -> &Server {
        &self.prepared.server
    }

    /// Sends the request with this number and reads the answer to its end.
    ///
    /// # Errors
    /// A class: `timeout`, `refused`, `broken`, `protocol`, `request`, `pool`.
    pub async fn send(&self, sequence: u64) -> Result<(StatusCode, Bytes), &'static str> {
        let request = self.prepared.request(sequence).map_err(|_| "request")?;
        let limits = self.limits();
        let whole = async {
            let answer = self.client.send(&self.prepared.server, request, &limits).await?;
            let status = answer.status();
            let mut body = answer.into_body();
            let mut first = Bytes::new();
            // An answer may be of any length: only its first piece is kept.
            while let Some(piece) = body.chunk().await? {
                if first.is_empty() {
                    first = piece;
                }
            }
            Ok((status, first))
        };
        match tokio::time::timeout(self.timeout, whole).await {
            Ok(answer) => answer.map_err(|error: SendError| class(&error)),
            Err(_) => Err("timeout"),
        }
    }

    fn limits(&self) -> Limits {
        Limits { connect: self.timeout, head: self.timeout, body_idle: self.timeout }
    }
}

impl Work for Target {
    async fn once(&self, sequence: u64) -> Outcome {
        match self.send(sequence).await {
            Ok((status, _)) if status.as_u16() < 400 => Outcome::Ok,
            Ok((status, _)) => Outcome::Failed(Cow::Owned(status.as_str().to_owned())),
            Err(class) => Outcome::Failed(Cow::Borrowed(class)),
        }
    }
}

/// A request with its text read.
#[derive(Debug)]
struct Prepared {
    server: Server,
    method: Method,
    path: Template,
    headers: Vec<(HeaderName, Template)>,
    body: Body,
    /// Of this run, so that the keys of two runs differ.
    run: String,
    idempotency_key: bool,
}

#[derive(Debug)]
enum Body {
    Fixed(Bytes),
    Made(Template),
}

impl Prepared {
    fn new(request: &Request, run: &str) -> Result<Self, RequestError> {
        let (server, path) = split(&request.url)?;
        if request.method == Method::CONNECT {
            return Err(RequestError::Method(request.method.clone()));
        }
        let template = |place, text: &str| {
            Template::parse(text).map_err(|source| RequestError::Template { place, source })
        };
        let mut headers = Vec::with_capacity(request.headers.len());
        for (name, value) in &request.headers {
            let bad = || RequestError::Header(format!("{name}: {value}"));
            let parsed = HeaderName::try_from(name.as_str()).map_err(|_| bad())?;
            HeaderValue::try_from(value.as_str()).map_err(|_| bad())?;
            headers.push((parsed, template("headers", value)?));
        }
        let body = match std::str::from_utf8(&request.body) {
            Ok(text) => match template("body", text)? {
                it if it.is_fixed() => Body::Fixed(Bytes::from(it.fill(0, run))),
                it => Body::Made(it),
            },
            Err(_) => Body::Fixed(Bytes::from(request.body.clone())),
        };
        let prepared = Self {
            server,
            method: request.method.clone(),
            path: template("address", &path)?,
            headers,
            body,
            run: run.to_owned(),
            idempotency_key: request.idempotency_key,
        };
        prepared.request(0)?;
        Ok(prepared)
    }

    fn request(&self, sequence: u64) -> Result<http::Request<Bytes>, RequestError> {
        let path = self.path.fill(sequence, &self.run);
        let body = match &self.body {
            Body::Fixed(it) => it.clone(),
            Body::Made(it) => Bytes::from(it.fill(sequence, &self.run)),
        };
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 1);
        for (name, value) in &self.headers {
            let value = value.fill(sequence, &self.run);
            let bad = |_| RequestError::Header(name.to_string());
            headers.append(name, HeaderValue::try_from(value).map_err(bad)?);
        }
        if self.idempotency_key {
            let key = format!("{}-{sequence}", self.run);
            let bad = |_| RequestError::Header("idempotency-key".to_owned());
            headers.insert("idempotency-key", HeaderValue::try_from(key).map_err(bad)?);
        }
        let mut request = http::Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = path.parse().map_err(|_| RequestError::Path(path))?;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

fn class(error: &SendError) -> &'static str {
    match error.kind() {
        ErrorKind::TimedOut => "timeout",
        ErrorKind::Refused => "refused",
        ErrorKind::Protocol => "protocol",
        ErrorKind::Request => "request",
        ErrorKind::PoolFull | ErrorKind::TooManyTargets => "pool",
        _ => "broken",
    }
}

/// The server and the path of an address.
fn split(url: &str) -> Result<(Server, String), RequestError> {
    let wrong = |source| RequestError::Url { url: url.to_owned(), source };
    let after = url.find("://").map_or(0, |it| it + 3);
    let end =
        url.get(after..).and_then(|it| it.find(['/', '?', '#'])).map_or(url.len(), |it| it + after);
    let (server, path) = url.split_at_checked(end).unwrap_or((url, ""));
    let server = Server::parse(server).map_err(wrong)?;
    if server.scheme() == tradewind_http::Scheme::Https {
        return Err(RequestError::Https);
    }
    let path = path.split('#').next().unwrap_or(path);
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok((server, path))
}
