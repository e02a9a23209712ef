//! A producer's outbox and a consumer's handler, as a service uses them.

use std::sync::Arc;
use std::time::Duration;

use tradewind_base::Tasks;
use tradewind_host::testing::Running;
use tradewind_message::{ConsumeError, Consumer, Draft, Event, Outbox, Subscription};
use tradewind_service::axum::Router;
use tradewind_sql::{Database, Error, Transaction, params};

use crate::support::{Estate, Subscriber, effects, until};

async fn write(estate: &Estate, database: &Database, draft: Draft, fail: bool) -> bool {
    let now = estate.clock.now();
    let work = move |tx: &mut Transaction<'_>| {
        tx.execute("INSERT INTO effect (what) VALUES ('placed')", &[])?;
        Outbox::write(tx, &draft, None, now)?;
        if fail {
            tx.execute("INSERT INTO effect (what) VALUES (?)", params![None::<i64>])?;
        }
        Ok::<_, Error>(())
    };
    database.transaction("place", work).await.is_ok()
}

#[tokio::test]
async fn what_commits_goes_out_and_what_does_not_does_not() {
    let estate = Estate::new();
    let _broker = estate.broker().await;
    let warehouse = Subscriber::start(&estate, "warehouse").await;
    estate.list("warehouse", &[warehouse.port()]);
    estate.subscribe("warehouse", "order.placed").await;
    let database = estate.database("order");
    let client = estate.client("order");
    let outbox = Outbox::new(database.clone(), client, Arc::clone(&estate.clock));
    outbox.relay(&estate.tasks);
    assert!(!write(&estate, &database, estate.draft("order.placed", "not"), true).await);
    let keys: Vec<String> = (0..100).map(|it| format!("k{it:02}")).collect();
    for key in &keys {
        assert!(write(&estate, &database, estate.draft("order.placed", key), false).await);
        outbox.hand_over();
    }
    until("all arrive", async || warehouse.effects().await == keys).await;
    until("nothing waits", async || outbox.waiting(10).await.unwrap().is_empty()).await;
    assert_eq!(effects(&database).await.len(), 100);
}

#[tokio::test]
async fn messages_written_while_the_broker_is_away_go_out_after_a_restart_of_either() {
    let estate = Estate::new();
    let database = estate.database("order");
    let outbox = Outbox::new(database.clone(), estate.client("order"), Arc::clone(&estate.clock));
    let first_life = Tasks::new();
    outbox.relay(&first_life);
    for key in ["a", "b", "c"] {
        assert!(write(&estate, &database, estate.draft("order.placed", key), false).await);
    }
    outbox.hand_over();
    until("it was tried", async || {
        outbox.waiting(10).await.unwrap().iter().any(|it| it.last_error.is_some())
    })
    .await;
    first_life.shutdown(Duration::from_secs(5)).await.unwrap();
    database.close().await.unwrap();
    let _broker = estate.broker().await;
    let warehouse = Subscriber::start(&estate, "warehouse").await;
    estate.list("warehouse", &[warehouse.port()]);
    estate.subscribe("warehouse", "order.placed").await;
    // Two instances of the producer relay the same table.
    let database = estate.database("order");
    for _ in 0..2 {
        let (client, clock) = (estate.client("order"), Arc::clone(&estate.clock));
        Outbox::new(database.clone(), client, clock).relay(&estate.tasks);
    }
    until("all arrive", async || warehouse.effects().await == ["a", "b", "c"]).await;
}

fn ship(tx: &mut Transaction<'_>, event: &Event) -> Result<(), ConsumeError> {
    match event.key.as_str() {
        "never" => return Err(ConsumeError::Refused("of no use".into())),
        "later" if event.attempt < 3 => return Err(ConsumeError::Later("busy".into())),
        _ => {}
    }
    tx.execute("INSERT INTO effect (what) VALUES (?)", params![&event.key])?;
    Ok(())
}

/// From a committed outbox row to the effect in the consumer's database, everything as a service
/// would write it, whichever of them starts first.
#[tokio::test]
async fn a_service_that_declares_before_the_broker_is_up_gets_its_messages() {
    let estate = Estate::new();
    let database = estate.database("warehouse");
    let clock = Arc::clone(&estate.clock);
    let consumer = Consumer::new("warehouse", database.clone(), &estate.key, clock);
    consumer.clean(Duration::from_secs(7 * 24 * 3600), &estate.tasks);
    let router = Router::new().route("/messages/order-placed", consumer.handler(ship));
    let server = Running::start("warehouse", router).await;
    estate.list("warehouse", &[server.address().port()]);
    let subscription = Subscription::new("warehouse", "order.placed", "/messages/order-placed");
    Subscription::declare(estate.client("warehouse"), vec![subscription], &estate.tasks);
    let orders = estate.database("order");
    let (client, time) = (estate.client("order"), Arc::clone(&estate.clock));
    let outbox = Outbox::new(orders.clone(), client, time);
    outbox.relay(&estate.tasks);
    for key in ["later", "never", "now"] {
        assert!(write(&estate, &orders, estate.draft("order.placed", key), false).await);
    }
    outbox.hand_over();
    let broker = estate.broker().await;
    until("shipped", async || effects(&database).await == ["later", "now"]).await;
    until("the refused one is a dead letter", async || {
        broker.get("/messages/v1/dead").await.json()["items"][0]["key"] == "never"
    })
    .await;
}
