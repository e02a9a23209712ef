//! Several deliveries in one request: CloudEvents 1.0 in the JSON batch format, each of which
//! stands and falls for itself.
//!
//! The request has [`MEDIA_TYPE`], an array of [`Structured`] events, and a signature over the
//! whole of it. It is answered with [`Answers`], the status of each event in its order: what the
//! event would have been answered alone. The signature does not cover the content type, so the id
//! that it does cover tells a batch from a single delivery: a [`BatchId`], made anew for each
//! attempt, where a single delivery has the id of its message. Data that looks like a batch can
//! therefore not be passed off as one.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tradewind_base::id::Xid;

use crate::wire::MessageId;

/// The content type of such a request.
pub const MEDIA_TYPE: &str = "application/cloudevents-batch+json";
/// The most events of one.
pub const EVENTS_MAX: u32 = 32;
/// The most bytes of one: well below what a service takes unless it is told otherwise.
pub const BYTES_MAX: usize = 512 * 1024;
/// The most bytes that an event has beside its data.
pub const FRAME_BYTES_MAX: usize = 1280;

tradewind_base::id_type! {
    /// One attempt to deliver several events: what is signed in place of a message id.
    BatchId, "bat"
}

/// One event of a batch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Structured<'a> {
    /// The version of CloudEvents: `1.0`.
    pub specversion: Cow<'a, str>,
    /// The message.
    pub id: MessageId,
    /// Who says so.
    pub source: Cow<'a, str>,
    /// The CloudEvents type.
    #[serde(rename = "type")]
    pub kind: Cow<'a, str>,
    /// What it is about.
    #[serde(default)]
    pub subject: Cow<'a, str>,
    /// When it was committed, as RFC 3339 text.
    #[serde(default)]
    pub time: Cow<'a, str>,
    /// What the data is.
    #[serde(default = "json")]
    pub datacontenttype: Cow<'a, str>,
    /// The topic it was published to.
    pub topic: Cow<'a, str>,
    /// The transaction it was a branch of, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xid: Option<Xid>,
    /// The number of this attempt, from 1.
    #[serde(default = "first")]
    pub attempt: u32,
    /// The trace it goes on in.
    #[serde(default)]
    pub traceparent: Cow<'a, str>,
    /// Its data, byte for byte as the producer wrote it.
    #[serde(borrow)]
    pub data: &'a RawValue,
}

const fn json() -> Cow<'static, str> {
    Cow::Borrowed("application/json")
}

const fn first() -> u32 {
    1
}

/// The answer to a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// One for each event, in their order.
    pub results: Vec<Answered>,
}

/// What became of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// The status it would have been answered alone.
    pub status: u16,
    /// When to come again, in seconds: what `Retry-After` says alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

impl Answers {
    /// Reads the answer to a batch of `count` events; `None` when it does not say what became of
    /// each.
    #[must_use]
    pub fn read(body: &[u8], count: usize) -> Option<Vec<Answered>> {
        let Self { results } = serde_json::from_slice(body).ok()?;
        let whole = results.len() == count;
        (whole && results.iter().all(|it| (200..=599).contains(&it.status))).then_some(results)
    }
}

/// Whether a request says that it is a batch.
#[must_use]
pub fn is_batch(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or("");
    let essence = kind.split(';').next().unwrap_or("");
    essence.trim().eq_ignore_ascii_case(MEDIA_TYPE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{NAME_LEN_MAX, TEXT_LEN_MAX};

    #[test]
    fn an_event_is_no_larger_than_its_data_and_a_frame() {
        // Quotation marks are escaped in JSON.
        let (name, text) = ("n".repeat(NAME_LEN_MAX), "\"".repeat(TEXT_LEN_MAX));
        let data = RawValue::from_string("[1]".to_owned()).unwrap();
        let it = Structured {
            specversion: "1.0".into(),
            id: MessageId::from_u128(u128::MAX),
            source: text.as_str().into(),
            kind: name.as_str().into(),
            subject: text.as_str().into(),
            time: "2026-11-29T23:59:59.999999999Z".into(),
            datacontenttype: json(),
            topic: name.as_str().into(),
            xid: Some(Xid::from_u128(u128::MAX)),
            attempt: u32::MAX,
            traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into(),
            data: &data,
        };
        let bytes = serde_json::to_vec(&it).unwrap().len();
        assert!(bytes + ",".len() <= FRAME_BYTES_MAX + data.get().len(), "{bytes}");
    }

    #[test]
    fn an_answer_counts_when_it_speaks_of_each() {
        let read = |text: &str, count| Answers::read(text.as_bytes(), count);
        let good = r#"{"results":[{"status":204},{"status":425,"retry_after":1}],"more":0}"#;
        let each = [
            Answered { status: 204, retry_after: None },
            Answered { status: 425, retry_after: Some(1) },
        ];
        assert_eq!(read(good, 2).unwrap(), each);
        assert_eq!((read(good, 1), read(good, 3)), (None, None));
        for bad in ["", "{}", "null", r#"{"results":[{"status":0},{"status":204}]}"#, "[204,204]"] {
            assert_eq!(read(bad, 2), None, "{bad}");
        }
        let written = serde_json::to_string(&Answers { results: each.to_vec() }).unwrap();
        assert_eq!(written, r#"{"results":[{"status":204},{"status":425,"retry_after":1}]}"#);
    }

    #[test]
    fn a_batch_is_known_by_its_content_type() {
        let is = |value: &'static str| {
            let header = (CONTENT_TYPE, http::HeaderValue::from_static(value));
            is_batch(&HeaderMap::from_iter([header]))
        };
        assert!(is(MEDIA_TYPE) && is("Application/CloudEvents-Batch+JSON ; charset=utf-8"));
        assert!(!is("application/json") && !is("application/cloudevents+json"));
        assert!(!is_batch(&HeaderMap::new()));
    }

    proptest! {
        #[test]
        fn whatever_is_answered_is_read_or_counts_for_nothing(body: Vec<u8>, count in 0_usize..40) {
            if let Some(all) = Answers::read(&body, count) {
                prop_assert_eq!(all.len(), count);
            }
        }
    }
}
