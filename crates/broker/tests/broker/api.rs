//! Who may ask what, and what is refused.

use serde_json::{Value, json};
use tradewind_message::SigningKey;
use tradewind_message::signature::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER};

use crate::support::{Estate, Subscriber};

#[tokio::test]
async fn strangers_are_refused_everywhere_but_at_the_description() {
    let estate = Estate::new();
    let broker = estate.broker().await;
    let reply = broker.server.get("/openapi.json").await;
    assert_eq!(reply.status, 200);
    let paths = reply.json()["paths"].clone();
    let mut count = 0;
    for (path, methods) in paths.as_object().unwrap() {
        let path = path.replace(['{', '}'], "");
        for method in methods.as_object().unwrap().keys() {
            if path == "/openapi.json" {
                continue;
            }
            let method = method.to_uppercase();
            let json = [("content-type", "application/json".to_owned())];
            let reply = broker.server.send(&method, &path, &json, "{}").await;
            assert_eq!(reply.status, 403, "{method} {path}: {reply:?}");
            count += 1;
        }
    }
    assert_eq!(count, 22, "every route is described");
}

#[tokio::test]
async fn what_cannot_be_a_message_is_refused_with_every_field() {
    let estate = Estate::new();
    let broker = estate.broker().await;
    let id = estate.draft("t", "k").id();
    let data = "x".repeat(70_000);
    let bad = json!({"id": id, "topic": "a b", "key": "", "type": "", "source": "ö", "data": data});
    let reply = broker.post("/messages/v1/publish", &bad).await;
    let (code, mut fields) = reply.problem();
    fields.sort();
    assert_eq!((reply.status, code.as_str()), (422, "message.invalid"));
    assert_eq!(fields, ["data", "key", "source", "topic", "type"]);
    let check = json!({"service": "a/b", "path": "//evil"});
    let half = json!({"id": id, "topic": "t", "key": "k", "type": "t", "source": "s", "data": 1,
        "check": check});
    let reply = broker.post("/messages/v1/half", &half).await;
    assert_eq!(reply.problem().1, ["check.service", "check.path"]);
    let reply = broker.post("/messages/v1/publish", &json!({"id": "nonsense"})).await;
    assert_eq!((reply.status, reply.problem().1), (400, vec!["id".to_owned()]));
    let subscription = |service: &str| json!({"service": service, "path": "/in"});
    let put = async |path: &str, body: Value| {
        let caller = broker.server.caller("warehouse");
        let json = ("content-type", "application/json".to_owned());
        broker.server.send("PUT", path, &[caller, json], &body.to_string()).await
    };
    let reply = put("/messages/v1/subscriptions/a/t", subscription("points")).await;
    assert_eq!((reply.status, reply.problem().0.as_str()), (403, "message.not-yours"));
    let reply = put("/messages/v1/subscriptions/a%20b/t", subscription("warehouse")).await;
    assert_eq!(reply.status, 422);
    assert_eq!(broker.get("/messages/v1/messages").await.status, 400);
    assert_eq!(broker.get(&format!("/messages/v1/messages/{id}")).await.status, 404);
    assert_eq!(broker.get("/messages/v1/messages/msg_1").await.status, 400);
}

#[tokio::test]
async fn the_same_id_with_other_content_is_refused() {
    let estate = Estate::new();
    let broker = estate.broker().await;
    let draft = estate.draft("t", "k");
    let other = estate.draft("t", "other").with_id(draft.id());
    let publish = async |it: &tradewind_message::Draft| {
        broker.post("/messages/v1/publish", &serde_json::to_value(it.publish()).unwrap()).await
    };
    assert_eq!(publish(&draft).await.status, 200);
    assert_eq!(publish(&draft).await.status, 200);
    let reply = publish(&other).await;
    assert_eq!((reply.status, reply.problem().0.as_str()), (409, "message.id-reused"));
    let path = format!("/messages/v1/half/{}/rollback", draft.id());
    let reply = broker.post(&path, &json!({})).await;
    assert_eq!((reply.status, reply.problem().0.as_str()), (409, "message.conflict"));
}

#[tokio::test]
async fn a_consumer_believes_only_what_the_estate_signed() {
    let estate = Estate::new();
    let warehouse = Subscriber::start(&estate, "warehouse").await;
    let (id, now) = (estate.draft("t", "k").id().to_string(), estate.clock.now());
    let key = SigningKey::derive(&estate.key);
    let send = async |id: &str, of: &str, seconds: i64, body: &str| {
        let headers = [
            ("ce-specversion", "1.0".to_owned()),
            ("ce-id", id.to_owned()),
            ("ce-type", "t".to_owned()),
            ("ce-topic", "t".to_owned()),
            ("ce-source", "order".to_owned()),
            ("ce-subject", "k".to_owned()),
            (ID_HEADER, of.to_owned()),
            (TIMESTAMP_HEADER, seconds.to_string()),
            (SIGNATURE_HEADER, key.sign(of, seconds, b"{}")),
        ];
        warehouse.server().post("/in", &headers, body).await.status
    };
    let seconds = now.seconds();
    assert_eq!(send(&id, &id, seconds, "{\"a\":1}").await, 401, "another body");
    assert_eq!(send(&id, &id, seconds - 400, "{}").await, 401, "an old one");
    let other = estate.draft("t", "k").id().to_string();
    assert_eq!(send(&other, &id, seconds, "{}").await, 400, "another event");
    assert!(warehouse.effects().await.is_empty());
    assert_eq!(send(&id, &id, seconds, "{}").await, 200);
    assert_eq!(send(&id, &id, seconds, "{}").await, 200, "again");
    assert_eq!(warehouse.effects().await, ["k"]);
}
