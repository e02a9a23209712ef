//! Several deliveries in one request, and who gets none such.

use std::sync::{Arc, Mutex};

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tradewind_base::Problem;
use tradewind_host::testing::Running;
use tradewind_message::wire::Publish;
use tradewind_message::{Broker as _, MessageId, Subscription};
use tradewind_service::axum::Router;
use tradewind_service::axum::body::Bytes;
use tradewind_service::axum::http::{HeaderMap, StatusCode};
use tradewind_service::axum::response::{IntoResponse as _, Response};
use tradewind_service::axum::routing::put;
use tradewind_service::{Failure, Json};

use crate::foreign::{Foreign, status, written};
use crate::support::{Estate, LOST, Node, Subscriber, until};

/// A message that is the same in every run.
fn message(id: u128) -> Publish {
    Publish {
        id: MessageId::from_u128(id),
        topic: "order.placed".into(),
        key: format!("ord_{id}"),
        kind: "order.placed".into(),
        source: "order".into(),
        data: RawValue::from_string(r#"{"b":1.50, "a":"ä\u00e9"}"#.into()).unwrap(),
    }
}

/// What a subscriber gets that never said it takes several.
#[tokio::test]
async fn a_single_delivery_is_written_as_ever() {
    let estate = Estate::new();
    let broker = estate.broker().await;
    let foreign = Foreign::start(|_, _, _| status(204)).await;
    estate.list("warehouse", &[foreign.port()]);
    estate.subscribe("warehouse", "order.placed").await;
    let client = estate.client("order");
    for id in 1..=3 {
        client.publish(&message(id)).await.unwrap();
    }
    for id in 1..=3 {
        let id = MessageId::from_u128(id);
        until("done", async || broker.state(id).await == "done").await;
    }
    let mut requests: Vec<_> = foreign.requests().iter().map(written).collect();
    requests.sort();
    assert_eq!(requests.len(), 3);
    assert_eq!(requests[0], include_str!("../golden/single.txt"));
}

/// Publishes messages that wait for the first subscriber, and so come all at once.
async fn waiting(estate: &Estate, ids: std::ops::RangeInclusive<u128>) {
    for id in ids {
        estate.client("order").publish(&message(id)).await.unwrap();
    }
}

/// The ids of a batch's events.
fn ids(body: &[u8]) -> Vec<String> {
    let events: Vec<Value> = serde_json::from_slice(body).unwrap();
    events.iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
}

fn is_batch(headers: &HeaderMap) -> bool {
    headers["content-type"] == "application/cloudevents-batch+json"
}

/// An answer to a batch.
fn results(each: &[Value]) -> Response {
    Json(json!({ "results": each })).into_response()
}

/// Takes everything, however it comes.
fn taken(headers: &HeaderMap, body: &Bytes) -> Response {
    if is_batch(headers) {
        results(&vec![json!({"status": 204}); ids(body).len()])
    } else {
        status(204)
    }
}

async fn done(broker: &Node, ids: std::ops::RangeInclusive<u128>) {
    for id in ids {
        let id = MessageId::from_u128(id);
        until("done", async || broker.state(id).await == "done").await;
    }
}

/// How often a message was sent to its one subscriber, as the broker counts.
async fn attempts(broker: &Node, id: u128) -> i64 {
    let found = broker.get(&format!("/messages/v1/messages/{}", MessageId::from_u128(id))).await;
    found.json()["deliveries"][0]["attempts"].as_i64().unwrap()
}

#[tokio::test]
async fn several_due_at_once_travel_in_one_request() {
    let estate = Estate::new();
    let broker = estate.broker().await;
    let foreign = Foreign::start(|_, headers, body| taken(headers, body)).await;
    estate.list("warehouse", &[foreign.port()]);
    waiting(&estate, 1..=2).await;
    estate.subscribe_together("warehouse", "order.placed", 1000).await;
    done(&broker, 1..=2).await;
    let requests: Vec<_> = foreign.requests().iter().map(written).collect();
    assert_eq!(requests, [include_str!("../golden/batch.txt")]);
    let listed = broker.get("/messages/v1/subscriptions").await.json();
    assert_eq!(listed["items"][0]["together"], 32, "no more than the protocol has");
    // One alone is sent as ever.
    estate.client("order").publish(&message(3)).await.unwrap();
    done(&broker, 3..=3).await;
    assert!(!is_batch(&foreign.requests()[1].0));
    assert_eq!(attempts(&broker, 1).await, 1);
}

#[tokio::test]
async fn each_delivery_of_a_request_is_judged_by_its_own_status() {
    let estate = Estate::new();
    let broker = estate.broker().await;
    let foreign = Foreign::start(|_, headers, _| {
        if !is_batch(headers) {
            return status(204);
        }
        results(&[json!({"status": 204}), json!({"status": 425}), json!({"status": 422})])
    })
    .await;
    estate.list("warehouse", &[foreign.port()]);
    waiting(&estate, 1..=3).await;
    estate.subscribe_together("warehouse", "order.placed", 32).await;
    done(&broker, 1..=2).await;
    let requests = foreign.requests();
    let order = ids(&requests[0].1);
    assert_eq!((requests.len(), order.len()), (2, 3));
    assert_eq!(requests[1].0["ce-id"], order[1], "what came too early comes again");
    assert_eq!(requests[1].0["x-tradewind-attempt"], "1", "and that did not count");
    let dead = broker.get("/messages/v1/dead").await.json();
    assert_eq!(dead["items"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&dead["items"][0]["id"], &dead["items"][0]["reason"]),
        (&order[2].as_str().into(), &"refused".into())
    );
    assert_eq!(dead["items"][0]["last_status"], 422);
    assert_eq!(broker.state(MessageId::from_u128(3)).await, "committed");
}

/// A subscriber of an older version, a proxy that does not let batches through, a batch that
/// cannot be read, an answer that names no delivery: nothing is lost and nothing counted twice.
#[tokio::test]
async fn what_is_not_taken_together_is_sent_alone_at_once() {
    for refusal in [415, 400, 422, 409, 410, 200, 204] {
        let estate = Estate::new();
        let broker = estate.broker().await;
        let foreign = Foreign::start(
            move |_, headers, _| {
                if is_batch(headers) { status(refusal) } else { status(204) }
            },
        )
        .await;
        estate.list("warehouse", &[foreign.port()]);
        waiting(&estate, 1..=5).await;
        estate.subscribe_together("warehouse", "order.placed", 32).await;
        done(&broker, 1..=5).await;
        for id in 1..=5 {
            assert_eq!(attempts(&broker, id).await, 1, "{refusal}");
        }
        let batches = || foreign.requests().iter().filter(|it| is_batch(&it.0)).count();
        assert_eq!((batches(), foreign.requests().len()), (1, 6), "{refusal}");
        // From then on it gets single ones.
        let client = estate.client("order");
        let next = (6..=9).map(|id| {
            let client = client.clone();
            async move { client.publish(&message(id)).await.unwrap() }
        });
        futures_util::future::join_all(next).await;
        done(&broker, 6..=9).await;
        assert_eq!((batches(), foreign.requests().len()), (1, 10), "{refusal}");
        assert_eq!(broker.get("/messages/v1/dead").await.json()["items"], json!([]));
    }
}

#[tokio::test]
async fn a_fault_of_the_whole_is_one_of_each() {
    let estate = Estate::new();
    let broker = estate.broker().await;
    let foreign = Foreign::start(|before, headers, body| match before {
        0 => status(503),
        _ => taken(headers, body),
    })
    .await;
    estate.list("warehouse", &[foreign.port()]);
    waiting(&estate, 1..=3).await;
    estate.subscribe_together("warehouse", "order.placed", 32).await;
    done(&broker, 1..=3).await;
    assert_eq!(ids(&foreign.requests()[0].1).len(), 3);
    for id in 1..=3 {
        assert_eq!(attempts(&broker, id).await, 2, "each failed once");
    }
}

/// The answer to a whole batch is lost after the consumer has taken it.
#[tokio::test]
async fn a_lost_answer_to_a_batch_leads_to_no_second_effect() {
    let estate = Estate::new();
    let broker = estate.broker().await;
    let warehouse = Subscriber::start(&estate, "warehouse").await;
    warehouse.answer(LOST);
    estate.list("warehouse", &[warehouse.port()]);
    waiting(&estate, 1..=8).await;
    estate.subscribe_together("warehouse", "order.placed", 32).await;
    until("it comes again", async || 1 < warehouse.attempts()).await;
    warehouse.answer(0);
    done(&broker, 1..=8).await;
    let keys: Vec<_> = (1..=8).map(|id| format!("ord_{id}")).collect();
    assert_eq!(warehouse.effects().await, keys);
}

#[tokio::test]
async fn a_consumer_takes_many_together_each_in_its_own_trace() {
    let estate = Estate::new();
    let broker = estate.broker().await;
    let warehouse = Subscriber::start(&estate, "warehouse").await;
    estate.list("warehouse", &[warehouse.port()]);
    waiting(&estate, 1..=30).await;
    estate.subscribe_together("warehouse", "order.placed", 10).await;
    done(&broker, 1..=30).await;
    assert_eq!(warehouse.effects().await.len(), 30);
    assert!((3..30).contains(&warehouse.attempts()), "{} requests", warehouse.attempts());
    for (event, _) in warehouse.events() {
        let stored = broker.get(&format!("/messages/v1/messages/{}", event.id)).await.json();
        let trace = format!("{:032x}", event.trace.unwrap().trace_id());
        assert!(stored["trace"].as_str().unwrap().contains(&trace));
    }
}

/// A broker that does not know yet that several may travel together refuses the field.
#[tokio::test]
async fn an_older_broker_is_told_what_it_understands() {
    let estate = Estate::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let take = put(async move |Json(body): Json<Value>| {
        let known = body.get("together").is_none();
        heard.lock().unwrap().push(body);
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "edge.body", "unknown field");
        if known { Ok(Json(json!({}))) } else { Err(Failure::from(problem)) }
    });
    let router = Router::new().route("/messages/v1/subscriptions/{subscriber}/{topic}", take);
    let server = Running::start("broker", router).await;
    estate.list("broker", &[server.address().port()]);
    let subscription = Subscription::new("warehouse", "order.placed", "/in");
    Subscription::declare(estate.client("warehouse"), vec![subscription], &estate.tasks);
    until("it is told twice", async || 2 <= told.lock().unwrap().len()).await;
    let plain = json!({"service": "warehouse", "path": "/in"});
    let with = json!({"service": "warehouse", "path": "/in", "together": 32});
    assert_eq!(*told.lock().unwrap(), [with, plain]);
}
