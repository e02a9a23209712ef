use serde_json::{Value, json};
use tradewind::base::{Clock as _, ManualClock};
use tradewind::host::testing::Running;
use tradewind::sql::{Database, DatabaseUrl, Options};

use super::*;
use crate::schema::{MIGRATIONS, SET};
use crate::store::Page;

/// The service on a database of its own.
struct Shop {
    running: Running,
    store: Store,
    _folder: tempfile::TempDir,
}

async fn shop() -> Shop {
    let folder = tempfile::tempdir().unwrap();
    let url = DatabaseUrl::sqlite(&folder.path().join("inventory.db"));
    let store = Store::new(Database::open(&url, Options::default(), SET, MIGRATIONS).unwrap());
    store.load_first_day(ManualClock::new().now()).await.unwrap();
    let running = Running::start("inventory", router(store.clone())).await;
    Shop { running, store, _folder: folder }
}

/// Everything that a request could have changed.
async fn stock(store: &Store) -> Page {
    let all = Filter { category: String::new(), text: String::new(), size: 1000, offset: 0 };
    store.page(all).await.unwrap()
}

#[tokio::test]
async fn the_catalogue_is_open_and_paged() {
    let shop = shop().await;
    let first = shop.running.get("/products").await;
    assert_eq!(first.status, 200);
    let page: PageView = serde_json::from_str(&first.body).unwrap();
    assert_eq!((page.page, page.size, page.total, page.items.len()), (1, 20, 200, 20));
    let product = &page.items[0];
    assert_eq!((product.id, product.currency.as_str()), (1, "CNY"));
    let same: ProductView =
        serde_json::from_str(&shop.running.get("/products/1").await.body).unwrap();
    assert_eq!(&same, product);
    let last = shop.running.get("/products?page=4&size=60").await.json();
    assert_eq!(last["items"].as_array().unwrap().len(), 20);
    assert_eq!(last["items"][0]["id"], 181);
    let beyond = shop.running.get("/products?page=10000&size=100").await.json();
    assert_eq!((beyond["items"].as_array().unwrap().len(), &beyond["total"]), (0, &json!(200)));
    let found = shop.running.get("/products?category=kitchen&q=FLASK").await.json();
    assert_eq!(found["total"], 6);
    assert_eq!(found["items"][0]["attributes"]["colour"], "Cherry");
    let categories = shop.running.get("/categories").await.json();
    assert_eq!(categories["items"].as_array().unwrap().len(), 12);
    assert_eq!(
        categories["items"][0],
        json!({"category": "tea-coffee", "title": "Tea & Coffee", "products": 17})
    );
}

#[tokio::test]
async fn a_bad_query_names_every_wrong_parameter() {
    let shop = shop().await;
    for (query, fields) in [
        ("page=0", vec!["query:page"]),
        ("page=-1", vec!["query:page"]),
        ("page=10001", vec!["query:page"]),
        ("page=99999999999999999999", vec!["query:page"]),
        ("page=1.5", vec!["query:page"]),
        ("page=", vec!["query:page"]),
        ("size=0", vec!["query:size"]),
        ("size=101", vec!["query:size"]),
        ("size=x&page=y", vec!["query:page", "query:size"]),
        ("category=Tea%20%26%20Coffee", vec!["query:category"]),
        ("q=a%00b", vec!["query:q"]),
        (&format!("q={}&page=0", "x".repeat(65)), vec!["query:page", "query:q"]),
    ] {
        let reply = shop.running.get(&format!("/products?{query}")).await;
        assert_eq!(reply.status, 400, "{query}: {reply:?}");
        let fields = fields.into_iter().map(str::to_owned).collect();
        assert_eq!(reply.problem(), ("inventory.bad-query".to_owned(), fields), "{query}");
    }
}

#[tokio::test]
async fn an_unknown_product_is_a_404_that_says_so() {
    let shop = shop().await;
    for id in ["201", "0", "-1", "9223372036854775807"] {
        let reply = shop.running.get(&format!("/products/{id}")).await;
        assert_eq!((reply.status, reply.problem().0.as_str()), (404, "inventory.unknown-product"));
        assert!(reply.body.contains(id), "{reply:?}");
    }
    for id in ["one", "1.5", "99999999999999999999", "%20"] {
        let reply = shop.running.get(&format!("/products/{id}")).await;
        assert_eq!(reply.status, 400, "{reply:?}");
        assert!(reply.problem().1[0].contains("id"), "{reply:?}");
    }
}

