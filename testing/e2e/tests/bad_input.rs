//! What a hostile or careless client sends: a clear refusal, and nothing changes anywhere.

use bytes::Bytes;
use http::{Method, StatusCode};
use tradewind_e2e::{Answer, Client, Estate};

/// Checks that an answer is a problem document with this status that mentions `part`.
fn is_problem(what: &str, answer: &Answer, status: StatusCode, part: &str) {
    let seen = format!("{what}: {} {:?} {}", answer.status, answer.headers, answer.text());
    assert_eq!(answer.status, status, "{seen}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{seen}");
    let json = answer.json();
    assert_eq!(json["status"], status.as_u16(), "{seen}");
    for member in ["type", "title", "code", "request_id"] {
        assert!(json[member].as_str().is_some_and(|it| !it.is_empty()), "{member}: {seen}");
    }
    assert!(answer.text().contains(part), "no `{part}`: {seen}");
}

fn lines(count: usize) -> String {
    let line = |id| format!(r#"{{"product_id":{id},"quantity":1}}"#);
    let lines: Vec<_> = (1..=count).map(line).collect();
    format!(r#"{{"items":[{}]}}"#, lines.join(","))
}

async fn stock(estate: &Estate) -> Vec<serde_json::Value> {
    let mut pages = Vec::new();
    for page in 1..=2 {
        let path = format!("/inventory/products?size=100&page={page}");
        pages.push(estate.gateway().get(&path).await.unwrap().json());
    }
    pages
}

#[tokio::test]
async fn every_bad_basket_names_its_field() {
    let estate = Estate::start().await;
    let before = stock(&estate).await;
    let mut alice = estate.alice().await;
    let item = |text: &str| format!(r#"{{"items":[{{"product_id":1,"quantity":1}},{text}]}}"#);
    let (bad, unprocessable) = (StatusCode::BAD_REQUEST, StatusCode::UNPROCESSABLE_ENTITY);
    let cases = [
        (r#"{"items":["#.to_owned(), bad, ""),
        (String::new(), bad, ""),
        ("[]".to_owned(), bad, ""),
        (r#"{"items":{}}"#.to_owned(), bad, "items"),
        (r#"{"items":[]}"#.to_owned(), unprocessable, "items"),
        (item(r#"{"product_id":2}"#), bad, "quantity"),
        (item(r#"{"product_id":2,"quantity":"2"}"#), bad, "items[1].quantity"),
        (item(r#"{"product_id":2,"quantity":1.5}"#), bad, "items[1].quantity"),
        (item(r#"{"product_id":2,"quantity":99999999999999999999}"#), bad, "items[1].quantity"),
        (item(r#"{"product_id":2,"quantity":0}"#), unprocessable, "items[1].quantity"),
        (item(r#"{"product_id":2,"quantity":-1}"#), unprocessable, "items[1].quantity"),
        (item(r#"{"product_id":2,"quantity":1000}"#), unprocessable, "items[1].quantity"),
        (item(r#"{"product_id":424242,"quantity":1}"#), unprocessable, "items[1].product_id"),
        (item(r#"{"product_id":-2,"quantity":1}"#), unprocessable, "items[1].product_id"),
        (item(r#"{"product_id":1,"quantity":1}"#), unprocessable, "items[1].product_id"),
        (lines(101), unprocessable, "items"),
    ];
    for (body, status, part) in cases {
        let answer = alice.post_text("/order/quotes", &body).await.unwrap();
        is_problem(&body, &answer, status, part);
    }
    let right = alice.post_text("/order/quotes", &lines(100)).await.unwrap();
    assert_eq!(right.status, StatusCode::OK, "{}", right.text());
    let most = r#"{"items":[{"product_id":1,"quantity":999}]}"#;
    let right = alice.post_text("/order/quotes", most).await.unwrap();
    assert_eq!(right.status, StatusCode::OK, "{}", right.text());
    assert_eq!(before, stock(&estate).await);
}

/// R3.3: no token, a wrong one and a forged identity get nowhere.
#[tokio::test]
async fn nobody_gets_in_without_a_good_token() {
    let estate = Estate::start().await;
    let basket = lines(1);
    let token = estate.token().await;
    let mut parts: Vec<_> = token.split('.').map(str::to_owned).collect();
    let other_claims = parts[1].clone().replacen(|_: char| true, "f", 1);
    parts[1] = other_claims;
    let forged = parts.join(".");
    // {"alg":"none","typ":"JWT"} {"sub":"alice","exp":4102444800}
    let unsigned =
        "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6NDEwMjQ0NDgwMH0.";
    let refused = StatusCode::UNAUTHORIZED;
    for (what, client) in [
        ("no token", estate.gateway()),
        ("forged", estate.gateway().bearer(&forged)),
        ("unsigned", estate.gateway().bearer(unsigned)),
        ("nonsense", estate.gateway().bearer("nonsense")),
        ("another scheme", estate.gateway().with("authorization", "Basic YTpi")),
        ("identity by hand", estate.gateway().with("x-tradewind-user", "alice")),
    ] {
        let mut client: Client = client;
        let answer = client.post_text("/order/quotes", &basket).await.unwrap();
        is_problem(what, &answer, refused, "");
        assert!(!answer.header("www-authenticate").is_empty(), "{what}: {:?}", answer.headers);
    }
    // Past the gateway, straight to the service: its word alone counts.
    let mut order = Client::new(format!("127.0.0.1:{}", estate.ports.order));
    for header in ["", "alice", "eyJpZCI6ImFsaWNlIn0.AAAA"] {
        let headers = [("x-tradewind-user", header), ("content-type", "application/json")];
        let headers = if header.is_empty() { &headers[1..] } else { &headers[..] };
        let body = Bytes::copy_from_slice(basket.as_bytes());
        let answer = order.send(Method::POST, "/quotes", headers, body).await.unwrap();
        is_problem("direct", &answer, refused, "");
    }
    // Inner interfaces are not for users, logged in or not.
    let mut alice = estate.gateway().bearer(&token);
    let answer = alice.post_text("/inventory/availability", &basket).await.unwrap();
    is_problem("inner interface", &answer, StatusCode::FORBIDDEN, "");
    for path in
        ["/order/metrics", "/order/health/ready", "/inventory/interfaces", "/order/discovery"]
    {
        let answer = alice.get(path).await.unwrap();
        is_problem(path, &answer, StatusCode::NOT_FOUND, "");
    }
}

/// An expired token is refused: the life of tokens can be set, and here it is a second.
#[tokio::test]
async fn an_expired_token_is_refused() {
    // The gateway allows clocks to differ; without that allowance a second is a second.
    let settings =
        vec![("order.token_life", "1s".to_owned()), ("gateway.auth.leeway", "0s".to_owned())];
    let estate = Estate::start_with(settings).await;
    let mut alice = estate.alice().await;
    let limit = std::time::Duration::from_secs(10);
    let answer = tradewind_e2e::eventually("the token expires", limit, async || {
        let answer = alice.get("/order/me").await.map_err(|it| it.to_string())?;
        tradewind_e2e::wanted(answer, |it| it.status != StatusCode::OK)
    })
    .await;
    is_problem("expired", &answer, StatusCode::UNAUTHORIZED, "");
}

#[tokio::test]
async fn oversized_and_unknown_requests_are_refused() {
    let estate = Estate::start().await;
    let mut alice = estate.alice().await;
    for path in ["/", "/nowhere", "/order", "/order/nowhere", "/inventory/products/none/such"] {
        let answer = alice.get(path).await.unwrap();
        is_problem(path, &answer, StatusCode::NOT_FOUND, "");
    }
    let unknown = alice.get("/inventory/products/424242").await.unwrap();
    is_problem("unknown product", &unknown, StatusCode::NOT_FOUND, "424242");
    let odd = alice.get("/inventory/products/one").await.unwrap();
    is_problem("odd id", &odd, StatusCode::BAD_REQUEST, "id");
    let page = alice.get("/inventory/products?page=-1").await.unwrap();
    is_problem("odd page", &page, StatusCode::BAD_REQUEST, "page");
    let method = alice.send(Method::DELETE, "/order/quotes", &[], Bytes::new()).await.unwrap();
    is_problem("method", &method, StatusCode::METHOD_NOT_ALLOWED, "");
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let body = Bytes::from_static(b"a=b");
    let form = alice.send(Method::POST, "/order/quotes", &form, body).await.unwrap();
    is_problem("media type", &form, StatusCode::UNSUPPORTED_MEDIA_TYPE, "");

    let mut large = estate.gateway().with("x-large", &"x".repeat(256 * 1024));
    let answer = large.get("/inventory/products").await.unwrap();
    is_problem("head", &answer, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "");
    let body = format!(r#"{{"items":[],"padding":"{}"}}"#, "x".repeat(64 * 1024 * 1024));
    // The refusal may come while the client still sends: either way it is no success.
    let answer = estate.alice().await.post_text("/order/quotes", &body).await;
    if let Ok(answer) = answer {
        is_problem("body", &answer, StatusCode::PAYLOAD_TOO_LARGE, "");
    }
    let right = estate.alice().await.post_text("/order/quotes", &lines(1)).await.unwrap();
    assert_eq!(right.status, StatusCode::OK, "{}", right.text());
}
