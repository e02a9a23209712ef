//! What travels along.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tradewind_base::id::{RequestText, Xid};
use tradewind_base::identity::{Caller, User};
use tradewind_base::seal::Key;
use tradewind_base::{
    Clock as _, Context, Deadline, ManualClock, Rng, SystemClock, Tasks, TraceContext,
};
use tradewind_call::{Channel, Client, Identity, Policy};
use tradewind_discovery::{Discovery, ServiceName};

use crate::support::{Inventory, InventoryClient, Server, service, setup};

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers[name].to_str().unwrap()
}

/// R2.7
#[tokio::test]
async fn trace_deadline_request_user_and_transaction_travel_along() {
    let server = Server::lamps().await;
    let setup = setup(vec![server.instance()], Policy::default());
    let trace = TraceContext::start(&mut Rng::seeded(1), true);
    let user = User { id: "u1".into(), name: "Ann".into(), roles: vec![] };
    let xid = Xid::from_u128(7);
    let context = Context {
        trace: Some(trace),
        deadline: Some(Deadline::after(Duration::from_secs(3))),
        request_id: RequestText::parse("req-1"),
        user: Some((user, "sealed.user".into())),
        xid: Some(xid),
    };
    context
        .scope(async {
            setup.client.product("1").await.unwrap();
            setup.client.product("1").await.unwrap();
        })
        .await;
    let seen = server.seen();
    let spans: Vec<TraceContext> = seen
        .iter()
        .map(|it| TraceContext::parse(text(&it.headers, "traceparent")).unwrap())
        .collect();
    assert!(spans.iter().all(|it| it.trace_id() == trace.trace_id() && it.sampled()));
    assert_ne!(spans[0].span_id(), trace.span_id());
    assert_ne!(spans[0].span_id(), spans[1].span_id());
    let headers = &seen[0].headers;
    let left: u64 = text(headers, "x-tradewind-deadline-ms").parse().unwrap();
    assert!((1..=3000).contains(&left), "{left}");
    assert_eq!(text(headers, "x-request-id"), "req-1");
    assert_eq!(text(headers, "x-tradewind-user"), "sealed.user");
    assert_eq!(text(headers, "x-tradewind-xid"), xid.to_string());
    assert!(!headers.contains_key("x-tradewind-caller"), "this channel has no identity");
}

/// R2.7
#[tokio::test]
async fn work_that_no_request_began_has_a_trace_and_the_policys_deadline() {
    let server = Server::lamps().await;
    let setup = setup(vec![server.instance()], Policy::default());
    setup.client.product("1").await.unwrap();
    let headers = &server.seen()[0].headers;
    assert!(TraceContext::parse(text(headers, "traceparent")).is_some());
    assert!(text(headers, "x-request-id").starts_with("req_"));
    let left: u64 = text(headers, "x-tradewind-deadline-ms").parse().unwrap();
    assert!((9000..=10_000).contains(&left), "{left}");
    assert!(!headers.contains_key("x-tradewind-user"));
}

#[tokio::test]
async fn the_caller_is_sealed_and_renewed_before_it_expires() {
    let server = Server::lamps().await;
    let tasks = Tasks::new();
    let key = Key::from_secret(&[9; 32]).unwrap();
    let clock = Arc::new(ManualClock::new());
    let identity = Identity::new(ServiceName::parse("order").unwrap(), key.clone());
    let client = InventoryClient::new(Channel::with(
        &Discovery::fixed(vec![server.instance()]),
        Client::standard(&tasks),
        service(),
        Policy::default(),
        Some(identity),
        clock.clone(),
        Rng::seeded(1),
    ));
    for _ in 0..6 {
        client.product("1").await.unwrap();
        let seen = server.seen();
        let sealed = text(&seen.last().unwrap().headers, "x-tradewind-caller");
        assert_eq!(Caller::open(&key, sealed, clock.now()).unwrap().service, "order");
        // Also on the way of a slow request, or with a clock that is ahead.
        let later = clock.now() + Duration::from_secs(29);
        assert!(Caller::open(&key, sealed, later).is_ok());
        clock.advance(Duration::from_secs(25));
    }
    assert!(Caller::open(&key, "x", SystemClock::new().now()).is_err());
}
