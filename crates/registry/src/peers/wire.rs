//! What servers of this kind say to each other beside Eureka's bodies.
//!
//! A batch carries [`ASIDES_HEADER`]: for each item, separated by commas, `renewed/written/v/o`:
//! the ages of the last sign of life and of the content in milliseconds, and how far the content's
//! and the override's version are below the dirty timestamp (`-`: there was no override ever). A
//! stock server ignores the header. The answer carries [`REPLIES_HEADER`] likewise: `-`, or
//! `n` and an aside for a newer copy (status 409), or `b` with dirty timestamp and age of a
//! tombstone (status 410).

use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tradewind_eureka::{Instance, Status, json};

use crate::machine::{Digest, DigestEntry, Extra, Grave, Key, Replica, SyncReply};

/// Beside a batch.
pub(crate) const ASIDES_HEADER: &str = "x-tradewind-asides";
/// Beside the answer to a batch.
pub(crate) const REPLIES_HEADER: &str = "x-tradewind-replies";
/// What the node is known by.
pub(crate) const NODE_HEADER: &str = "x-tradewind-node";
/// The life of the node.
pub(crate) const EPOCH_HEADER: &str = "x-tradewind-epoch";
/// The full exchange.
pub(crate) const SYNC_PATH: &str = "/tradewind/v1/peers/sync";
/// No reply beside the status.
pub(crate) const NOTHING: &str = "-";

/// What stands beside one item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Aside {
    /// Since the last sign of life, or the cancel.
    pub(crate) renewed_ms: u64,
    written_ms: u64,
    version_below: i64,
    override_below: Option<i64>,
}

impl Aside {
    pub(crate) fn of(replica: &Replica) -> Self {
        let dirty = replica.doc.last_dirty_ts.unwrap_or(0);
        let Extra { renewed, written, version, override_version } = replica.extra;
        Self {
            renewed_ms: millis(renewed),
            written_ms: millis(written),
            version_below: dirty.saturating_sub(version),
            override_below: (override_version != 0).then(|| dirty.saturating_sub(override_version)),
        }
    }

    pub(crate) fn of_age(age: Duration) -> Self {
        Self { renewed_ms: millis(age), ..Self::default() }
    }

    pub(crate) fn replica(self, doc: Arc<Instance>) -> Replica {
        let dirty = doc.last_dirty_ts.unwrap_or(0);
        let extra = Extra {
            renewed: Duration::from_millis(self.renewed_ms),
            written: Duration::from_millis(self.written_ms),
            version: dirty.saturating_sub(self.version_below),
            override_version: self.override_below.map_or(0, |it| dirty.saturating_sub(it)),
        };
        Replica { doc, extra }
    }

    fn write(self) -> String {
        let over = self.override_below.map_or_else(|| "-".to_owned(), |it| it.to_string());
        format!("{}/{}/{}/{over}", self.renewed_ms, self.written_ms, self.version_below)
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let aside = Self {
            renewed_ms: parts.next()?.parse().ok()?,
            written_ms: parts.next()?.parse().ok()?,
            version_below: parts.next()?.parse().ok()?,
            override_below: match parts.next()? {
                "-" => None,
                it => Some(it.parse().ok()?),
            },
        };
        parts.next().is_none().then_some(aside)
    }
}

pub(crate) fn write_asides(asides: &[Aside]) -> String {
    asides.iter().map(|it| it.write()).collect::<Vec<_>>().join(",")
}

pub(crate) fn read_asides(text: &str) -> Option<Vec<Aside>> {
    text.split(',').map(Aside::read).collect()
}

pub(crate) fn write_newer(replica: &Replica) -> String {
    format!("n{}", Aside::of(replica).write())
}

pub(crate) fn write_buried(dirty: i64, age: Duration) -> String {
    format!("b{dirty}/{}", millis(age))
}

/// What stands beside one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    Nothing,
    Newer(Aside),
    Buried { dirty: i64, age: Duration },
}

pub(crate) fn read_replies(text: &str) -> Option<Vec<Beside>> {
    let reply = |text: &str| {
        if text == NOTHING {
            return Some(Beside::Nothing);
        }
        if let Some(aside) = text.strip_prefix('n') {
            return Aside::read(aside).map(Beside::Newer);
        }
        let (dirty, age) = text.strip_prefix('b')?.split_once('/')?;
        let age = Duration::from_millis(age.parse().ok()?);
        Some(Beside::Buried { dirty: dirty.parse().ok()?, age })
    };
    text.split(',').map(reply).collect()
}