#[tokio::test]
async fn availability_answers_in_the_order_of_the_question() {
    let shop = shop().await;
    let caller = [shop.running.caller("order")];
    // Product 37 is sold out, 41 is down to the last one.
    let ask = json!({"items": [
        {"product_id": 41, "quantity": 2},
        {"product_id": 900, "quantity": 1},
        {"product_id": 37, "quantity": 1},
        {"product_id": 41, "quantity": 1},
        {"product_id": -3, "quantity": 1},
        {"product_id": 900, "quantity": 5},
    ]});
    let reply = shop.running.post("/availability", &caller, &ask.to_string()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let answer: Availability = serde_json::from_str(&reply.body).unwrap();
    let items: Vec<_> =
        answer.items.iter().map(|it| (it.product_id, it.available, it.sufficient)).collect();
    assert_eq!(items, [(41, 1, false), (37, 0, false), (41, 1, true)]);
    assert_eq!(answer.unknown, [-3, 900]);
}

/// Only services of the estate may ask; a user, the gateway's word or nobody is not one.
#[tokio::test]
async fn availability_is_for_services_only() {
    let shop = shop().await;
    let ask = json!({"items": [{"product_id": 1, "quantity": 1}]}).to_string();
    let sealed = shop.running.caller("order");
    let user = shop.running.user();
    let tampered = format!("{}x", sealed.1);
    for headers in [
        vec![],
        vec![user.clone()],
        vec![(sealed.0, user.1)],
        vec![(sealed.0, tampered)],
        vec![(sealed.0, "order".to_owned())],
        vec![(sealed.0, String::new())],
        vec![sealed.clone(), sealed.clone()],
    ] {
        let reply = shop.running.post("/availability", &headers, &ask).await;
        assert_eq!(reply.status, 403, "{headers:?}: {reply:?}");
        assert_eq!(reply.problem().0, "identity.caller");
    }
    assert_eq!(shop.running.post("/availability", &[sealed], &ask).await.status, 200);
}

#[tokio::test]
async fn a_bad_question_names_its_fields_and_changes_nothing() {
    let shop = shop().await;
    let before = stock(&shop.store).await;
    let caller = [shop.running.caller("order")];
    let item =
        |product_id: i64, quantity: i64| json!({"product_id": product_id, "quantity": quantity});
    let many = |count: i64| json!({"items": (1..=count).map(|it| item(it, 1)).collect::<Vec<_>>()});
    let cases: [(Value, u16, &[&str]); 7] = [
        (json!({"items": []}), 422, &["items"]),
        (many(101), 422, &["items"]),
        (
            json!({"items": [item(1, 0), item(2, 1), item(3, -7)]}),
            422,
            &["items[0].quantity", "items[2].quantity"],
        ),
        (json!({"items": [{"product_id": 1}]}), 400, &["items[0].quantity"]),
        (json!({"items": [{"product_id": "1", "quantity": 1}]}), 400, &["items[0].product_id"]),
        (json!({"items": [item(1, 1)], "all": true}), 400, &["all"]),
        (json!([]), 400, &["body"]),
    ];
    for (ask, status, fields) in cases {
        let reply = shop.running.post("/availability", &caller, &ask.to_string()).await;
        assert_eq!(reply.status, status, "{ask}: {reply:?}");
        let named = reply.problem().1;
        if ask.is_object() {
            assert_eq!(named, fields, "{ask}");
        }
    }
    assert_eq!(shop.running.post("/availability", &caller, "{\"items\":[").await.status, 400);
    assert_eq!(
        shop.running.post("/availability", &caller, &many(100).to_string()).await.status,
        200
    );
    assert_eq!(stock(&shop.store).await, before);
}

#[tokio::test]
async fn other_methods_and_paths_are_refused() {
    let shop = shop().await;
    for (method, path, status) in [
        ("DELETE", "/products/1", 405),
        ("POST", "/products", 405),
        ("GET", "/availability", 405),
        ("GET", "/stock", 404),
    ] {
        let reply = shop.running.send(method, path, &[], "").await;
        assert_eq!(reply.status, status, "{method} {path}");
        assert!(!reply.problem().0.is_empty(), "{method} {path}");
    }
}

/// What other services read, to the letter; the order service's test has the same text.
#[test]
fn the_answer_has_the_form_that_callers_know() {
    let golden = r#"{"items":[{"product_id":41,"sku":"KIT-FLASK-750-SAG","name":"Thermos Flask","price_cents":14400,"currency":"CNY","available":1,"sufficient":false}],"unknown":[900]}"#;
    let answer: Availability = serde_json::from_str(golden).unwrap();
    assert_eq!(serde_json::to_string(&answer).unwrap(), golden);
    let item = answer.items.into_iter().next().unwrap();
    assert_eq!((item.product_id, item.price_cents, item.sufficient), (41, 14_400, false));
}
