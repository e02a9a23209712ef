//! The documents that thousands of clients poll: rendered once per change, never stale.
//!
//! A rendering is kept with the version of the table it was made from and handed out only while
//! the table still has that version, so there is no cache to expire. Of many requests that meet an
//! old rendering one renders, and the others take what it made.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::Semaphore;
use tradewind_eureka::{Form, Format, Head, Instance, Version, json, xml};

use crate::machine::Groups;
use crate::state::Registry;

/// More instances than this are rendered on a thread for blocking work.
const INLINE_MAX: usize = 200;

/// Which document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Document {
    /// All instances.
    Full,
    /// The recent changes.
    Delta,
}

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) format: Format,
    pub(crate) form: Form,
    pub(crate) version: Version,
}

/// A document as it is sent.
#[derive(Debug)]
pub(crate) struct Rendered {
    version: (u64, u64),
    plain: Bytes,
    gzip: OnceLock<Bytes>,
}

#[derive(Debug)]
struct Slot {
    made: Mutex<Option<Arc<Rendered>>>,
    /// One renders at a time.
    turn: Semaphore,
}

/// The renderings of one node.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    slots: Mutex<BTreeMap<u8, Arc<Slot>>>,
}

struct Content {
    version: (u64, u64),
    head: (String, String),
    groups: Groups,
}

impl Documents {
    /// The document as of now or later, plain or compressed; `None` when there is no whole delta.
    pub(crate) async fn get(
        &self,
        registry: &Registry,
        document: Document,
        look: Look,
        gzip: bool,
    ) -> Option<Bytes> {
        let slot = self.slot(document, look);
        let wanted = version(registry, document);
        let rendered = match slot.current(wanted, gzip) {
            Some(rendered) => rendered,
            None => slot.render(registry, document, look, wanted, gzip).await?,
        };
        Some(if gzip { rendered.gzip.get()?.clone() } else { rendered.plain.clone() })
    }

    fn slot(&self, document: Document, look: Look) -> Arc<Slot> {
        let name = u8::from(document == Document::Delta)
            | u8::from(look.format == Format::Xml) << 1
            | u8::from(look.form == Form::Compact) << 2
            | u8::from(look.version == Version::V1) << 3;
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots
            .entry(name)
            .or_insert_with(|| Arc::new(Slot { made: Mutex::new(None), turn: Semaphore::new(1) }));
        Arc::clone(slot)
    }
}

impl Slot {
    /// What is there, if it is not older than `wanted`.
    fn current(&self, wanted: (u64, u64), gzip: bool) -> Option<Arc<Rendered>> {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |it: &&Arc<Rendered>| wanted <= it.version && (!gzip || it.gzip.get().is_some());
        made.as_ref().filter(fits).map(Arc::clone)
    }

    async fn render(
        &self,
        registry: &Registry,
        document: Document,
        look: Look,
        wanted: (u64, u64),
        gzip: bool,
    ) -> Option<Arc<Rendered>> {
        // Never closed, so waiting cannot fail.
        let _turn = self.turn.acquire().await.ok();
        if let Some(rendered) = self.current(wanted, gzip) {
            return Some(rendered);
        }
        let before = self.current(wanted, false);
        let content = if before.is_some() { None } else { Some(content(registry, document)?) };
        let size = content.as_ref().map_or(usize::MAX, |content| {
            content.groups.iter().map(|(_, instances)| instances.len()).sum()
        });
        let work = move || {
            let rendered = before.unwrap_or_else(|| {
                // One of the two is there.
                let content = content.unwrap_or_else(Content::empty);
                let plain = Bytes::from(write(&content, look));
                Arc::new(Rendered { version: content.version, plain, gzip: OnceLock::new() })
            });
            if gzip {
                rendered.gzip.get_or_init(|| compress(&rendered.plain));
            }
            rendered
        };
        let rendered = if size <= INLINE_MAX {
            work()
        } else {
            tokio::task::spawn_blocking(work).await.ok()?
        };
        *self.made.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&rendered));
        Some(rendered)
    }
}

impl Content {
    const fn empty() -> Self {
        Self { version: (0, 0), head: (String::new(), String::new()), groups: Vec::new() }
    }
}

fn version(registry: &Registry, document: Document) -> (u64, u64) {
    registry.read(|table, now| match document {
        Document::Full => (table.revision(), 0),
        Document::Delta => table.delta_version(now),
    })
}

fn content(registry: &Registry, document: Document) -> Option<Content> {
    registry.read(|table, now| match document {
        Document::Full => {
            let all = table.snapshot();
            // The version of a full list is a constant on a stock server too.
            let head = ("1".to_owned(), all.hash_code);
            Some(Content { version: (all.revision, 0), head, groups: all.apps })
        }
        Document::Delta => {
            let delta = table.delta(now)?;
            let head = (delta.revision.to_string(), delta.hash_code);
            let version = (delta.revision, delta.generation);
            Some(Content { version, head, groups: delta.apps })
        }
    })
}

fn write(content: &Content, look: Look) -> String {
    let head = Head { version_delta: &content.head.0, hash_code: &content.head.1 };
    let groups = content.groups.iter().filter(|(_, instances)| !instances.is_empty());
    applications(head, groups.map(|(name, instances)| (&**name, instances)), look)
}

/// Writes a list of applications.
pub(crate) fn applications<'a>(
    head: Head<'_>,
    groups: impl IntoIterator<Item = (&'a str, &'a Vec<Arc<Instance>>)>,
    look: Look,
) -> String {
    let mut out = String::new();
    match (look.format, look.form) {
        (Format::Json, Form::Full) => json::applications(&mut out, head, groups),
        (Format::Json, Form::Compact) => json::applications_compact(&mut out, head, groups),
        (Format::Xml, form) => {
            let style = xml::Style { form, version: look.version };
            xml::applications(&mut out, head, groups, style);
        }
    }
    out
}

fn compress(plain: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 8), Compression::fast());
    // Writing to memory does not fail.
    let written = std::io::Write::write_all(&mut encoder, plain).and_then(|()| encoder.finish());
    written.unwrap_or_default().into()
}
