//! Scenarios about migrations, for both engines.

use tradewind_sql::{Database, Error, Migration, MigrationError, OpenError, Options, params};

use crate::support::{ITEMS, Place, ids, insert};

const SECOND: Migration = Migration {
    version: 2,
    name: "add a column",
    sqlite: "ALTER TABLE items ADD COLUMN note TEXT",
    mysql: "ALTER TABLE items ADD COLUMN note VARCHAR(100)",
};

fn refusal(place: &Place, migrations: &[Migration]) -> MigrationError {
    match Database::open(&place.url, Options::default(), "test", migrations) {
        Err(OpenError::Migrations { set: "test", source }) => source,
        other => panic!("opened or failed otherwise: {other:?}"),
    }
}

async fn applied(database: &Database) -> Vec<(String, i64)> {
    let sql = "SELECT set_name, version FROM tradewind_migrations ORDER BY set_name, version";
    database
        .read::<_, Error, _>("applied", move |tx| {
            tx.query(sql, &[], |row| Ok((row.get(0)?, row.get(1)?)))
        })
        .await
        .unwrap()
}

pub(crate) async fn opening_again_changes_nothing(place: &Place) {
    let first = place.open(Options::default());
    insert(&first, 1, 1).await.unwrap();
    first.close().await.unwrap();
    let again = place.open(Options::default());
    assert_eq!(ids(&again).await, [1]);
    assert_eq!(applied(&again).await, [("test".to_owned(), 1)]);
    again.close().await.unwrap();
}

pub(crate) async fn many_open_at_once_and_migrate_once(place: &Place) {
    let start = std::sync::Barrier::new(6);
    let all: Vec<Database> = std::thread::scope(|scope| {
        let open = || {
            start.wait();
            Database::open(&place.url, Options::default(), "test", &[ITEMS[0], SECOND]).unwrap()
        };
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|it| it.join().unwrap()).collect()
    });
    for (id, database) in (0..).zip(&all) {
        insert(database, id, 1).await.unwrap();
    }
    assert_eq!(ids(&all[0]).await, [0, 1, 2, 3, 4, 5]);
    assert_eq!(applied(&all[0]).await.len(), 2);
    for database in &all {
        database.close().await.unwrap();
    }
}

pub(crate) async fn later_migrations_are_added(place: &Place) {
    place.open(Options::default()).close().await.unwrap();
    let newer =
        Database::open(&place.url, Options::default(), "test", &[ITEMS[0], SECOND]).unwrap();
    newer
        .transaction::<_, Error, _>("note", |tx| {
            tx.execute("INSERT INTO items (id, amount, note) VALUES (?, 1, ?)", params![1, "new"])
        })
        .await
        .unwrap();
    newer.close().await.unwrap();
}

pub(crate) async fn a_changed_migration_refuses_to_open(place: &Place) {
    place.open(Options::default()).close().await.unwrap();
    let edited =
        Migration { sqlite: "CREATE TABLE other (id INTEGER)", mysql: "SELECT 1", ..ITEMS[0] };
    let error = refusal(place, &[edited]);
    assert!(matches!(error, MigrationError::Changed { version: 1, .. }), "{error}");
    place.open(Options::default()).close().await.unwrap();
}

pub(crate) async fn a_newer_database_refuses_to_open(place: &Place) {
    let newer =
        Database::open(&place.url, Options::default(), "test", &[ITEMS[0], SECOND]).unwrap();
    newer.close().await.unwrap();
    let error = refusal(place, ITEMS);
    assert!(matches!(error, MigrationError::Newer { database: 2, program: 1 }), "{error}");
}

pub(crate) async fn sets_are_numbered_apart(place: &Place) {
    let test = place.open(Options::default());
    let others = [Migration {
        version: 1,
        name: "create others",
        sqlite: "CREATE TABLE others (id INTEGER PRIMARY KEY) STRICT",
        mysql: "CREATE TABLE others (id BIGINT PRIMARY KEY) ENGINE=InnoDB",
    }];
    let other = Database::open(&place.url, Options::default(), "other", &others).unwrap();
    assert_eq!(applied(&other).await, [("other".to_owned(), 1), ("test".to_owned(), 1)]);
    other.close().await.unwrap();
    test.close().await.unwrap();
}

pub(crate) async fn a_failing_migration_is_named_and_can_be_mended(place: &Place) {
    let wrong = Migration { version: 2, name: "wrong", sqlite: "NONSENSE", mysql: "NONSENSE" };
    let error = refusal(place, &[ITEMS[0], wrong]);
    assert!(matches!(error, MigrationError::Failed { version: 2, name: "wrong", .. }), "{error}");
    let mended = Database::open(&place.url, Options::default(), "test", &[ITEMS[0], SECOND]);
    mended.unwrap().close().await.unwrap();
}
