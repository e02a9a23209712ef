use tradewind::base::{Clock as _, ManualClock};
use tradewind::sql::{DatabaseUrl, ErrorKind, Options};

use super::*;
use crate::catalogue;
use crate::schema::{MIGRATIONS, SET};

fn open(url: &DatabaseUrl) -> Store {
    Store::new(Database::open(url, Options::default(), SET, MIGRATIONS).unwrap())
}

async fn write(store: &Store, sql: &'static str) -> Result<u64, sql::Error> {
    let done = store.database.transaction("test", move |tx| tx.execute(sql, params![])).await;
    match done {
        Ok(count) => Ok(count),
        Err(TransactionError::Refused(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

async fn number(store: &Store, sql: &'static str) -> i64 {
    let read = |tx: &mut Transaction<'_>| tx.query_one(sql, params![], |row| row.get::<i64>(0));
    let read: Result<_, StoreError> = store.database.read("test", read).await;
    read.unwrap().unwrap()
}

fn filter() -> Filter {
    Filter { category: String::new(), text: String::new(), size: 100, offset: 0 }
}

/// Two processes start on one empty database, one of them twice.
async fn the_catalogue_is_loaded_once(first: &Store, second: &Store) {
    let now = ManualClock::new().now();
    let (a, b) = tokio::join!(first.load_first_day(now), second.load_first_day(now));
    assert_eq!(u8::from(a.unwrap()) + u8::from(b.unwrap()), 1, "one of them does it");
    assert!(!first.load_first_day(now).await.unwrap());
    assert_eq!(second.page(filter()).await.unwrap().total, 200);
    assert_eq!(number(first, "SELECT COUNT(*) FROM stock_flow WHERE kind = 'initial'").await, 200);
}

/// STOCK-1 and the flow: what the schema refuses, whoever asks for it.
async fn the_schema_keeps_its_promises(store: &Store) {
    let off = "SELECT COUNT(*) FROM stock s WHERE s.on_hand <> (SELECT SUM(f.on_hand_change) \
               FROM stock_flow f WHERE f.product_id = s.product_id) OR s.frozen <> \
               (SELECT SUM(f.frozen_change) FROM stock_flow f WHERE f.product_id = s.product_id)";
    assert_eq!(number(store, off).await, 0, "the stock is the sum of its flow");
    for bad in [
        "UPDATE stock SET frozen = on_hand + 1 WHERE product_id = 1",
        "UPDATE stock SET frozen = -1 WHERE product_id = 1",
        "UPDATE stock SET on_hand = -1 WHERE product_id = 1",
        "UPDATE product SET price_cents = 0 WHERE id = 1",
        "UPDATE product SET currency = 'EURO' WHERE id = 1",
        "UPDATE product SET status = 'gone' WHERE id = 1",
    ] {
        write(store, bad).await.expect_err(bad);
    }
    let taken = "UPDATE product SET sku = (SELECT sku FROM (SELECT sku FROM product \
                 WHERE id = 2) AS other) WHERE id = 1";
    assert!(write(store, taken).await.unwrap_err().is_unique_violation());
    let first = store.product(1).await.unwrap().unwrap();
    assert_eq!(first.available, catalogue::articles()[0].on_hand);
}

async fn the_catalogue_is_paged_and_searched(store: &Store) {
    let second = Filter { size: 30, offset: 180, ..filter() };
    let page = store.page(second).await.unwrap();
    let ids: Vec<_> = page.products.iter().map(|it| it.id).collect();
    assert_eq!((ids, page.total), ((181..=200).collect(), 200));
    let tea = store.page(Filter { category: "tea-coffee".into(), ..filter() }).await.unwrap();
    assert_eq!((tea.total, tea.products.len()), (17, 17));
    assert!(tea.products.iter().all(|it| it.category == "tea-coffee"));
    let flasks = Filter { category: "kitchen".into(), text: "flask".into(), ..filter() };
    assert_eq!(store.page(flasks).await.unwrap().total, 6);
    let by_sku = Filter { text: "kit-flask-750".into(), ..filter() };
    assert_eq!(store.page(by_sku).await.unwrap().total, 3);
    // Signs that mean something in a pattern are only signs here.
    for text in ["%", "_", "!", "100%", "'; DROP TABLE product; --", "\\", "🙂"] {
        let none = Filter { text: text.into(), ..filter() };
        assert_eq!(store.page(none).await.unwrap().total, 0, "{text}");
    }
    let none = Filter { category: "no-such".into(), ..filter() };
    assert_eq!(store.page(none).await.unwrap(), Page { products: vec![], total: 0 });
    let categories = store.categories().await.unwrap();
    assert_eq!(categories.len(), 12);
    assert_eq!(categories.iter().map(|it| it.products).sum::<i64>(), 200);
    assert_eq!((categories[0].slug.as_str(), categories[0].products), ("tea-coffee", 17));
}

async fn products_are_found_by_many_ids(store: &Store) {
    let asked: Vec<i64> = (1..=40).chain([9999, -5, 0, i64::MAX]).collect();
    let found = store.products(asked).await.unwrap();
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), (1..=40).collect::<Vec<_>>());
    assert_eq!(found[&7], store.product(7).await.unwrap().unwrap());
    assert_eq!(store.products(vec![]).await.unwrap().len(), 0);
    assert_eq!(store.product(9999).await.unwrap(), None);
    // Withdrawn: neither shown nor sold.
    write(store, "UPDATE product SET status = 'withdrawn' WHERE id = 3").await.unwrap();
    assert_eq!(store.product(3).await.unwrap(), None);
    assert_eq!(store.products(vec![3]).await.unwrap().len(), 0);
    assert_eq!(store.page(filter()).await.unwrap().total, 199);
    write(store, "UPDATE product SET status = 'active' WHERE id = 3").await.unwrap();
}

async fn all(first: &Store, second: &Store) {
    the_catalogue_is_loaded_once(first, second).await;
    the_schema_keeps_its_promises(first).await;
    the_catalogue_is_paged_and_searched(second).await;
    products_are_found_by_many_ids(first).await;
}

#[tokio::test]
async fn the_store_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = DatabaseUrl::sqlite(&folder.path().join("inventory.db"));
    let (first, second) = (open(&url), open(&url));
    all(&first, &second).await;
    for bad in ["UPDATE stock_flow SET on_hand_change = 0", "DELETE FROM stock_flow"] {
        let error = write(&first, bad).await.expect_err(bad);
        assert_ne!(error.kind(), ErrorKind::Connection);
    }
    assert_eq!(number(&first, "SELECT COUNT(*) FROM stock_flow").await, 200);
}

/// The same on a real server. `TRADEWIND_TEST_MYSQL_URL` is set by `cargo xtask test`.
#[cfg(feature = "services")]
#[tokio::test]
async fn the_store_on_mysql() {
    let url = tradewind::host::testing::fresh_mysql("tradewind_test_inventory");
    let (first, second) = (open(&url), open(&url));
    all(&first, &second).await;
}

#[test]
fn a_search_text_is_found_literally() {
    assert_eq!(contains("50%_!x"), "%50!%!_!!x%");
    assert_eq!(contains(""), "%%");
}
