//! Who is let in, and who is not.

use tradewind_base::identity;

use super::*;

fn sealed_user(clock: &dyn Clock, key: &Keys) -> String {
    let user = identity::User { id: "u1".into(), name: "Ada".into(), roles: vec![] };
    user.seal(key.seal(), clock.now() + Duration::from_secs(60)).unwrap()
}

#[tokio::test]
async fn only_a_user_the_gateway_vouches_for_is_let_in() {
    let it = start(|_| ()).await;
    let good = sealed_user(&*it.clock, &keys());
    let reply = ask(it.address, "GET /user", &[("x-tradewind-user", &good)]).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "u1"));
    let forged = sealed_user(&*it.clock, &Keys::from_secret(&[8; 32]).unwrap());
    let caller = identity::Caller { service: "order".into() };
    let caller = caller.seal(keys().seal(), it.clock.now()).unwrap();
    let (good, forged, caller) = (good.as_str(), forged.as_str(), caller.as_str());
    for bad in [&[][..], &[forged], &["admin"], &[""], &[caller], &[good, good]] {
        let headers: Vec<_> = bad.iter().map(|value| ("x-tradewind-user", *value)).collect();
        let reply = ask(it.address, "GET /user", &headers).await;
        let expected = ("identity.user".to_owned(), "header:x-tradewind-user".to_owned());
        assert_eq!(reply.problem(401), expected, "{bad:?}");
        assert!(reply.header("www-authenticate").is_some());
    }
    it.clock.advance(Duration::from_secs(61));
    let reply = ask(it.address, "GET /user", &[("x-tradewind-user", good)]).await;
    reply.problem(401);
    assert!(reply.body.contains("expired"), "{reply:?}");
}

#[tokio::test]
async fn nobody_may_be_nobody_but_not_somebody_false() {
    let it = start(|_| ()).await;
    assert_eq!(ask(it.address, "GET /maybe", &[]).await.body, "nobody");
    ask(it.address, "GET /maybe", &[("x-tradewind-user", "forged")]).await.problem(401);
    let good = sealed_user(&*it.clock, &keys());
    let headers = [("x-tradewind-user", good.as_str())];
    assert_eq!(ask(it.address, "GET /maybe", &headers).await.body, "u1");
    assert_eq!(ask(it.address, "GET /context", &headers).await.json()["user"], "u1");
    let seen = ask(it.address, "GET /context", &[("x-tradewind-user", "forged")]).await.json();
    assert_eq!(seen["user"], Value::Null, "a forged user is not passed on");
}

#[tokio::test]
async fn only_a_service_of_the_estate_may_call_what_is_for_services() {
    let it = start(|_| ()).await;
    let caller = identity::Caller { service: "order".into() };
    let good = caller.seal(keys().seal(), it.clock.now()).unwrap();
    let reply = ask(it.address, "GET /caller", &[("x-tradewind-caller", &good)]).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "order"));
    let user = sealed_user(&*it.clock, &keys());
    for headers in [&[][..], &[("x-tradewind-caller", user.as_str())]] {
        let expected = ("identity.caller".to_owned(), "header:x-tradewind-caller".to_owned());
        assert_eq!(ask(it.address, "GET /caller", headers).await.problem(403), expected);
    }
}

#[tokio::test]
async fn without_keys_nobody_is_vouched_for() {
    let server = Server::bind(EdgeConfig::new("127.0.0.1:0".parse().unwrap())).await.unwrap();
    let (clock, tasks) = (Arc::new(SystemClock::new()), Tasks::new());
    let good = sealed_user(&*clock, &keys());
    let router = Router::new().route("/user", get(|User(it): User| async move { it.id }));
    let serving = server.serve("demo", router, Health::new(), None, clock, &tasks);
    let headers = [("x-tradewind-user", good.as_str())];
    ask(serving.local_addr(), "GET /user", &headers).await.problem(401);
}
