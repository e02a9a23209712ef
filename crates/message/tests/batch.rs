//! Several deliveries in one request: read as they were written, consumed each for itself, and
//! refused as a whole when they are not believed.

#![cfg(test)]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::value::RawValue;
use tradewind_base::id::Xid;
use tradewind_base::{Clock, ManualClock, TraceContext};
use tradewind_message::batch::{Answered, Answers, BatchId, EVENTS_MAX, MEDIA_TYPE, Structured};
use tradewind_message::{ConsumeError, Consumer, Event, MessageId, Reply, SigningKey, schema};
use tradewind_service::axum::body::to_bytes;
use tradewind_service::axum::response::IntoResponse as _;
use tradewind_service::{Failure, Keys};
use tradewind_sql::{Database, DatabaseUrl, Error, Migration, Options, Transaction};

const MIGRATIONS: &[Migration] = &[schema::consumed(1), schema::consumed_by_time(2)];
const GOLDEN: &str = include_str!("golden/batch.json");
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

struct Rig {
    clock: Arc<ManualClock>,
    key: SigningKey,
    consumer: Consumer,
    database: Database,
    _folder: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::sqlite(&folder.path().join("it.db"));
        let database = Database::open(&url, Options::default(), "test", MIGRATIONS).unwrap();
        let (clock, keys) = (Arc::new(ManualClock::new()), Keys::from_secret(&[7; 32]).unwrap());
        let time = Arc::clone(&clock) as Arc<dyn Clock>;
        let consumer = Consumer::new("warehouse", database.clone(), keys.seal(), time);
        let key = SigningKey::derive(keys.seal());
        Self { clock, key, consumer, database, _folder: folder }
    }

    /// The headers of a batch that was signed under `id`.
    fn headers(&self, id: &str, body: &str) -> HeaderMap {
        let seconds = self.clock.now().seconds();
        let signature = self.key.sign(id, seconds, body.as_bytes());
        let all = [
            ("content-type", MEDIA_TYPE.to_owned()),
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", seconds.to_string()),
            ("webhook-signature", signature),
        ];
        let header = |(name, value): (&'static str, String)| {
            (HeaderName::from_static(name), HeaderValue::try_from(value).unwrap())
        };
        all.into_iter().map(header).collect()
    }

    /// Sends a batch whose events the consumer acts on as their keys say.
    async fn take(&self, body: &str) -> Result<(Vec<Answered>, Vec<Event>), Failure> {
        let headers = self.headers(&BatchId::from_u128(5).to_string(), body);
        let seen = Arc::new(Mutex::new(BTreeMap::new()));
        let log = Arc::clone(&seen);
        let act = move |_: &mut Transaction<'_>, event: &Event| {
            log.lock().unwrap().insert(event.id, event.clone());
            match event.key.as_str() {
                "early" => Err(ConsumeError::NotYet("early".into())),
                "never" => Err(ConsumeError::Refused("never".into())),
                "later" => Err(ConsumeError::Later("later".into())),
                _ => Ok(()),
            }
        };
        let reply = self.consumer.take(&headers, Bytes::from(body.to_owned()), act).await?;
        let Reply::Several(all) = &reply else { panic!("{reply:?}") };
        let count = all.len();
        let response = reply.into_response();
        assert_eq!(response.status(), 200);
        let body = to_bytes(response.into_body(), 100_000).await.unwrap();
        let events = seen.lock().unwrap().values().cloned().collect();
        Ok((Answers::read(&body, count).unwrap(), events))
    }

    async fn refused(&self, id: &str, body: &str) -> (u16, String) {
        let headers = self.headers(id, body);
        let act = |_: &mut Transaction<'_>, _: &Event| Ok(());
        let failure =
            self.consumer.take(&headers, Bytes::from(body.to_owned()), act).await.unwrap_err();
        (failure.problem().status.as_u16(), failure.to_string())
    }

    async fn consumed(&self) -> i64 {
        let count = |tx: &mut Transaction<'_>| {
            tx.query_one("SELECT COUNT(*) FROM message_consumed", &[], |row| row.get(0))
        };
        self.database.read::<_, Error, _>("count", count).await.unwrap().unwrap()
    }
}

fn structured<'a>(id: u128, key: &'a str, data: &'a RawValue) -> Structured<'a> {
    Structured {
        specversion: "1.0".into(),
        id: MessageId::from_u128(id),
        source: "order".into(),
        kind: "order.placed".into(),
        subject: key.into(),
        time: "2023-11-14T22:13:20Z".into(),
        datacontenttype: "application/json".into(),
        topic: "order.placed".into(),
        xid: None,
        attempt: 1,
        traceparent: Cow::Borrowed(""),
        data,
    }
}

