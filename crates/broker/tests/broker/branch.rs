//! The half message as a branch of a distributed transaction.

use serde_json::{Value, json};
use tradewind_base::Rng;
use tradewind_base::id::Xid;
use tradewind_host::testing::Running;
use tradewind_message::MessageId;
use tradewind_service::axum::Router;
use tradewind_service::axum::extract::Path;
use tradewind_service::axum::routing::get;
use tradewind_service::{Caller, Json};

use crate::support::{Estate, Node, Subscriber, until};

async fn set_up() -> (Estate, Node, Subscriber) {
    let estate = Estate::new();
    let broker = estate.broker().await;
    let warehouse = Subscriber::start(&estate, "warehouse").await;
    estate.list("warehouse", &[warehouse.port()]);
    estate.subscribe("warehouse", "order.placed").await;
    (estate, broker, warehouse)
}

fn xid(estate: &Estate) -> Xid {
    Xid::generate(estate.clock.now(), &mut Rng::from_entropy())
}

fn reserve(estate: &Estate, xid: Xid, key: &str, ahead_ms: i64) -> Value {
    let payload = estate.draft("order.placed", key).branch();
    let deadline = estate.clock.now().millis() + ahead_ms;
    json!({"xid": xid, "branch": 3, "initiator": "order", "deadline_ms": deadline,
        "payload": payload})
}

fn settle(xid: Xid) -> Value {
    json!({"xid": xid, "branch": 3, "initiator": "order"})
}

async fn call(broker: &Node, what: &str, body: &Value) -> (u16, String) {
    let reply = broker.post(&format!("/tcc/message/{what}"), body).await;
    let json = reply.json();
    let word = json["code"].as_str().or_else(|| json["state"].as_str()).unwrap().to_owned();
    (reply.status, word)
}

#[tokio::test]
async fn a_branch_is_invisible_until_confirmed_and_can_be_found_by_its_transaction() {
    let (estate, broker, warehouse) = set_up().await;
    let xid = xid(&estate);
    let id = MessageId::of_branch(xid, 3);
    let body = reserve(&estate, xid, "ord_1", 60_000);
    for _ in 0..2 {
        assert_eq!(call(&broker, "try", &body).await, (200, "tried".into()));
    }
    assert_eq!(broker.state(id).await, "prepared");
    for _ in 0..2 {
        assert_eq!(call(&broker, "confirm", &settle(xid)).await, (200, "confirmed".into()));
    }
    until("delivered", async || warehouse.effects().await == ["ord_1"]).await;
    assert_eq!(call(&broker, "cancel", &settle(xid)).await, (409, "tcc.conflict".into()));
    let stored = broker.get("/messages/v1/messages?key=ord_1").await.json();
    assert_eq!(stored["items"][0]["xid"], xid.to_string());
    assert_eq!(warehouse.events()[0].0.xid, Some(xid));
    let found = broker.get(&format!("/messages/v1/messages?xid={xid}")).await.json();
    assert_eq!(found["items"][0]["id"], id.to_string());
    let trailing = broker.get("/messages/v1/messages?xid=txn_1").await;
    assert_eq!(trailing.status, 400);
}

#[tokio::test]
async fn a_closed_branch_says_whether_it_is_tried_and_takes_no_try_after_it() {
    let (estate, broker, warehouse) = set_up().await;
    let (tried, early) = (xid(&estate), xid(&estate));
    let close = async |xid: Xid| {
        let reply = broker.post("/tcc/message/close", &settle(xid)).await;
        (reply.status, reply.json()["tried"].clone())
    };
    let body = reserve(&estate, tried, "tried", 60_000);
    assert_eq!(call(&broker, "try", &body).await, (200, "tried".into()));
    for _ in 0..2 {
        assert_eq!(close(tried).await, (200, json!(true)));
        assert_eq!(close(early).await, (200, json!(false)));
    }
    let late = reserve(&estate, early, "early", 60_000);
    assert_eq!(call(&broker, "try", &late).await, (409, "tcc.suspended".into()));
    // It keeps what it holds, and nothing is decided by it.
    assert_eq!(broker.state(MessageId::of_branch(tried, 3)).await, "prepared");
    assert_eq!(call(&broker, "confirm", &settle(tried)).await, (200, "confirmed".into()));
    assert_eq!(call(&broker, "cancel", &settle(early)).await, (200, "cancelled".into()));
    assert_eq!((close(tried).await, close(early).await), ((200, json!(true)), (200, json!(false))));
    until("delivered", async || warehouse.effects().await == ["tried"]).await;
    let foreign = json!({"xid": tried, "branch": 3, "initiator": "points"});
    assert_eq!(broker.post("/tcc/message/close", &foreign).await.status, 403);
}