/// Says who speaks.
pub(crate) fn identify(headers: &mut HeaderMap, node: &str, epoch: &str) {
    for (name, text) in [(NODE_HEADER, node), (EPOCH_HEADER, epoch)] {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

// === the full exchange ===

type Name = (String, String);

/// A [`Digest`] on the wire. Tuples: there are thousands of them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SyncPage {
    after: Option<Name>,
    upto: Option<Name>,
    /// Name, version, fingerprint, override's version, override, age in milliseconds.
    entries: Vec<(Name, i64, u64, i64, String, u64)>,
    /// Name, dirty timestamp, age in milliseconds.
    graves: Vec<(Name, i64, u64)>,
}

/// A [`SyncReply`] on the wire.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SyncAnswer {
    pub(crate) node: String,
    pub(crate) epoch: String,
    upto: Option<Name>,
    /// Instance and aside.
    replicas: Vec<(Box<RawValue>, String)>,
    graves: Vec<(Name, i64, u64)>,
    want: Vec<Name>,
}

fn name(key: &Key) -> Name {
    (key.app.to_string(), key.id.to_string())
}

fn key((app, id): &Name) -> Key {
    Key::new(app, id)
}

fn graves(graves: &[Grave]) -> Vec<(Name, i64, u64)> {
    graves.iter().map(|it| (name(&it.key), it.dirty, millis(it.age))).collect()
}

fn read_graves(graves: &[(Name, i64, u64)]) -> Vec<Grave> {
    let grave = |(name, dirty, age): &(Name, i64, u64)| Grave {
        key: key(name),
        dirty: *dirty,
        age: Duration::from_millis(*age),
    };
    graves.iter().map(grave).collect()
}

impl SyncPage {
    pub(crate) fn new(digest: &Digest) -> Self {
        let entry = |it: &DigestEntry| {
            let over = it.over.as_str().to_owned();
            let age = millis(it.renewed);
            (name(&it.key), it.version, it.fingerprint, it.override_version, over, age)
        };
        Self {
            after: digest.after.as_ref().map(name),
            upto: digest.upto.as_ref().map(name),
            entries: digest.entries.iter().map(entry).collect(),
            graves: graves(&digest.graves),
        }
    }

    pub(crate) fn into_digest(self) -> Digest {
        let entry = |it: &(Name, i64, u64, i64, String, u64)| DigestEntry {
            key: key(&it.0),
            version: it.1,
            fingerprint: it.2,
            override_version: it.3,
            over: Status::lenient(&it.4),
            renewed: Duration::from_millis(it.5),
        };
        Digest {
            after: self.after.as_ref().map(key),
            upto: self.upto.as_ref().map(key),
            entries: self.entries.iter().map(entry).collect(),
            graves: read_graves(&self.graves),
        }
    }
}

impl SyncAnswer {
    pub(crate) fn new(node: &str, epoch: &str, reply: &SyncReply) -> Self {
        let replica = |it: &Replica| {
            let mut text = String::new();
            json::instance(&mut text, &it.doc);
            // What the writer wrote is JSON.
            Some((RawValue::from_string(text).ok()?, Aside::of(it).write()))
        };
        Self {
            node: node.to_owned(),
            epoch: epoch.to_owned(),
            upto: reply.upto.as_ref().map(name),
            replicas: reply.replicas.iter().filter_map(replica).collect(),
            graves: graves(&reply.graves),
            want: reply.want.iter().map(name).collect(),
        }
    }

    /// `None` when a copy is not one.
    pub(crate) fn into_reply(self) -> Option<SyncReply> {
        let replica = |(text, aside): &(Box<RawValue>, String)| {
            let doc = json::read_instance(text.get().as_bytes()).ok()?;
            Some(Aside::read(aside)?.replica(Arc::new(doc)))
        };
        Some(SyncReply {
            upto: self.upto.as_ref().map(key),
            replicas: self.replicas.iter().map(replica).collect::<Option<_>>()?,
            graves: read_graves(&self.graves),
            want: self.want.iter().map(key).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asides_and_replies_are_read_as_written() {
        let doc = Arc::new(Instance { last_dirty_ts: Some(100), ..Instance::default() });
        let extra = Extra {
            renewed: Duration::from_millis(7),
            written: Duration::from_millis(9),
            version: 90,
            override_version: 100,
        };
        let replica = Replica { doc, extra };
        let text = write_asides(&[Aside::of(&replica), Aside::of_age(Duration::from_millis(3))]);
        assert_eq!(text, "7/9/10/0,3/0/0/-");
        let read = read_asides(&text).unwrap();
        assert_eq!(read[0].replica(Arc::clone(&replica.doc)).extra, extra);
        let replies = format!("-,{},{}", write_newer(&replica), write_buried(5, Duration::ZERO));
        assert_eq!(
            read_replies(&replies).unwrap(),
            [
                Beside::Nothing,
                Beside::Newer(read[0]),
                Beside::Buried { dirty: 5, age: Duration::ZERO }
            ]
        );
        for bad in ["", "1/2/3", "1/2/3/4/5", "a/b/c/-", "1/2/3/-,"] {
            assert!(read_asides(bad).is_none(), "{bad}");
        }
        for bad in ["", "x", "b1", "n1/2", "b/"] {
            assert!(read_replies(bad).is_none(), "{bad}");
        }
    }
}
