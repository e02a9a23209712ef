//! From a publish to its effect, through everything that goes wrong on the way.

use tradewind_message::Broker as _;

use crate::support::{Estate, LOST, SILENT, Subscriber, quick, refused_port, until};

/// R6.3: committed → delivered.
#[tokio::test]
async fn a_published_message_has_its_effect_once_and_says_where_it_comes_from() {
    let estate = Estate::new();
    let broker = estate.broker().await;
    let warehouse = Subscriber::start(&estate, "warehouse").await;
    estate.list("warehouse", &[warehouse.port()]);
    estate.subscribe("warehouse", "order.placed").await;
    let draft = estate.draft("order.placed", "ord_1");
    let client = estate.client("order");
    let first = client.publish(&draft.publish()).await.unwrap();
    let again = client.publish(&draft.publish()).await.unwrap();
    assert_eq!(first.sequence, again.sequence, "the same message");
    until("done", async || broker.state(draft.id()).await == "done").await;
    assert_eq!(warehouse.effects().await, ["ord_1"]);
    assert_eq!(warehouse.attempts(), 1);
    let (event, headers) = warehouse.events().remove(0);
    assert_eq!((event.id, event.attempt), (draft.id(), 1));
    assert_eq!((event.topic.as_str(), event.source.as_str()), ("order.placed", "order"));
    assert_eq!(event.json::<serde_json::Value>().unwrap()["key"], "ord_1");
    assert_eq!(headers["ce-specversion"], "1.0");
    assert!(event.time.ends_with('Z'), "{}", event.time);
    // One trace from the publish to the delivery.
    let stored = broker.get(&format!("/messages/v1/messages/{}", draft.id())).await.json();
    let trace = stored["trace"].as_str().unwrap().split('-').nth(1).unwrap().to_owned();
    assert!(headers["traceparent"].to_str().unwrap().contains(&trace));
    let found = broker.get("/messages/v1/messages?key=ord_1").await.json();
    assert_eq!(found["items"][0]["deliveries"][0]["state"], "delivered");
}

/// R6.3: no ack → delivered again.
#[tokio::test]
async fn a_subscriber_that_was_down_gets_what_it_missed() {
    let estate = Estate::new();
    let broker = estate.broker().await;
    estate.list("warehouse", &[refused_port()]);
    estate.subscribe("warehouse", "order.placed").await;
    let client = estate.client("order");
    for key in ["a", "b", "c"] {
        client.publish(&estate.draft("order.placed", key).publish()).await.unwrap();
    }
    // While an attempt is on its way it is counted.
    until("attempts fail, and do not count: nobody got it", async || {
        let it = broker.get("/messages/v1/messages?key=a").await.json();
        let it = &it["items"][0]["deliveries"][0];
        it["last_error"].is_string() && it["state"] == "ready" && it["attempts"] == 0
    })
    .await;
    let warehouse = Subscriber::start(&estate, "warehouse").await;
    estate.list("warehouse", &[warehouse.port()]);
    until("all arrive", async || warehouse.effects().await == ["a", "b", "c"]).await;
}

/// R6.3: to another consumer instance if there is one.
#[tokio::test]
async fn what_one_instance_fails_another_gets() {
    let estate = Estate::new();
    let _broker = estate.broker().await;
    let bad = Subscriber::start(&estate, "warehouse").await;
    let good = Subscriber::start(&estate, "warehouse").await;
    bad.answer(500);
    estate.list("warehouse", &[refused_port(), bad.port(), good.port()]);
    estate.subscribe("warehouse", "order.placed").await;
    let client = estate.client("order");
    let keys: Vec<String> = (10..50).map(|it| format!("k{it}")).collect();
    for key in &keys {
        client.publish(&estate.draft("order.placed", key).publish()).await.unwrap();
    }
    until("all arrive", async || good.effects().await == keys).await;
    assert!(0 < bad.attempts(), "it was tried too");
    let attempts: Vec<_> = good.events().iter().map(|(event, _)| event.attempt).collect();
    assert!(attempts.iter().all(|it| *it <= 2), "the next is another instance: {attempts:?}");
}

#[tokio::test]
async fn a_lost_acknowledgement_leads_to_a_second_delivery_without_a_second_effect() {
    let estate = Estate::new();
    let broker = estate.broker().await;
    let warehouse = Subscriber::start(&estate, "warehouse").await;
    warehouse.answer(LOST);
    estate.list("warehouse", &[warehouse.port()]);
    estate.subscribe("warehouse", "order.placed").await;
    let draft = estate.draft("order.placed", "ord_1");
    estate.client("order").publish(&draft.publish()).await.unwrap();
    until("it comes again", async || 1 < warehouse.attempts()).await;
    warehouse.answer(0);
    until("done", async || broker.state(draft.id()).await == "done").await;
    assert_eq!(warehouse.effects().await, ["ord_1"]);
}

