//! The other nodes: what they have to be told, and how they do.

mod items;
pub(crate) mod link;
pub(crate) mod wire;

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{Notify, watch};
use tradewind_base::Monotonic;
use tradewind_http::{Target, TargetError};

use crate::machine::{Key, Origin, Outbox, Respects};

/// Where a peer is: its address, and the path its Eureka operations are under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerUrl {
    target: Target,
    prefix: String,
}

impl PeerUrl {
    /// Reads `http://host:port[/path]`. Without a path it is `/eureka`.
    ///
    /// # Errors
    /// When it is no such URL; user and password come from the configuration, not from here.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let after = text.find("://").map_or(0, |it| it + 3);
        let slash = text.bytes().skip(after).position(|it| it == b'/').map(|it| it + after);
        let (target, path) = text.split_at(slash.unwrap_or(text.len()));
        let path = path.trim_matches('/');
        if path.contains(['?', '#']) {
            return Err(TargetError::Path);
        }
        let prefix = if path.is_empty() { "/eureka".to_owned() } else { format!("/{path}") };
        Ok(Self { target: Target::parse(target)?, prefix })
    }
}

impl fmt::Display for PeerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}/", self.target, self.prefix)
    }
}

/// How it stands with a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    /// Not reached yet.
    Unknown,
    /// It is this node itself.
    Itself,
    /// It answers.
    Up { kind: Origin, node: String, epoch: String },
    /// It does not.
    Down { error: String },
}

/// How the first attempt to fill the table from a peer went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    /// It is under way.
    Trying,
    /// The peer's whole table was merged in.
    Synced,
    /// The peer could not be reached, or is this node itself.
    Failed,
}

/// One peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) url: PeerUrl,
    outbox: Mutex<Outbox>,
    /// Told when there is something to send.
    news: Notify,
    standing: Mutex<(Standing, Option<Monotonic>)>,
    pub(crate) first: watch::Sender<First>,
}

/// A peer, for people.
#[derive(Debug, Serialize)]
pub(crate) struct PeerState {
    url: String,
    /// `up`, `down`, `self` or `unknown`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_contact_age_ms: Option<u64>,
    queued: usize,
    /// For how long the first of these waits.
    lag_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Peer {
    pub(crate) fn new(url: PeerUrl, capacity: usize) -> Self {
        Self {
            url,
            outbox: Mutex::new(Outbox::new(capacity)),
            news: Notify::new(),
            standing: Mutex::new((Standing::Unknown, None)),
            first: watch::Sender::new(First::Trying),
        }
    }

    /// Queues what changed at `at`.
    pub(crate) fn tell(&self, changes: &[(Key, Respects)], at: Monotonic) {
        if self.stands(|it| *it == Standing::Itself) {
            return;
        }
        self.with_outbox(|outbox| {
            for (key, respects) in changes {
                outbox.push(key, *respects, at);
            }
        });
        self.news.notify_one();
    }

    pub(crate) fn is_up(&self) -> bool {
        self.stands(|it| matches!(it, Standing::Up { .. }))
    }

    /// How many instances it has still to be told of, and for how long the first of them waits.
    pub(crate) fn backlog(&self, now: Monotonic) -> (usize, Duration) {
        let (queued, oldest) = self.with_outbox(|outbox| (outbox.len(), outbox.oldest()));
        (queued, oldest.map_or(Duration::ZERO, |it| now.since(it)))
    }

    /// How it stands, for people.
    pub(crate) fn state(&self, now: Monotonic) -> PeerState {
        let (standing, contact) = self.standing();
        let (queued, lag) = self.backlog(now);
        let millis = |it: Duration| u64::try_from(it.as_millis()).unwrap_or(u64::MAX);
        let mut state = PeerState {
            url: self.url.to_string(),
            state: "unknown",
            kind: None,
            node: None,
            last_contact_age_ms: contact.map(|it| millis(now.since(it))),
            queued,
            lag_ms: millis(lag),
            error: None,
        };
        match standing {
            Standing::Unknown => {}
            Standing::Itself => state.state = "self",
            Standing::Up { kind, node, .. } => {
                state.state = "up";
                state.kind = Some(match kind {
                    Origin::Stock => "stock",
                    Origin::Tradewind => "tradewind",
                });
                state.node = (!node.is_empty()).then_some(node);
            }
            Standing::Down { error } => {
                state.state = "down";
                state.error = Some(error);
            }
        }
        state
    }

    fn stands(&self, is: impl FnOnce(&Standing) -> bool) -> bool {
        is(&self.standing.lock().unwrap_or_else(PoisonError::into_inner).0)
    }

    fn standing(&self) -> (Standing, Option<Monotonic>) {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_standing(&self, standing: Standing, contact: Option<Monotonic>) {
        let mut held = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if held.0 != standing {
            match &standing {
                Standing::Up { node, .. } => {
                    tracing::info!(peer = %self.url, node, "peer is up");
                }
                Standing::Down { error } => {
                    tracing::warn!(peer = %self.url, error, "peer is down");
                }
                Standing::Itself => tracing::info!(peer = %self.url, "a peer is this node itself"),
                Standing::Unknown => {}
            }
        }
        *held = (standing, contact.or(held.1));
    }

    fn with_outbox<T>(&self, work: impl FnOnce(&mut Outbox) -> T) -> T {
        work(&mut self.outbox.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The time limits of one request to a peer.
const fn limits() -> tradewind_http::Limits {
    tradewind_http::Limits {
        connect: Duration::from_millis(500),
        head: Duration::from_secs(3),
        body_idle: Duration::from_secs(3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_an_address_and_a_path() {
        for (text, shown) in [
            ("http://a:8761/eureka/", "http://a:8761/eureka/"),
            ("http://a:8761", "http://a:8761/eureka/"),
            ("http://a:8761/", "http://a:8761/eureka/"),
            ("https://a:1/eureka/v2", "https://a:1/eureka/v2/"),
        ] {
            assert_eq!(PeerUrl::parse(text).unwrap().to_string(), shown);
        }
        for bad in ["", "a:1", "ftp://a:1/", "http://u:p@a:1/", "http://a:1/x?y", "http://a:x"] {
            assert!(PeerUrl::parse(bad).is_err(), "{bad}");
        }
    }
}
