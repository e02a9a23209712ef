//! One attempt to deliver one message.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use tradewind_base::context::{DEADLINE_HEADER, REQUEST_ID_HEADER, TRACE_HEADER};
use tradewind_base::id::RequestId;
use tradewind_base::{Rng, TraceContext, fault};
use tradewind_message::signature::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER};
use tradewind_message::wire::ATTEMPT_HEADER;

use super::Core;
use super::courier::Sent;
use super::lanes::Showed;
use crate::machine::delivery::{Cause, Next, Verdict};
use crate::store::{Claimed, Lane, Outcome, SubscriptionRow, shorten};

impl Core {
    /// Sends a claimed delivery and writes down what came of it.
    pub(super) async fn push(&self, it: &Claimed, to: &SubscriptionRow) -> Showed {
        let mut rng = Rng::from_entropy();
        let request = self.delivery(it, to, &mut rng);
        let avoid = it.last_instance.as_deref();
        fault::point(format_args!("message.{}.claimed", it.topic));
        let sent = self.courier.send(&to.service, avoid, &request).await;
        fault::point(format_args!("message.{}.delivered", it.topic));
        let (verdict, outcome, showed) = self.judge(it, sent);
        let now = self.clock.now();
        let next = self.rules.settle(it.attempt, verdict, now, rng.unit());
        let outcome = Outcome { next, ..outcome };
        self.note(it, to, &outcome);
        if next == Next::Dead(Cause::Off) {
            let lane = Lane { subscriber: to.subscriber.clone(), topic: to.topic.clone() };
            if let Err(error) = self.store.unsubscribe(lane, now).await {
                tracing::warn!(error = %error, "subscription not turned off");
            }
        }
        self.settle(it, outcome).await;
        showed
    }

    /// Gives a claim back that was not used.
    pub(super) async fn put_back(&self, it: &Claimed) {
        let (now, attempts) = (self.clock.now(), it.attempt.saturating_sub(1));
        let next = Next::Again { due: now, attempts };
        let instance = it.last_instance.clone();
        self.settle(it, Outcome { next, status: None, error: None, instance }).await;
    }

    async fn settle(&self, it: &Claimed, outcome: Outcome) {
        let (key, token, attempt) = (it.key.clone(), it.token, it.attempt);
        let done = self.store.settle(key, token, attempt, outcome, self.clock.now()).await;
        if let Err(error) = done {
            // The lease runs out, and the delivery is tried again.
            tracing::warn!(msg.id = %it.key.message, error = %error, "delivery not written down");
        }
    }

    fn judge(&self, it: &Claimed, sent: Sent) -> (Verdict, Outcome, Showed) {
        // Replaced by the caller.
        let next = Next::Done;
        match sent {
            Sent::Answer { status, retry_after, instance, .. } => {
                let verdict = self.rules.verdict(status, retry_after);
                let showed = if status < 500 { Showed::Alive } else { Showed::Faulty };
                let error = (verdict != Verdict::Ack).then(|| format!("answered {status}"));
                let instance = Some(instance);
                (verdict, Outcome { next, status: Some(status), error, instance }, showed)
            }
            Sent::NoAnswer { error, instance } => {
                let (error, instance) = (Some(shorten(&error)), Some(instance));
                let outcome = Outcome { next, status: None, error, instance };
                (Verdict::Failed(None), outcome, Showed::Faulty)
            }
            Sent::Nothing { error } => {
                let (error, instance) = (Some(shorten(&error)), it.last_instance.clone());
                let outcome = Outcome { next, status: None, error, instance };
                (Verdict::Unreachable, outcome, Showed::Faulty)
            }
        }
    }

    fn note(&self, it: &Claimed, to: &SubscriptionRow, outcome: &Outcome) {
        let word = match outcome.next {
            Next::Done => "acknowledged",
            Next::Again { .. } => "again",
            Next::Dead(_) => "dead",
        };
        metrics::counter!("broker_deliveries_total", "outcome" => word).increment(1);
        let (subscriber, attempt, status) = (&to.subscriber, it.attempt, outcome.status);
        let trace = it.trace.map(|it| format!("{:032x}", it.trace_id()));
        let (topic, error) = (&it.topic, outcome.error.as_deref());
        let id = it.key.message;
        if matches!(outcome.next, Next::Dead(_)) {
            tracing::error!(
                msg.id = %id, subscriber, topic, attempt, status, error, trace, "dead letter"
            );
        } else {
            tracing::debug!(
                msg.id = %id, subscriber, topic, attempt, status, error, trace, word, "delivery"
            );
        }
    }

    fn delivery(&self, it: &Claimed, to: &SubscriptionRow, rng: &mut Rng) -> Request<Bytes> {
        let body = Bytes::from(it.data.clone());
        let (id, now) = (it.key.message.to_string(), self.clock.now());
        let time = jiff::Timestamp::from_millisecond(it.committed.millis()).unwrap_or_default();
        let trace = match it.trace {
            Some(trace) => trace.child(rng),
            None => TraceContext::start(rng, false),
        };
        let signature = self.signing.sign(&id, now.seconds(), &body);
        let request_id = RequestId::generate(now, rng);
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        // Paths are checked when they are declared.
        *request.uri_mut() = Uri::try_from(to.path.as_str()).unwrap_or_default();
        let mut put = |name: &'static str, value: String| {
            if let Ok(value) = HeaderValue::try_from(value) {
                request.headers_mut().insert(HeaderName::from_static(name), value);
            }
        };
        put("ce-specversion", "1.0".to_owned());
        put("ce-id", id.clone());
        put("ce-source", it.source.clone());
        put("ce-type", it.kind.clone());
        put("ce-time", time.to_string());
        put("ce-subject", it.subject.clone());
        put("ce-topic", it.topic.clone());
        if let Some(xid) = it.xid {
            put("ce-xid", xid.to_string());
        }
        put(ID_HEADER, id);
        put(TIMESTAMP_HEADER, now.seconds().to_string());
        put(SIGNATURE_HEADER, signature);
        put(ATTEMPT_HEADER, it.attempt.to_string());
        put(TRACE_HEADER, trace.to_string());
        put(REQUEST_ID_HEADER, request_id.to_string());
        put(DEADLINE_HEADER, self.attempt_limit.as_millis().to_string());
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request
    }
}
