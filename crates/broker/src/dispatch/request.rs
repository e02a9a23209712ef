//! What a subscriber is sent: one message as a CloudEvent in binary mode, or several as a batch.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use serde_json::value::RawValue;
use tradewind_base::context::{DEADLINE_HEADER, REQUEST_ID_HEADER, TRACE_HEADER};
use tradewind_base::id::RequestId;
use tradewind_base::{Rng, Timestamp, TraceContext};
use tradewind_message::batch::{BatchId, MEDIA_TYPE, Structured};
use tradewind_message::signature::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER};
use tradewind_message::wire::ATTEMPT_HEADER;

use super::Core;
use crate::store::{Claimed, SubscriptionRow};

impl Core {
    /// The request that delivers one message.
    pub(super) fn single(
        &self,
        it: &Claimed,
        to: &SubscriptionRow,
        rng: &mut Rng,
    ) -> Request<Bytes> {
        let body = Bytes::from(it.data.clone());
        let (id, now) = (it.key.message.to_string(), self.clock.now());
        let mut request = self.signed(&id, body, to, now, rng);
        put(&mut request, "ce-specversion", "1.0");
        put(&mut request, "ce-id", &id);
        put(&mut request, "ce-source", &it.source);
        put(&mut request, "ce-type", &it.kind);
        put(&mut request, "ce-time", &time(it));
        put(&mut request, "ce-subject", &it.subject);
        put(&mut request, "ce-topic", &it.topic);
        if let Some(xid) = it.xid {
            put(&mut request, "ce-xid", &xid.to_string());
        }
        put(&mut request, ATTEMPT_HEADER, &it.attempt.to_string());
        put(&mut request, TRACE_HEADER, &trace(it, rng).to_string());
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request
    }

    /// The request that delivers several; `None` when one of them has data that is no JSON.
    pub(super) fn several(
        &self,
        all: &[Claimed],
        to: &SubscriptionRow,
        rng: &mut Rng,
    ) -> Option<Request<Bytes>> {
        let mut events = Vec::with_capacity(all.len());
        for it in all {
            events.push(Structured {
                specversion: "1.0".into(),
                id: it.key.message,
                source: it.source.as_str().into(),
                kind: it.kind.as_str().into(),
                subject: it.subject.as_str().into(),
                time: time(it).into(),
                datacontenttype: "application/json".into(),
                topic: it.topic.as_str().into(),
                xid: it.xid,
                attempt: it.attempt,
                traceparent: Cow::Owned(trace(it, rng).to_string()),
                data: serde_json::from_str::<&RawValue>(&it.data).ok()?,
            });
        }
        let body = Bytes::from(serde_json::to_vec(&events).ok()?);
        let now = self.clock.now();
        // Its company is another at the next attempt, so the id is too.
        let id = BatchId::generate(now, rng).to_string();
        let mut request = self.signed(&id, body, to, now, rng);
        put(&mut request, TRACE_HEADER, &TraceContext::start(rng, false).to_string());
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        Some(request)
    }

    fn signed(
        &self,
        id: &str,
        body: Bytes,
        to: &SubscriptionRow,
        now: Timestamp,
        rng: &mut Rng,
    ) -> Request<Bytes> {
        let signature = self.signing.sign(id, now.seconds(), &body);
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        // Paths are checked when they are declared.
        *request.uri_mut() = Uri::try_from(to.path.as_str()).unwrap_or_default();
        put(&mut request, ID_HEADER, id);
        put(&mut request, TIMESTAMP_HEADER, &now.seconds().to_string());
        put(&mut request, SIGNATURE_HEADER, &signature);
        put(&mut request, REQUEST_ID_HEADER, &RequestId::generate(now, rng).to_string());
        put(&mut request, DEADLINE_HEADER, &self.attempt_limit.as_millis().to_string());
        request
    }
}

fn put(request: &mut Request<Bytes>, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        request.headers_mut().insert(HeaderName::from_static(name), value);
    }
}

fn time(it: &Claimed) -> String {
    let time = jiff::Timestamp::from_millisecond(it.committed.millis()).unwrap_or_default();
    time.to_string()
}

fn trace(it: &Claimed, rng: &mut Rng) -> TraceContext {
    match it.trace {
        Some(trace) => trace.child(rng),
        None => TraceContext::start(rng, false),
    }
}