#[tokio::test]
async fn a_cancelled_branch_is_never_delivered_and_a_late_try_is_refused() {
    let (estate, broker, warehouse) = set_up().await;
    let (tried, early, late) = (xid(&estate), xid(&estate), xid(&estate));
    call(&broker, "try", &reserve(&estate, tried, "tried", 60_000)).await;
    let cancelled = (200, "cancelled".to_owned());
    assert_eq!(call(&broker, "cancel", &settle(tried)).await, cancelled);
    assert_eq!(call(&broker, "cancel", &settle(early)).await, cancelled);
    let body = reserve(&estate, early, "early", 60_000);
    assert_eq!(call(&broker, "try", &body).await, (409, "tcc.suspended".into()));
    let body = reserve(&estate, late, "late", -5000);
    assert_eq!(call(&broker, "try", &body).await, (409, "tcc.expired".into()));
    assert_eq!(call(&broker, "confirm", &settle(late)).await, (409, "tcc.no-try".into()));
    assert_eq!(call(&broker, "confirm", &settle(early)).await, (409, "tcc.conflict".into()));
    for it in [early, late] {
        assert_eq!(broker.state(MessageId::of_branch(it, 3)).await, "unknown");
    }
    assert!(warehouse.effects().await.is_empty());
}

/// R6.2, for transactions: after the deadline the initiator's log decides.
#[tokio::test]
async fn an_undecided_branch_follows_what_the_initiator_says() {
    let (estate, broker, warehouse) = set_up().await;
    let (committed, aborted, undecided) = (xid(&estate), xid(&estate), xid(&estate));
    let outcome = move |Caller(caller): Caller, Path(asked): Path<String>| async move {
        assert_eq!(caller.service, "broker");
        let decision = match &asked {
            it if **it == committed.to_string() => "committed",
            it if **it == aborted.to_string() => "aborted",
            _ => "undecided",
        };
        Json(json!({"xid": asked, "decision": decision}))
    };
    let router = Router::new().route("/tcc/outcome/{xid}", get(outcome));
    let order = Running::start("order", router).await;
    estate.list("order", &[order.address().port()]);
    for (it, key) in [(committed, "yes"), (aborted, "no"), (undecided, "maybe")] {
        let tried = call(&broker, "try", &reserve(&estate, it, key, 1500)).await;
        assert_eq!(tried, (200, "tried".into()));
    }
    until("the committed one arrives", async || warehouse.effects().await == ["yes"]).await;
    let state = async |it| broker.state(MessageId::of_branch(it, 3)).await;
    until("the aborted one is gone", async || state(aborted).await == "cancelled").await;
    assert_eq!(state(undecided).await, "prepared");
    assert_eq!(call(&broker, "confirm", &settle(committed)).await, (200, "confirmed".into()));
    assert_eq!(call(&broker, "confirm", &settle(undecided)).await, (200, "confirmed".into()));
    until("a late word counts", async || warehouse.effects().await == ["maybe", "yes"]).await;
}

/// MSG-3: nobody else commits or discards the message of a transaction.
#[tokio::test]
async fn only_the_initiator_speaks_for_its_branch() {
    let (estate, broker, warehouse) = set_up().await;
    let xid = xid(&estate);
    let tried = reserve(&estate, xid, "ord_1", 60_000);
    assert_eq!(call(&broker, "try", &tried).await, (200, "tried".into()));
    let as_other = async |what: &str, body: &Value| {
        let header = broker.server.caller("points");
        let path = format!("/tcc/message/{what}");
        let reply = broker.server.post(&path, &[header], &body.to_string()).await;
        (reply.status, reply.json())
    };
    for (what, body) in [("try", &tried), ("confirm", &settle(xid)), ("cancel", &settle(xid))] {
        let (status, json) = as_other(what, body).await;
        assert_eq!((status, &json["code"]), (403, &json!("tcc.initiator")), "{what}");
        let mut own = body.clone();
        own["initiator"] = json!("points");
        let (status, json) = as_other(what, &own).await;
        assert_eq!((status, &json["code"]), (409, &json!("tcc.mismatch")), "{what}");
        if what != "cancel" {
            let (status, json) = as_other(&format!("{what}s"), &json!({"branches": [own]})).await;
            assert_eq!((status, json), (200, json!({"done": [false]})), "{what}s");
        }
    }
    assert_eq!(broker.state(MessageId::of_branch(xid, 3)).await, "prepared");
    assert_eq!(call(&broker, "confirm", &settle(xid)).await, (200, "confirmed".into()));
    until("delivered", async || warehouse.effects().await == ["ord_1"]).await;
}

#[tokio::test]
async fn several_branches_at_once_stand_each_for_itself() {
    let (estate, broker, warehouse) = set_up().await;
    let xids = [xid(&estate), xid(&estate), xid(&estate)];
    let trace = |it: u8| format!("00-{it:032x}-{it:016x}-01");
    let keys = ["ord_1", "ord_2", "ord_3"];
    // The second is past its deadline.
    let body = |index: usize| {
        let ahead = if index == 1 { -1 } else { 60_000 };
        reserve(&estate, xids[index], keys[index], ahead)
    };
    let branches: Vec<Value> = (0..3).map(body).collect();
    let traces = [trace(1), trace(2), trace(3)];
    let all = json!({"branches": branches, "traces": traces});
    let reply = broker.post("/tcc/message/trys", &all).await;
    assert_eq!((reply.status, reply.json()["done"].clone()), (200, json!([true, false, true])));
    let all = json!({"branches": xids.map(settle)});
    let reply = broker.post("/tcc/message/confirms", &all).await;
    assert_eq!((reply.status, reply.json()["done"].clone()), (200, json!([true, false, true])));
    until("delivered", async || warehouse.effects().await == ["ord_1", "ord_3"]).await;
    let many = json!({"branches": vec![settle(xids[0]); 65]});
    assert_eq!(broker.post("/tcc/message/confirms", &many).await.status, 422);
}
