//! A delivery, read: CloudEvents 1.0 in binary mode, or several in the JSON batch format.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use tradewind_base::context::TRACE_HEADER;
use tradewind_base::id::Xid;
use tradewind_base::{Problem, Timestamp, TraceContext};
use tradewind_service::Failure;

use crate::batch::{BatchId, EVENTS_MAX, Structured};
use crate::signature::{ID_HEADER, SIGNATURE_HEADER, SigningKey, TIMESTAMP_HEADER};
use crate::wire::{ATTEMPT_HEADER, MessageId};

/// One message as a consumer gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The message.
    pub id: MessageId,
    /// The topic it was published to.
    pub topic: String,
    /// What it is about.
    pub key: String,
    /// The CloudEvents type.
    pub kind: String,
    /// Who says so.
    pub source: String,
    /// When it was committed, as RFC 3339 text.
    pub time: String,
    /// The transaction it was a branch of, if it was.
    pub xid: Option<Xid>,
    /// The number of this attempt, from 1. More than 1: it may have been consumed before.
    pub attempt: u32,
    /// The trace it goes on in.
    pub trace: Option<TraceContext>,
    /// Its data: JSON, as the producer wrote it.
    pub data: Bytes,
}

impl Event {
    /// Checks the signature of a delivery and reads it.
    ///
    /// # Errors
    /// A problem to answer with: 401 when it is not believed, 400 when it is no CloudEvent.
    pub fn read(
        headers: &HeaderMap,
        body: Bytes,
        key: &SigningKey,
        now: Timestamp,
    ) -> Result<Self, Failure> {
        let text = |name: &str| text(headers, name);
        let signed = verified(headers, &body, key, now)?;
        let detail = "the request is not a CloudEvent in binary mode";
        let mut problem = Problem::new(StatusCode::BAD_REQUEST, "message.event", detail);
        if text("ce-specversion") != "1.0" {
            problem = problem.field("header:ce-specversion", "must be 1.0");
        }
        let id = text("ce-id").parse();
        // Only the id is under the signature with the body: the event's must be the same.
        if id.is_err() || text("ce-id") != signed {
            problem = problem.field("header:ce-id", "must be the message id of webhook-id");
        }
        for name in ["ce-type", "ce-source", "ce-topic"] {
            if text(name).is_empty() {
                problem = problem.field(format!("header:{name}"), "is missing");
            }
        }
        let Ok(id) = id else { return Err(problem.into()) };
        if !problem.errors.is_empty() {
            return Err(problem.into());
        }
        Ok(Self {
            id,
            topic: text("ce-topic").to_owned(),
            key: text("ce-subject").to_owned(),
            kind: text("ce-type").to_owned(),
            source: text("ce-source").to_owned(),
            time: text("ce-time").to_owned(),
            xid: text("ce-xid").parse().ok(),
            attempt: text(ATTEMPT_HEADER).parse().unwrap_or(1),
            trace: TraceContext::parse(text(TRACE_HEADER)),
            data: body,
        })
    }

    /// Checks the signature of a batch and reads its events, all or none.
    ///
    /// # Errors
    /// As [`Event::read`].
    pub fn read_batch(
        headers: &HeaderMap,
        body: &Bytes,
        key: &SigningKey,
        now: Timestamp,
    ) -> Result<Vec<Self>, Failure> {
        let refused = |detail: String| {
            let detail = format!("the request is not a batch of CloudEvents: {detail}");
            Problem::new(StatusCode::BAD_REQUEST, "message.event", detail)
        };
        let signed = verified(headers, body, key, now)?;
        // Else the data of a single delivery could be passed off as a batch.
        if signed.parse::<BatchId>().is_err() {
            let field = "must be the id of a batch";
            return Err(refused("see errors".into()).field("header:webhook-id", field).into());
        }
        let all: Vec<Structured<'_>> =
            serde_json::from_slice(body).map_err(|it| refused(it.to_string()))?;
        if !(1..=EVENTS_MAX as usize).contains(&all.len()) {
            return Err(refused(format!("it must have 1 to {EVENTS_MAX} events")).into());
        }
        let mut events = Vec::with_capacity(all.len());
        for (at, it) in all.into_iter().enumerate() {
            let complete = it.specversion == "1.0"
                && [&it.kind, &it.source, &it.topic].iter().all(|it| !it.is_empty());
            if !complete {
                return Err(refused(format!("event {at} is no event of version 1.0")).into());
            }
            events.push(Self {
                id: it.id,
                topic: it.topic.into_owned(),
                key: it.subject.into_owned(),
                kind: it.kind.into_owned(),
                source: it.source.into_owned(),
                time: it.time.into_owned(),
                xid: it.xid,
                attempt: it.attempt,
                trace: TraceContext::parse(&it.traceparent),
                data: body.slice_ref(it.data.get().as_bytes()),
            });
        }
        Ok(events)
    }

    /// The data as a type.
    ///
    /// # Errors
    /// When it has another form.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.data)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or("")
}

/// The id that is signed with the body, once the signature is believed.
fn verified<'a>(
    headers: &'a HeaderMap,
    body: &Bytes,
    key: &SigningKey,
    now: Timestamp,
) -> Result<&'a str, Failure> {
    let id = text(headers, ID_HEADER);
    let (time, signature) = (text(headers, TIMESTAMP_HEADER), text(headers, SIGNATURE_HEADER));
    key.verify(id, time, signature, body, now).map_err(|error| {
        let detail = format!("the delivery is not signed by this estate: {error}");
        Failure::from(Problem::new(StatusCode::UNAUTHORIZED, "message.signature", detail))
    })?;
    Ok(id)
}
