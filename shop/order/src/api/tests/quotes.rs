//! What a basket costs, who may ask, what is refused.

use super::*;

#[tokio::test]
async fn a_basket_is_priced_line_by_line() {
    let shop = shop().await;
    let reply = shop.quote(&basket(&[(7, 2), (1, 999)])).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(
        reply.json(),
        json!({
            "currency": "CNY",
            "lines": [
                {"product_id": 7, "sku": "SKU-7", "name": "Thing 7", "quantity": 2,
                 "unit_price_cents": 700, "line_total_cents": 1400,
                 "available": 500, "sufficient": true},
                {"product_id": 1, "sku": "SKU-1", "name": "Thing 1", "quantity": 999,
                 "unit_price_cents": 100, "line_total_cents": 99_900,
                 "available": 500, "sufficient": false},
            ],
            "total_cents": 101_300,
            "sufficient": false,
        })
    );
    assert_eq!(shop.asked().len(), 1, "one question for the whole basket");
    assert_eq!(shop.quote(&lines(100)).await.status, 200);
}

/// Every bad basket is refused with the names of its fields, and nothing changes anywhere.
#[tokio::test]
async fn bad_baskets_name_every_wrong_field() {
    let shop = shop().await;
    let before = dump(&shop).await;
    let line = |text: &str| format!(r#"{{"items":[{{"product_id":1,"quantity":1}},{text}]}}"#);
    let q = "items[1].quantity";
    let p = "items[1].product_id";
    let cases: Vec<(String, u16, Vec<&str>)> = vec![
        (String::new(), 400, vec!["body"]),
        (r#"{"items":["#.into(), 400, vec!["body"]),
        ("{\"items\":[]} x".into(), 400, vec!["body"]),
        ("null".into(), 400, vec!["body"]),
        ("{}".into(), 400, vec!["items"]),
        (r#"{"items":{}}"#.into(), 400, vec!["items"]),
        (r#"{"items":[]}"#.into(), 422, vec!["items"]),
        (lines(101), 422, vec!["items"]),
        (line(r#"{"product_id":2,"quantity":0}"#), 422, vec![q]),
        (line(r#"{"product_id":2,"quantity":-1}"#), 422, vec![q]),
        (line(r#"{"product_id":2,"quantity":1000}"#), 422, vec![q]),
        (line(r#"{"product_id":2,"quantity":18446744073709551615}"#), 422, vec![q]),
        (line(r#"{"product_id":2,"quantity":99999999999999999999}"#), 400, vec![q]),
        (line(r#"{"product_id":2,"quantity":1e400}"#), 400, vec!["body"]),
        (line(r#"{"product_id":2,"quantity":1.0}"#), 400, vec![q]),
        (line(r#"{"product_id":2,"quantity":1.5}"#), 400, vec![q]),
        (line(r#"{"product_id":2,"quantity":"1"}"#), 400, vec![q]),
        (line(r#"{"product_id":2,"quantity":null}"#), 400, vec![q]),
        (line(r#"{"product_id":2}"#), 400, vec![q]),
        (line(r#"{"quantity":1}"#), 400, vec![p]),
        (line(r#"{"product_id":"2","quantity":1}"#), 400, vec![p]),
        (line(r#"{"product_id":0,"quantity":1}"#), 422, vec![p]),
        (line(r#"{"product_id":-2,"quantity":1}"#), 422, vec![p]),
        (line(r#"{"product_id":1,"quantity":1}"#), 422, vec![p]),
        (line(r#"{"product_id":201,"quantity":1}"#), 422, vec![p]),
        (
            line(r#"{"product_id":2,"quantity":1,"price_cents":1}"#),
            400,
            vec!["items[1].price_cents"],
        ),
        (line("7"), 400, vec!["items[1]"]),
        (r#"{"items":[{"product_id":1,"quantity":1}],"user":"bob"}"#.into(), 400, vec!["user"]),
    ];
    for (body, status, fields) in cases {
        let reply = shop.quote(&body).await;
        assert_eq!(reply.status, status, "{body}: {reply:?}");
        assert_eq!(reply.problem().1, fields, "{body}");
    }
    assert_eq!(dump(&shop).await, before);
}

#[tokio::test]
async fn unknown_products_are_named_beside_the_other_mistakes() {
    let shop = shop().await;
    let reply = shop.quote(&basket(&[(300, 1), (1, 0), (301, 1000), (301, 1)])).await;
    let expected = [
        "items[0].product_id",
        "items[1].quantity",
        "items[2].quantity",
        "items[2].product_id",
        "items[3].product_id",
    ];
    assert_eq!((reply.status, reply.problem().1), (422, expected.map(str::to_owned).to_vec()));
    let reply = shop.quote(&basket(&[(300, 1), (2, 1), (301, 1)])).await;
    let expected = ["items[0].product_id", "items[2].product_id"].map(str::to_owned).to_vec();
    assert_eq!((reply.status, reply.problem()), (422, ("order.unknown-product".into(), expected)));
}

/// Only the gateway's word counts on who asks.
#[tokio::test]
async fn nobody_without_the_gateways_word_gets_a_quote() {
    let shop = shop().await;
    let (name, sealed) = shop.running.user();
    let (payload, tag) = sealed.split_once('.').unwrap();
    let service = shop.running.caller("gateway").1;
    for value in [
        None,
        Some("alice".to_owned()),
        Some(String::new()),
        Some(format!("{payload}.AAAA")),
        Some(format!("{payload}x.{tag}")),
        Some(service),
    ] {
        let headers: Vec<_> = value.iter().map(|it| (name, it.clone())).collect();
        for (method, path) in [("POST", "/quotes"), ("GET", "/me")] {
            let json = ("content-type", "application/json".to_owned());
            let headers: Vec<_> = headers.iter().cloned().chain([json]).collect();
            let reply = shop.running.send(method, path, &headers, &lines(1)).await;
            assert_eq!(
                (reply.status, reply.problem().0.as_str()),
                (401, "identity.user"),
                "{value:?}"
            );
        }
    }
    assert_eq!(shop.asked(), [], "inventory was not even asked");
    let me = shop.running.send("GET", "/me", &[(name, sealed)], "").await;
    assert_eq!(me.json(), json!({"id": "usr_1", "name": "Alice", "roles": ["buyer"]}));
}

#[tokio::test]
async fn trouble_with_inventory_is_told_apart() {
    for (mood, status, code) in [
        (Mood::Away, 503, "order.inventory-unavailable"),
        (Mood::Slow, 504, "order.inventory-timeout"),
        (Mood::Confused, 502, "order.inventory-answer"),
    ] {
        let shop = shop_with(mood, 1).await;
        let reply = shop.quote(&lines(2)).await;
        assert_eq!((reply.status, reply.problem().0.as_str()), (status, code));
        assert_eq!(!reply.header("retry-after").is_empty(), mood == Mood::Away);
        let bad = shop.quote(&basket(&[(1, 0)])).await;
        let fields = vec!["items[0].quantity".to_owned()];
        assert_eq!((bad.status, bad.problem().1), (422, fields), "a mistake is one all the same");
    }
}

/// Everything that a request could have changed.
async fn dump(shop: &Shop) -> Vec<Option<crate::store::Account>> {
    let mut accounts = Vec::new();
    for it in demo::DEMO_USERS {
        accounts.push(shop.store.account(it.username.to_owned()).await.unwrap());
    }
    assert!(key(&shop.folder).is_file());
    accounts
}
