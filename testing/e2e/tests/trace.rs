//! One trace through every process that an order passes, and its ids found from each other.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::Value;
use tradewind_base::identity::{CALLER_HEADER, Caller};
use tradewind_base::{Clock as _, SystemClock};
use tradewind_e2e::trade::{LIMIT, basket, reaches};
use tradewind_e2e::{Client, Estate, eventually, wanted};
use tradewind_service::Keys;

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Where the order's request, its branches and its messages are answered.
const HOPS: [(&str, &str); 12] = [
    ("order", "/orders"),
    ("inventory", "/availability"),
    ("inventory", "/tcc/inventory.reserve/try"),
    ("points", "/tcc/points.credit/try"),
    ("broker", "/tcc/message/try"),
    ("inventory", "/tcc/inventory.reserve/confirm"),
    ("points", "/tcc/points.credit/confirm"),
    ("broker", "/tcc/message/confirm"),
    ("warehouse", "/messages/order-placed"),
    ("broker", "/messages/v1/publish"),
    ("order", "/messages/order-shipped"),
    ("gateway", "/order/orders"),
];

/// The lines of the processes of one server that are about the trace.
fn lines(estate: &Estate, server: &str) -> Vec<Value> {
    let logs = estate.data().join("logs");
    let of_server = |it: &std::path::Path| {
        it.file_name().is_some_and(|it| it.to_string_lossy().starts_with(server))
    };
    let files = std::fs::read_dir(logs).unwrap().map(|it| it.unwrap().path());
    let texts = files.filter(|it| of_server(it)).map(|it| std::fs::read_to_string(it).unwrap());
    texts
        .flat_map(|it| it.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|it| it.contains(TRACE_ID))
        .filter_map(|it| serde_json::from_str(&it).ok())
        .collect()
}

/// A client of one process, as a service of the estate.
fn as_service(estate: &Estate, port: u16) -> Client {
    let keys = Keys::load_or_create(&estate.data()).unwrap();
    let caller = Caller { service: "console".to_owned() };
    let sealed = caller.seal(keys.seal(), SystemClock::new().now()).unwrap();
    Client::new(format!("127.0.0.1:{port}")).with(CALLER_HEADER, &sealed)
}

async fn json(client: &mut Client, path: &str) -> Value {
    let answer = client.get(path).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
    answer.json()
}

/// R2.7: what a client sends as `traceparent` is in the log of every process that works on its
/// order, in every branch and message, and back with `order.shipped`; and order id, xid and message
/// id lead to each other.
#[tokio::test]
async fn one_trace_spans_an_order_and_its_ids_lead_to_each_other() {
    let estate = Estate::start_with(vec![
        ("warehouse.ship_after", "1s".to_owned()),
        ("log.level", "debug".to_owned()),
        ("log.format", "json".to_owned()),
    ])
    .await;
    let mut alice = estate.alice().await;
    let parent = format!("00-{TRACE_ID}-00f067aa0ba902b7-01");
    let headers = [
        ("content-type", "application/json"),
        ("idempotency-key", "traced"),
        ("traceparent", parent.as_str()),
    ];
    let body = Bytes::from(basket(1, 1).to_string());
    let placed = alice.send(Method::POST, "/order/orders", &headers, body).await.unwrap();
    assert_eq!(placed.status, StatusCode::CREATED, "{}", placed.text());
    let order = placed.json();
    let [id, xid, message] = ["id", "xid", "message_id"].map(|it| order[it].as_str().unwrap());
    reaches(&mut alice, id, "shipped").await;

    for (server, path) in HOPS {
        let name = if path.starts_with("/order/") { "path" } else { "http.path" };
        eventually(&format!("{server} logs {path} with the trace"), LIMIT, async || {
            wanted(lines(&estate, server), |all| all.iter().any(|it| it[name] == path))
        })
        .await;
    }
    // Within a branch the transaction is named, within a delivery the message.
    for (server, path) in HOPS.into_iter().filter(|it| it.1.starts_with("/tcc/")) {
        let all = lines(&estate, server);
        let of_path = |it: &&Value| it["http.path"] == path;
        let named = all.iter().filter(of_path).all(|it| it["span"]["tcc.xid"] == xid);
        assert!(named, "{server} {path}: {all:#?}");
    }
    let begun = lines(&estate, "order");
    assert!(begun.iter().any(|it| it["order.id"] == id && it["tcc.xid"] == xid), "{begun:#?}");
    let taken = lines(&estate, "warehouse");
    assert!(taken.iter().any(|it| it["msg.id"] == message), "{taken:#?}");
    assert!(taken.iter().any(|it| it["order.id"] == id && it["trace.id"] == TRACE_ID));

    // From each id to the others, for the owner and for services.
    let trail = json(&mut alice, &format!("/order/orders/{id}/trail")).await;
    assert_eq!(trail["trace_id"], TRACE_ID);
    let mut service = as_service(&estate, estate.ports.order);
    for query in [format!("order_id={id}"), format!("xid={xid}"), format!("message_id={message}")] {
        assert_eq!(json(&mut service, &format!("/trail?{query}")).await, trail);
    }
    let outside = alice.get(&format!("/order/trail?xid={xid}")).await.unwrap();
    assert_eq!(outside.status, StatusCode::FORBIDDEN, "{}", outside.text());
    for query in [format!("xid={xid}"), format!("message_id={message}")] {
        let mine = json(&mut alice, &format!("/order/orders?{query}")).await;
        assert_eq!(mine["items"][0]["id"], id, "{mine}");
    }
    let mut broker = as_service(&estate, estate.ports.broker);
    let placed = json(&mut broker, &format!("/messages/v1/messages/{message}")).await;
    assert_eq!((&placed["key"], &placed["xid"]), (&id.into(), &xid.into()));
    assert!(placed["trace"].as_str().unwrap().contains(TRACE_ID), "{placed}");
    let about = json(&mut broker, &format!("/messages/v1/messages?key={id}")).await;
    let topics: Vec<_> = about["items"].as_array().unwrap().iter().map(|it| &it["topic"]).collect();
    assert_eq!(topics, ["order.placed", "order.shipped"]);
    for it in about["items"].as_array().unwrap() {
        assert!(it["trace"].as_str().unwrap().contains(TRACE_ID), "{it}");
    }
    let mut warehouse = as_service(&estate, estate.ports.warehouse[0]);
    let outbound = json(&mut warehouse, &format!("/outbound/{id}")).await;
    assert_eq!((&outbound["xid"], &outbound["message_id"]), (&xid.into(), &message.into()));
    assert_eq!(outbound["trace_id"], TRACE_ID);
}
