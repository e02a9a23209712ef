//! What is sent, and what becomes of answers.

use tradewind_base::Problem;
use tradewind_call::{CallError, Policy};

use crate::support::{Inventory, Product, Server, answer, json, lamp, setup};

/// R2.1
#[tokio::test]
async fn a_declared_method_sends_what_it_says() {
    let server = Server::start(|seen| async move {
        if seen.address.starts_with("/products?") { json(&vec![lamp()]) } else { json(&lamp()) }
    })
    .await;
    let setup = setup(vec![server.instance()], Policy::default());
    let client = &setup.client;

    assert_eq!(client.product("a/b c?ä").await.unwrap(), lamp());
    let tags = ["x&y", "+"];
    let etag = Some("\"7\"".to_owned());
    assert_eq!(client.list(2, None, &tags, etag, vec![1, 2]).await.unwrap(), [lamp()]);
    client.list(3, Some(""), &[], None, vec![]).await.unwrap();
    client.add(&lamp()).await.unwrap();
    client.stock(7, '/', 40).await.unwrap();
    client.remove(-1).await.unwrap();

    let seen = server.seen();
    let lines: Vec<String> =
        seen.iter().map(|it| format!("{} {}", it.method, it.address)).collect();
    assert_eq!(
        lines,
        [
            "GET /products/a%2Fb%20c%3F%C3%A4",
            "GET /products?page=2&tag=x%26y&tag=%2B",
            "GET /products?page=3&text=",
            "POST /products",
            "PUT /products/7/stock/%2F",
            "DELETE /products/-1",
        ]
    );
    assert_eq!(seen[1].headers["if-none-match"], "\"7\"");
    assert_eq!(seen[1].headers.get_all("x-flag").iter().collect::<Vec<_>>(), ["1", "2"]);
    assert!(!seen[2].headers.contains_key("if-none-match"));
    assert_eq!(seen[3].headers["content-type"], "application/json");
    assert_eq!(serde_json::from_slice::<Product>(&seen[3].body).unwrap(), lamp());
    assert_eq!(&seen[4].body[..], b"40");
    assert!(seen[5].body.is_empty());
}

/// R2.1
#[tokio::test]
async fn a_parameter_that_would_lead_elsewhere_sends_nothing() {
    let server = Server::lamps().await;
    let setup = setup(vec![server.instance()], Policy::default());
    for bad in ["", "..", "."] {
        let error = setup.client.product(bad).await.unwrap_err();
        assert!(matches!(error, CallError::Invalid { parameter: "id", .. }), "{error:?}");
    }
    let split = Some("a\r\nx-tradewind-user: root".to_owned());
    let error = setup.client.list(1, None, &[], split, vec![]).await.unwrap_err();
    assert!(matches!(error, CallError::Invalid { parameter: "if-none-match", .. }), "{error:?}");
    assert!(server.seen().is_empty());
}

/// R2.1
#[tokio::test]
async fn a_problem_document_is_read_and_another_refusal_kept_as_text() {
    let server = Server::start(|seen| async move {
        let problem = Problem::new(http::StatusCode::UNPROCESSABLE_ENTITY, "shop.quantity", "no")
            .field("items[0].quantity", "must be 1 to 999");
        match &*seen.address {
            "/products/1" => {
                answer(422, "application/problem+json; charset=utf-8", &problem.to_json())
            }
            "/products/2" => answer(404, "text/html", "<h1>no\u{1b}</h1>"),
            _ => answer(400, "application/problem+json", "not json"),
        }
    })
    .await;
    let setup = setup(vec![server.instance()], Policy::default());
    let error = setup.client.product("1").await.unwrap_err();
    let CallError::Refused(problem) = &error else { panic!("{error:?}") };
    assert_eq!((&*problem.code, &*problem.errors[0].field), ("shop.quantity", "items[0].quantity"));
    assert_eq!(error.to_string(), "refused with 422 shop.quantity: no");

    for (id, status) in [("2", 404), ("3", 400)] {
        let error = setup.client.product(id).await.unwrap_err();
        assert!(matches!(error, CallError::Status { .. }), "{error:?}");
        assert_eq!(error.status().unwrap().as_u16(), status);
        assert!(!error.to_string().contains('\u{1b}'));
    }
}

#[tokio::test]
async fn a_success_of_another_shape_is_told_with_its_place() {
    let server =
        Server::start(|_| async { answer(200, "application/json", r#"{"id":"x"}"#) }).await;
    let setup = setup(vec![server.instance()], Policy::default());
    let error = setup.client.product("1").await.unwrap_err();
    assert_eq!(error.to_string(), "failed to read what inventory answered to /products/{id}");
    let CallError::Decode { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.column(), 9);
    assert!(error.outcome_unknown(), "the server did it");
    setup.client.remove(1).await.unwrap();
}