#[tokio::test]
async fn dead_letters_keep_the_message_and_live_again_one_by_one_or_all() {
    let estate = Estate::new();
    let mut settings = quick();
    settings.rules.retry.times = 3;
    let broker = estate.broker_with(settings).await;
    let warehouse = Subscriber::start(&estate, "warehouse").await;
    warehouse.answer(500);
    estate.list("warehouse", &[warehouse.port()]);
    estate.subscribe("warehouse", "order.placed").await;
    let client = estate.client("order");
    let exhausted = estate.draft("order.placed", "exhausted");
    client.publish(&exhausted.publish()).await.unwrap();
    let dead = async |count: usize| {
        let it = broker.get("/messages/v1/dead?subscriber=warehouse").await.json();
        it["items"].as_array().unwrap().len() == count
    };
    until("it dies", async || dead(1).await).await;
    assert_eq!(warehouse.attempts(), 3);
    warehouse.answer(422);
    client.publish(&estate.draft("order.placed", "refused").publish()).await.unwrap();
    until("it dies at once", async || dead(2).await).await;
    assert_eq!(warehouse.attempts(), 4);
    let it = broker.get("/messages/v1/dead").await.json();
    assert_eq!(it["items"][0]["reason"], "exhausted");
    assert_eq!(
        (&it["items"][1]["reason"], &it["items"][1]["last_status"]),
        (&"refused".into(), &422.into())
    );
    warehouse.answer(0);
    let path = format!("/messages/v1/dead/{}/warehouse/replay", exhausted.id());
    assert_eq!(broker.post(&path, &serde_json::json!({})).await.json()["replayed"], 1);
    until("the first lives", async || warehouse.effects().await == ["exhausted"]).await;
    assert_eq!(broker.post(&path, &serde_json::json!({})).await.status, 404);
    let all = serde_json::json!({"topic": "order.placed"});
    assert_eq!(broker.post("/messages/v1/dead/replay", &all).await.json()["replayed"], 1);
    until("both live", async || warehouse.effects().await == ["exhausted", "refused"]).await;
}

#[tokio::test]
async fn a_message_without_subscriber_waits_for_the_first() {
    let estate = Estate::new();
    let broker = estate.broker().await;
    let draft = estate.draft("order.shipped", "early");
    let receipt = estate.client("warehouse").publish(&draft.publish()).await.unwrap();
    assert_eq!(receipt.state, tradewind_message::wire::State::ParkedUnrouted);
    assert_eq!(broker.get("/messages/v1/parked").await.json()["items"][0]["key"], "early");
    let order = Subscriber::start(&estate, "order").await;
    estate.list("order", &[order.port()]);
    estate.subscribe("order", "order.shipped").await;
    until("it arrives", async || order.effects().await == ["early"]).await;
    until("done", async || broker.state(draft.id()).await == "done").await;
}

#[tokio::test]
async fn not_yet_costs_no_attempt_and_gone_ends_the_subscription() {
    let estate = Estate::new();
    let mut settings = quick();
    settings.rules.retry.times = 2;
    let broker = estate.broker_with(settings).await;
    let warehouse = Subscriber::start(&estate, "warehouse").await;
    warehouse.answer(425);
    estate.list("warehouse", &[warehouse.port()]);
    estate.subscribe("warehouse", "order.placed").await;
    let client = estate.client("order");
    client.publish(&estate.draft("order.placed", "early").publish()).await.unwrap();
    until("it is asked again and again", async || 5 < warehouse.attempts()).await;
    warehouse.answer(0);
    until("it arrives", async || warehouse.effects().await == ["early"]).await;
    warehouse.answer(410);
    client.publish(&estate.draft("order.placed", "late").publish()).await.unwrap();
    until("the subscription is off", async || {
        let it = broker.get("/messages/v1/subscriptions").await.json();
        it["items"][0]["active"] == false
    })
    .await;
    let parked = estate.draft("order.placed", "later");
    client.publish(&parked.publish()).await.unwrap();
    assert_eq!(broker.state(parked.id()).await, "parked-unrouted");
    warehouse.answer(0);
    estate.subscribe("warehouse", "order.placed").await;
    until("it goes on", async || warehouse.effects().await == ["early", "later"]).await;
    let dead = broker.get("/messages/v1/dead").await.json();
    assert_eq!(dead["items"][0]["reason"], "subscription-off");
}

