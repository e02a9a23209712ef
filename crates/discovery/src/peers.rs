//! The registries, as a client talks to them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue};
use http::{Request, Response};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tradewind_base::{ExposeSecret as _, Rng};
use tradewind_http::{Body, Client, Limits, SendError, Target};

use crate::RegistryClientConfig;

/// Everything but the unreserved characters (RFC 3986 §2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A text as one segment of a path or one value of a query.
pub(crate) fn encoded(text: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(text, RESERVED)
}

/// The peers in a random order of this process, so that clients spread over them.
#[derive(Debug)]
pub(crate) struct Peers {
    client: Client,
    urls: Vec<Target>,
    // Marked as sensitive, so that its `Debug` shows nothing.
    authorization: Option<HeaderValue>,
}

impl Peers {
    pub(crate) fn new(config: RegistryClientConfig, client: Client, rng: &mut Rng) -> Self {
        let RegistryClientConfig { mut urls, user, .. } = config;
        urls.sort();
        urls.dedup();
        for end in (1..urls.len()).rev() {
            urls.swap(end, rng.below(end + 1));
        }
        let authorization = user.and_then(|(user, password)| {
            let text = STANDARD.encode(format!("{user}:{}", password.expose_secret()));
            let mut value = HeaderValue::try_from(format!("Basic {text}")).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        Self { client, urls, authorization }
    }

    pub(crate) const fn len(&self) -> usize {
        self.urls.len()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.urls.is_empty()
    }

    /// The address of a peer, for logs.
    pub(crate) fn url(&self, peer: usize) -> Option<&Target> {
        self.urls.get(peer % self.urls.len().max(1))
    }

    /// One attempt with one peer; `None` when there is none.
    pub(crate) async fn send(
        &self,
        peer: usize,
        mut request: Request<Bytes>,
        limits: &Limits,
    ) -> Option<Result<Response<Body>, SendError>> {
        let url = self.url(peer)?;
        if let Some(value) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, value.clone());
        }
        Some(self.client.send(url, request, limits).await)
    }
}

/// Limits of a short exchange with a registry.
pub(crate) const fn limits(connect: Duration, head: Duration) -> Limits {
    Limits { connect, head, body_idle: head }
}
