//! Half messages around a local transaction.

use std::sync::Arc;
use std::time::Duration;

use tradewind_host::testing::Running;
use tradewind_message::wire::{CheckAt, Ending, Half};
use tradewind_message::{Broker as _, CHECK_PATH, Draft, HalfError, HalfMessages};
use tradewind_service::axum::Router;
use tradewind_sql::{Database, Error, Transaction, params};

use crate::support::{Estate, Node, Subscriber, effects, quick, until};

struct Producer {
    half: HalfMessages,
    database: Database,
    _server: Running,
}

async fn producer(estate: &Estate) -> Producer {
    let database = estate.database("order");
    let (client, clock) = (estate.client("order"), Arc::clone(&estate.clock));
    let half = HalfMessages::new("order", database.clone(), client, clock);
    let router = Router::new().route(CHECK_PATH, half.check_handler());
    let server = Running::start("order", router).await;
    estate.list("order", &[server.address().port()]);
    Producer { half, database, _server: server }
}

/// The broker asks soon after a half message has come.
async fn set_up() -> (Estate, Node, Subscriber, Producer) {
    set_up_with(quick().checks.first).await
}

async fn set_up_with(first_check: Duration) -> (Estate, Node, Subscriber, Producer) {
    let estate = Estate::new();
    let mut settings = quick();
    settings.checks.first = first_check;
    let broker = estate.broker_with(settings).await;
    let warehouse = Subscriber::start(&estate, "warehouse").await;
    estate.list("warehouse", &[warehouse.port()]);
    estate.subscribe("warehouse", "order.placed").await;
    let producer = producer(&estate).await;
    (estate, broker, warehouse, producer)
}

fn prepared(draft: &Draft) -> Half {
    let it = draft.publish();
    let check = CheckAt { service: "order".into(), path: CHECK_PATH.into() };
    let (topic, key, kind, source) = (it.topic, it.key, it.kind, it.source);
    Half { id: it.id, topic, key, kind, source, data: it.data, check }
}

fn place(tx: &mut Transaction<'_>) -> Result<(), Error> {
    tx.execute("INSERT INTO effect (what) VALUES (?)", params!["placed"]).map(|_| ())
}

/// R6.2: commit makes it visible, roll back discards it.
#[tokio::test]
async fn a_message_follows_its_local_transaction() {
    let (estate, broker, warehouse, producer) = set_up_with(Duration::from_secs(60)).await;
    let good = estate.draft("order.placed", "good");
    producer.half.run(&good, "place", place).await.unwrap();
    until("delivered", async || warehouse.effects().await == ["good"]).await;
    let again = producer.half.run(&good, "place", place).await.unwrap_err();
    assert!(matches!(again, HalfError::Repeated), "{again}");
    let bad = estate.draft("order.placed", "bad");
    let refuse = |tx: &mut Transaction<'_>| {
        place(tx)?;
        tx.execute("INSERT INTO nowhere VALUES (1)", &[]).map(|_| ())
    };
    let failed = producer.half.run::<_, Error, _>(&bad, "place", refuse).await.unwrap_err();
    assert!(matches!(failed, HalfError::Transaction(_)), "{failed}");
    until("cancelled", async || broker.state(bad.id()).await == "cancelled").await;
    assert_eq!(effects(&producer.database).await, ["placed"]);
    assert_eq!(warehouse.effects().await, ["good"]);
}

/// R6.2: no word → the producer is asked, again and again.
#[tokio::test]
async fn without_a_word_the_producer_is_asked_until_it_answers() {
    let (estate, broker, warehouse, producer) = set_up().await;
    estate.list("order", &[]);
    let lost = estate.draft("order.placed", "lost");
    let client = estate.client("order");
    client.prepare(&prepared(&lost)).await.unwrap();
    until("asked in vain", async || {
        let it = broker.get(&format!("/messages/v1/messages/{}", lost.id())).await.json();
        2 <= it["checks"].as_u64().unwrap()
    })
    .await;
    assert_eq!(broker.state(lost.id()).await, "prepared");
    assert!(warehouse.effects().await.is_empty(), "undecided is invisible");
    // The barrier row is what a crash after the transaction leaves behind.
    let id = lost.id().as_u128().to_be_bytes().to_vec();
    let crashed = move |tx: &mut Transaction<'_>| {
        place(tx)?;
        let sql = "INSERT INTO message_barrier (message_id, committed, at_ms) VALUES (?, 1, 0)";
        tx.execute(sql, params![id.clone()])
    };
    producer.database.transaction::<_, Error, _>("crash", crashed).await.unwrap();
    estate.list("order", &[producer._server.address().port()]);
    until("delivered", async || warehouse.effects().await == ["lost"]).await;
}

#[tokio::test]
async fn rolled_back_by_asking_and_a_late_commit_cannot_both_win() {
    let (estate, broker, warehouse, producer) = set_up().await;
    let late = estate.draft("order.placed", "late");
    let client = estate.client("order");
    client.prepare(&prepared(&late)).await.unwrap();
    until("asked before the transaction came", async || {
        broker.state(late.id()).await == "cancelled"
    })
    .await;
    assert_eq!(producer.half.ending(late.id()).await.unwrap(), Ending::RolledBack);
    let error = producer.half.run(&late, "place", place).await.unwrap_err();
    assert!(matches!(error, HalfError::TooLate), "{error}");
    let refused = client.commit(&late.id()).await.unwrap_err();
    assert_eq!(refused.problem().unwrap().code, "message.conflict");
    assert!(effects(&producer.database).await.is_empty());
    assert!(warehouse.effects().await.is_empty());
}

#[tokio::test]
async fn a_question_racing_the_transaction_agrees_with_it() {
    let (estate, broker, warehouse, producer) = set_up().await;
    let mut placed = 0;
    for round in 0..20 {
        let draft = estate.draft("order.placed", &format!("r{round:02}"));
        let question = async {
            // As the broker does: once it has the message.
            until("prepared", async || broker.state(draft.id()).await != "unknown").await;
            producer.half.ending(draft.id()).await
        };
        let (ran, told) = tokio::join!(producer.half.run(&draft, "place", place), question);
        placed += usize::from(ran.is_ok());
        assert_eq!(ran.is_ok(), told.unwrap() == Ending::Committed, "{ran:?}");
        until("decided alike", async || {
            let state = broker.state(draft.id()).await;
            if ran.is_ok() { state == "done" } else { state == "cancelled" }
        })
        .await;
    }
    assert_eq!(effects(&producer.database).await.len(), placed);
    assert_eq!(warehouse.effects().await.len(), placed);
}

#[tokio::test]
async fn what_nobody_can_tell_is_parked_for_a_human() {
    let estate = Estate::new();
    let mut settings = quick();
    settings.checks.times = 2;
    let broker = estate.broker_with(settings).await;
    let warehouse = Subscriber::start(&estate, "warehouse").await;
    estate.list("warehouse", &[warehouse.port()]);
    estate.subscribe("warehouse", "order.placed").await;
    let draft = estate.draft("order.placed", "riddle");
    estate.client("order").prepare(&prepared(&draft)).await.unwrap();
    until("parked", async || broker.state(draft.id()).await == "parked-undecided").await;
    assert_eq!(broker.get("/messages/v1/parked").await.json()["items"][0]["key"], "riddle");
    let path = format!("/messages/v1/parked/{}/commit", draft.id());
    assert_eq!(broker.post(&path, &serde_json::json!({})).await.json()["state"], "committed");
    until("delivered", async || warehouse.effects().await == ["riddle"]).await;
    assert_eq!(broker.post(&path, &serde_json::json!({})).await.status, 409);
}