fn batch(keys: &[&str]) -> String {
    let data = RawValue::from_string("{}".to_owned()).unwrap();
    let all = keys.iter().enumerate().map(|(at, key)| structured(at as u128 + 1, key, &data));
    serde_json::to_string(&all.collect::<Vec<_>>()).unwrap()
}

#[tokio::test]
async fn a_batch_is_written_and_read_byte_for_byte() {
    let golden = GOLDEN.trim_end();
    let data = [r#"{"b":1.50, "a":"ä\u00e9"}"#, "null"];
    let raw = data.map(|it| RawValue::from_string(it.to_owned()).unwrap());
    let mut first = structured(1, "ord_1", &raw[0]);
    first.xid = Some(Xid::from_u128(9));
    first.traceparent = TRACE.into();
    let mut second = structured(2, "ord_2", &raw[1]);
    second.attempt = 3;
    assert_eq!(serde_json::to_string(&[first, second]).unwrap(), golden);
    let (answers, events) = Rig::new().take(golden).await.unwrap();
    assert!(answers.iter().all(|it| it.status == 204));
    let parts = |it: &Event| (it.topic.clone(), it.kind.clone(), it.source.clone());
    for (it, data) in events.iter().zip(data) {
        assert_eq!(it.data, data.as_bytes());
        assert_eq!(parts(it), ("order.placed".into(), "order.placed".into(), "order".into()));
        assert_eq!(it.time, "2023-11-14T22:13:20Z");
    }
    assert_eq!((events[0].key.as_str(), events[0].attempt), ("ord_1", 1));
    assert_eq!((events[1].key.as_str(), events[1].attempt), ("ord_2", 3));
    assert_eq!((events[0].xid, events[1].xid), (Some(Xid::from_u128(9)), None));
    // Each goes on in its own trace, as a hop of its own.
    let (sent, gone_on) = (TraceContext::parse(TRACE).unwrap(), events[0].trace.unwrap());
    assert_eq!(gone_on.trace_id(), sent.trace_id());
    assert_ne!(gone_on.span_id(), sent.span_id());
    assert_ne!(events[1].trace.unwrap().trace_id(), sent.trace_id());
}

#[tokio::test]
async fn each_event_stands_and_falls_for_itself_and_acts_once() {
    let rig = Rig::new();
    let body = batch(&["one", "early", "never", "later", "two"]);
    let answered = |status| Answered { status, retry_after: None };
    let later = Answered { status: 503, retry_after: Some(1) };
    let wanted = [answered(204), answered(425), answered(422), later, answered(204)];
    let (answers, events) = rig.take(&body).await.unwrap();
    assert_eq!((answers.as_slice(), events.len()), (&wanted[..], 5));
    assert_eq!(rig.consumed().await, 2, "what failed is not remembered");
    let (answers, events) = rig.take(&body).await.unwrap();
    assert_eq!((answers.as_slice(), events.len()), (&wanted[..], 3), "two were taken before");
    // The same message twice in one batch.
    let twice = format!("[{0},{0}]", batch(&["x"]).trim_matches(['[', ']']));
    let (answers, events) = Rig::new().take(&twice).await.unwrap();
    assert_eq!((answers, events.len()), (vec![answered(204); 2], 1));
}

#[tokio::test]
async fn what_is_no_batch_of_the_estate_is_refused_whole() {
    let rig = Rig::new();
    let (good, id) = (batch(&["a", "b"]), BatchId::from_u128(5).to_string());
    let headers = rig.headers(&id, &good);
    let act = |_: &mut Transaction<'_>, _: &Event| Ok(());
    let forged = Bytes::from(good.replace("\"a\"", "\"c\""));
    let failure = rig.consumer.take(&headers, forged, act).await.unwrap_err();
    assert_eq!(failure.problem().status, 401);
    let many: Vec<_> = (0..=EVENTS_MAX).map(|_| "x").collect();
    let bad = [
        String::new(),
        "[]".to_owned(),
        "{}".to_owned(),
        "[1]".to_owned(),
        good.replace("1.0", "0.3"),
        good.replace("\"topic\":\"order.placed\"", "\"topic\":\"\""),
        good.replace("msg_00000000000000000000000000000002", "msg_2"),
        good.replace(",\"data\":{}", ""),
        batch(&many),
    ];
    for body in bad {
        let (status, text) = rig.refused(&id, &body).await;
        assert_eq!(status, 400, "{text}: {body}");
    }
    // A single delivery whose data looks like a batch has a good signature under its own id.
    let (status, text) = rig.refused(&MessageId::from_u128(5).to_string(), &good).await;
    assert_eq!(status, 400, "{text}");
    assert_eq!(rig.consumed().await, 0);
}
