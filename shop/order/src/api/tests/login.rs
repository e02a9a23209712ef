//! Signing in.

use super::*;

/// R3.3: a token for the right password, verified by the published key alone.
#[tokio::test]
async fn a_demo_user_logs_in_and_the_key_set_verifies_the_token() {
    let shop = shop().await;
    let reply = shop.login("alice", "alice-demo", "192.0.2.1").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let granted: Granted = serde_json::from_str(&reply.body).unwrap();
    assert_eq!((granted.token_type.as_str(), granted.expires_in), ("Bearer", 3600));
    assert!(!format!("{granted:?}").contains(&granted.access_token));
    let keys = shop.running.get("/.well-known/jwks.json").await.json();
    let keys: jsonwebtoken::jwk::JwkSet = serde_json::from_value(keys).unwrap();
    let head = jsonwebtoken::decode_header(&granted.access_token).unwrap();
    let jwk = keys.find(&head.kid.unwrap()).unwrap();
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::EdDSA);
    validation.set_issuer(&["tradewind"]);
    validation.set_audience(&["shop"]);
    // The service's clock stands in 2023 in this test.
    validation.validate_exp = false;
    let decoder = jsonwebtoken::DecodingKey::from_jwk(jwk).unwrap();
    let token = jsonwebtoken::decode::<Value>(&granted.access_token, &decoder, &validation);
    let claims = token.unwrap().claims;
    let now = shop.clock.now().seconds();
    assert_eq!((&claims["iat"], &claims["exp"]), (&json!(now), &json!(now + 3600)));
    assert_eq!((&claims["name"], &claims["roles"]), (&json!("Alice"), &json!(["buyer"])));
    let account = shop.store.account("alice".into()).await.unwrap().unwrap();
    assert_eq!(claims["sub"], account.id.to_string());
    assert_eq!(shop.login("ALICE", "alice-demo", "192.0.2.1").await.status, 200, "case of names");
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_look_alike() {
    let shop = shop().await;
    let wrong = shop.login("alice", "bob-demo", "192.0.2.1").await;
    let unknown = shop.login("mallory", "x", "192.0.2.2").await;
    let case = shop.login("alice", "Alice-demo", "192.0.2.3").await;
    for reply in [&wrong, &unknown, &case] {
        assert_eq!(reply.status, 401);
        assert_eq!(reply.problem(), ("order.wrong-credentials".to_owned(), vec![]));
    }
    let alike = |it: &Reply| {
        let mut json = it.json();
        json["request_id"].take();
        json
    };
    assert_eq!(alike(&wrong), alike(&unknown));
}

#[tokio::test]
async fn after_some_failures_a_user_has_to_wait_and_then_not() {
    let shop = shop().await;
    // From three addresses: the limit of the user holds over all of them.
    for from in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        assert_eq!(shop.login("alice", "guess", from).await.status, 401);
    }
    let limited = shop.login("alice", "alice-demo", "192.0.2.4").await;
    assert_eq!((limited.status, limited.problem().0.as_str()), (429, "order.too-many-logins"));
    assert_eq!(limited.header("retry-after"), "30");
    assert_eq!(shop.login("Alice", "x", "192.0.2.4").await.status, 429, "no second budget");
    assert_eq!(shop.login("bob", "bob-demo", "192.0.2.1").await.status, 200, "others go on");
    shop.clock.advance(Duration::from_secs(30));
    assert_eq!(shop.login("alice", "alice-demo", "192.0.2.4").await.status, 200);
}

#[tokio::test]
async fn after_some_failures_an_address_has_to_wait() {
    let shop = shop().await;
    for name in ["a", "b", "c", "d", "e"] {
        assert_eq!(shop.login(name, "guess", "evil, 192.0.2.1").await.status, 401);
    }
    assert_eq!(shop.login("bob", "bob-demo", "192.0.2.1").await.status, 429);
    assert_eq!(shop.login("bob", "bob-demo", "::ffff:192.0.2.1").await.status, 429, "the same");
    assert_eq!(shop.login("bob", "bob-demo", "192.0.2.9").await.status, 200);
    // Successes are not counted.
    for _ in 0..10 {
        assert_eq!(shop.login("bob", "bob-demo", "192.0.2.9").await.status, 200);
    }
}

/// Guesses that are sent at once do not slip through together.
#[tokio::test]
async fn guesses_at_once_are_counted_before_they_are_checked() {
    let shop = shop_with(Mood::Fine, 1).await;
    let guesses = (0..12).map(|it| {
        let from = format!("192.0.2.{it}");
        let shop = &shop;
        async move { shop.login("alice", "guess", &from).await.status }
    });
    let mut counts = BTreeMap::<u16, usize>::new();
    let mut guesses: Vec<_> = guesses.map(Box::pin).collect();
    for status in join(&mut guesses).await {
        *counts.entry(status).or_default() += 1;
    }
    assert_eq!(counts, BTreeMap::from([(401, 3), (429, 9)]));
}

/// The time of an answer does not tell whether the user exists: a password is checked either way.
/// Here the checking is out of order, and both notice.
#[tokio::test]
async fn a_password_is_checked_for_unknown_users_too() {
    let shop = shop().await;
    shop.hasher.close();
    for username in ["alice", "mallory"] {
        let reply = shop.login(username, "guess", "192.0.2.1").await;
        assert_eq!((reply.status, reply.problem().0.as_str()), (503, "order.login-busy"));
        assert_eq!(reply.header("retry-after"), "1");
    }
    for _ in 0..10 {
        let reply = shop.login("alice", "guess", "192.0.2.1").await;
        assert_eq!(reply.status, 503, "what was not looked at is no failure");
    }
}

/// Many honest attempts at once, of one user from one address, all get in.
#[tokio::test]
async fn honest_attempts_at_once_wait_for_their_turn() {
    let shop = shop().await;
    let mut all: Vec<_> = (0..20)
        .map(|_| Box::pin(async { shop.login("bob", "bob-demo", "192.0.2.1").await.status }))
        .collect();
    assert_eq!(join(&mut all).await, vec![200; 20]);
}

/// Polls all until all are done.
async fn join<F: Future<Output = u16> + Unpin>(all: &mut [F]) -> Vec<u16> {
    let mut done: Vec<Option<u16>> = vec![None; all.len()];
    std::future::poll_fn(|cx| {
        for (work, done) in all.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(it) = std::pin::Pin::new(work).poll(cx)
            {
                *done = Some(it);
            }
        }
        if done.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test]
async fn bad_credentials_name_their_fields() {
    let shop = shop().await;
    let long = "x".repeat(257);
    let cases = [
        ("", 400, vec!["body"]),
        ("{", 400, vec!["body"]),
        ("[]", 400, vec!["body"]),
        ("{}", 400, vec!["password", "username"]),
        (r#"{"username":1,"password":null}"#, 400, vec!["password", "username"]),
        (r#"{"username":"a","password":"b","otp":1}"#, 400, vec!["otp"]),
        (r#"{"username":"","password":""}"#, 422, vec!["password", "username"]),
        (r#"{"username":"a\nb","password":"b"}"#, 422, vec!["username"]),
        (&json!({"username": "a", "password": long}).to_string(), 422, vec!["password"]),
        (&json!({"username": "é".repeat(65), "password": "b"}).to_string(), 422, vec!["username"]),
    ];
    for (body, status, mut fields) in cases {
        let reply = shop.running.post("/login", &[], body).await;
        assert_eq!(reply.status, status, "{body}: {reply:?}");
        let mut named = reply.problem().1;
        named.sort_unstable();
        fields.sort_unstable();
        assert_eq!(named, fields, "{body}");
    }
}
