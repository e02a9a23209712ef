//! Sends one request to one of the instances of a service.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderValue, Request};
use tradewind_base::identity::{CALLER_HEADER, Caller};
use tradewind_base::{Clock, seal};
use tradewind_discovery::{Discovery, Instance, ServiceName, Suspicion, View};
use tradewind_http::{Client, Limits, collect};
use tradewind_message::wire::BROKER;
use tradewind_service::answer::chain;

/// How many instances one attempt goes to at most, while nothing was sent.
const INSTANCES_MAX: usize = 3;
/// The most bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) enum Sent {
    /// An instance answered.
    Answer { status: u16, retry_after: Option<u64>, body: Bytes, instance: String },
    /// One may have got it; no answer came.
    NoAnswer { error: String, instance: String },
    /// Nobody got it.
    Nothing { error: String },
}

/// Finds instances and sends.
#[derive(Debug)]
pub(crate) struct Courier {
    discovery: Discovery,
    client: Client,
    key: seal::Key,
    clock: Arc<dyn Clock>,
    limit: Duration,
    views: Mutex<BTreeMap<String, View>>,
    turn: AtomicUsize,
}

impl Courier {
    pub(crate) fn new(
        discovery: Discovery,
        client: Client,
        key: seal::Key,
        clock: Arc<dyn Clock>,
        limit: Duration,
    ) -> Self {
        let (views, turn) = (Mutex::default(), AtomicUsize::new(0));
        Self { discovery, client, key, clock, limit, views, turn }
    }

    /// Tells one set of instances of a service from another, and follows the service from now on,
    /// so that they are known when they are needed.
    pub(crate) fn instances(&self, service: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        if let Some(view) = self.follow(service) {
            view.load().up().for_each(|it| it.id.as_str().hash(&mut hasher));
        }
        hasher.finish()
    }

    fn follow(&self, service: &str) -> Option<View> {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = views.get(service) {
            return Some(view.clone());
        }
        let view = self.discovery.view(&ServiceName::parse(service).ok()?);
        views.insert(service.to_owned(), view.clone());
        Some(view)
    }

    /// Sends `request` to an instance of `service`, rather not to `avoid`.
    pub(crate) async fn send(
        &self,
        service: &str,
        avoid: Option<&str>,
        request: &Request<Bytes>,
    ) -> Sent {
        let mut error = format!("no instance of {service} is known");
        for instance in self.candidates(service, avoid) {
            let name = instance.id.as_str().to_owned();
            let whole = tokio::time::timeout(self.limit, self.once(&instance, request));
            match whole.await {
                Ok(Ok((status, retry_after, body))) => {
                    return Sent::Answer { status, retry_after, body, instance: name };
                }
                Ok(Err((true, text))) => error = text,
                Ok(Err((false, text))) => return Sent::NoAnswer { error: text, instance: name },
                Err(_) => {
                    let error = "no answer in time".to_owned();
                    return Sent::NoAnswer { error, instance: name };
                }
            }
        }
        Sent::Nothing { error }
    }

    /// The instances in the order in which they are tried.
    fn candidates(&self, service: &str, avoid: Option<&str>) -> Vec<Arc<Instance>> {
        let mut all = self.follow(service).map(|it| it.callable()).unwrap_or_default();
        if all.is_empty() {
            return all;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % all.len();
        all.rotate_left(turn);
        // Stable: the others keep their turn.
        all.sort_by_key(|it| Some(it.id.as_str()) == avoid);
        all.truncate(INSTANCES_MAX);
        all
    }

    /// One attempt; an error says whether nothing was sent.
    async fn once(
        &self,
        instance: &Instance,
        request: &Request<Bytes>,
    ) -> Result<(u16, Option<u64>, Bytes), (bool, String)> {
        let mut request = request.clone();
        let caller = Caller { service: BROKER.to_owned() };
        let sealed = caller.seal(&self.key, self.clock.now()).unwrap_or_default();
        if let Ok(mut value) = HeaderValue::try_from(sealed) {
            value.set_sensitive(true);
            request.headers_mut().insert(CALLER_HEADER, value);
        }
        let limits = Limits {
            connect: Duration::from_secs(1).min(self.limit),
            head: self.limit,
            body_idle: self.limit,
        };
        let answer = match self.client.send(&instance.target(), request, &limits).await {
            Ok(answer) => answer,
            Err(error) => {
                if error.refused() {
                    self.discovery.report(instance, Suspicion::Refused);
                }
                return Err((error.nothing_sent(), chain(&error)));
            }
        };
        let status = answer.status().as_u16();
        let after = answer.headers().get(RETRY_AFTER).and_then(|it| it.to_str().ok());
        let after = after.and_then(|it| it.trim().parse().ok());
        // The head has said all that matters; a body that breaks off changes nothing.
        let body = collect(answer.into_body(), ANSWER_BYTES_MAX, &limits).await;
        Ok((status, after, body.unwrap_or_default()))
    }
}