#[tokio::test]
async fn a_dead_subscriber_does_not_keep_others_waiting() {
    let estate = Estate::new();
    let mut settings = quick();
    settings.deliveries_max = 8;
    settings.deliveries_per_subscription = 4;
    let broker = estate.broker_with(settings).await;
    let alive = Subscriber::start(&estate, "warehouse").await;
    estate.list("warehouse", &[alive.port()]);
    // Accepts connections and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    estate.list("points", &[silent.local_addr().unwrap().port()]);
    estate.subscribe("warehouse", "order.placed").await;
    estate.subscribe("points", "order.placed").await;
    let client = estate.client("order");
    let keys: Vec<String> = (10..60).map(|it| format!("k{it}")).collect();
    for key in &keys {
        client.publish(&estate.draft("order.placed", key).publish()).await.unwrap();
    }
    until("the living one gets all", async || alive.effects().await == keys).await;
    let it = broker.get("/messages/v1/messages?key=k59").await.json();
    let states: Vec<_> = it["items"][0]["deliveries"].as_array().unwrap().iter().collect();
    assert!(states.iter().any(|it| it["subscriber"] == "points" && it["state"] != "delivered"));
}

/// A restart in the middle loses nothing.
#[tokio::test]
async fn a_broker_that_restarts_goes_on_where_it_was() {
    restarts(Estate::new()).await;
}

#[cfg(feature = "services")]
#[tokio::test]
async fn a_broker_that_restarts_goes_on_where_it_was_on_mysql() {
    restarts(Estate::on_mysql("tradewind_test_broker_restart")).await;
}

async fn restarts(estate: Estate) {
    let broker = estate.broker().await;
    let warehouse = Subscriber::start(&estate, "warehouse").await;
    warehouse.answer(503);
    estate.list("warehouse", &[warehouse.port()]);
    estate.subscribe("warehouse", "order.placed").await;
    let client = estate.client("order");
    let keys: Vec<String> = (10..30).map(|it| format!("k{it}")).collect();
    for key in &keys {
        client.publish(&estate.draft("order.placed", key).publish()).await.unwrap();
    }
    until("some were tried", async || 0 < warehouse.attempts()).await;
    broker.stop().await;
    warehouse.answer(0);
    let _broker = estate.broker().await;
    until("all arrive", async || warehouse.effects().await == keys).await;
}

/// What was in flight when the broker died is delivered when its lease is over.
#[tokio::test]
async fn a_broker_that_crashes_in_the_middle_of_deliveries_loses_none() {
    crashes(Estate::new()).await;
}

#[cfg(feature = "services")]
#[tokio::test]
async fn a_broker_that_crashes_loses_none_on_mysql() {
    crashes(Estate::on_mysql("tradewind_test_broker_crash")).await;
}

async fn crashes(estate: Estate) {
    let mut settings = quick();
    settings.attempt_timeout = std::time::Duration::from_secs(2);
    let broker = estate.broker_with(settings.clone()).await;
    let warehouse = Subscriber::start(&estate, "warehouse").await;
    warehouse.answer(SILENT);
    estate.list("warehouse", &[warehouse.port()]);
    estate.subscribe("warehouse", "order.placed").await;
    let client = estate.client("order");
    for key in ["a", "b", "c"] {
        client.publish(&estate.draft("order.placed", key).publish()).await.unwrap();
    }
    until("all are in flight", async || 3 <= warehouse.attempts()).await;
    let it = broker.get("/messages/v1/messages?key=a").await.json();
    assert_eq!(it["items"][0]["deliveries"][0]["state"], "in-flight");
    broker.crash().await;
    warehouse.answer(0);
    let _broker = estate.broker_with(settings).await;
    until("all arrive", async || warehouse.effects().await == ["a", "b", "c"]).await;
}

/// What is done stays as long as it is to be kept, then it goes without anybody asking.
#[tokio::test]
async fn a_running_broker_forgets_what_is_done_long_enough() {
    let estate = Estate::new();
    let broker = estate.broker().await;
    let warehouse = Subscriber::start(&estate, "warehouse").await;
    estate.list("warehouse", &[warehouse.port()]);
    estate.subscribe("warehouse", "order.placed").await;
    let drafts: Vec<_> = (0..250).map(|_| estate.draft("order.placed", "ord_1")).collect();
    for draft in &drafts {
        estate.client("order").publish(&draft.publish()).await.unwrap();
    }
    until("all are done", async || {
        for draft in &drafts {
            if broker.state(draft.id()).await != "done" {
                return false;
            }
        }
        true
    })
    .await;
    broker.stop().await;
    let mut settings = quick();
    settings.retention = std::time::Duration::from_millis(1);
    let broker = estate.broker_with(settings).await;
    until("all are forgotten", async || {
        let last = format!("/messages/v1/messages/{}", drafts[249].id());
        let first = format!("/messages/v1/messages/{}", drafts[0].id());
        broker.get(&first).await.status == 404 && broker.get(&last).await.status == 404
    })
    .await;
    assert_eq!(warehouse.effects().await.len(), 250);
}
