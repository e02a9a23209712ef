//! The change stream.
//!
//! A stream has no buffer of its own: it is a place in the table's history. When its socket takes
//! more, it looks what changed since that place, gathers it per instance and writes one line. A
//! client that reads slowly therefore costs nothing but its lag, and one that lags further than
//! the history reaches is cut: it has missed changes and must begin with a snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tradewind_base::Problem;
use tradewind_discovery::wire::{
    Change, INSTANCE_HEADER, Line, NDJSON, PING_INTERVAL, Ping, Removal, Resume, Snapshot, Why,
};
use tradewind_service::axum::body::Body;
use tradewind_service::axum::extract::State;
use tradewind_service::axum::response::{IntoResponse as _, Response};
use tradewind_service::edge::Draining;
use tradewind_service::{Failure, Query};

use super::{record, service_name};
use crate::machine::{self, Key, Reason, What};
use crate::rest::App;
use crate::state::{Registry, WatcherPlace};

/// The most services of one stream.
const SERVICES_MAX: usize = 1000;

#[derive(Debug, Deserialize)]
pub(super) struct Ask {
    #[serde(default)]
    services: String,
    epoch: Option<String>,
    revision: Option<u64>,
}

pub(super) async fn watch(
    State(app): State<App>,
    Query(ask): Query<Ask>,
    draining: Draining,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let registry = app.registry;
    let names = ask.services.split(',').filter(|it| !it.is_empty());
    let services: BTreeSet<Arc<str>> = names
        .map(|it| service_name(it, "query:services").map(|it| it.eureka_app().into()))
        .collect::<Result<_, _>>()?;
    if SERVICES_MAX < services.len() {
        let problem = Problem::new(StatusCode::BAD_REQUEST, "registry.watch", "");
        let message = format!("at most {SERVICES_MAX} services");
        return Err(problem.field("query:services", message).into());
    }
    let presence = presence(&headers)?;
    let Some(place) = registry.admit_watcher() else {
        let detail = "this node has as many change streams as it can bear";
        return Err(Problem::unavailable("registry.watchers", detail).into());
    };
    let guard = Guard { registry: Arc::clone(&registry), presence, draining: draining.token() };
    let mut watcher = Watcher {
        revision: 0,
        known: watch_from(&registry),
        ping: Instant::now() + PING_INTERVAL,
        first: None,
        services,
        guard,
        _place: place,
    };
    watcher.first = Some(watcher.begin(ask.epoch.as_deref(), ask.revision)?);
    let lines = stream::unfold(watcher, |mut watcher| async move {
        let line = watcher.next().await?;
        Some((Ok::<Bytes, std::io::Error>(line), watcher))
    });
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(NDJSON)),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, Body::from_stream(lines)).into_response())
}

fn watch_from(registry: &Registry) -> watch::Receiver<u64> {
    registry.follow()
}

/// Whose stream it is, if it says so.
fn presence(headers: &HeaderMap) -> Result<Option<Key>, Failure> {
    let Some(value) = headers.get(INSTANCE_HEADER) else { return Ok(None) };
    let refused = || {
        let problem = Problem::new(StatusCode::BAD_REQUEST, "registry.watch", "");
        Failure::from(problem.field(
            format!("header:{INSTANCE_HEADER}"),
            "must be `<service>/<instance id>` with the id percent-encoded",
        ))
    };
    let (service, id) =
        value.to_str().ok().and_then(|it| it.split_once('/')).ok_or_else(refused)?;
    let service = service_name(service, &format!("header:{INSTANCE_HEADER}"))?;
    let id = percent_encoding::percent_decode_str(id).decode_utf8().map_err(|_| refused())?;
    if id.is_empty() {
        return Err(refused());
    }
    Ok(Some(Key::new(service.as_str(), &id)))
}

struct Watcher {
    services: BTreeSet<Arc<str>>,
    /// Everything up to it has been told.
    revision: u64,
    known: watch::Receiver<u64>,
    ping: Instant,
    first: Option<Bytes>,
    guard: Guard,
    _place: WatcherPlace,
}

/// Sees the end of a stream that somebody else ended.
struct Guard {
    registry: Arc<Registry>,
    presence: Option<Key>,
    draining: CancellationToken,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(key) = self.presence.take()
            && !self.draining.is_cancelled()
        {
            // One that cancelled first is not in the table any more, and nothing happens.
            self.registry.suspect(&key, Reason::StreamClosed, "its own stream");
        }
    }
}

