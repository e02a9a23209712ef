//! The tables in a service's own database, on every engine: what is remembered, what waits, how a
//! transaction ended. The way to the broker and back is tested with the broker.

#![cfg(test)]

use std::sync::Arc;
use std::time::Duration;

use tradewind_base::{Clock, ManualClock, Tasks, TraceContext};
use tradewind_call::{Channel, Client, Identity, Policy};
use tradewind_discovery::{Discovery, ServiceName};
use tradewind_message::wire::Ending;
use tradewind_message::{
    Broker as _, BrokerClient, Consumer, Draft, HalfError, HalfMessages, MessageId, Outbox, schema,
};
use tradewind_service::Keys;
use tradewind_sql::{Database, DatabaseUrl, Error, Migration, Options, Transaction};

const MIGRATIONS: &[Migration] = &[
    schema::consumed(1),
    schema::consumed_by_time(2),
    schema::outbox(3),
    schema::outbox_by_time(4),
    schema::barrier(5),
    schema::barrier_by_time(6),
];

/// A broker that is nowhere.
fn nobody(tasks: &Tasks) -> BrokerClient {
    let keys = Keys::from_secret(&[7; 32]).unwrap();
    let identity = Identity::new(ServiceName::parse("order").unwrap(), keys.seal().clone());
    let discovery = Discovery::fixed(Vec::new());
    let name = ServiceName::parse(BrokerClient::SERVICE).unwrap();
    let policy = Policy { total: Duration::from_millis(100), ..Policy::default() };
    let client = Client::standard(tasks);
    BrokerClient::new(Channel::new(&discovery, client, name, policy, Some(identity)))
}

fn draft(clock: &dyn Clock, key: &str) -> Draft {
    Draft::new(clock, "order.placed", key, "order", &serde_json::json!({"ä": "🙂"})).unwrap()
}

async fn a_message_is_remembered_once_per_consumer(database: &Database, clock: &Arc<ManualClock>) {
    let id = draft(&**clock, "k").id();
    let now = clock.now();
    let first = async |consumer: &'static str, fail: bool| {
        let work = move |tx: &mut Transaction<'_>| {
            let first = Consumer::first(tx, consumer, id, now)?;
            if fail {
                tx.execute("INSERT INTO nowhere VALUES (1)", &[])?;
            }
            Ok::<_, Error>(first)
        };
        database.transaction("first", work).await
    };
    assert!(first("warehouse", true).await.is_err());
    assert!(first("warehouse", false).await.unwrap(), "what failed is not remembered");
    assert!(!first("warehouse", false).await.unwrap());
    assert!(first("points", false).await.unwrap(), "each consumer for itself");
    let many = (0..10).map(|_| first("many", false));
    let many = futures_util::future::join_all(many).await;
    assert_eq!(many.into_iter().filter(|it| *it.as_ref().unwrap()).count(), 1);
}

async fn the_outbox_keeps_what_cannot_be_published(
    database: &Database,
    clock: &Arc<ManualClock>,
    tasks: &Tasks,
) {
    let outbox = Outbox::new(database.clone(), nobody(tasks), Arc::clone(clock) as Arc<dyn Clock>);
    let (it, now) = (draft(&**clock, "k"), clock.now());
    let trace = TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let written = it.clone();
    let work = move |tx: &mut Transaction<'_>| Outbox::write(tx, &written, trace, now);
    database.transaction("write", work.clone()).await.unwrap();
    assert!(database.transaction("write", work).await.is_err(), "the same id again");
    outbox.relay(tasks);
    let wait = async {
        loop {
            let waiting = outbox.waiting(10).await.unwrap();
            if waiting.len() == 1 && waiting[0].last_error.is_some() {
                break waiting;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waiting = tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap();
    assert_eq!((waiting[0].id, waiting[0].attempts), (it.id(), 1));
    assert_eq!(waiting[0].topic, "order.placed");
}

async fn a_barrier_row_ends_the_question(
    database: &Database,
    clock: &Arc<ManualClock>,
    tasks: &Tasks,
) {
    let broker = nobody(tasks);
    let time = Arc::clone(clock) as Arc<dyn Clock>;
    let half = HalfMessages::new("order", database.clone(), broker.clone(), time);
    let it = draft(&**clock, "k");
    assert!(broker.commit(&it.id()).await.is_err());
    let work = |_: &mut Transaction<'_>| Ok::<_, Error>(());
    let error = half.run(&it, "work", work).await.unwrap_err();
    assert!(matches!(error, HalfError::Broker(_)), "without the broker nothing begins: {error}");
    let asked = (0..10).map(|_| half.ending(it.id()));
    for told in futures_util::future::join_all(asked).await {
        assert_eq!(told.unwrap(), Ending::RolledBack);
    }
    let id = MessageId::from_u128(77);
    let write = |tx: &mut Transaction<'_>| {
        let sql = "INSERT INTO message_barrier (message_id, committed, at_ms) VALUES (?, 1, 0)";
        tx.execute(sql, tradewind_sql::params![77_u128.to_be_bytes().to_vec()])
    };
    database.transaction::<_, Error, _>("barrier", write).await.unwrap();
    assert_eq!(half.ending(id).await.unwrap(), Ending::Committed);
}

async fn everything(url: &DatabaseUrl) {
    let database = Database::open(url, Options::default(), "test", MIGRATIONS).unwrap();
    let (clock, tasks) = (Arc::new(ManualClock::new()), Tasks::new());
    a_message_is_remembered_once_per_consumer(&database, &clock).await;
    the_outbox_keeps_what_cannot_be_published(&database, &clock, &tasks).await;
    a_barrier_row_ends_the_question(&database, &clock, &tasks).await;
    tasks.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn the_tables_keep_their_promises_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    everything(&DatabaseUrl::sqlite(&folder.path().join("order.db"))).await;
}

#[cfg(feature = "services")]
#[tokio::test]
async fn the_tables_keep_their_promises_on_mysql() {
    everything(&tradewind_host::testing::fresh_mysql("tradewind_test_message")).await;
}

#[test]
fn what_is_no_message_is_refused_before_it_is_written() {
    let clock = ManualClock::new();
    let bad = |topic: &str, key: &str, data: &str| Draft::new(&clock, topic, key, "s", &data);
    assert!(bad("t", "k", "x").is_ok());
    assert!(bad("t t", "k", "x").unwrap_err().to_string().contains("topic"));
    assert!(bad("t", "k\n", "x").unwrap_err().to_string().contains("key"));
    assert!(bad("t", "k", &"x".repeat(65_536)).unwrap_err().to_string().contains("data"));
}
