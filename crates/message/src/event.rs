//! A delivery, read: CloudEvents 1.0 in binary mode.

use bytes::Bytes;
use http::HeaderMap;
use serde::de::DeserializeOwned;
use tradewind_base::id::Xid;
use tradewind_base::{Problem, Timestamp};
use tradewind_service::Failure;

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
        let text = |name: &str| headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or("");
        let signed = text(ID_HEADER);
        key.verify(signed, text(TIMESTAMP_HEADER), text(SIGNATURE_HEADER), &body, now).map_err(
            |error| {
                let detail = format!("the delivery is not signed by this estate: {error}");
                Problem::new(http::StatusCode::UNAUTHORIZED, "message.signature", detail)
            },
        )?;
        let detail = "the request is not a CloudEvent in binary mode";
        let mut problem = Problem::new(http::StatusCode::BAD_REQUEST, "message.event", detail);
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
            data: body,
        })
    }

    /// The data as a type.
    ///
    /// # Errors
    /// When it has another form.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.data)
    }
}