/// What to tell of the changes since a place.
enum Step {
    Nothing,
    Told(Bytes),
    /// The place is no longer in the history.
    Lost,
}

impl Watcher {
    /// The first line: the rest of an earlier stream, or everything.
    fn begin(&mut self, epoch: Option<&str>, revision: Option<u64>) -> Result<Bytes, Failure> {
        let registry = Arc::clone(&self.guard.registry);
        let resumed = revision.filter(|_| epoch == Some(&*registry.epoch));
        // Under the lock only pointers are taken: thousands of records take their time.
        let (revision, warm, lists) = registry.read(|table, now| {
            let warm = table.warm(now);
            match resumed.filter(|it| table.changes_since(*it).is_some()) {
                Some(revision) => (revision, warm, None),
                None => {
                    let list =
                        |app: &Arc<str>| (Arc::clone(app), table.app(app).unwrap_or_default());
                    let lists: Vec<_> = self.services.iter().map(list).collect();
                    (table.revision(), warm, Some(lists))
                }
            }
        });
        self.revision = revision;
        self.known.borrow_and_update();
        let epoch = registry.epoch.clone();
        let line = match lists {
            None => Line::Resume(Resume { epoch, revision, warm }),
            Some(lists) => {
                let services = lists.into_iter().map(|(app, docs)| {
                    let records = docs.iter().filter_map(|it| record::callable(it)).collect();
                    (app.to_lowercase(), records)
                });
                Line::Snapshot(Snapshot { epoch, revision, warm, services: services.collect() })
            }
        };
        text(&line).map_err(|error| Failure::internal(&error))
    }

    /// The next line; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let coalesce = self.guard.registry.config.coalesce;
        loop {
            match self.step() {
                Step::Told(line) => return Some(line),
                Step::Lost => {
                    // Our decision, not a sign that the client is dead.
                    self.guard.presence = None;
                    tracing::debug!(revision = self.revision, "a change stream lagged too far");
                    return None;
                }
                Step::Nothing => {}
            }
            tokio::select! {
                biased;
                () = self.guard.draining.cancelled() => return None,
                () = sleep_until(self.ping) => return self.pong(),
                changed = self.known.changed() => {
                    changed.ok()?;
                    // Gathers what belongs together: a rolling restart, a batch of a peer.
                    tokio::time::sleep(coalesce).await;
                }
            }
        }
    }

    fn pong(&mut self) -> Option<Bytes> {
        self.ping = Instant::now() + PING_INTERVAL;
        let revision = self.revision;
        let warm = self.guard.registry.read(|table, now| table.warm(now));
        text(&Line::Ping(Ping { revision, warm })).ok()
    }

    fn step(&mut self) -> Step {
        self.known.borrow_and_update();
        let registry = Arc::clone(&self.guard.registry);
        let since = self.revision;
        let gathered = registry.read(|table, _| {
            let mut latest: BTreeMap<Key, What> = BTreeMap::new();
            for change in table.changes_since(since)? {
                if self.services.contains(&change.key.app) {
                    latest.insert(change.key.clone(), change.what.clone());
                }
            }
            Some((table.revision(), latest))
        });
        let Some((revision, latest)) = gathered else { return Step::Lost };
        self.revision = revision;
        if latest.is_empty() {
            return Step::Nothing;
        }
        match text(&Line::Change(change(revision, latest))) {
            Ok(line) => Step::Told(line),
            Err(_) => Step::Lost,
        }
    }
}

fn change(revision: u64, latest: BTreeMap<Key, What>) -> Change {
    let mut change = Change { revision, upsert: Vec::new(), remove: Vec::new() };
    for (key, what) in latest {
        let why = match what {
            What::Upsert(doc) => match record::callable(&doc) {
                Some(record) => {
                    change.upsert.push(record);
                    continue;
                }
                // It may have been callable before.
                None => Why::Other,
            },
            What::Remove(machine::Why::Cancelled) => Why::Cancelled,
            What::Remove(machine::Why::Expired) => Why::Expired,
            What::Remove(machine::Why::Refused) => Why::Refused,
        };
        let (service, id) = (key.app.to_lowercase(), key.id.to_string());
        change.remove.push(Removal { service, id, why });
    }
    change
}

fn text(line: &Line) -> Result<Bytes, serde_json::Error> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    Ok(text.into())
}

// The coalescing pause must stay within what the protocol promises.
const _: () = assert!(Duration::from_millis(50).as_millis() < PING_INTERVAL.as_millis());
